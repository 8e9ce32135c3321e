"""What an Inngest server answers about runs, where it differs from the embedded orchestrator.

The answers are those of the recording `events-and-rest-api`, or shaped like its.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from onward import (
    App,
    OrchestratorUnavailableError,
    RunCancelledError,
    RunError,
    RunFailedError,
    RunNotFinishedError,
    UnknownRunError,
    runs,
)
from onward.transport.http import Ask, Pause, Reply
from tests.golden.recordings import DATA

RUN = "01M837658RRCV6SWBF0FTT0DQW"
UNKNOWN = "01M835KW7QN227YFS04ACG1WRZ"


@pytest.fixture
def app() -> App:
    return App("shop", orchestrator="http://127.0.0.1:1", dev=True)


def _recorded(method: str, path: str) -> Iterator[Reply]:
    recording = json.loads((DATA / "events-and-rest-api.json").read_text(encoding="utf-8"))
    for exchange in recording["exchanges"]:
        asked, answer = exchange["request"], exchange["response"]
        if (asked["method"], asked["path"]) == (method, path):
            yield Reply(answer["status"], json.dumps(answer["body"]))


def driven(plan: Any, answers: dict[str, list[Reply]]) -> Any:
    """What comes of `plan` where each path answers so, the last answer again and again."""
    action = next(plan)
    while True:
        reply = None
        if isinstance(action, Ask):
            queue = answers[action.path]
            reply = queue.pop(0) if len(queue) > 1 else queue[0]
        try:
            action = plan.send(reply)
        except StopIteration as done:
            return done.value


def run(status: str, **more: Any) -> Reply:
    return Reply(200, json.dumps({"data": {"run_id": RUN, "status": status, **more}}))


V1, V2 = f"/v1/runs/{RUN}", f"/v2/runs/{RUN}?includeOutput=true"
NO_V2 = {V2: [Reply(404)]}


@pytest.mark.parametrize("output", [42, None, "", {"a": 1}, {}, {"data": {"a": 1}}, [1], "text"])
def test_a_result_that_only_the_newer_api_has(output: Any, app: App) -> None:
    """Recorded: the run has completed, and its output is empty text, whatever it was."""
    (completed,) = _recorded("GET", V1)
    assert json.loads(completed.text)["data"]["output"] == ""
    shown = output if isinstance(output, dict) else {"data": output}
    trace = Reply(200, json.dumps({"data": {"id": RUN, "output": shown}}))
    late = Reply(200, json.dumps({"data": {"id": RUN}}))
    answers = {V1: [completed], V2: [late, trace]}
    assert driven(runs.resulting(app, RUN, 30.0, None), answers) == output


def test_a_result_that_does_not_come_is_not_taken_for_an_empty_one(app: App) -> None:
    late = Reply(200, json.dumps({"data": {"id": RUN}}))
    answers = {V1: [run("Completed", output="")], V2: [late] * runs.TRACE_TRIES}
    with pytest.raises(RunNotFinishedError, match="does not show its result yet"):
        driven(runs.resulting(app, RUN, 30.0, None), answers)


@pytest.mark.parametrize(
    "other", [Reply(404), Reply(501), Reply(200, "<html>"), Reply(200, "[]"), Reply(200, "")]
)
def test_a_server_without_the_newer_api(other: Reply, app: App) -> None:
    answers = {V1: [run("Completed", output="")], V2: [other]}
    assert driven(runs.resulting(app, RUN, 30.0, None), answers) == ""


def test_an_output_that_is_there_is_taken(app: App) -> None:
    answers = {V1: [run("Running"), run("Completed", output={"a": 1})]}
    assert driven(runs.resulting(app, RUN, 30.0, dict[str, int]), answers) == {"a": 1}


@pytest.mark.parametrize(
    ("output", "name", "reason"),
    [
        ({"error": {"name": "E", "message": "m", "stack": "s"}}, "E", "m"),
        ({"name": "E", "message": "m"}, "E", "m"),
        ("text", "Error", "text"),
        (None, "Error", "the run is Failed"),
    ],
)
def test_failures(output: Any, name: str, reason: str, app: App) -> None:
    with pytest.raises(RunFailedError) as info:
        driven(runs.resulting(app, RUN, 30.0, None), {V1: [run("Failed", output=output)]})
    assert (info.value.name, info.value.reason) == (name, reason)


@pytest.mark.parametrize("status", ["Overflowed", "Skipped"])
def test_other_ends(status: str, app: App) -> None:
    with pytest.raises(RunFailedError, match=f"the run is {status}"):
        driven(runs.resulting(app, RUN, 30.0, None), {V1: [run(status)]})


def test_a_cancelled_run(app: App) -> None:
    with pytest.raises(RunCancelledError):
        driven(runs.resulting(app, RUN, 30.0, None), {V1: [run("Cancelled", output={})]})


def test_an_unknown_run(app: App) -> None:
    """Recorded: an error in a 200."""
    (unknown,) = _recorded("GET", f"/v1/runs/{UNKNOWN}")
    assert driven(runs.reading(app, UNKNOWN), {f"/v1/runs/{UNKNOWN}": [unknown]}) is None
    with pytest.raises(UnknownRunError):
        driven(runs.resulting(app, UNKNOWN, 0.0, None), {f"/v1/runs/{UNKNOWN}": [unknown]})


def test_a_run_that_does_not_show_yet(app: App) -> None:
    (unknown,) = _recorded("GET", f"/v1/runs/{UNKNOWN}")
    answers = {f"/v1/runs/{UNKNOWN}": [unknown, unknown, run("Completed", output=1)]}
    assert driven(runs.resulting(app, UNKNOWN, 30.0, None), answers) == 1


def test_an_orchestrator_that_is_away_for_a_while(app: App) -> None:
    away = [Reply(0, "refused"), Reply(503), Reply(429, headers={"retry-after": "2"})]
    plan = runs.resulting(app, RUN, 60.0, None)
    pauses = []
    action = next(plan)
    for reply in [*away, run("Running")]:
        assert isinstance(action, Ask)
        action = plan.send(reply)
        assert isinstance(action, Pause)
        pauses.append(action.seconds)
        action = plan.send(None)
    with pytest.raises(StopIteration) as done:
        plan.send(run("Completed", output=1))
    assert done.value.value == 1
    assert pauses[2] == 2.0


def test_one_that_stays_away(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "AWAY_FOR", -1.0)
    with pytest.raises(OrchestratorUnavailableError, match="Is the orchestrator running"):
        driven(runs.resulting(app, RUN, 60.0, None), {V1: [Reply(0, "refused")]})


def test_a_timeout_while_it_is_away(app: App) -> None:
    with pytest.raises(RunNotFinishedError, match="answered 503"):
        driven(runs.resulting(app, RUN, 0.0, None), {V1: [Reply(503)]})


@pytest.mark.parametrize("text", ["<html>", "[]", '{"data": []}', '{"data": {}}', "{}"])
def test_what_is_no_run(text: str, app: App) -> None:
    with pytest.raises(RunError, match="answered 200 without a run"):
        driven(runs.reading(app, RUN), {V1: [Reply(200, text)]})


def test_a_function_that_is_known_by_its_whole_id(app: App) -> None:
    """A dev server finds functions by the id with the app's in front."""
    plan = runs.bulk_cancelling(app, "slow", None, None, None)
    first = next(plan)
    assert isinstance(first, Ask)
    assert first.body is not None
    assert json.loads(first.body)["function_id"] == "slow"
    second = plan.send(Reply(404, '{"error": "function not found"}'))
    assert isinstance(second, Ask)
    assert second.body is not None
    assert json.loads(second.body)["function_id"] == "shop-slow"
    with pytest.raises(StopIteration) as done:
        plan.send(Reply(200, '{"data": {"id": "01C"}}'))
    assert done.value.value == "01C"


