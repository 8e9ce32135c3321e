"""Flow control on its own: what starts when, and what is refused in a registration."""

from __future__ import annotations

from typing import Any

import pytest

from onward.errors import ConfigurationError
from onward_server.events import TIMER, Event, make
from onward_server.flow import Decision, Flow
from onward_server.model import Held
from onward_server.registration import FunctionConfig, parse_registration
from tests.server.fakes import registration

SECOND = 1000


def function(**fields: Any) -> FunctionConfig:
    [parsed] = parse_registration(registration({"id": "f", **fields})).functions
    return parsed


class Machine:
    """One function's flow control; `ms` is the time."""

    def __init__(self, **fields: Any) -> None:
        self.function = function(**fields)
        self.flow = Flow()
        self.ms = 1_000_000
        self._count = 0

    def event(self, data: dict[str, Any] | None = None, **fields: Any) -> Event:
        self._count += 1
        return make("app/f", data or {}, f"E{self._count}", fields.get("ts", self.ms))

    def send(self, data: dict[str, Any] | None = None, **fields: Any) -> Decision:
        return self.flow.decide(self.function, self.event(data, **fields), self.ms)

    def starts(self, data: dict[str, Any] | None = None) -> bool:
        return self.send(data).start is not None

    def due(self, row: Held) -> Decision:
        return self.flow.due(row.key, self.function, self.ms)


def test_without_flow_control_every_event_starts_a_run_now() -> None:
    machine = Machine()
    decision = machine.send()
    assert decision.start is not None
    assert (decision.start.due_ms, decision.writes) == (machine.ms, ())


def test_a_rate_limit_lets_one_start_an_interval() -> None:
    machine = Machine(rateLimit={"limit": 2, "period": "60s"})
    assert machine.starts()
    assert not machine.starts()
    assert "rateLimit" in machine.send().dropped
    machine.ms += 30 * SECOND - 1
    assert not machine.starts()
    machine.ms += 1
    assert machine.starts()


def test_a_rate_limit_of_many_has_a_tenth_of_them_at_once() -> None:
    machine = Machine(rateLimit={"limit": 20, "period": "60s"})
    assert [machine.starts() for _ in range(5)] == [True, True, True, False, False]


def test_limits_are_counted_by_key_and_false_is_no_limit() -> None:
    limit = {"limit": 1, "period": "1h", "key": "event.data.user"}
    machine = Machine(rateLimit=limit)
    assert machine.starts({"user": "a"})
    assert machine.starts({"user": "b"})
    assert not machine.starts({"user": "a"})
    assert machine.starts({"user": False})
    assert machine.starts({"user": False})


def test_idempotency_is_a_day_long() -> None:
    machine = Machine(idempotency="event.data.order")
    assert machine.starts({"order": 7})
    machine.ms += 86_399 * SECOND
    assert not machine.starts({"order": 7})
    assert machine.starts({"order": 8})
    machine.ms += 1 * SECOND
    assert machine.starts({"order": 7})


def test_a_throttle_spreads_starts_and_drops_none() -> None:
    machine = Machine(throttle={"limit": 2, "period": "10s"})
    starts = [machine.send().start for _ in range(3)]
    due = [start.due_ms - machine.ms for start in starts if start is not None]
    assert due == [0, 5 * SECOND, 10 * SECOND]


def test_a_throttle_has_a_burst() -> None:
    machine = Machine(throttle={"limit": 2, "period": "10s", "burst": 2})
    starts = [machine.send().start for _ in range(4)]
    due = [start.due_ms - machine.ms for start in starts if start is not None]
    assert due == [0, 0, 0, 5 * SECOND]


def test_a_debounce_starts_with_the_last_event_after_its_period() -> None:
    machine = Machine(debounce={"period": "10s"})
    first = machine.send({"n": 1})
    assert first.start is None
    machine.ms += 9 * SECOND
    second = machine.send({"n": 2})
    assert [event.value["data"] for event in second.displaced] == [{"n": 1}]
    machine.ms += 1 * SECOND
    assert machine.due(first.due[0]).start is None, "the second pushed it back"
    machine.ms += 9 * SECOND
    started = machine.due(second.due[0]).start
    assert started is not None
    assert [event.value["data"] for event in started.events] == [{"n": 2}]
    assert machine.due(second.due[0]).start is None, "once"


def test_a_debounce_waits_no_longer_than_its_timeout() -> None:
    machine = Machine(debounce={"period": "10s", "timeout": "15s"})
    began = machine.ms
    machine.send()
    machine.ms += 9 * SECOND
    [row] = machine.send().due
    assert row.due_ms == began + 15 * SECOND


def test_an_older_event_does_not_displace_a_newer_one() -> None:
    machine = Machine(debounce={"period": "10s"})
    machine.send({"n": "new"})
    late = machine.send({"n": "old"}, ts=machine.ms - 1)
    assert "later event" in late.dropped
    machine.ms += 10 * SECOND
    [row] = machine.flow.held.values()
    started = machine.due(row).start
    assert started is not None
    assert started.events[0].value["data"] == {"n": "new"}


