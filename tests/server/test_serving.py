from __future__ import annotations

import httpx
import pytest

from onward_server.serving import PortInUseError, listen, serve
from tests.server.conftest import Start


async def test_an_orchestrator_is_served_on_a_free_port(start: Start) -> None:
    orchestrator = await start()
    async with serve(orchestrator) as serving, httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{serving.url}/health")
        assert response.status_code == 200
        assert response.headers["x-inngest-server-kind"] == "dev"
        with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{serving.port}.*--port"):
            async with serve(orchestrator, port=serving.port):
                pass
    listen("127.0.0.1", serving.port).close()  # free again


async def test_the_listener_does_not_delay_small_packets() -> None:
    import socket

    listener = listen("127.0.0.1", 0)
    with listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_every_url_has_its_host() -> None:
    from onward_server.serving import Serving

    assert Serving("127.0.0.1", 1).url == "http://127.0.0.1:1"
    assert Serving("::1", 1).url == "http://[::1]:1"