def test_runs_that_do_not_show_yet(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded: what was answered is kept for 15 seconds; so no question is asked twice."""
    instants = itertools.count(1_800_000_000_000_000_000, 50_000_000)
    clock = SimpleNamespace(time_ns=lambda: next(instants), monotonic=time.monotonic)
    monkeypatch.setattr(runs, "time", clock)
    (found,) = _recorded("GET", "/v1/events/01M837655ZJEDCYZWV8RQ96DYC/runs")
    plan, asked = runs.listing_handles(app, "01M837655ZJEDCYZWV8RQ96DYC", "30s"), []
    action = next(plan)
    for reply in (Reply(200, '{"data": []}'), Reply(200, '{"data": null}')):
        assert isinstance(action, Ask)
        asked.append(action.path)
        assert isinstance(plan.send(reply), Pause)
        action = plan.send(None)
    assert isinstance(action, Ask)
    assert len({*asked, action.path}) == 3
    with pytest.raises(StopIteration) as done:
        plan.send(found)
    assert [each.id for each in done.value.value] == [RUN]


def test_runs_that_never_show(app: App) -> None:
    plan = runs.listing_handles(app, "01M", None)
    assert isinstance(next(plan), Ask)
    with pytest.raises(StopIteration) as done:
        plan.send(Reply(200, '{"data": []}'))
    assert done.value.value == []
