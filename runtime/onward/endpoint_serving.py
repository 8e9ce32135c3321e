"""Requests to durable endpoints: a run's first, and those that its orchestrator sends again."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from onward.app import App, Function, is_async
from onward.core.closing import Closing, Ending, closing
from onward.core.retry import Verdict
from onward.errors import ConfigurationError, OnwardError, UnsignedRequestError
from onward.execution import engine
from onward.execution.abandoned import abandoned
from onward.execution.draining import drain_on_sigterm
from onward.execution.on_worker import on_worker
from onward.execution.session import PATIENCE_SLACK, Execution, Hung
from onward.logs import runtime as log
from onward.own_address import check_called_back
from onward.protocol import headers as names
from onward.protocol.call_request import CallRequest
from onward.protocol.endpoint import (
    BODY_LIMIT,
    MEMORY,
    EndpointCall,
    EndpointRun,
    call_of,
    encode_result,
    is_call,
    take_headers,
)
from onward.protocol.response import WireResponse
from onward.protocol.signature import sign, verify

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from onward.context import BlockingContext, Context
    from onward.core.response import Response as Decided
    from onward.endpoint_http import Captured

#: What a caller gets when its run goes on without it: a redirect to where the response will be, the
#: token that opens it, or a redirect to what a function makes of run id and token.
OnAsync: TypeAlias = Literal["redirect", "token"] | Callable[[str, str], str]

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_FAILED = json.dumps(
    encode_result(500, [("content-type", "text/plain; charset=utf-8")], b"Internal Server Error")
)

#: The largest response that a run keeps, in bytes. A caller that is answered directly gets any.
KEPT_LIMIT = 2_900_000


@dataclass(slots=True)
class Entered:
    """A request that has come in. `run` is that of a first request; `refusal` answers it at once.

    `injected` is the framework's own response, on which handlers set headers and status.
    """

    request: Request
    injected: Response | None
    call: CallRequest | None = None
    run: EndpointRun | None = None
    key: str | None = None
    refusal: WireResponse | None = None


class Endpoint:
    """One durable endpoint."""

    def __init__(
        self,
        app: App,
        function: Function,
        context: str,
        carried: tuple[str, ...],
        on_async: OnAsync,
    ) -> None:
        self.app = app
        self.function = function
        self.on_async = on_async
        self.context = context
        self._carried = carried
        self._failed_at = -inf
        self._drains = False
        self._going: set[asyncio.Task[Response]] = set()

    # ------------------------------------------------------------------ coming in

    async def enter(self, request: Request, injected: Response | None = None) -> Entered:
        """What this request is: the first of a run, or an orchestrator that sends it again."""
        entered = Entered(request, injected)
        if not self._drains:
            self._drains = True
            drain_on_sigterm()
        if abandoned.too_many:
            message = "This process has too much code that could not be stopped."
            entered.refusal = _plain(503, message, retry_after=1)
            return entered
        try:
            if is_call(request.headers):
                await self._enter_again(entered)
            else:
                await self._enter_first(entered)
        except UnsignedRequestError as error:
            entered.refusal = _plain(401, error.message)
        except ConfigurationError as error:  # callers are strangers
            log.error("Endpoint %s refuses requests: %s", self.function.composite_id, error.message)
            message = "This app is not configured; its log says what to do."
            entered.refusal = _plain(500, message)
        except _TooLargeError as error:
            entered.refusal = _plain(413, error.message)
        except OnwardError as error:
            entered.refusal = engine.refusal(error)
        return entered

    async def _enter_first(self, entered: Entered) -> None:
        from onward.endpoint_http import body_of, describe

        request, settings = entered.request, self.app.settings
        body = await body_of(request)
        if len(body) > BODY_LIMIT:
            raise _TooLargeError(
                f"The request's body is {len(body):,} bytes; a durable endpoint keeps its request"
                f" with the run, and takes at most {BODY_LIMIT:,}. Upload large data elsewhere and"
                " send where it is."
            )
        described = describe(request, body, origin=settings.serve_origin, trusted=settings.dev)
        check_called_back(described.origin, settings)
        event = described.event(self.function.composite_id)
        carried = {
            name: value
            for name in self._carried
            if (value := request.headers.get(name)) is not None
        }
        run_id = new_ulid()
        failing = time.monotonic() < self._failed_at + MEMORY
        entered.run = EndpointRun(run_id, event, self.function.retries, carried, failed=failing)
        stamped = {**event, "id": run_id, "ts": time.time_ns() // 1_000_000}
        entered.call = CallRequest(
            function_id=self.function.composite_id,
            run_id=run_id,
            request_id=run_id,
            max_attempts=self.function.retries + 1,
            event=stamped,
            events=(stamped,),
        )

    async def _enter_again(self, entered: Entered) -> None:
        from onward.endpoint_http import body_of, restore_headers

        request = entered.request
        entered.key = self._check_signature(request.headers, await body_of(request))
        attempts = self.function.retries + 1
        call = call_of(request.headers, self.function.composite_id, attempts)
        call = await on_worker(partial(engine.fetched, self.app, call))
        journal, carried = take_headers(call.journal)
        restore_headers(request, carried)
        entered.call = replace(call, journal=journal)

    def _check_signature(self, fields: Mapping[str, str], body: bytes) -> str | None:
        """Which key signed a continuation; None in dev mode. Raises UnsignedRequestError."""
        settings, signature = self.app.settings, fields.get(names.SIGNATURE, "")
        now = time.time()
        fits = [key for key in settings.signing_keys if verify(body, signature, key, now=now)]
        if fits:
            return fits[0]
        if settings.dev:
            return None
        if not settings.signing_keys:
            log.error("A durable endpoint was called again, and there is no INNGEST_SIGNING_KEY.")
        raise UnsignedRequestError("The request is not signed, or not as this app expects it.")

    # ------------------------------------------------------------------ answering

    async def answer(self, entered: Entered, args: Any, kwargs: Mapping[str, Any]) -> Response:
        """The answer to a request, whose handler gets `args` and `kwargs`.

        The run goes on if whoever waits for it is cancelled.
        """
        if entered.refusal is not None:
            return self._wire(entered, entered.refusal)
        task = asyncio.create_task(self._run(entered, args, kwargs))
        self._going.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Response]) -> None:
        self._going.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it

    async def _run(self, entered: Entered, args: Any, kwargs: Mapping[str, Any]) -> Response:
        from onward.endpoint_http import drop_background_tasks

        handling = _Handling(self, entered, args, kwargs)
        try:
            execution = self._execution(entered, handling.function())
        except OnwardError as error:
            return self._wire(entered, engine.refusal(error))
        try:
            decided = await _drive(execution)
        except Hung:
            await asyncio.Event().wait()
            raise
        if handling.captured is None or not _completes(decided):
            drop_background_tasks(kwargs)
        if entered.run is None:
            return self._wire(entered, engine.answer(decided))
        last = closing(decided, _FAILED)
        confirmed = await self._close(entered.run, last, execution)
        if entered.run.failed:
            self._failed_at = time.monotonic()
        if last.ending is Ending.RESULT and handling.captured is not None:
            return handling.captured.response({names.RUN_ID: entered.run.run_id})
        if last.ending is Ending.FAILED:
            raise handling.error or OnwardError(_message_of(decided))
        return await self._went_async(entered, decided, confirmed=confirmed)

    def _execution(self, entered: Entered, function: Function) -> Execution:
        assert entered.call is not None  # noqa: S101 - there is one unless it was refused
        scope = entered.request.scope
        frozen = scope.get("aws.context")
        platform = engine.Platform(
            engine.server_limits(
                frozen, scope.get("aws.event"), self.app.settings.front_door_limit
            ),
            abandons=frozen is None,
            headers=dict(entered.request.headers),
            raw_request=entered.request,
        )
        execution = engine.execution_of(self.app, function, entered.call, platform)
        # A server that takes no checkpoints has no endpoints either: there is no call by call.
        reports = entered.run or EndpointCall(entered.call)
        return replace(execution, function=function, reports=reports)

    async def _close(self, run: EndpointRun, last: Closing, execution: Execution) -> bool:
        """Send the run's last checkpoint. False: nothing has confirmed it."""
        now = time.time_ns() // 1_000_000
        encoded = run.encode(last.ops, request_started_ms=now, sent_ms=now) if last.ops else None
        if encoded is None:
            return True
        loop = asyncio.get_running_loop()
        told: asyncio.Future[tuple[Verdict, str]] = loop.create_future()

        def done(verdict: Verdict, detail: str) -> None:
            loop.call_soon_threadsafe(tell, verdict, detail)

        def tell(verdict: Verdict, detail: str) -> None:
            if not told.done():
                told.set_result((verdict, detail))

        until = min(time.monotonic() + run.patience, execution.deadline.kill_at)
        self.app.channel.submit(*encoded, done, give_up_at=until)
        left = until + PATIENCE_SLACK - time.monotonic()
        late = loop.call_later(left, tell, Verdict.UNCONFIRMED, "no answer in time")
        verdict, detail = await told
        late.cancel()
        if run.judge(verdict, detail) in {Verdict.CONFIRMED, Verdict.GONE}:
            return True  # gone: it was told before, or somebody else has taken the run over
        log.error(
            "The end of a run of endpoint %s could not be told its orchestrator (%s). %s [run %s]",
            self.function.composite_id,
            detail or verdict.name,
            "Its caller is answered; steps that are not confirmed may run again."
            if not last.goes_on
            else "It cannot go on without one.",
            run.run_id,
        )
        return False

    async def _went_async(self, entered: Entered, decided: Decided, *, confirmed: bool) -> Response:
        """The answer to a caller whose run goes on without it."""
        from starlette.responses import Response

        run = entered.run
        assert run is not None  # noqa: S101 - only first requests have callers
        if decided.error is not None and confirmed:
            log.warning(
                "The handler of endpoint %s failed and is tried again: %s: %s [run %s]",
                self.function.composite_id,
                decided.error.name,
                decided.error.message,
                run.run_id,
            )
        told = {names.RUN_ID: run.run_id}
        if not run.token or not (confirmed or run.lease_s):
            message = "This request has to wait, and its orchestrator cannot be reached. Try again."
            refused = _plain(503, message, retry_after=1)
            return Response(refused.body, 503, {**refused.headers, **told})
        if self.on_async == "token":
            body = json.dumps({"run_id": run.run_id, "token": run.token})
            return Response(body, 200, {**told, "content-type": "application/json"})
        if callable(self.on_async):
            address = self.on_async(run.run_id, run.token)
        else:
            address = self.app.settings.api_url.rstrip("/") + run.output_path()
        return Response(b"", 302, {**told, "location": address})

    @staticmethod
    def _wire(entered: Entered, response: WireResponse) -> Response:
        from starlette.responses import Response

        fields = dict(response.headers)
        if entered.key is not None:
            fields[names.SIGNATURE] = sign(response.body, entered.key, int(time.time()))
        return Response(response.body, response.status, fields)


