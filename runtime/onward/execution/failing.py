"""How a raised exception is reported to the orchestrator."""

from __future__ import annotations

from collections.abc import Iterator

from onward.core.calls import Failure
from onward.core.ops import ErrorInfo
from onward.core.retry import bounded_retry_after
from onward.errors import DurationError, NonRetriableError, OnwardError, RetryAfterError, StepError

#: How much of a message and of a stack is sent, in characters: a response stays small.
MESSAGE_LENGTH, STACK_LENGTH = 8_000, 24_000

_OWN_CODE = __file__.removesuffix("execution/failing.py")


def failure_of(error: BaseException) -> Failure:
    """What is reported. Of an exception group: final if one in it is, else its longest delay."""
    leaves = list(_leaves(error))
    first = next((leaf for leaf in leaves if _is_final(leaf)), leaves[0])
    name, text, stack = type(first).__name__, _text(first), ""
    if isinstance(first, StepError):
        name, text, stack = first.name, first.message, first.stack
    info = ErrorInfo(name, _cut(text, MESSAGE_LENGTH), stack or _stack(error))
    if any(_is_final(leaf) for leaf in leaves):
        return Failure(info, retriable=False)
    asking = [leaf.retry_after for leaf in leaves if isinstance(leaf, RetryAfterError)]
    delays = map(_seconds_until, asking)
    return Failure(info, retry_after=max((d for d in delays if d is not None), default=None))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _is_final(error: BaseException) -> bool:
    if isinstance(error, (StepError, NonRetriableError)):
        return True
    return isinstance(error, OnwardError) and not error.retriable


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - users' exceptions may fail at anything
        return f"(its text cannot be had: {type(broken).__name__})"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"


def _stack(error: BaseException) -> str:
    """The traceback of `error` without Onward's own frames."""
    import traceback

    try:
        told = traceback.TracebackException.from_exception(error)
        shown: traceback.TracebackException | None = told
        while shown is not None:
            frames = [frame for frame in shown.stack if not frame.filename.startswith(_OWN_CODE)]
            shown.stack = traceback.StackSummary.from_list(frames)
            shown = shown.__cause__ or shown.__context__
        text = "".join(told.format())
    except Exception:  # noqa: BLE001 - users' exceptions may fail at anything
        return ""
    return text if len(text) <= STACK_LENGTH else f"…{text[-STACK_LENGTH:]}"


def _seconds_until(value: object) -> int | None:
    """Whole seconds for `RetryAfterError.retry_after`; None, the default delay, for nonsense."""
    from datetime import UTC, datetime

    from onward.core.durations import parse_duration

    try:
        if isinstance(value, datetime):
            aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return bounded_retry_after((aware - datetime.now(UTC)).total_seconds())
        return bounded_retry_after(parse_duration(value, what="retry_after"))
    except DurationError as error:
        from onward.logs import runtime

        runtime.warning("RetryAfterError: %s The default delay is used.", error)
        return None
