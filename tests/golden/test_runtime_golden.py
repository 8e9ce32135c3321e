"""The runtime answers recorded call requests as the recorded SDK did, listed differences apart."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from onward import App, BatchEvents, CancelOn, Event
from tests.golden import endpoint_replay
from tests.golden.differences import DIFFERENCES, Comparison
from tests.golden.recordings import load, names
from tests.golden.runtime_code import CODE
from tests.golden.runtime_replay import PATH, Bench, environment
from tests.support.loops import LoopThread
from tests.support.served import ServedOverHttp

DRIVERS = ("async", "blocking")
ENTRIES = ("asgi", "lambda")

#: Recordings that are not played to the runtime call by call, each with the reason.
ELSEWHERE = {
    "sync-and-introspection": "has no calls; test_registration_as_recorded",
    "signed-sync": "has no calls; test_registration_as_recorded",
    "checkpoint-refusals": "a bare client asks the server; tests of onward.core: what they mean",
    "events-and-rest-api": "a bare client asks the server",
    **dict.fromkeys(endpoint_replay.NAMES, "test_endpoints_golden.py"),
    **{name: "a trap; test_runtime_traps.py" for name in names() if name.startswith("edge-")},
}

PLAYED = sorted(CODE)


@pytest.fixture(scope="module")
def loops() -> Iterator[LoopThread]:
    with LoopThread("golden") as loops:
        yield loops


@pytest.fixture(scope="module")
def bench(loops: LoopThread) -> Bench:
    return Bench(loops)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", PLAYED)
def test_answers_and_checkpoints_are_those_that_were_recorded(
    bench: Bench, name: str, driver: str, entry: str
) -> None:
    problems = bench.compare(name, driver, entry).problems
    assert not problems, "\n".join(problems)


def test_every_recording_is_played_or_left_out_for_a_reason() -> None:
    assert set(PLAYED) | set(ELSEWHERE) == set(names())
    assert not set(PLAYED) & set(ELSEWHERE)


def test_every_listed_difference_is_one(bench: Bench, loops: LoopThread) -> None:
    used: set[str] = set()
    for name in PLAYED:
        for entry in ENTRIES:
            used |= bench.compare(name, "async", entry).used
    for name in ("sync-and-introspection", "signed-sync"):
        used |= compare_registration(bench, name).used
    for name in endpoint_replay.NAMES:
        used |= endpoint_replay.compare(loops, name, "async").used
    assert used == set(DIFFERENCES)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _leaves(item, (*path, key))
    else:
        yield path


def _changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    changed = copy.deepcopy(value)
    owner = changed
    for key in path[:-1]:
        owner = owner[key]
    change(owner, path[-1])
    return changed


def _replace(owner: Any, key: Any) -> None:
    owner[key] = "something else"


def _remove(owner: Any, key: Any) -> None:
    del owner[key]


@pytest.mark.parametrize("change", [_replace, _remove])
@pytest.mark.parametrize(
    "name",
    [
        "sleep-between-steps",
        "wait-for-event-match",
        "race-two",
        "retry-after-step-error",
        "non-retriable-step-error",
    ],
)
def test_a_comparison_notices_each_changed_and_each_missing_field(
    bench: Bench, name: str, change: Callable[[Any, Any], None]
) -> None:
    """Whatever the differences forgive, a field of ours is never free to be anything."""
    forgiven = {"user-agent", "x-inngest-sdk"} if change is _remove else set()
    with pytest.MonkeyPatch.context() as patch:
        environment(patch, signed=False)
        app, call = bench.app(name, "async"), load(name).calls[0]
        ours, sent = bench.ask(app, call, "lambda")
        app.channel.close()
    recorded = call.exchange.response
    for path in _leaves(ours.body):
        comparison = Comparison()
        comparison.answer(recorded["body"], _changed(ours.body, path, change), "body")
        optional = {"stack", "parallelMode", "duration", "timing", "a", "b"}
        if change is _replace or path[-1] not in optional:
            free = path[-1] == "stack"  # any text is a stack
            assert comparison.problems or free, path
    for path in _leaves(ours.headers):
        comparison = Comparison()
        comparison.headers(recorded["headers"], _changed(ours.headers, path, change))
        assert comparison.problems or path[-1] in forgiven, path
    for n, request in enumerate(sent):
        for path in _leaves(request):
            if change is _remove and path[-1] in {"user-agent", "x-inngest-sdk", "steps"}:
                continue
            comparison = Comparison()
            theirs = call.checkpoints[n].request
            comparison.checkpoint(theirs, _changed(request, path, change), "checkpoint")
            assert comparison.problems, path


# Signatures


def test_a_signed_call_that_was_changed_is_not_run(bench: Bench) -> None:
    call = load("signed-run").calls[0]
    request = call.exchange.request
    with pytest.MonkeyPatch.context() as patch:
        environment(patch, signed=True)
        app = bench.app("signed-run", "async")
        entry = bench.entry(app, "asgi")
        raw = request["raw_body"].encode()
        bench.api.requests = []
        bad = [
            (raw.replace(b'"attempt":0', b'"attempt":1'), request["headers"]),
            (raw, {k: v for k, v in request["headers"].items() if k != "x-inngest-signature"}),
            (raw, {**request["headers"], "x-inngest-signature": "t=1&s=aa"}),
        ]
        statuses = [entry.call(app.id + "-signed", "step", *args).status for args in bad]
    assert statuses == [401, 401, 401]
    assert bench.api.requests == []


# Registration


def recorded_app(functions: list[dict[str, Any]], app_id: str, url: str) -> App:
    """An app that declares the functions of a recorded registration."""
    app = App(app_id, orchestrator=url)
    ids = {function["id"] for function in functions}
    for function in functions:
        if function["id"].removesuffix("-failure") in ids - {function["id"]}:
            continue  # another function's on_failure
        triggers = [Event(t["event"], t.get("expression")) for t in function["triggers"]]
        batch = function.get("batchEvents")
        cancels = [CancelOn(c["event"], c.get("if")) for c in function.get("cancel", ())]

        async def body(ctx: Any) -> None:
            raise AssertionError

        app.function(
            function["id"].removeprefix(f"{app_id}-"),
            name=function["name"],
            trigger=triggers,
            retries=function["steps"]["step"]["retries"]["attempts"],
            cancel_on=cancels,
            batch_events=BatchEvents(batch["maxSize"], batch["timeout"]) if batch else None,
            on_failure=body if f"{function['id']}-failure" in ids else None,
        )(body)
    return app


def compare_registration(bench: Bench, name: str) -> Comparison:
    """Registration and introspection over ASGI, beside the recorded ones."""
    sync, register, *reads = load(name).exchanges
    sent = register.request["body"]
    comparison = Comparison()
    with pytest.MonkeyPatch.context() as patch:
        environment(patch, signed=name.startswith("signed"))
        patch.setenv("INNGEST_SERVE_ORIGIN", "http://127.0.0.1:3000")
        bench.asgi.app = recorded_app(sent["functions"], sent["appName"], bench.url)
        bench.api.answers, bench.api.requests = [register], []
        ours = _ask(bench.asgi, "PUT")
        comparison.same(sync.response["status"], ours[0], "sync.status")
        comparison.same(sync.response["body"], ours[2], "sync.body")
        shown = {k: v for k, v in ours[1].items() if k in sync.response["headers"]}
        comparison.headers(sync.response["headers"], shown)
        (request,) = bench.api.requests
        _compare_registered(comparison, register.request, request)
        for read in reads:
            status, headers, body = _ask(bench.asgi, "GET")
            comparison.same(read.response["status"], status, "introspection.status")
            comparison.use("introspection.specified")
            offered = {"in_band_sync": "v1", "trust_probe": "v1"}
            comparison.same(
                (None, offered, False),
                tuple(
                    body.pop(name)
                    for name in (
                        "authentication_succeeded",
                        "capabilities",
                        "has_signing_key_fallback",
                    )
                ),
                "introspection.specified",
            )
            comparison.same(read.response["body"], body, "introspection.body")
            comparison.headers(read.response["headers"], headers)
    return comparison


def _ask(entry: ServedOverHttp, method: str) -> tuple[int, dict[str, str], Any]:
    answer = entry.request(method, PATH)
    return answer.status, answer.headers, answer.body


def _compare_registered(
    comparison: Comparison, recorded: dict[str, Any], ours: dict[str, Any]
) -> None:
    for key in ("method", "path"):
        comparison.same(recorded[key], ours[key], key)
    authorization = recorded["headers"]["authorization"]
    if authorization == "Bearer undefined" and "authorization" not in ours["headers"]:
        comparison.use("header authorization without a key")
    else:
        comparison.same(authorization, ours["headers"].get("authorization"), "authorization")
    theirs, mine = json.loads(json.dumps(recorded["body"])), dict(ours["body"])
    for key in ("framework", "sdk"):
        comparison.use("registration.framework")
        comparison.same("onward", mine.pop(key).partition(":")[0], key)
        del theirs[key]
    comparison.use("registration.featureObservations")
    del theirs["featureObservations"]
    comparison.use("registration.capabilities")
    offered = {"in_band_sync": "v1", "trust_probe": "v1"}
    comparison.same(offered, mine.pop("capabilities"), "capabilities")
    del theirs["capabilities"]
    for function in mine["functions"]:
        comparison.use("registration.checkpoint")
        each = {"batch_steps": 1, "batch_interval": "0s", "max_runtime": "0s"}
        comparison.same(each, function.pop("checkpoint"), "checkpoint")
    comparison.same(theirs, mine, "registration")


@pytest.mark.parametrize("name", ["sync-and-introspection", "signed-sync"])
def test_registration_as_recorded(bench: Bench, name: str) -> None:
    problems = compare_registration(bench, name).problems
    assert not problems, "\n".join(problems)
