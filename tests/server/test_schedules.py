"""Cron schedules fire once a time, over restarts too, and late rather than never."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from onward_server import Answer, Orchestrator
from onward_server.registration import parse_registration
from onward_server.schedules import next_row, timer_event
from tests.golden.orchestrator_replay import START_MS, ManualClock
from tests.server.conftest import Start
from tests.server.driving import happens
from tests.server.fakes import Call, Function, complete, registration

EVERY_MINUTE = {"id": "f", "triggers": [{"cron": "* * * * *"}]}


def test_the_event_of_a_schedule() -> None:
    trigger = {"cron": "TZ=Europe/Berlin 30 9 * * *", "jitter": "60s"}
    [function] = parse_registration(registration({"id": "f", "triggers": [trigger]})).functions
    [schedule] = function.schedules
    noon = round(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp() * 1000)
    row = next_row(function.id, schedule, noon)
    assert row == next_row(function.id, schedule, noon), "the jitter of one time is always the same"
    scheduled = datetime(2026, 7, 2, 7, 30, tzinfo=UTC).timestamp() * 1000
    assert int(row.value) == scheduled
    assert 1000 <= row.due_ms - scheduled <= 60_000
    event = timer_event(schedule, row, "E").value
    assert (event["name"], event["id"]) == ("inngest/scheduled.timer", "2026-07-02T07:30:00Z")
    assert event["data"]["cron"] == "TZ=Europe/Berlin 30 9 * * *"
    assert event["data"]["scheduledAt"] == "2026-07-02T07:30:00Z"
    assert event["ts"] == row.due_ms


class Fired:
    """A function that keeps the times that it was started for."""

    def __init__(self) -> None:
        self.times: list[str] = []
        self.function = Function(self._handler)

    async def _handler(self, call: Call) -> Answer:
        event: dict[str, Any] = call.request["event"]
        self.times.append(event["data"]["scheduledAt"])
        return complete(None)


async def fire(orchestrator: Orchestrator, clock: ManualClock, times: int = 1) -> None:
    ended = happens(orchestrator, "run.ended", times)
    while not ended.done():
        await asyncio.gather(*orchestrator._follow_ups)
        for state in orchestrator._runs.all():
            await orchestrator.result(state.run_id)
        await asyncio.sleep(0)
        if not ended.done() and not orchestrator._follow_ups:
            clock.advance()


def minute(number: int) -> str:
    begin = START_MS // 60_000 * 60_000
    moment = datetime.fromtimestamp(begin / 1000 + 60 * number, UTC)
    return moment.isoformat().replace("+00:00", "Z")


async def test_a_schedule_fires_again_and_again(start: Start) -> None:
    clock = ManualClock()
    orchestrator = await start(clock=clock)
    fired = Fired()
    await orchestrator.register(registration(EVERY_MINUTE), fired.function)
    await fire(orchestrator, clock)
    await fire(orchestrator, clock)
    assert fired.times == [minute(1), minute(2)]
    await orchestrator.register(registration(EVERY_MINUTE), fired.function)
    await fire(orchestrator, clock)
    assert fired.times == [minute(1), minute(2), minute(3)], "once each after a registration"


async def test_times_that_passed_come_late_and_once(start: Start, tmp_path: Path) -> None:
    clock = ManualClock()
    first = await start(tmp_path / "runs.db", clock=clock)
    fired = Fired()
    await first.register(registration(EVERY_MINUTE), fired.function)
    await fire(first, clock)
    await first.stop()
    clock._now += 150_000  # two times pass
    second = await start(tmp_path / "runs.db", clock=clock)
    await second.register(registration(EVERY_MINUTE), fired.function)
    await fire(second, clock, times=3)
    assert fired.times == [minute(n) for n in (1, 2, 3, 4)]


async def test_a_schedule_that_is_gone_fires_no_more(start: Start) -> None:
    clock = ManualClock()
    orchestrator = await start(clock=clock)
    fired = Fired()
    await orchestrator.register(registration(EVERY_MINUTE), fired.function)
    hourly = {"id": "f", "triggers": [{"cron": "0 * * * *"}]}
    await orchestrator.register(registration(hourly), fired.function)
    await fire(orchestrator, clock)
    assert fired.times[0].endswith(":00:00Z")
