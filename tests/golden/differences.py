"""How an answer of ours may differ from the recorded one: every way, each with its reason."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from onward import __version__

#: Every difference that a comparison may forgive. One that none needs fails a test.
DIFFERENCES = {
    "op.mode": "`mode: sync` is not read by the server for steps of a background run",
    "op.timing": "when a body began and how long it took; ours has to have the same shape",
    "op.data of a step without a result": "recorded as null; ours leaves it out",
    "op.data of a failed step": "repeats the error, for readers of that SDK",
    "op.opts.parallelMode": "race: without it the server starves one of several open branches",
    "op.opts.event": "the awaited event's name, as specified; recorded in `name` only",
    "op.name of a sleep": "a sleep is an instant from its call on: ours is what is left of it",
    "error.stack": "each language has its own; ours has to be there",
    "date text": "Python writes an instant without milliseconds when it has none",
    "sdk name": "names the SDK and its version",
    "headers of that SDK": "they report its framework and its own timings; no server reads them",
    "header traceparent": "the recorded SDK repeats the server's own header; the server has it",
    "header x-inngest-signature": "signs text and time of the answer, which differ; a direct"
    " invocation's answer is signed by nobody",
    "header content-length": "HTTP framing, which was not recorded",
    "checkpoint.times": "when the call was received and the checkpoint sent; milliseconds, as ours",
    "checkpoint.authorization without a key": "recorded as an empty token; ours leaves it out",
    "eager": "parallel steps run in the process that was called; the recorded SDK plans each",
    "continuation": "at the deadline a DiscoveryRequest costs one call, the recorded plan two",
    "handover": "results that no checkpoint confirmed come with the next step's plan, which folds"
    " the concurrent calls that the recorded answer makes into one",
    "endpoint.ip": "the recorded SDK tells a caller's address only from a proxy's headers",
    "endpoint.fn": "ours names its endpoints; the recorded SDK left it to method and path",
    "endpoint.lease": "asks an orchestrator that can to take the run over when nothing is heard",
    "endpoint.version": "of the execution model; no server reads it in a result",
    "endpoint.body": "the recorded SDK keeps no response that its handler made itself",
    "retries of a checkpoint": "how often it is sent again depends on the time there is",
    "206 for 200": "after planned steps the recorded SDK answers the result as a call without"
    " checkpointing would; ours with RunComplete whenever checkpointing is on",
    "registration.framework": "names the SDK, its framework and its version",
    "registration.capabilities": "ours has in-band syncs and trust probes, and not connect",
    "introspection.specified": "what the specification has and the recorded SDK leaves out",
    "registration.featureObservations": "tells the vendor which features of its SDK are in use",
    "registration.checkpoint": "how the function checkpoints, as specified (10.1.1); not recorded",
    "header authorization without a key": "recorded as `Bearer undefined`; ours leaves it out",
}

_SDK = f"onward:v{__version__}"
_THEIR_HEADERS = ("x-inngest-sdk-handled", "x-inngest-framework", "server-timing")
_WITHOUT_RESULT = {
    "StepPlanned",
    "Sleep",
    "StepError",
    "WaitForEvent",
    "WaitForSignal",
    "InvokeFunction",
}


@dataclass
class Comparison:
    """What differs between a recording and us: `problems` that nothing explains, `used` excuses."""

    problems: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def use(self, name: str) -> None:
        """`name` of `DIFFERENCES` explains something."""
        assert name in DIFFERENCES, name
        self.used.add(name)

    def same(self, recorded: Any, ours: Any, what: str) -> None:
        """They have to be equal."""
        if type(recorded) is not type(ours) or recorded != ours:
            self.problems.append(f"{what}: recorded {_short(recorded)}, ours {_short(ours)}")

    # Ops

    def ops(self, recorded: list[dict[str, Any]], ours: list[dict[str, Any]], what: str) -> None:
        """Ops in order."""
        self.same([_title(op) for op in recorded], [_title(op) for op in ours], what)
        for theirs, mine in zip(recorded, ours, strict=False):
            self.op(theirs, mine, f"{what}.{_title(mine)}")

    def op(self, recorded: dict[str, Any], ours: dict[str, Any], what: str) -> None:
        """One op, field by field."""
        theirs, mine = dict(recorded), dict(ours)
        if not isinstance(mine.get("opts", {}), dict) or ("opts" in theirs) != ("opts" in mine):
            self.same(theirs.get("opts"), mine.get("opts"), f"{what}.opts")
            return
        theirs["opts"], mine["opts"] = dict(theirs.get("opts", {})), dict(mine.get("opts", {}))
        if theirs.get("mode") == "sync":
            self._drop("op.mode", theirs, "mode")
        if _is_timing(theirs.get("timing")) and _is_timing(mine.get("timing")):
            self._drop("op.timing", theirs, "timing")
            del mine["timing"]
        if theirs["op"] in _WITHOUT_RESULT and theirs.get("data", 0) is None:
            self._drop("op.data of a step without a result", theirs, "data")
        if theirs["op"] == "StepFailed" and isinstance(theirs.get("data"), dict):
            shown = {**theirs["data"], "stack": theirs["error"]["stack"]}
            self.same(theirs["error"], shown, f"{what}.data")
            self._drop("op.data of a failed step", theirs, "data")
        if mine["opts"].get("parallelMode") == "race" and "parallelMode" not in theirs["opts"]:
            self._drop("op.opts.parallelMode", mine["opts"], "parallelMode")
        self._event(theirs, mine)
        if theirs["op"] == mine.get("op") == "Sleep" and "duration" in mine["opts"]:
            self._sleep(theirs, mine, what)
        if "error" in theirs and "error" in mine:
            theirs["error"] = self._error(theirs["error"], mine["error"])
        if _same_instant(theirs.get("data"), mine.get("data")):
            self.use("date text")
            theirs["data"] = mine["data"]
        self.same(theirs, mine, what)

    def _drop(self, name: str, owner: dict[str, Any], key: str) -> None:
        self.use(name)
        del owner[key]

    def _event(self, theirs: dict[str, Any], mine: dict[str, Any]) -> None:
        """What is awaited is said twice."""
        if theirs["op"] == "WaitForEvent" and mine["opts"].get("event") == theirs["name"]:
            self._drop("op.opts.event", mine["opts"], "event")
        elif theirs["op"] == "WaitForEvent":
            theirs["opts"]["event"] = theirs["name"]

    def _sleep(self, theirs: dict[str, Any], mine: dict[str, Any], what: str) -> None:
        """A relative sleep: what is left of it is at most all of it, and said twice."""
        whole, left = float(theirs["name"][:-1]) * 1000, mine["opts"].pop("duration")
        self.same(mine.pop("name", None), left, f"{what}.opts.duration")
        if not re.fullmatch(r"\d+ms", left) or not 0 < int(left[:-2]) <= whole:
            self.problems.append(f"{what}: {left} is not what is left of {theirs['name']}")
        self._drop("op.name of a sleep", theirs, "name")

    def _error(self, theirs: dict[str, Any], mine: dict[str, Any]) -> dict[str, Any]:
        if isinstance(mine.get("stack"), str) and mine["stack"] and theirs["stack"]:
            self.use("error.stack")
            return {**theirs, "stack": mine["stack"]}
        return theirs

    # Answers

    def answer(self, recorded: Any, ours: Any, what: str) -> None:
        """A body that is ops, an error, or a result."""
        if isinstance(recorded, list) and recorded and "op" in recorded[0]:
            self.ops(recorded, ours if isinstance(ours, list) else [], what)
        elif isinstance(recorded, dict) and "stack" in recorded and isinstance(ours, dict):
            self.same(self._error(recorded, ours), ours, what)
        else:
            self.same(recorded, ours, what)

    def headers(self, recorded: dict[str, str], ours: dict[str, str]) -> None:
        """The headers of an answer."""
        theirs, mine = dict(recorded), dict(ours)
        for name in ("user-agent", "x-inngest-sdk"):
            if mine.get(name) == _SDK and theirs.get(name) == "inngest-js:v4.24.0":
                self._drop("sdk name", theirs, name)
                del mine[name]
        for name in _THEIR_HEADERS:
            if name in theirs:
                self._drop("headers of that SDK", theirs, name)
        for name in ("traceparent", "x-inngest-signature"):
            if name in theirs:
                self._drop(f"header {name}", theirs, name)
                mine.pop(name, None)
        mine.pop("x-inngest-framework", None)
        if "content-length" in mine:
            self._drop("header content-length", mine, "content-length")
        self.same(theirs, mine, "headers")

    # Checkpoints

    def checkpoint(self, recorded: dict[str, Any], ours: dict[str, Any], what: str) -> None:
        """The request of a checkpoint: `{method, path, headers, body}`."""
        self.same(recorded["method"], ours.get("method"), f"{what}.method")
        self.same(recorded["path"], ours.get("path"), f"{what}.path")
        theirs, mine = dict(recorded["headers"]), dict(ours.get("headers", {}))
        self.same(
            (mine.pop("user-agent", 0), mine.pop("x-inngest-sdk", 0)), (_SDK, _SDK), f"{what}.sdk"
        )
        self._drop("sdk name", theirs, "user-agent")
        self._drop("sdk name", theirs, "x-inngest-sdk")
        if theirs.get("authorization") == "Bearer" and "authorization" not in mine:
            self._drop("checkpoint.authorization without a key", theirs, "authorization")
        self.same(theirs, mine, f"{what}.headers")
        body, own = dict(recorded["body"]), dict(ours["body"])
        for name in ("request_started_at", "ts"):
            if type(own.get(name)) is int and _is_epoch_ms(own[name]):
                self._drop("checkpoint.times", body, name)
                del own[name]
        self.ops(body.pop("steps"), own.pop("steps"), f"{what}.steps")
        self.same(body, own, f"{what}.body")


def _title(op: dict[str, Any]) -> str:
    return f"{op.get('op')}({op.get('displayName', '')})"


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)[:400]


def _is_timing(value: Any) -> bool:
    """Nanoseconds since the epoch, and a duration in nanoseconds."""
    return (
        isinstance(value, dict)
        and set(value) == {"a", "b"}
        and type(value["a"]) is int
        and type(value["b"]) is int
        and _is_epoch_ms(value["a"] // 1_000_000)
        and value["b"] >= 0
    )


def _is_epoch_ms(value: int) -> bool:
    return 10**12 < value < 10**13


def _same_instant(recorded: Any, ours: Any) -> bool:
    if not isinstance(recorded, str) or not isinstance(ours, str) or recorded == ours:
        return False
    return recorded.endswith(".000Z") and ours == recorded.replace(".000Z", "Z")
