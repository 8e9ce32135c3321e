"""Recorded exchanges: how they are read and compared with what we send."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

DATA = Path(__file__).parent / "data"

_ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")

#: Ids and times differ from one recording to the next, so they are not compared as they are but
#: mapped: each recorded one stands for exactly one of ours, wherever it turns up.
MAPPED_KEYS = {"run_id", "request_id", "job_id", "qi_id", "fn_id", "ts"}


@dataclass
class Mapping:
    """Which of our ids each recorded one stands for, and the other way round."""

    ours: dict[tuple[str, str], Any] = field(default_factory=dict)
    theirs: dict[tuple[str, str], Any] = field(default_factory=dict)

    def same(self, kind: str, recorded: Any, ours: Any) -> bool:
        """Whether `recorded` stands for `ours`; the first time, from now on it does."""
        expected = self.ours.setdefault((kind, str(recorded)), ours)
        if kind == "ts":  # several instants may be one on a clock that stands still
            return bool(expected == ours)
        source = self.theirs.setdefault((kind, str(ours)), recorded)
        return bool(expected == ours and source == recorded)

    def translate(self, value: Any) -> Any:
        """`value` with every recorded id that is known replaced by ours."""
        if isinstance(value, dict):
            return {key: self._translate_key(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.translate(item) for item in value]
        if isinstance(value, str):
            return self.ours.get(("ulid", value), value)
        return value

    def _translate_key(self, key: str, item: Any) -> Any:
        if key in MAPPED_KEYS and isinstance(item, str):
            kind = "ulid" if _ULID.fullmatch(item) else key
            return self.ours.get((kind, item), item)
        return self.translate(item)


def differences(recorded: Any, ours: Any, mapping: Mapping, path: str = "") -> list[str]:
    """Where `ours` is not what was recorded, ids mapped."""
    key = path.rsplit(".", 1)[-1]
    if isinstance(recorded, str) and _ULID.fullmatch(recorded) and isinstance(ours, str):
        same = mapping.same("ulid", recorded, ours)
    elif key in MAPPED_KEYS:
        same = type(recorded) is type(ours) and mapping.same(key, recorded, ours)
    elif isinstance(recorded, dict) and isinstance(ours, dict):
        found = [
            problem
            for name in recorded.keys() & ours.keys()
            for problem in differences(recorded[name], ours[name], mapping, f"{path}.{name}")
        ]
        missing = [f"{path}.{name} is missing" for name in recorded.keys() - ours.keys()]
        extra = [f"{path}.{name} is ours alone" for name in ours.keys() - recorded.keys()]
        return [*found, *missing, *extra]
    elif isinstance(recorded, list) and isinstance(ours, list) and len(recorded) == len(ours):
        return [
            problem
            for n, (a, b) in enumerate(zip(recorded, ours, strict=True))
            for problem in differences(a, b, mapping, f"{path}[{n}]")
        ]
    else:
        same = type(recorded) is type(ours) and recorded == ours
    return [] if same else [f"{path}: recorded {recorded!r}, ours {ours!r}"]


@dataclass
class Exchange:
    """One request with its response; `end` is when the response was complete."""

    at: int
    end: int
    request: dict[str, Any]
    response: dict[str, Any]
    injected: bool

    @property
    def body(self) -> Any:
        return self.request["body"]


@dataclass
class RecordedCall:
    """A call request, with the checkpoints that its invocation sent."""

    exchange: Exchange
    checkpoints: list[Exchange]
    taken: bool = False

    @property
    def ctx(self) -> dict[str, Any]:
        context: dict[str, Any] = self.exchange.body["ctx"]
        return context

    @property
    def query(self) -> dict[str, str]:
        parsed = parse_qs(urlsplit(self.exchange.request["path"]).query)
        return {key: values[0] for key, values in parsed.items()}


@dataclass
class Recording:
    """One recorded scenario."""

    name: str
    exchanges: list[Exchange]
    calls: list[RecordedCall]

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = self.calls[0].exchange.body["event"]
        return event

    @property
    def function_id(self) -> str:
        return self.calls[0].query["fnId"]


def names() -> list[str]:
    """Every recorded scenario."""
    return sorted(path.stem for path in DATA.glob("*.json"))


def load(name: str) -> Recording:
    """The scenario `name`."""
    raw = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    exchanges = [
        Exchange(
            entry["at_ms"],
            entry["at_ms"] + (entry.get("duration_ms") or 0),
            entry["request"],
            entry.get("response") or {},
            bool(entry.get("injected_fault")),
        )
        for entry in raw["exchanges"]
    ]
    calls = []
    for exchange in exchanges:
        if not isinstance(exchange.body, dict) or "ctx" not in exchange.body:
            continue
        request_id = exchange.body["ctx"]["request_id"]
        sent = [e for e in exchanges if _checkpoint_of(e, request_id)]
        calls.append(RecordedCall(exchange, sent))
    return Recording(name, exchanges, calls)


def _checkpoint_of(exchange: Exchange, request_id: str) -> bool:
    body = exchange.body
    return (
        exchange.request["path"].endswith("/async")
        and isinstance(body, dict)
        and body.get("request_id") == request_id
    )
