"""What a function answered, decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from onward.core.ops import Opcode
from onward.protocol import headers as names
from onward_server.json_text import JsonError, dumps, loads

_SHOWN = 200
_NAMELESS = frozenset({Opcode.RUN_COMPLETE.value, Opcode.NONE.value})
_CODES = frozenset(code.value for code in Opcode)


class BadOpsError(ValueError):
    """Ops that the protocol does not know; the message is worded as recorded."""


@dataclass(frozen=True, slots=True)
class WireOp:
    """One op. `entry`, its journal entry, and `result` are JSON text; `label` is for people."""

    code: str
    id: str
    label: str
    name: str
    opts: Mapping[str, Any]
    entry: str = "null"
    error: Mapping[str, Any] | None = None
    result: str = "null"

    @property
    def race(self) -> bool:
        """Whether its result is to make a call at once."""
        return self.opts.get("parallelMode") == "race"


@dataclass(frozen=True, slots=True)
class Answer:
    """The HTTP answer of an invocation: `headers` with lower-case names, `body` as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reported:
    """Ops (status 206). `version` is the execution version in the answer's headers."""

    ops: tuple[WireOp, ...]
    version: int
    no_retry: bool | None
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Returned:
    """The function's result (status 200) as JSON text."""

    result: str


@dataclass(frozen=True, slots=True)
class Raised:
    """The function, or what lies before it, failed."""

    error: Mapping[str, Any]
    retriable: bool
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Throttled:
    """The platform did not start the invocation: too many at once."""

    retry_after_s: float | None


Outcome = Reported | Returned | Raised | Throttled


def error_info(name: str, message: str, stack: str = "") -> dict[str, str]:
    """An error as it travels."""
    return {"name": name, "message": message, "stack": stack}


def _error_of(value: object, fallback: str) -> dict[str, str]:
    if isinstance(value, dict):
        return error_info(
            str(value.get("name") or "Error"),
            str(value.get("message") or ""),
            str(value.get("stack") or ""),
        )
    return error_info("Error", str(value) if isinstance(value, str) and value else fallback)


def encodable(text: str) -> bool:
    """Whether `text` can be written as UTF-8: JSON escapes may hold half of a character."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_op(value: object) -> WireOp:
    """One op from its JSON value. Raises BadOpsError."""
    if not isinstance(value, dict):
        raise BadOpsError("an op must be an object")
    code, id_ = value.get("op"), value.get("id")
    if not isinstance(code, str) or code not in _CODES:
        raise BadOpsError(f"{code} does not belong to Opcode values")
    if not isinstance(id_, str):
        raise BadOpsError(f"the id of a {code} op must be a string, not {id_!r}")
    if not encodable(id_):
        raise BadOpsError(f"the id {id_!r} is not valid Unicode")
    opts = value.get("opts")
    name = str(value.get("name") or "")
    label = str(value.get("displayName") or name or (code if code in _NAMELESS else id_))
    if not encodable(label):
        label = label.encode("utf-8", "replace").decode()
    result = dumps(value.get("data"))
    error = None
    entry = f'{{"data":{result}}}'
    if code in {Opcode.STEP_ERROR, Opcode.STEP_FAILED}:
        error = _error_of(value.get("error") or value.get("data"), "The step failed.")
        entry = f'{{"error":{dumps(error)}}}'
    return WireOp(
        code, id_, label, name, opts if isinstance(opts, dict) else {}, entry, error, result
    )


def parse_ops(value: object) -> tuple[WireOp, ...]:
    """Ops from a JSON array. Raises BadOpsError."""
    if not isinstance(value, list):
        raise BadOpsError("the ops must be an array")
    return tuple(map(parse_op, value))


def retry_after_seconds(text: str | None, now_ms: int) -> float | None:
    """Seconds from a `retry-after` header: a number, an HTTP date, or an RFC 3339 instant."""
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    instant = parse_instant(text)
    if instant is None:
        try:
            instant = parsedate_to_datetime(text).timestamp()
        except (ValueError, TypeError):
            return None
    return max(0.0, instant - now_ms / 1000)


def parse_instant(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 instant; None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if len(text) < len("2026-01-01"):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _flag(text: str | None) -> bool | None:
    return None if text is None else text.strip().lower() == "true"


def _version(text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError:
        return 2


def _protocol_error(what: str, body: bytes) -> Raised:
    shown = body[:_SHOWN].decode("utf-8", "replace")
    return Raised(
        error_info(
            "ProtocolError",
            f"The function's answer is not understood: {what}. It begins with {shown!r}. Check"
            " that the registered URL is that of the app and that nothing in between answers"
            " for it.",
        ),
        retriable=True,
    )


def _bad_ops(error: BadOpsError) -> Raised:
    return Raised(
        error_info(
            "ProtocolError",
            f"The function answered ops that this orchestrator does not know: {error}. An SDK that"
            " is newer than it may send them, or a kind of step that it does not have. Upgrade"
            " Onward, or serve the app to an Inngest server: until the attempts are used up the"
            " run goes on from where it is.",
        ),
        retriable=True,
    )


def interpret(answer: Answer, now_ms: int) -> Outcome:
    """What `answer` means (SDK specification, 4.4.2; retries as recorded)."""
    retry_after = retry_after_seconds(answer.headers.get(names.RETRY_AFTER), now_ms)
    no_retry = _flag(answer.headers.get(names.NO_RETRY))
    if answer.status == 429:  # noqa: PLR2004 - Too Many Requests
        return Throttled(retry_after)
    try:
        value = loads(answer.body) if answer.body.strip() else None
    except JsonError as error:
        if answer.status in {200, 206}:
            return _protocol_error(str(error), answer.body)
        value = None
    if answer.status == 200:  # noqa: PLR2004 - the function returned
        return Returned(dumps(value))
    if answer.status == 206:  # noqa: PLR2004 - the function reports ops
        try:
            ops = parse_ops(value)
        except BadOpsError as error:
            return _bad_ops(error)
        version = _version(answer.headers.get(names.REQUEST_VERSION))
        return Reported(ops, version, no_retry, retry_after)
    shown = answer.body[:_SHOWN].decode("utf-8", "replace")
    fallback = f"The function answered HTTP {answer.status}: {shown!r}"
    if isinstance(value, dict) and not ("name" in value or "message" in value):
        value = None
    retriable = answer.status != 400 if no_retry is None else not no_retry  # noqa: PLR2004
    return Raised(_error_of(value, fallback), retriable, retry_after)
