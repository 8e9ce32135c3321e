"""The example `side_by_side` in full: two SDKs in one process, on one orchestrator."""

from __future__ import annotations

import asyncio

import httpx

from tests.cli.command import PATIENCE_S
from tests.examples.conftest import Observed, uvicorn


async def test_functions_of_both_sdks_work_together(observed: Observed) -> None:
    async with (
        asyncio.timeout(PATIENCE_S),
        uvicorn("examples.side_by_side.app:api", observed.url) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE_S) as client,
    ):
        for path in ("/api/classic", "/api/inngest"):
            answer = await client.put(path)
            assert answer.is_success, answer.text
        answer = await client.post("/orders/o-7", params={"items": 3})
        assert answer.json() == {"order": "o-7", "cents": 750}
        runs = await _results(client, observed)
    assert runs == {
        "shop-fulfil": {"order": "o-7", "cents": 750},
        "shop-classic-price": 750,
        "shop-classic-thank": "Thank you for 750 cents.",
    }


async def _results(client: httpx.AsyncClient, observed: Observed) -> dict[str, object]:
    found = await client.get(f"{observed.url}/v1/runs")
    ids = [run["run_id"] for run in found.json()["data"]]
    views = [await observed.orchestrator.result(run_id) for run_id in ids]
    return {view.function_id: view.result for view in views}
