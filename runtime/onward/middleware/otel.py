"""OpenTelemetry: a span for each invocation, each body, each checkpoint."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from onward.errors import MissingExtraError
from onward.middleware.base import Answer, Call, Input, Middleware, SentCheckpoint, Step

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

_SPAN, _STEPS, _PARENTS = "span", "steps", "parents"


class OpenTelemetryMiddleware(Middleware):
    """Spans for invocations and for what happens in them; put it first.

    The span of an invocation continues the trace of its call request (`traceparent`), or the span
    that is current where the platform's own instrumentation has begun one. It is current in the
    function, and the span of a step in its body. A step that is replayed has no span.

    | span | attributes |
    |---|---|
    | the function's id | `onward.app.id`, `onward.function.id`, `onward.run.id`, `onward.request.id`, `onward.attempt`, `onward.steps.recorded`, `onward.answer` (`Answer.kind`), `onward.deadline.remaining_s` at its begin, `onward.deadline.margin_s` at its end |
    | `step ID` | `onward.step.id`, `onward.step.index`; the exception of one that raised |
    | `checkpoint` | `onward.checkpoint.steps`, `.bytes`, `.verdict` |
    | `continuation` | none: the orchestrator calls again |

    Args:
        tracer_provider: By default the global one.

    Raises MissingExtraError.
    """  # noqa: E501 - a table's row is one line

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        try:
            from opentelemetry import context, propagate, trace
        except ImportError:
            raise MissingExtraError(
                "The OpenTelemetryMiddleware needs its API: pip install 'onward[otel]'."
            ) from None
        from onward import __version__

        self._trace, self._context, self._propagate = trace, context, propagate
        self._tracer = trace.get_tracer("onward", __version__, tracer_provider=tracer_provider)

    # ------------------------------------------------------------------ the invocation

    def transform_input(self, call: Call, given: Input) -> Input:
        """Begin the invocation's span; it is current in the function."""
        trace = self._trace
        parent, kind = None, trace.SpanKind.INTERNAL
        if not trace.get_current_span().get_span_context().is_valid:
            parent = self._propagate.extract(call.headers)
            kind = trace.SpanKind.SERVER
        attributes: dict[str, Any] = {
            "onward.app.id": call.app_id,
            "onward.function.id": call.function_id,
            "onward.run.id": call.run_id,
            "onward.request.id": call.request_id,
            "onward.attempt": call.attempt,
            "onward.steps.recorded": call.recorded,
            **_left(call, "onward.deadline.remaining_s"),
        }
        span = self._tracer.start_span(call.function_id, parent, kind, attributes)
        call.state.update({_SPAN: span, _STEPS: {}, _PARENTS: {}})
        self._context.attach(trace.set_span_in_context(span))
        return given

    def before_response(self, call: Call, answer: Answer | None) -> None:
        """End the invocation's span, and those of bodies that were cut."""
        span: Span | None = call.state.pop(_SPAN, None)
        if span is None:  # another middleware kept the function from running
            return
        for step in tuple(call.state[_STEPS].values()):  # their threads may be ending them
            step.set_attributes({"onward.step.cut": True})
            step.end()
        span.set_attributes(_left(call, "onward.deadline.margin_s"))
        span.set_attribute("onward.answer", answer.kind if answer is not None else "none")
        if answer is not None and answer.kind == "continuation":
            inside = self._trace.set_span_in_context(span)
            self._tracer.start_span("continuation", inside).end()
        if answer is not None and answer.error is not None:
            error = answer.error
            told = {
                "exception.type": error.name,
                "exception.message": error.message,
                "exception.stacktrace": error.stack,
            }
            span.add_event("exception", told)
            span.set_status(self._failed(error.message))
        span.end()

    def _failed(self, message: str) -> Any:
        return self._trace.Status(self._trace.StatusCode.ERROR, message)

    # ------------------------------------------------------------------ steps and checkpoints

    def before_step(self, call: Call, step: Step) -> None:
        """Begin a step's span; it is current in the body."""
        if _SPAN not in call.state:
            return
        # A body that is tried again in place begins in the context that the first try has left.
        parent = call.state[_PARENTS].setdefault(step.hashed_id, self._context.get_current())
        told: dict[str, Any] = {"onward.step.id": step.id, "onward.step.index": step.index}
        span = self._tracer.start_span(f"step {step.id}", parent, attributes=told)
        call.state[_STEPS][step.hashed_id] = span
        self._context.attach(self._trace.set_span_in_context(span, parent))

    def after_step(self, call: Call, step: Step, error: BaseException | None) -> None:
        """End a step's span."""
        span: Span | None = call.state.get(_STEPS, {}).pop(step.hashed_id, None)
        if span is None:
            return
        if error is not None:
            span.record_exception(error)
            span.set_status(self._failed(f"{type(error).__name__}: {error}"))
        span.end()

    def after_checkpoint(self, call: Call, checkpoint: SentCheckpoint) -> None:
        """A span for a checkpoint, from when it was handed over to its answer."""
        span = call.state.get(_SPAN)
        if span is None:
            return
        told: dict[str, Any] = {
            "onward.checkpoint.steps": len(checkpoint.steps),
            "onward.checkpoint.bytes": checkpoint.size,
            "onward.checkpoint.verdict": checkpoint.verdict,
        }
        inside, started = self._trace.set_span_in_context(span), checkpoint.started_ns
        sent = self._tracer.start_span("checkpoint", inside, attributes=told, start_time=started)
        if checkpoint.verdict != "CONFIRMED":
            sent.set_status(self._failed(checkpoint.detail or checkpoint.verdict))
        sent.end(started + checkpoint.duration_ns)


def _left(call: Call, name: str) -> dict[str, float]:
    """The seconds until the deadline, where there is one."""
    left = inf if call.deadline is None else call.deadline.remaining()
    return {} if left == inf else {name: round(left, 3)}
