"""What the command line refuses, and the exit status that each refusal ends with."""

from __future__ import annotations

from typing import ClassVar

from onward.errors import Fault, OnwardError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class UsageError(OnwardError):
    """The command line asks for something that cannot be done. Nothing was started.

    `details` is shown as it is under the message: a traceback of the user's own module.
    """

    code: ClassVar[str] = "bad_usage"
    fault: ClassVar[Fault] = Fault.USER

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class WorkerError(OnwardError):
    """A worker process ended before it could serve."""

    code: ClassVar[str] = "worker_failed"
    fault: ClassVar[Fault] = Fault.USER


class ServerError(OnwardError):
    """The orchestrator that was asked did not answer, or refused."""

    code: ClassVar[str] = "orchestrator_refused"
    fault: ClassVar[Fault] = Fault.ORCHESTRATOR


class UnreachableError(ServerError):
    """Nothing answers at the orchestrator's address."""

    code: ClassVar[str] = "orchestrator_unreachable"
    retriable: ClassVar[bool] = True