def test_a_batch_starts_when_it_is_full_or_its_time_is_over() -> None:
    machine = Machine(batchEvents={"maxSize": 3, "timeout": "5s"})
    first = machine.send({"n": 1})
    assert len(first.due) == 1
    assert machine.send({"n": 2}).due == (), "the time counts from the first event"
    full = machine.send({"n": 3}).start
    assert full is not None
    assert [event.value["data"]["n"] for event in full.events] == [1, 2, 3]
    assert machine.flow.held == {}
    assert machine.due(first.due[0]).start is None
    [row] = machine.send({"n": 4}).due
    machine.ms += 5 * SECOND
    left = machine.due(row).start
    assert left is not None
    assert [event.value["data"]["n"] for event in left.events] == [4]


def test_batches_have_keys_and_conditions_and_no_timers() -> None:
    machine = Machine(
        batchEvents={
            "maxSize": 2,
            "timeout": "5s",
            "key": "event.data.user",
            "if": "event.data.user != 'vip'",
        }
    )
    assert not machine.starts({"user": "a"})
    assert not machine.starts({"user": "b"})
    assert machine.starts({"user": "vip"})
    assert machine.starts({"user": "a"})
    timer = make(TIMER, {"user": "b"}, "T", machine.ms)
    assert machine.flow.decide(machine.function, timer, machine.ms).start is not None


def test_what_is_not_written_is_given_up() -> None:
    machine = Machine(rateLimit={"limit": 1, "period": "1h"})
    assert machine.starts()
    kept = machine.flow.take_undo()
    assert list(kept.values()) == [None]
    machine.ms += 3600 * SECOND
    before = dict(machine.flow.held)
    assert machine.starts()
    machine.flow.give_up(machine.flow.take_undo())
    assert machine.flow.held == before
    assert machine.starts(), "the start that was given up does not count"


def test_limits_that_are_free_again_are_forgotten() -> None:
    machine = Machine(rateLimit={"limit": 1, "period": "1h"})
    machine.starts()
    functions = {machine.function.id: machine.function}
    assert machine.flow.expired(functions, machine.ms) == []
    machine.ms += 3600 * SECOND
    assert len(machine.flow.expired(functions, machine.ms)) == 1
    assert machine.flow.held == {}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no limit": ({"rateLimit": {"period": "1m"}}, "rateLimit.limit"),
    "a limit of true": ({"rateLimit": {"limit": True, "period": "1m"}}, "rateLimit.limit"),
    "no period": ({"throttle": {"limit": 1}}, "throttle.period"),
    "a period of two days": ({"rateLimit": {"limit": 1, "period": "2d"}}, "rateLimit.period"),
    "a key that does not parse": (
        {"debounce": {"period": "1s", "key": "event.data."}},
        "debounce.key",
    ),
    "an idempotency that does not parse": ({"idempotency": "event.("}, "idempotency"),
    "a batch of none": ({"batchEvents": {"maxSize": 0, "timeout": "1s"}}, "batchEvents.maxSize"),
    "a batch of an hour": ({"batchEvents": {"maxSize": 2, "timeout": "1h"}}, "batchEvents.timeout"),
    "a singleton that waits": ({"singleton": {"mode": "wait"}}, "singleton.mode"),
    "three concurrency limits": ({"concurrency": [1, 2, 3]}, "concurrency"),
    "a concurrency of the world": (
        {"concurrency": [{"limit": 1, "scope": "world"}]},
        "concurrency.scope",
    ),
    "a priority that does not parse": ({"priority": {"run": "event >"}}, "priority.run"),
    "a timeout of never": ({"timeouts": {"start": "never"}}, "timeouts.start"),
    "a throttle that is a number": ({"throttle": 3}, "throttle"),
    "a trigger of nothing": ({"triggers": [{}]}, "neither an event nor a cron"),
    "a star in the middle": ({"triggers": [{"event": "a/*/b"}]}, "not its end"),
    "a cron that does not parse": ({"triggers": [{"cron": "every day"}]}, "cron schedule"),
    "a zone that is unknown": ({"triggers": [{"cron": "TZ=Mars/Base 0 0 * * *"}]}, "Mars/Base"),
    "a jitter of an hour": ({"triggers": [{"cron": "0 0 * * *", "jitter": "1h"}]}, "jitter"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_with_its_function_and_field(what: str) -> None:
    fields, fragment = REFUSED[what]
    with pytest.raises(ConfigurationError) as raised:
        function(**fields)
    assert "function 'app-f'" in raised.value.message
    assert fragment in raised.value.message


def test_short_and_long_forms_of_concurrency_are_read() -> None:
    assert function(concurrency=5).flow.concurrency[0].limit == 5
    assert function(concurrency=[{"limit": 0}]).flow.concurrency == ()
    nested = function(concurrency={"step": [{"limit": 2, "scope": "env", "key": "'x'"}]})
    [limit] = nested.flow.concurrency
    assert (limit.limit, limit.scope) == (2, "env")


def test_an_event_with_a_time_to_come_starts_its_run_then() -> None:
    machine = Machine()
    start = machine.send(ts=machine.ms + 5 * SECOND).start
    assert start is not None
    assert start.due_ms == machine.ms + 5 * SECOND
    batched = Machine(batchEvents={"maxSize": 1, "timeout": "5s"})
    start = batched.send(ts=batched.ms + 5 * SECOND).start
    assert start is not None
    assert start.due_ms == batched.ms
