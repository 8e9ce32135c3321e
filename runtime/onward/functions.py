"""Functions of an app, as they are declared, and the checks of what they declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from onward.errors import ConfigurationError
from onward.triggers import CancelOn, Cron, Event

if TYPE_CHECKING:
    from onward.app import App
    from onward.config import Checkpointing
    from onward.flow import Setting
    from onward.middleware.base import Middleware

#: How often a failed function or step is tried again, unless the function says otherwise.
DEFAULT_RETRIES = 3

#: What the reference server takes at most.
MOST_RETRIES = 20
_MOST_TRIGGERS = 10
_MOST_CANCELS = 5

_VARARGS, _COROUTINE = 0x04, 0x80  # as in inspect, which is not imported
_NOT_IN_IDS = frozenset("/?&#%'\"\\<>")


def is_async(function: object) -> bool:
    """Whether calling `function` gives a coroutine; partials and callable objects included."""
    while hasattr(function, "func") and hasattr(function, "keywords"):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):
        code = getattr(vars(type(function)).get("__call__"), "__code__", None)
    return code is not None and bool(code.co_flags & _COROUTINE)


def _takes_a_context(function: Any) -> bool:
    """Whether `function` can be called with one argument; True of what is no plain function."""
    if type(function) is not type(is_async):
        return True
    code, keywords = function.__code__, function.__kwdefaults__ or ()
    required = code.co_argcount - len(function.__defaults__ or ())
    takes_one = required <= 1 and (code.co_argcount > 0 or code.co_flags & _VARARGS)
    return bool(takes_one) and code.co_kwonlyargcount == len(keywords)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of an app. `id` is its own, `composite_id` the one that the orchestrator knows.

    `options` are its flow control and `idempotency`, by the names that `App.function` has for them.
    `handles` is the function whose failed runs this one handles.
    """

    app_id: str
    id: str
    handler: Callable[..., Any]
    triggers: tuple[Event | Cron, ...]
    retries: int
    checkpointing: Checkpointing | None
    cancel_on: tuple[CancelOn, ...]
    plan_parallel: bool
    name: str
    middleware: tuple[Middleware, ...] = ()
    options: Mapping[str, Setting | tuple[Setting, ...] | str] = field(default_factory=dict)
    handles: str | None = None

    @property
    def composite_id(self) -> str:
        """The id that the orchestrator knows: `app-function`."""
        return f"{self.app_id}-{self.id}"

    @property
    def is_async(self) -> bool:
        """Whether the asyncio driver runs it."""
        return is_async(self.handler)

    def registration(self, url: str) -> dict[str, Any]:
        """This function as a registration carries it; `url` is where call requests go."""
        from onward.core.durations import format_duration
        from onward.protocol.registration import checkpoint_entry, function_entry

        options = {option: _wire(value) for option, value in self.options.items()}
        if self.cancel_on:
            options["cancel"] = _wire(self.cancel_on)
        checkpoint, how = None, self.checkpointing
        if how is not None:
            interval = format_duration(how.max_interval_s)
            longest = format_duration(how.max_runtime_s or 0)
            checkpoint = checkpoint_entry(how.buffered_steps, interval, longest)
        return function_entry(
            self.composite_id,
            self.name,
            url,
            retries=self.retries,
            triggers=[trigger.to_wire() for trigger in self.triggers],
            checkpoint=checkpoint,
            options=options,
        )


def declare(  # noqa: PLR0917 - what every function has
    app_id: str,
    id_: str,
    trigger: object,
    retries: object,
    checkpointing: Checkpointing | None,
    parallel: object,
    name: object,
    middleware: tuple[Middleware, ...],
    given: Mapping[str, Any],
) -> Callable[[Callable[..., Any]], list[Function]]:
    """Check what a function declares; returns what makes it, and its failure handler, of a handler.

    `given` are the other options by name. Raises ConfigurationError, which names the function, the
    field and the fix.
    """
    where = f"function {id_!r} of app {app_id!r}"
    check_id(id_, f"the id of {where}")
    triggers = _triggers(trigger, where)
    cancels = _several(given.get("cancel_on") or (), (CancelOn,), "cancel_on", where)
    for number, cancel in enumerate(cancels, 1):
        cancel.check(
            f"cancel_on {number} of {where}" if len(cancels) > 1 else f"cancel_on of {where}"
        )
    if len(cancels) > _MOST_CANCELS:
        raise ConfigurationError(
            f"The cancel_on of {where} has {len(cancels)} events. Inngest servers take"
            f" {_MOST_CANCELS}: let several causes send the same event."
        )
    check_retries(retries, where)
    if parallel not in ("eager", "orchestrated"):
        raise ConfigurationError(
            f"The parallel of {where} is {parallel!r}. Write 'eager' or 'orchestrated'."
        )
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ConfigurationError(f"The name of {where} is {name!r}. Write a text, or leave it out.")
    options = _options(given, where)
    on_failure = given.get("on_failure")
    if on_failure is not None and not callable(on_failure):
        raise ConfigurationError(
            f"The on_failure of {where} is {on_failure!r}. Write a function of one context, such as"
            " `async def notify(ctx: onward.Context)`, and give it without calling it."
        )

    def make(handler: Callable[..., Any]) -> list[Function]:
        _check_handlers(handler, on_failure, where)
        function = Function(
            app_id,
            id_,
            handler,
            triggers,
            cast("int", retries),
            checkpointing,
            cancels,
            parallel == "orchestrated",
            name or id_,
            middleware,
            options,
        )
        return [function] if on_failure is None else [function, _handling(function, on_failure)]

    return make


