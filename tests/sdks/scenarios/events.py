"""Events that are awaited, sent, and that cancel; signals."""

from __future__ import annotations

from tests.sdks.catalogue import scenario
from tests.sdks.suite import App

WAIT, SLEEP, SIGNAL = "WaitForEvent", "Sleep", "WaitForSignal"


@scenario()
async def wait(app: App) -> None:
    run_id = await app.start("wait", {"for": "one"})
    await app.waits(run_id, WAIT)
    await app.send("wake.one", {"value": "grüße"})
    run = await app.ended(run_id)
    assert run.result == ["before", f"{app.id}/wake.one", {"value": "grüße"}, "after"]
    assert run.traces == {"before": 1, "after": 1}


@scenario()
async def wait_timeout(app: App) -> None:
    run = await app.run("wait-timeout")
    assert run.result == [None, "after"]
    assert run.traces == {"after": 1}


@scenario()
async def wait_if(app: App) -> None:
    run_id = await app.start("wait-if", {"order": "o1"})
    await app.waits(run_id, WAIT)
    await app.send("wake.if", {"order": "o1", "total": 5})
    await app.send("wake.if", {"order": "o2", "total": 500})
    await app.send("wake.if", {"total": "many"})
    await app.waits(run_id, WAIT)
    await app.send("wake.if", {"order": "o1", "total": 101})
    run = await app.ended(run_id)
    assert run.result == {"order": "o1", "total": 101}


@scenario("typescript")
async def wait_match(app: App) -> None:
    run_id = await app.start("wait-match", {"order": {"id": 1}})
    await app.waits(run_id, WAIT)
    await app.send("wake.match", {"order": {"id": 2}})
    await app.send("wake.match", {"order": {"id": 1}, "matched": True})
    run = await app.ended(run_id)
    assert run.result == {"order": {"id": 1}, "matched": True}


@scenario()
async def wait_twice(app: App) -> None:
    run_id = await app.start("wait-twice")
    for value in ("first", "second"):
        await app.waits(run_id, WAIT)
        await app.send("wake.twice", {"value": value})
        if value == "first":
            await app.until(lambda: app.suite.traces.of(run_id)["use-1"] == 1, lambda: run_id)
    run = await app.ended(run_id)
    assert run.result == ["first", "second"]
    assert run.traces == {"use-1": 1, "use-2": 1}


@scenario("typescript")
async def wait_either(app: App) -> None:
    run_id = await app.start("wait-either")
    await app.waits(run_id, WAIT, WAIT)
    await app.send("wake.rejected", {"value": "no"})
    await app.until(lambda: app.told("after", run_id) == ["no"], lambda: run_id)
    await app.waits(run_id, WAIT)
    await app.send("wake.approved", {"value": "too late"})
    run = await app.ended(run_id)
    assert run.result == "no"
    assert run.traces == {"after": 1}


@scenario()
async def wait_then_timeout(app: App) -> None:
    run_id = await app.start("wait-then-timeout")
    await app.waits(run_id, WAIT)
    await app.send("wake.soon", {"value": 1})
    run = await app.ended(run_id)
    assert run.result == [1, None, "after"]
    assert run.traces == {"after": 1}


@scenario()
async def one_event_wakes_all(app: App) -> None:
    ids = [await app.start("wait", {"for": "all"}) for _ in range(3)]
    for run_id in ids:
        await app.waits(run_id, WAIT)
    await app.send("wake.all", {"value": 1})
    for run_id in ids:
        run = await app.ended(run_id)
        assert run.result[2] == {"value": 1}
        assert run.traces == {"before": 1, "after": 1}


async def _all_received(app: App, what: object) -> None:
    """The runs that have begun are over: whoever was to hear of `what` has."""
    for run_id in list(app.suite.begun.get(f"{app.id}-received", ())):
        await app.ended(run_id)
    assert app.told("got").count(what) == 1


@scenario()
async def send_event(app: App) -> None:
    run = await app.run("send-event", {"who": "sender"})
    assert run.result == {"count": 1, "after": "after"}
    assert run.traces == {"after": 1}
    await _all_received(app, "sender")


