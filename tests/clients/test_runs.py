"""Runs from outside: how they stand, what they returned, how they are cancelled."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from onward import (
    App,
    BlockingCallError,
    ConfigurationError,
    OnwardError,
    ResultError,
    Run,
    RunCancelledError,
    RunFailedError,
    RunNotFinishedError,
    UnknownRunError,
)
from tests.clients.conftest import Service
from tests.support.loops import eventually


class Doubled(BaseModel):
    order: int


def started(service: Service, name: str, **data: Any) -> Run:
    (event_id,) = service.app.send({"name": name, "data": data})
    (run,) = service.app.runs_of(event_id)
    return run


def test_a_result(service: Service) -> None:
    run = started(service, "shop/double", order=21)
    assert run.result(timeout="30s") == {"order": 42}
    assert run.status() == "Completed"
    assert repr(run) == f"<Run {run.id}>"
    assert service.app.run(run.id).result() == {"order": 42}


def test_a_typed_result(service: Service) -> None:
    run = started(service, "shop/double", order=21)
    assert run.result("30s", type=Doubled) == Doubled(order=42)
    assert run.result(type=dict[str, float]) == {"order": 42.0}


def test_a_result_of_another_type(service: Service) -> None:
    run = started(service, "shop/double", order=21)
    with pytest.raises(ResultError, match=rf"result of run {run.id} .* Input should be a valid"):
        run.result("30s", type=int)


@pytest.mark.parametrize(("name", "result"), [("shop/nothing", None), ("shop/empty", "")])
def test_an_empty_result(name: str, result: object, service: Service) -> None:
    assert started(service, name).result("30s") == result


def test_waiting_until_it_ends(service: Service) -> None:
    run = started(service, "shop/waits")
    with pytest.raises(RunNotFinishedError, match=r"it is Running\. It goes on") as info:
        run.result(timeout=0.2)
    assert isinstance(info.value, TimeoutError)
    assert info.value.run_id == run.id
    assert run.status() == "Running"
    service.gate.set()
    assert run.result("30s") == "through"


def test_a_failure(service: Service) -> None:
    run = started(service, "shop/fails")
    with pytest.raises(RunFailedError, match="failed with NonRetriableError: no stock") as info:
        run.result("30s")
    error = info.value
    assert (error.name, error.reason, error.run_id) == ("NonRetriableError", "no stock", run.id)
    assert "raise NonRetriableError" in error.stack
    assert run.status() == "Failed"


def test_cancelling(service: Service) -> None:
    run = started(service, "shop/sleeps")
    run.cancel()
    with pytest.raises(RunCancelledError, match="was cancelled, so it has no result"):
        run.result("30s")
    run.cancel()
    assert run.status() == "Cancelled"


UNKNOWN = "01M835KW7QN227YFS04ACG1WRZ"


def test_an_unknown_run(service: Service) -> None:
    run = service.app.run(UNKNOWN)
    for ask in (run.status, run.cancel, lambda: run.result(timeout=0)):
        with pytest.raises(UnknownRunError, match=rf"has no run '{UNKNOWN}'.*INNGEST_DEV"):
            ask()


@pytest.mark.parametrize("run_id", ["", "../../e/key", "01M835 KW7", None])
def test_what_is_no_id(run_id: Any, service: Service) -> None:
    with pytest.raises(UnknownRunError, match="is no run's id"):
        service.app.run(run_id)


def test_runs_of_an_event_that_starts_several_or_none(service: Service) -> None:
    (event_id,) = service.app.send({"name": "shop/nobody"})
    assert service.app.runs_of(event_id) == []


async def test_the_async_twins(service: Service) -> None:
    app = service.app
    (event_id,) = await app.send_async({"name": "shop/double", "data": {"order": 4}})
    (run,) = await app.runs_of_async(event_id)
    assert await run.result_async("30s", type=Doubled) == Doubled(order=8)
    assert await run.status_async() == "Completed"
    (event_id,) = await app.send_async({"name": "shop/sleeps"})
    (run,) = await app.runs_of_async(event_id)
    await run.cancel_async()
    with pytest.raises(RunCancelledError):
        await run.result_async("30s")


async def test_a_loop_is_free_while_a_result_is_awaited(service: Service) -> None:
    (event_id,) = await service.app.send_async({"name": "shop/waits"})
    (run,) = await service.app.runs_of_async(event_id)
    awaited = asyncio.create_task(run.result_async("30s"))
    asked = len(service.requests)
    await asyncio.to_thread(eventually, lambda: len(service.requests) >= asked + 3, "it looks")
    assert not awaited.done()
    service.gate.set()
    assert await awaited == "through"


async def test_a_wait_can_be_cancelled(service: Service) -> None:
    (event_id,) = await service.app.send_async({"name": "shop/waits"})
    (run,) = await service.app.runs_of_async(event_id)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await run.result_async()
    service.gate.set()
    assert await run.result_async("30s") == "through"


async def test_blocking_calls_name_their_twins(service: Service) -> None:
    app, run = service.app, service.app.run(UNKNOWN)
    calls: list[tuple[str, Any]] = [
        ("send", lambda: app.send({"name": "shop/nobody"})),
        ("runs_of", lambda: app.runs_of("01M")),
        ("cancel_runs", lambda: app.cancel_runs("double")),
        ("status", run.status),
        ("result", run.result),
        ("cancel", run.cancel),
    ]
    for name, call in calls:
        with pytest.raises(BlockingCallError, match=rf"{name}\(\) blocks.* await ….{name}_async"):
            call()
    assert service.requests == []
    assert await asyncio.to_thread(app.send, {"name": "shop/nobody"})


def test_bulk_cancellation_names_what_is_wrong(service: Service) -> None:
    with pytest.raises(OnwardError, match=r"answered 404: .*function not found"):
        service.app.cancel_runs("mystery")
    with pytest.raises(ConfigurationError, match="7 is no function's id"):
        service.app.cancel_runs(7)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"started_after is .* Give an aware datetime"):
        service.app.cancel_runs("double", started_after=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ConfigurationError, match="None is no event's id"):
        App("other").runs_of(None)  # type: ignore[arg-type]


def test_bulk_cancellation(service: Service) -> None:
    first, second = started(service, "shop/sleeps", n=1), started(service, "shop/waits")
    sender = App("shop", orchestrator=service.app.orchestrator, dev=True)  # it has no functions
    assert sender.cancel_runs("sleeps", started_before=datetime.now(UTC), if_="event.data.n == 2")
    assert first.status() == "Running"
    assert sender.cancel_runs("sleeps", started_before=datetime.now(UTC), if_="event.data.n == 1")
    with pytest.raises(RunCancelledError):
        first.result("30s")
    service.gate.set()
    assert second.result("30s") == "through"
