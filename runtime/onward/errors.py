"""Every error that Onward raises, or that users raise to steer it.

Each class has a stable `code`, which names its page in the documentation, and two axes: whose
fault it is, and whether trying again can help.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Fault(StrEnum):
    """Who can fix it."""

    USER = "user"
    PLATFORM = "platform"
    ORCHESTRATOR = "orchestrator"
    ONWARD = "onward"


class OnwardError(Exception):
    """The base of all. `message` says what happened, the state, and the fix."""

    code: ClassVar[str] = "onward_error"
    fault: ClassVar[Fault] = Fault.ONWARD
    retriable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigurationError(OnwardError):
    """An app, a function or an option is declared in a way that cannot work."""

    code = "bad_configuration"
    fault = Fault.USER


class DurationError(ConfigurationError):
    """A duration does not parse, or is out of its range."""

    code = "bad_duration"


class ExpressionError(ConfigurationError):
    """A CEL expression does not parse, or cannot be evaluated."""

    code = "bad_expression"


class CronError(ConfigurationError):
    """A cron schedule does not parse, or names an unknown time zone."""

    code = "bad_cron"


class MissingExtraError(ConfigurationError):
    """An optional dependency is not installed; the message gives the command that installs it."""

    code = "missing_extra"


class UnknownFunctionError(OnwardError):
    """A call request names a function that this app does not have."""

    code = "unknown_function"
    fault = Fault.USER


class MalformedCallRequestError(OnwardError):
    """A call request is not what the protocol says it is. Nothing was run."""

    code = "malformed_call_request"
    fault = Fault.ORCHESTRATOR
    retriable = True


class UnsignedRequestError(OnwardError):
    """An unsigned HTTP call reached a deployed app outside dev mode."""

    code = "unsigned_request"
    fault = Fault.USER


class JournalFetchError(OnwardError):
    """A trimmed journal could not be fetched. Nothing was run."""

    code = "journal_fetch_failed"
    fault = Fault.ORCHESTRATOR
    retriable = True


class OrchestratorUnavailableError(OnwardError):
    """The orchestrator did not answer, or could not serve a request now; trying again can help."""

    code = "orchestrator_unavailable"
    fault = Fault.ORCHESTRATOR
    retriable = True


class BlockingCallError(OnwardError):
    """A blocking call was made on the thread of a running event loop. Nothing was done."""

    code = "blocks_event_loop"
    fault = Fault.USER


class EventError(OnwardError):
    """An event cannot be sent as it is: its name, its data, its size. Nothing was sent."""

    code = "bad_event"
    fault = Fault.USER


class EventSchemaError(EventError):
    """The data of an event does not fit its schema, when it is sent or when it is received."""

    code = "event_schema_mismatch"


class EventRejectedError(EventError):
    """The orchestrator refused events.

    `status` is its HTTP status, `sent` the ids of the events before them, which it had taken.
    """

    code = "event_rejected"

    def __init__(self, message: str, status: int = 0, sent: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.sent = sent


class EventsNotSentError(OrchestratorUnavailableError):
    """Events could not be handed over, however often that was tried.

    `sent` holds the ids of the events before them, which were taken.
    """

    code = "events_not_sent"

    def __init__(self, message: str, sent: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.sent = sent


class RunError(OnwardError):
    """The base of what waiting for a run's result raises. `run_id` is the run's."""

    code = "run_error"
    fault = Fault.USER

    def __init__(self, message: str, run_id: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id


class RunFailedError(RunError):
    """The run failed. `name`, `reason` and `stack` are those of the error that ended it."""

    code = "run_failed"

    def __init__(
        self, message: str, run_id: str = "", *, name: str = "", reason: str = "", stack: str = ""
    ) -> None:
        super().__init__(message, run_id)
        self.name = name
        self.reason = reason
        self.stack = stack


class RunCancelledError(RunError):
    """The run was cancelled, and has no result."""

    code = "run_cancelled"


class UnknownRunError(RunError):
    """The orchestrator knows no run of this id."""

    code = "unknown_run"


class RunNotFinishedError(RunError, TimeoutError):
    """The run had not ended when the time to wait for it was over. It goes on."""

    code = "run_not_finished"
    retriable = True


class StepUsageError(OnwardError):
    """A step was used where no step can run: in another step, after the end, while suspending."""

    code = "step_misused"
    fault = Fault.USER


class ResultError(OnwardError):
    """A result cannot be serialized, or not be rebuilt from its JSON as its annotation says."""

    code = "bad_result"
    fault = Fault.USER


class ResultTooLargeError(ResultError):
    """A step's result is over the orchestrator's limit."""

    code = "result_too_large"


class StepTimedOutError(OnwardError):
    """A step ran out of its own `timeout`, or does not fit into a whole invocation."""

    code = "step_timed_out"
    fault = Fault.USER
    retriable = True


class InvocationTooSlowError(OnwardError):
    """An invocation ended without confirming a step: its time went outside of steps."""

    code = "invocation_too_slow"
    fault = Fault.USER
    retriable = True


class CheckpointError(OnwardError):
    """The orchestrator refused a checkpoint for good."""

    code = "checkpoint_refused"
    fault = Fault.ORCHESTRATOR


class MiddlewareError(OnwardError):
    """A middleware's hook raised; the message names middleware, hook and function."""

    code = "middleware_failed"
    fault = Fault.USER
    retriable = True


class DecryptionError(OnwardError):
    """Encrypted data cannot be opened: its key is not among those given, or it was changed."""

    code = "cannot_decrypt"
    fault = Fault.USER
    retriable = True


class OffloadError(OnwardError):
    """A large payload's object cannot be written or read, is not there, or was changed."""

    code = "offload_failed"
    fault = Fault.USER
    retriable = True


class StepError(OnwardError):
    """A step that failed for good, as the function sees it.

    `name` is the class of the body's exception, `stack` its formatted traceback, `step_id` the id
    that user code gave the step.
    """

    code = "step_failed"
    fault = Fault.USER

    def __init__(self, name: str, message: str, stack: str = "", *, step_id: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.stack = stack
        self.step_id = step_id

    def __str__(self) -> str:
        where = f"step {self.step_id!r}: " if self.step_id else ""
        return f"{where}{self.name}: {self.message}"


class NonRetriableError(OnwardError):
    """Raise it in a step or a function whose retry cannot help. `cause` is kept as the reason."""

    code = "non_retriable"
    fault = Fault.USER

    def __init__(self, message: str, *, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.__cause__ = cause


class RetryAfterError(OnwardError):
    """Raise it in a step or a function that must not be retried before `retry_after`.

    `retry_after` is a duration (`"30s"`, seconds, `timedelta`) or an aware `datetime`.
    """

    code = "retry_after"
    fault = Fault.USER
    retriable = True

    def __init__(
        self, message: str, retry_after: object, *, cause: BaseException | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.__cause__ = cause
