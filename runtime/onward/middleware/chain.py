"""The middleware of one function, in order, and the one way in which a hook is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from onward.core.ops import ErrorInfo
from onward.errors import MiddlewareError
from onward.middleware.base import HOOKS, Call, Middleware, Outcome, Sent

if TYPE_CHECKING:
    from typing import NoReturn

#: One middleware that overrides a hook, and its own view of the invocation.
Bound = tuple[Middleware, Call]


class Chain:
    """The middleware of an app, or of one of its functions, the app's first."""

    def __init__(self, middleware: Sequence[Middleware], app_id: str, where: str) -> None:
        self.middleware = tuple(middleware)
        self.app_id = app_id
        self.where = where
        self._numbers = {hook: self._overriding(hook) for hook in HOOKS}
        self.waits = any(item.waits for item in self.middleware)
        transforming = self._numbers["transform_output"] + self._numbers["transform_recorded"]
        self.reversible = all(self.middleware[n].reversible for n in transforming)

    def _overriding(self, hook: str) -> tuple[int, ...]:
        base = getattr(Middleware, hook)
        return tuple(
            number
            for number, item in enumerate(self.middleware)
            if getattr(type(item), hook) is not base
        )

    def calls(self) -> tuple[Call, ...]:
        """What hooks are given where no function is called, each middleware its own."""
        return tuple(Call(self.app_id, middleware=self.middleware) for _ in self.middleware)

    def has(self, hook: str) -> bool:
        """Whether any middleware overrides `hook`."""
        return bool(self._numbers[hook])

    def inward(self, hook: str, calls: Sequence[Call]) -> list[Bound]:
        """Who overrides `hook`, nearest to the wire first, each with its own call."""
        numbers = self._numbers[hook]
        return [(self.middleware[n], calls[n]) for n in numbers]

    def outward(self, hook: str, calls: Sequence[Call]) -> list[Bound]:
        """The same, nearest to user code first."""
        return self.inward(hook, calls)[::-1]

    def failed(self, item: Middleware, hook: str, error: Exception, about: object = "") -> NoReturn:
        """Raise the MiddlewareError for a hook that raised; `about`: a step, if it is about one."""
        inner = error.message if isinstance(error, MiddlewareError) else _text(error)
        place = f" for {about}" if about else ""
        message = f"{type(item).__name__}.{hook} failed in {self.where}{place}: {inner}"
        raise MiddlewareError(message) from error

    def recorded(self, calls: Sequence[Call], outcome: Outcome) -> Outcome:
        """A recorded outcome on its way in. Raises MiddlewareError."""
        return self._outcome("transform_recorded", self.inward, calls, outcome)

    def opened(self, data: Any) -> Any:
        """The result of a run, as its function returned it. Raises MiddlewareError."""
        return self.recorded(self.calls(), Outcome(None, data=data)).data

    def opened_error(self, name: str, message: str, stack: str) -> tuple[str, str, str]:
        """The error of a run, as its function raised it. Raises MiddlewareError."""
        error = self.recorded(
            self.calls(), Outcome(None, error=ErrorInfo(name, message, stack))
        ).error
        return (name, message, stack) if error is None else (error.name, error.message, error.stack)

    def output(self, calls: Sequence[Call], outcome: Outcome) -> Outcome:
        """An outcome on its way out. Raises MiddlewareError."""
        return self._outcome("transform_output", self.outward, calls, outcome)

    def _outcome(
        self,
        hook: str,
        order: Callable[[str, Sequence[Call]], list[Bound]],
        calls: Sequence[Call],
        outcome: Outcome,
    ) -> Outcome:
        for item, call in order(hook, calls):
            before = outcome
            about = before.step or "the function's outcome"
            try:
                outcome = getattr(item, hook)(call, before)
            except Exception as error:  # noqa: BLE001 - whatever a hook raises is told in one way
                self.failed(item, hook, error, about)
            if not _fits(outcome, before):
                problem = f"it returned {outcome!r}. Return the outcome or its `with_data(…)`"
                self.failed(item, hook, TypeError(f"{problem}, or `with_error(…)`."), about)
        return outcome

    def outgoing(
        self, calls: Sequence[Call], events: Sequence[dict[str, Any]]
    ) -> tuple[dict[str, Any], ...]:
        """Events on their way out. Raises MiddlewareError."""
        going = tuple(dict(event) for event in events)
        for item, call in self.outward("before_send_events", calls):
            try:
                going = tuple(item.before_send_events(call, going))
                if not all(isinstance(event, dict) for event in going):
                    raise TypeError("it did not return events as dicts.")  # noqa: TRY301
            except Exception as error:  # noqa: BLE001 - see above
                self.failed(item, "before_send_events", error)
        return going

    def send(
        self,
        calls: Sequence[Call],
        events: Sequence[dict[str, Any]],
        post: Callable[[tuple[dict[str, Any], ...]], Sequence[str]],
    ) -> list[str]:
        """Send events by `post`, which returns their ids, with the hooks around it."""
        going = self.outgoing(calls, events)
        try:
            ids = list(post(going))
        except Exception as error:
            self.sent(calls, Sent(going, error=error))
            raise
        self.sent(calls, Sent(going, tuple(ids)))
        return ids

    def sent(self, calls: Sequence[Call], sent: Sent) -> None:
        """Tell what became of events. Raises MiddlewareError."""
        for item, call in self.outward("after_send_events", calls):
            try:
                item.after_send_events(call, sent)
            except Exception as error:  # noqa: BLE001 - see above
                self.failed(item, "after_send_events", error)


def _fits(after: object, before: Outcome) -> bool:
    return isinstance(after, Outcome) and (after.error is None) == (before.error is None)


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - users' exceptions may fail at anything
        return type(error).__name__
