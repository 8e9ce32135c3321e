from __future__ import annotations

import httpx
import pytest

from onward_server.serving import AddressError, listen, serve, url_of
from tests.server.conftest import Start


async def test_an_orchestrator_is_served_on_a_free_port(start: Start) -> None:
    orchestrator = await start()
    async with serve(orchestrator) as serving, httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{serving.url}/health")
        assert response.status_code == 200
        assert response.headers["x-inngest-server-kind"] == "dev"
        with pytest.raises(
            AddressError, match=rf"Port {serving.port} on 127\.0\.0\.1 is in use.*--port"
        ):
            async with serve(orchestrator, port=serving.port):
                pass
    listen("127.0.0.1", serving.port).close()  # free again


async def test_the_listener_does_not_delay_small_packets() -> None:
    import socket

    listener = listen("127.0.0.1", 0)
    with listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_url_works_on_this_machine(host: str, shown: str) -> None:
    with listen(host) as listener:
        assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"