def _check_handlers(handler: object, on_failure: object, where: str) -> None:
    """Raise ConfigurationError unless both can be called with a context."""
    if not callable(handler):
        raise ConfigurationError(
            f"The {where} is {handler!r}. Put the decorator on a function of one context, such"
            " as `async def fulfil(ctx: onward.Context)`."
        )
    for what, each in ((f"The {where}", handler), (f"The on_failure of {where}", on_failure)):
        if not _takes_a_context(each):
            raise ConfigurationError(
                f"{what} is called with its context and nothing else, which {each!r} does not"
                " take. Give it one parameter: `async def fulfil(ctx: onward.Context)`, or"
                " `def fulfil(ctx: onward.BlockingContext)`."
            )


#: The app that has the function which an orchestrator knows by a composite id, while it lives.
_OWNERS: WeakValueDictionary[str, App] = WeakValueDictionary()


def add(app: App, made: Sequence[Function]) -> None:
    """Add to an app's functions. Raises ConfigurationError where two would have the same id."""
    for function in made:
        known = app.functions.get(function.composite_id)
        if known is not None:
            raise _two(app.id, function, known)
        owner = _OWNERS.get(function.composite_id)
        if owner is not None and owner.id != app.id:
            other = owner.functions[function.composite_id]
            raise ConfigurationError(
                f"The function {function.id!r} of app {app.id!r} and the function {other.id!r} of"
                f" app {owner.id!r} are both {function.composite_id!r} for an orchestrator, which"
                " joins app and function by '-'. Give one of them another id."
            )
    for function in made:
        app.functions[function.composite_id] = function
        _OWNERS[function.composite_id] = app


def _two(app_id: str, function: Function, known: Function) -> ConfigurationError:
    handled = function.handles or known.handles
    if handled is None:
        return ConfigurationError(
            f"The app {app_id!r} has a function {function.id!r} already. Give each its own id."
        )
    return ConfigurationError(
        f"The app {app_id!r} has two functions {function.id!r}: one is the on_failure handler of"
        f" {handled!r}, whose id is made of the function's. Give the other one another id."
    )


def check_id(value: object, what: str) -> None:
    """Raise ConfigurationError if `value` is no id of an app or a function."""
    fits = isinstance(value, str) and value.isprintable() and value != ""
    if not fits or any(c.isspace() or c in _NOT_IN_IDS for c in value):  # type: ignore[attr-defined]
        raise ConfigurationError(
            f"{value!r} is not {what}: use letters, digits, '-', '_' and '.', such as"
            " 'order-fulfilment'."
        )


def check_retries(value: object, where: str) -> None:
    """Raise ConfigurationError if `value` is not a number of retries."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_RETRIES:
        raise ConfigurationError(
            f"The retries of {where} is {value!r}. Write a whole number from 0 to {MOST_RETRIES}."
        )


def _triggers(value: object, where: str) -> tuple[Event | Cron, ...]:
    triggers = _several(value, (Event, Cron), "trigger", where)
    if not triggers:
        raise ConfigurationError(
            f"The {where} has no trigger. Give it one: trigger=onward.Event('order/paid')."
        )
    if len(triggers) > _MOST_TRIGGERS:
        raise ConfigurationError(
            f"The {where} has {len(triggers)} triggers. Inngest servers take {_MOST_TRIGGERS}: a"
            " name that ends in '*', such as 'order/*', stands for several events."
        )
    seen: list[dict[str, Any]] = []
    for number, trigger in enumerate(triggers, 1):
        nth = f"trigger {number}" if len(triggers) > 1 else "trigger"
        trigger.check(f"{nth} of {where}")
        wire = trigger.to_wire()
        wire.pop("jitter", None)
        if wire in seen:
            raise ConfigurationError(
                f"The {nth} of {where} repeats trigger {seen.index(wire) + 1}, which Inngest"
                " servers refuse. Leave it out."
            )
        seen.append(wire)
    return triggers


def _options(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Flow control and idempotency. The module that knows them is loaded only if there are any."""
    if all(given[name] is None for name in given if name not in {"cancel_on", "on_failure"}):
        return {}
    from onward.flow import check_flow
    from onward.triggers import check_if

    options: dict[str, Any] = dict(check_flow(given, where))
    if given.get("idempotency") is not None:
        check_if(given["idempotency"], where, "idempotency")
        options["idempotency"] = given["idempotency"]
    return options


def _handling(function: Function, handler: Callable[..., Any]) -> Function:
    """The function that handles failed runs of `function` (SDK specification, 11)."""
    from onward.protocol import registration

    return Function(
        function.app_id,
        registration.failure_id(function.id),
        handler,
        (
            Event(
                registration.FUNCTION_FAILED,
                registration.failure_expression(function.composite_id),
            ),
        ),
        registration.FAILURE_RETRIES,
        function.checkpointing,
        (),
        function.plan_parallel,
        registration.failure_name(function.name),
        function.middleware,
        handles=function.id,
    )


def _several(value: object, kinds: tuple[type, ...], field_: str, where: str) -> tuple[Any, ...]:
    items = (value,) if isinstance(value, kinds) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, kinds) for item in items):
        written = " or ".join(
            f"onward.{kind.__name__}({_EXAMPLES[kind.__name__]})" for kind in kinds
        )
        raise ConfigurationError(
            f"The {field_} of {where} is {value!r}. Write {written}, or a list of those."
        )
    return tuple(items)


_EXAMPLES = {"Event": "'order/paid'", "Cron": "'0 9 * * MON'", "CancelOn": "'order/cancelled'"}


def _wire(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return value.to_wire() if hasattr(value, "to_wire") else [item.to_wire() for item in value]
