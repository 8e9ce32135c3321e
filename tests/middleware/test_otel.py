"""Spans: one an invocation, a body, a checkpoint; in the trace of the call request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import copy_context
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from onward import BlockingContext, Checkpointing, Context, InboundEvent
from onward.execution import engine
from onward.middleware import Call, Input, OpenTelemetryMiddleware, Step
from onward.protocol.call_request import decode_call_request
from tests.support.harness import APP, COMPOSITE, World


class Kept(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS

    def named(self, name: str) -> list[ReadableSpan]:
        found = [span for span in self.spans if span.name == name]
        return sorted(found, key=lambda span: span.start_time or 0)


@pytest.fixture
def kept(world: World) -> Kept:
    exporter, provider = Kept(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    world.app_options["middleware"] = [OpenTelemetryMiddleware(provider)]
    return exporter


def current() -> int:
    span_id: int = trace.get_current_span().get_span_context().span_id
    return span_id


def parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    span_id: int = span.parent.span_id
    return span_id


def identity(span: ReadableSpan) -> int:
    assert span.context is not None
    span_id: int = span.context.span_id
    return span_id


async def in_async(ctx: Context) -> list[int]:
    function = current()
    body = await ctx.step.run("one", current)
    await ctx.step.sleep("nap", "1ms")
    return [function, body, await ctx.step.run("two", current)]


def in_blocking(ctx: BlockingContext) -> list[int]:
    function = current()
    body: int = ctx.step.run("one", current)
    ctx.step.sleep("nap", "1ms")
    return [function, body, ctx.step.run("two", current)]


def test_invocations_steps_and_checkpoints(world: World, kept: Kept) -> None:
    world.define(in_async, in_blocking)
    run = world.run()
    first, second = kept.named(COMPOSITE)
    (one,), (two,) = kept.named("step one"), kept.named("step two")
    assert run.result == [identity(second), identity(one), identity(two)]
    assert parent(one) == identity(first)
    assert parent(two) == identity(second)
    assert first.attributes is not None
    assert second.attributes is not None
    assert dict(first.attributes) == {
        "onward.app.id": APP,
        "onward.function.id": COMPOSITE,
        "onward.run.id": run.view.run_id,
        "onward.request.id": run.invocations[0].request["ctx"]["request_id"],
        "onward.attempt": 0,
        "onward.steps.recorded": 0,
        "onward.answer": "plan",
        **_deadline(first, world),
    }
    assert second.attributes["onward.steps.recorded"] == 2
    assert second.attributes["onward.answer"] == "result"
    sent = kept.named("checkpoint")
    assert len(sent) == len(run.checkpoints) > 0
    assert {parent(span) for span in sent} <= {identity(first), identity(second)}
    attributes = sent[0].attributes
    assert attributes is not None
    assert attributes["onward.checkpoint.steps"] == 1
    assert attributes["onward.checkpoint.verdict"] == "CONFIRMED"


def _deadline(span: ReadableSpan, world: World) -> dict[str, Any]:
    """On Lambda there is a deadline, which comes nearer."""
    if world.entry != "lambda":
        return {}
    assert span.attributes is not None
    names = ("onward.deadline.remaining_s", "onward.deadline.margin_s")
    begin, end = (span.attributes[name] for name in names)
    assert isinstance(begin, float)
    assert isinstance(end, float)
    assert 900 > begin >= end > 0
    return dict(zip(names, (begin, end), strict=True))


async def failing_async(ctx: Context) -> None:
    await ctx.step.run("fails", fail, retry_in_place=1)


def failing_blocking(ctx: BlockingContext) -> None:
    ctx.step.run("fails", fail, retry_in_place=1)


def fail() -> None:
    raise ValueError("no luck")


def test_errors(world: World, kept: Kept) -> None:
    world.define(failing_async, failing_blocking, retries=0)
    run = world.run()
    tries = kept.named("step fails")
    assert len(tries) == 2
    for span in tries:
        assert span.status.description == "ValueError: no luck"
        assert [event.name for event in span.events] == ["exception"]
        assert parent(span) == identity(kept.named(COMPOSITE)[0])
    last = kept.named(COMPOSITE)[-1]
    assert last.status.status_code is trace.StatusCode.ERROR
    (told,) = last.events
    assert told.attributes is not None
    assert told.attributes["exception.message"] == run.error["message"]


async def long_async(ctx: Context) -> None:
    await ctx.step.run("one", lambda: 1)
    await ctx.step.run("two", lambda: 2, expected="600s")


def long_blocking(ctx: BlockingContext) -> None:
    ctx.step.run("one", lambda: 1)
    ctx.step.run("two", lambda: 2, expected="600s")


def test_a_continuation(world: World, kept: Kept) -> None:
    world.define(long_async, long_blocking, checkpointing=Checkpointing(max_runtime="300s"))
    world.run()
    (span,) = kept.named("continuation")
    first = kept.named(COMPOSITE)[0]
    assert parent(span) == identity(first)
    assert first.attributes is not None
    assert first.attributes["onward.answer"] == "continuation"


def test_a_failed_checkpoint(world: World, kept: Kept) -> None:
    answered: list[int] = []

    def fault(_body: dict[str, Any]) -> tuple[int, Any] | None:
        answered.append(1)
        return (404, {"error": "no such thing"}) if len(answered) == 1 else None

    world.fault = fault
    world.define(in_async, in_blocking)
    world.run()
    first = kept.named("checkpoint")[0]
    assert first.status.status_code is trace.StatusCode.ERROR


def test_the_trace_of_the_call_request_goes_on(world: World, kept: Kept) -> None:
    app = world.define(_trace_async, _trace_id)
    told = {"ctx": {"run_id": "R", "request_id": "Q", "attempt": 0}, "event": {"name": "e"}}
    call = decode_call_request(told, function_id=COMPOSITE)
    upstream = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    platform = engine.Platform(headers=upstream)
    execution = engine.execution_of(app, app.find(COMPOSITE), call, platform)
    if world.driver == "async":
        answer = asyncio.run(engine.drive_async(execution))
    else:
        answer = engine.drive_blocking(execution)
    assert "ab" * 16 in answer.body.decode()
    (span,) = kept.named(COMPOSITE)
    assert parent(span) == int("cd" * 8, 16)
    assert span.kind is trace.SpanKind.SERVER


def _trace_id(_ctx: BlockingContext) -> str:
    return f"{trace.get_current_span().get_span_context().trace_id:x}"


async def _trace_async(_ctx: Context) -> str:
    return f"{trace.get_current_span().get_span_context().trace_id:x}"


def test_a_body_that_was_cut_ends_with_its_invocation(kept: Kept, world: World) -> None:
    middleware = world.app_options["middleware"][0]
    call = Call("shop", "shop-f")
    given: Any = object()
    assert middleware.transform_input(call, given) is given
    middleware.before_step(call, Step("cut", "a" * 40))
    middleware.before_response(call, None)
    (span,) = kept.named("step cut")
    assert span.attributes is not None
    assert span.attributes["onward.step.cut"] is True
    assert span.end_time is not None


def test_a_body_that_ends_while_the_spans_of_cut_ones_are_ended() -> None:
    """It runs on a thread of its own, and the invocation answers without it."""

    class Ending(Kept):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            middleware.after_step(call, slow, None)
            return super().export(spans)

    exporter, provider = Ending(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    middleware, call = OpenTelemetryMiddleware(provider), Call("shop", "shop-fulfil")
    cut, slow = Step("cut", "1" * 40), Step("slow", "2" * 40)
    nothing = InboundEvent("order/paid")
    context = copy_context()
    context.run(middleware.transform_input, call, Input(nothing, (nothing,), {}))
    for step in (cut, slow):
        context.copy().run(middleware.before_step, call, step)
    middleware.before_response(call, None)
    names = {span.name for span in exporter.spans}
    assert names == {"step cut", "step slow", "shop-fulfil"}