@scenario()
async def send_events(app: App) -> None:
    run = await app.run("send-events")
    assert run.result == 3
    for n in (1, 2, 3):
        await _all_received(app, n)


@scenario()
async def send_event_once(app: App) -> None:
    """An event's id keeps it from starting runs twice."""
    run = await app.run("send-event-once", {"key": f"{app.id}-k"})
    assert run.result == "sent"
    await _all_received(app, f"{app.id}-k")


@scenario()
async def send_outside(app: App) -> None:
    run = await app.run("send-outside")
    assert run.result == 1
    await _all_received(app, "outside")


@scenario("typescript")
async def wait_signal(app: App) -> None:
    signal = f"{app.id}-signal"
    run_id = await app.start("wait-signal", {"signal": signal})
    await app.waits(run_id, SIGNAL)
    sender = await app.run("send-signal", {"signal": signal})
    assert sender.result == "after"
    assert sender.traces == {"after": 1}
    run = await app.ended(run_id)
    assert run.result == [{"signal": signal, "data": {"from": "a function"}}, "after"]
    assert run.traces == {"after": 1}


@scenario("typescript")
async def wait_signal_timeout(app: App) -> None:
    run = await app.run("wait-signal-timeout", {"signal": f"{app.id}-never"})
    assert run.result is None


@scenario("typescript")
async def wait_signal_conflict_fails(app: App) -> None:
    data = {"signal": f"{app.id}-taken", "onConflict": "fail"}
    first = await app.start("wait-signal-taken", data)
    await app.waits(first, SIGNAL)
    second = await app.run("wait-signal-taken", data)
    assert second.view.status == "Failed"
    assert second.traces == {}
    await app.run("send-signal", data)
    run = await app.ended(first)
    assert run.result == {"from": "a function"}
    assert run.traces == {"woken": 1}


@scenario("typescript")
async def wait_signal_conflict_replaces(app: App) -> None:
    data = {"signal": f"{app.id}-replaced", "onConflict": "replace"}
    first = await app.start("wait-signal-taken", data)
    await app.waits(first, SIGNAL)
    second = await app.start("wait-signal-taken", data)
    await app.waits(second, SIGNAL)
    await app.run("send-signal", data)
    run = await app.ended(second)
    assert run.result == {"from": "a function"}
    assert run.traces == {"woken": 1}


@scenario()
async def cancelled(app: App) -> None:
    run_id = await app.start("cancelled")
    await app.waits(run_id, SLEEP)
    await app.send("cancel")
    run = await app.ended(run_id)
    assert run.view.status == "Cancelled"
    assert run.traces == {"before": 1}


@scenario()
async def cancelled_by_request(app: App) -> None:
    run_id = await app.start("cancelled-if", {"order": "by-request"})
    await app.waits(run_id, WAIT)
    assert await app.orchestrator.cancel(run_id)
    run = await app.ended(run_id)
    assert run.view.status == "Cancelled"
    await app.send("wake.kept", {"order": "by-request", "value": 1})
    assert app.suite.traces.of(run_id) == {"before": 1}


@scenario()
async def cancelled_if(app: App) -> None:
    kept = await app.start("cancelled-if", {"order": "1"})
    gone = await app.start("cancelled-if", {"order": "2"})
    await app.waits(kept, WAIT)
    await app.waits(gone, WAIT)
    await app.send("cancel-if", {"order": "2"})
    assert (await app.ended(gone)).view.status == "Cancelled"
    await app.send("wake.kept", {"order": "1", "value": "kept"})
    run = await app.ended(kept)
    assert run.result == "kept"
    assert run.traces == {"before": 1}


@scenario("typescript")
async def cancelled_match(app: App) -> None:
    kept = await app.start("cancelled-match", {"order": "1"})
    gone = await app.start("cancelled-match", {"order": "2"})
    await app.waits(kept, WAIT)
    await app.waits(gone, WAIT)
    await app.send("cancel-match", {"order": "2"})
    assert (await app.ended(gone)).view.status == "Cancelled"
    await app.send("wake.match2", {"value": "kept"})
    assert (await app.ended(kept)).result == "kept"
