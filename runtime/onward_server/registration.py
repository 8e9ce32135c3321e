"""Registrations: which functions there are, what starts and cancels them, where they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from onward.core.cron import Cron, parse_cron
from onward.core.durations import parse_duration
from onward.core.expressions import Expression, evaluable_expression
from onward.errors import ConfigurationError
from onward_server.answers import encodable
from onward_server.flow_config import FlowControl, parse_flow
from onward_server.identifiers import stable_uuid

#: Retries of a function whose registration does not say (SDK specification, 4.3).
DEFAULT_RETRIES = 3
_MAX_RETRIES = 20
#: The recorded server's limits.
_LEAST_JITTER_S = 1.0
_MOST_JITTER_S = 300.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """An event that starts runs, if `condition` holds."""

    event: str
    condition: Expression | None = None

    def names(self, name: str) -> bool:
        """Whether events called `name` may start a run. `*` after `/` or `.` is any ending."""
        if self.event.endswith(("/*", ".*")):
            return name.startswith(self.event[:-1])
        return self.event == name

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether `event` starts a run."""
        if not self.names(str(event["name"])):
            return False
        return self.condition is None or self.condition.test({"event": event})


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron schedule that starts runs, each up to `jitter_s` seconds late."""

    expression: str
    cron: Cron
    jitter_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancel:
    """An event that cancels runs; `within_s` seconds after a run's start it no longer does."""

    event: str
    condition: Expression | None = None
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class FunctionConfig:
    """One registered function. `id` is the composite `app-function`, `fn_id` its UUID."""

    id: str
    name: str
    app: str
    url: str
    max_attempts: int
    triggers: tuple[Trigger, ...] = ()
    cancels: tuple[Cancel, ...] = ()
    fn_id: str = field(default="")
    schedules: tuple[Schedule, ...] = ()
    flow: FlowControl = field(default_factory=FlowControl)

    def hears(self, name: str) -> bool:
        """Whether events called `name` may start or cancel its runs."""
        return any(trigger.names(name) for trigger in self.triggers) or any(
            cancel.event == name for cancel in self.cancels
        )


def _refuse(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"The registration of {where} is refused: {what}")


def _text(value: object, where: str, what: str) -> str:
    if not isinstance(value, str) or not value or not encodable(value):
        raise _refuse(where, f"{what} must be a non-empty string, not {value!r}.")
    return value