class _Handling:
    """One invocation of the handler as a function of its context; what it answered or raised."""

    def __init__(
        self, endpoint: Endpoint, entered: Entered, args: Any, kwargs: Mapping[str, Any]
    ) -> None:
        self._endpoint = endpoint
        self._entered = entered
        self._args = args
        self._kwargs = kwargs
        self._loop = asyncio.get_running_loop()
        self.captured: Captured | None = None
        self.error: Exception | None = None

    def function(self) -> Function:
        """The endpoint's function, whose handler takes a context alone."""
        function, name = self._endpoint.function, self._endpoint.context
        handler, args, kwargs = function.handler, self._args, self._kwargs

        async def in_async(ctx: Context) -> Any:
            try:
                value = await handler(*args, **kwargs, **{name: ctx})
            except Exception as error:  # noqa: BLE001 - the application may have an answer to it
                return await self._render(None, error)
            return await self._render(value)

        def in_blocking(ctx: BlockingContext) -> Any:
            try:
                value = handler(*args, **kwargs, **{name: ctx})
            except Exception as error:  # noqa: BLE001 - the application may have an answer to it
                return self._from_thread(self._render(None, error))
            return self._from_thread(self._render(value))

        chosen: Callable[..., Any] = in_async if is_async(handler) else in_blocking
        chosen.__annotations__ = {}
        return replace(function, handler=chosen)

    def _from_thread(self, rendering: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(rendering, self._loop).result()

    async def _render(self, value: Any, error: Exception | None = None) -> Any:
        """The run's result: the response."""
        from onward.endpoint_http import render

        self.error = error
        entered = self._entered
        captured = await render(entered.request, entered.injected, value, error)
        self.error, self.captured = None, captured
        body = bytes(captured.body)
        if entered.run is not None and len(body) > KEPT_LIMIT:
            log.warning(
                "The response of %s bytes is over %s: its caller gets it, its run does not keep"
                " it. [run %s]",
                len(body),
                KEPT_LIMIT,
                entered.run.run_id,
            )
            body = b""
        return encode_result(captured.status, captured.fields(), body)


async def _drive(execution: Execution) -> Decided:
    if execution.function.is_async:
        return await engine.run_async(execution)
    return await on_worker(partial(engine.run_blocking, execution))


def _completes(decided: Decided) -> bool:
    return closing(decided, _FAILED).ending is Ending.RESULT


def _message_of(decided: Decided) -> str:
    error = decided.error
    return f"{error.name}: {error.message}" if error is not None else "The endpoint failed."


class _TooLargeError(OnwardError):
    """The request cannot be kept."""


def _plain(status: int, message: str, *, retry_after: int | None = None) -> WireResponse:
    """An answer of Onward's own."""
    fields = {"content-type": "application/json"}
    if retry_after is not None:
        fields[names.RETRY_AFTER] = str(retry_after)
    return WireResponse(status, fields, json.dumps({"message": message}).encode())


def new_ulid() -> str:
    """A ULID: 48 bits of time, 80 of chance, in Crockford's base 32 (ULID specification)."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
