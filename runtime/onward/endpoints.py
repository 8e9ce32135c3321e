"""Durable endpoints: HTTP routes whose handlers use steps and answer their callers directly."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast
from weakref import WeakKeyDictionary

from onward.app import DEFAULT_RETRIES, MOST_RETRIES, App, Function, is_async
from onward.config import Checkpointing, resolve_checkpointing
from onward.context import BlockingContext, Context
from onward.endpoint_serving import Endpoint, Entered, OnAsync
from onward.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

_F = TypeVar("_F", bound=Callable[..., Any])

#: The ids of each app's endpoints.
_taken: WeakKeyDictionary[App, set[str]] = WeakKeyDictionary()

_HIDDEN = "onward_request"
_ON_ASYNC = ("redirect", "token")


def endpoint(
    app: App,
    id: str,  # noqa: A002 - the field's own name for it
    *,
    retries: int = DEFAULT_RETRIES,
    checkpointing: bool | Checkpointing | None = None,
    headers: Sequence[str] = (),
    on_async: OnAsync = "redirect",
    parallel: Literal["eager", "orchestrated"] = "eager",
    name: str | None = None,
) -> Callable[[_F], _F]:
    """Make a handler of a FastAPI or Starlette route durable: it may use steps.

        @api.post("/checkout")
        @onward.endpoint(app, "checkout")
        async def checkout(cart: Cart, ctx: onward.Context) -> Receipt: ...

    The handler has one parameter annotated `onward.Context` (`async def`) or
    `onward.BlockingContext` (`def`), which the framework does not see; all others are the
    framework's, on the first request and on every continuation.

    Args:
        app: Whose orchestrator keeps the runs.
        id: Unique in the app. Runs are tied to it.
        retries: How often a failed step or handler is tried again, 0 to 20.
        checkpointing: Instead of the app's; it cannot be off.
        headers: Names of request headers that the handler or its dependencies need in continuations
            too, such as `"authorization"`. They are kept with the run; no others are, but the
            content type.
        on_async: What the caller gets when the run goes on without it: `"redirect"` (302 to the
            orchestrator's output address), `"token"` (200, `{"run_id": …, "token": …}`), or a
            function of run id and token that gives the address to redirect to.
        parallel: As for functions.
        name: For people; by default the id.

    Raises ConfigurationError, naming the endpoint and the field.
    """
    where = f"endpoint {id!r} of app {app.id!r}"
    _check(where, app, id, retries, headers, on_async, parallel)
    resolved = resolve_checkpointing(app.checkpointing, checkpointing)
    if resolved is None:
        raise ConfigurationError(
            f"checkpointing of {where} is off, but a durable endpoint's run lives by its"
            " checkpoints. Write checkpointing=True on the endpoint."
        )

    def decorate(handler: _F) -> _F:
        function = Function(
            app_id=app.id,
            id=id,
            handler=handler,
            triggers=(),
            retries=retries,
            checkpointing=resolved,
            cancel_on=(),
            plan_parallel=parallel == "orchestrated",
            name=name or id,
        )
        context = _context_parameter(handler, where)
        _taken.setdefault(app, set()).add(id)
        made = Endpoint(app, function, context, tuple(h.lower() for h in headers), on_async)
        return cast("_F", _wrap(made))

    return decorate


def _check(  # noqa: PLR0917 - each as the user gave it
    where: str,
    app: App,
    id_: object,
    retries: object,
    headers: object,
    on_async: object,
    parallel: object,
) -> None:
    if (
        isinstance(retries, bool)
        or not isinstance(retries, int)
        or not 0 <= retries <= MOST_RETRIES
    ):
        raise ConfigurationError(
            f"retries of {where} is {retries!r}. Write a whole number from 0 to {MOST_RETRIES}."
        )
    if not isinstance(id_, str) or not id_ or any(c.isspace() or c in "/?&#%" for c in id_):
        raise ConfigurationError(
            f"{id_!r} is not the id of an endpoint. Write it like 'check-out'."
        )
    if not isinstance(headers, (list, tuple)) or not all(map(_is_text, headers)):
        raise ConfigurationError(
            f"headers of {where} is {headers!r}. Write names, such as headers=['authorization']."
        )
    if on_async not in _ON_ASYNC and not callable(on_async):
        raise ConfigurationError(
            f"on_async of {where} is {on_async!r}. Write 'redirect', 'token', or a function of run"
            " id and token that gives an address."
        )
    if parallel not in ("eager", "orchestrated"):
        raise ConfigurationError(
            f"parallel of {where} is {parallel!r}. Write 'eager' or 'orchestrated'."
        )
    if f"{app.id}-{id_}" in app.functions or id_ in _taken.get(app, ()):
        raise ConfigurationError(
            f"The app {app.id!r} has a function or an endpoint {id_!r} already. Give each its own"
            " id."
        )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _wrap(made: Endpoint) -> Callable[..., Awaitable[Any]]:
    """The handler for the framework: without the context, with the request."""
    try:
        import starlette.requests  # noqa: F401 - what is missing is told now, not at a request
    except ImportError:
        message = "Durable endpoints need Starlette. Run: pip install 'onward[server]'"
        raise MissingExtraError(message) from None

    async def handle(*args: Any, **kwargs: Any) -> Any:
        entered = kwargs.pop(_HIDDEN, None)
        if not isinstance(entered, Entered):
            entered = await made.enter(entered if entered is not None else args[0])
        return await made.answer(entered, args, kwargs)

    handler = made.function.handler
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
        setattr(handle, attribute, getattr(handler, attribute, None))
    handle.__signature__ = _signature(made)  # type: ignore[attr-defined]
    handle.onward_endpoint = made  # type: ignore[attr-defined]
    return handle


def _signature(made: Endpoint) -> inspect.Signature:
    """The handler's signature without its context. FastAPI solves the hidden parameter first."""
    from starlette.requests import Request as Asked
    from starlette.responses import Response as Injected

    signature = _signature_of(made.function.handler)
    hidden = inspect.Parameter(_HIDDEN, inspect.Parameter.KEYWORD_ONLY, annotation=Asked)
    if "fastapi" in sys.modules:
        from fastapi import Depends

        async def enter(request: Request, response: Response) -> Entered:
            return await made.enter(request, response)

        enter.__annotations__ = {"request": Asked, "response": Injected}
        hidden = hidden.replace(annotation=Any, default=Depends(enter))
    rest = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name != made.context and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    return signature.replace(parameters=[hidden, *rest])


def _signature_of(handler: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(handler, eval_str=True)
    except NameError:  # names for type checkers alone: the framework says which
        return inspect.signature(handler)


def _context_parameter(handler: Callable[..., Any], where: str) -> str:
    """The name of the handler's context. Raises ConfigurationError."""
    kinds: dict[type, str] = {
        Context: "onward.Context",
        BlockingContext: "onward.BlockingContext",
    }
    wanted = Context if is_async(handler) else BlockingContext
    found: dict[str, str] = {}
    for name, parameter in _signature_of(handler).parameters.items():
        annotation = parameter.annotation
        for each, text in kinds.items():
            last = annotation.rpartition(".")[2] if isinstance(annotation, str) else None
            if annotation is each or last == each.__name__:
                found[name] = text
    if len(found) != 1:
        raise ConfigurationError(
            f"The handler of {where} has {len(found)} parameters for its context. Give it one:"
            f" ctx: {kinds[wanted]}."
        )
    name, text = next(iter(found.items()))
    if text != kinds[wanted]:
        kind = "async" if wanted is Context else "not async"
        raise ConfigurationError(
            f"The handler of {where} is {kind}, but its {name!r} is {text}. Write {kinds[wanted]}."
        )
    return name