def _entries(value: object, where: str, what: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _refuse(where, f"{what} must be a list of objects, not {type(value).__name__}.")
    return value


def _condition(text: object, where: str) -> Expression | None:
    if text is None or text == "":
        return None
    if not isinstance(text, str):
        raise _refuse(where, f"an expression must be a string, not {text!r}.")
    try:
        return evaluable_expression(text)
    except ConfigurationError as error:
        raise _refuse(where, error.message) from None


def _event_name(name: object, where: str) -> str:
    text = _text(name, where, "a trigger's event")
    if "*" in text and ("*" in text[:-1] or not text.endswith(("/*", ".*"))):
        raise _refuse(
            where,
            f"the trigger {text!r} has a `*` that is not its end after `/` or `.`. Write"
            " 'order/*' or 'order/item.*', or the whole name.",
        )
    return text


def _schedule(trigger: Mapping[str, Any], where: str) -> Schedule:
    text = trigger.get("cron")
    if not isinstance(text, str) or not text:
        raise _refuse(where, f"a trigger has neither an event nor a cron: {dict(trigger)!r}.")
    try:
        cron = parse_cron(text)
        cron.next_after(datetime.fromtimestamp(0, UTC))  # looks its time zone up
        jitter = trigger.get("jitter")
        jitter_s = parse_duration(jitter, what="its jitter") if jitter else 0.0
    except ConfigurationError as error:
        raise _refuse(where, error.message) from None
    if jitter_s and not _LEAST_JITTER_S <= jitter_s <= _MOST_JITTER_S:
        raise _refuse(where, f"the jitter of {text!r} must be from 1 s to 5 min, not {jitter!r}.")
    return Schedule(text, cron, jitter_s)


def base_url(url: str) -> str:
    """`url` without the `fnId` and `stepId` that address one function and step."""
    parts = urlsplit(url)
    query = [
        (k, v)
        for k, v in parse_qsl(parts.query, keep_blank_values=True)
        if k not in {"fnId", "stepId"}
    ]
    return urlunsplit(parts._replace(query=urlencode(query)))


def _object(step: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = step.get(name) or {}
    if not isinstance(value, Mapping):
        raise _refuse(where, f"{name} must be an object, not {value!r}.")
    return value


def _attempts(step: Mapping[str, Any], where: str) -> int:
    retries = _object(step, "retries", where).get("attempts", DEFAULT_RETRIES)
    if (
        isinstance(retries, bool)
        or not isinstance(retries, int)
        or not 0 <= retries <= _MAX_RETRIES
    ):
        raise _refuse(where, f"retries must be a whole number from 0 to 20, not {retries!r}.")
    return retries + 1


def _parse_function(entry: Mapping[str, Any], app: str, url: str) -> FunctionConfig:
    id_ = _text(entry.get("id"), f"a function of app {app!r}", "its id")
    where = f"function {id_!r}"
    steps = entry.get("steps")
    step = steps.get("step") if isinstance(steps, dict) else None
    if not isinstance(step, dict):
        raise _refuse(where, "it has no `steps.step`, which says where it is called.")
    runtime = _object(step, "runtime", where)
    entries = _entries(entry.get("triggers"), where, "triggers")
    triggers = tuple(
        Trigger(_event_name(t["event"], where), _condition(t.get("expression"), where))
        for t in entries
        if t.get("event")
    )
    schedules = tuple(_schedule(t, where) for t in entries if not t.get("event"))
    cancels = tuple(
        Cancel(
            _text(c.get("event"), where, "the event that cancels it"),
            _condition(c.get("if"), where),
            parse_duration(c["timeout"], what=f"the cancel timeout of {where}")
            if c.get("timeout")
            else None,
        )
        for c in _entries(entry.get("cancel"), where, "cancel")
    )
    return FunctionConfig(
        id=id_,
        name=str(entry.get("name") or id_),
        app=app,
        url=base_url(str(runtime.get("url") or url)),
        max_attempts=_attempts(step, where),
        triggers=triggers,
        cancels=cancels,
        fn_id=stable_uuid("function", id_),
        schedules=schedules,
        flow=parse_flow(entry, where),
    )


@dataclass(frozen=True, slots=True)
class Registration:
    """A decoded registration: the app's name, where it is, and its functions."""

    app: str
    url: str
    functions: tuple[FunctionConfig, ...]

    def notices(self) -> tuple[str, ...]:
        """What is registered and has no effect here, by function and field."""
        return tuple(
            f"Function {function.id!r} registers {field}, which has no effect on the embedded"
            " orchestrator: its runs start in the order in which their events come. An Inngest"
            " server enforces it."
            for function in self.functions
            for field in function.flow.unenforced()
        )


def parse_registration(body: object) -> Registration:
    """The registration in the JSON value `body` (SDK specification, 4.3).

    Raises ConfigurationError naming the function and what is wrong with it: nothing of a
    registration with an error is taken.
    """
    if not isinstance(body, dict):
        raise _refuse("an app", f"it must be an object, not {type(body).__name__}.")
    # Servers do not tell upper from lower case here, and the Python SDK writes it in lower case.
    app = _text(body.get("appName") or body.get("appname"), "an app", "appName")
    url = _text(body.get("url"), f"app {app!r}", "url")
    entries = _entries(body.get("functions"), f"app {app!r}", "functions")
    functions = tuple(_parse_function(entry, app, url) for entry in entries)
    seen: set[str] = set()
    for function in functions:
        if function.id in seen:
            raise _refuse(f"app {app!r}", f"it has two functions with the id {function.id!r}.")
        seen.add(function.id)
    return Registration(app, url, functions)
