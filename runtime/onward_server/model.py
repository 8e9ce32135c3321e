"""The parts of a run's state, what is written about them, and what has to be done about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from onward.core.ids import NO_TARGET


class Status(StrEnum):
    """How a run stands; the values are the REST API's own."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


Holder = tuple[str, str]


def nobody(_signal: str) -> Holder | None:
    """No signal is waited for."""
    return None


class Now(NamedTuple):
    """What a transition takes from outside: the time, chance, new ids, and who waits for signals.

    `ms` is in milliseconds since the epoch, `chance` a number in 0 to 1. `holder` tells the run and
    the step that wait for a signal.
    """

    ms: int
    chance: float
    ulid: Callable[[], str]
    job_id: Callable[[], str]
    holder: Callable[[str], Holder | None] = nobody


@dataclass(slots=True)
class Job:
    """A call that is due, or in flight. A retry is the same job with the next attempt.

    `generation` counts its dispatches, from 1; `request_id` is that of the latest one.
    `position` is `ctx.stack.current`: where the op that caused this call stands in the journal.
    `planned` is `disable_immediate_execution`. `solo` is False for one of several calls that
    several results in one response make at once.
    """

    id: str
    target: str = NO_TARGET
    attempt: int = 0
    generation: int = 0
    request_id: str = ""
    due_ms: int = 0
    position: int = 0
    planned: bool = False
    solo: bool = True
    in_flight: bool = False
    steps_at_dispatch: int = 0
    throttled: int = 0
    refused_since_ms: int = 0

    @property
    def targeted(self) -> bool:
        """Whether it is to run one planned step."""
        return self.target != NO_TARGET


@dataclass(frozen=True, slots=True)
class Pending:
    """An op that was reported and has no result yet: a planned step, a sleep, a wait, an invoke.

    `race`: its result makes a call at once; without it, only the last of several does.
    `due_ms` is when a sleep ends or a wait times out (0: never). `event` is the event or the signal
    that is waited for, and otherwise the step's name. `condition` is a wait's `if`, or `REPLACED`.
    """

    id: str
    code: str
    race: bool = False
    due_ms: int = 0
    event: str = ""
    condition: str = ""


#: The condition of a wait for a signal that another run took over: only its timeout ends it.
REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function that a step invokes.

    `payload` is what the step gave of the event (`data`, `user`, `id`, `ts`, `v`). The run no
    longer waits for it at `expires_ms`.
    """

    step_id: str
    label: str
    function_id: str
    payload: Mapping[str, Any]
    expires_ms: int


# What is written. One transition's writes are committed together or not at all.


@dataclass(frozen=True, slots=True)
class PutStep:
    """`entry` is the JSON text of the journal's entry, `position` counts from 0."""

    run_id: str
    position: int
    step_id: str
    name: str
    entry: str


@dataclass(frozen=True, slots=True)
class PutJob:
    """A job as it stands, new or changed."""

    run_id: str
    job_id: str
    target: str
    attempt: int
    generation: int
    request_id: str
    due_ms: int
    position: int
    planned: bool
    solo: bool


@dataclass(frozen=True, slots=True)
class DropJob:
    """A job that is done."""

    job_id: str


@dataclass(frozen=True, slots=True)
class PutPending:
    """An op that waits for its result."""

    run_id: str
    pending: Pending


@dataclass(frozen=True, slots=True)
class DropPending:
    """An op that has its result, or is planned anew."""

    run_id: str
    step_id: str


@dataclass(frozen=True, slots=True)
class ReplaceSignal:
    """The wait for a signal of `step_id` gets it no more: another run took it over."""

    run_id: str
    step_id: str


@dataclass(frozen=True, slots=True)
class PutContinuation:
    """The id of a continuation: a second one with it would be dropped elsewhere."""

    run_id: str
    op_id: str


@dataclass(frozen=True, slots=True)
class PutVersion:
    """The execution version that the function answered with first."""

    run_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Held:
    """Something to be remembered beside runs: a limit, a debounce, a batch, a cron schedule.

    `due_ms` is when its time comes (0: never). `value` is text that its `kind` knows to read.
    """

    key: str
    kind: str
    function_id: str
    due_ms: int
    value: str


@dataclass(frozen=True, slots=True)
class PutHeld:
    """Remembered from now on, in place of what has the same key."""

    held: Held


@dataclass(frozen=True, slots=True)
class DropHeld:
    """Remembered no more."""

    key: str


@dataclass(frozen=True, slots=True)
class PutRunEvent:
    """A further event of a run that several started; `PutRun` has the first."""

    event_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class PutRun:
    """A new run."""

    run_id: str
    function_id: str
    event_id: str
    event_names: str
    events: str
    started_ms: int


@dataclass(frozen=True, slots=True)
class EndRun:
    """`output` is JSON text: the result, or the error."""

    run_id: str
    status: str
    ended_ms: int
    output: str


@dataclass(frozen=True, slots=True)
class PutEvent:
    """An event as it was taken in: `event` is JSON text."""

    event_id: str
    external_id: str
    name: str
    event: str
    received_ms: int


@dataclass(frozen=True, slots=True)
class PutOutgoing:
    """An event of our own, written with `PutEvent`, that is still to be taken in."""

    event_id: str


@dataclass(frozen=True, slots=True)
class DropOutgoing:
    """An event of our own that has been taken in."""

    event_id: str


@dataclass(frozen=True, slots=True)
class PutApp:
    """An app's registration as JSON text."""

    name: str
    url: str
    registration: str


Write = (
    PutStep
    | PutJob
    | DropJob
    | PutPending
    | DropPending
    | ReplaceSignal
    | PutContinuation
    | PutVersion
    | PutHeld
    | DropHeld
    | PutRun
    | PutRunEvent
    | EndRun
    | PutEvent
    | PutOutgoing
    | DropOutgoing
    | PutApp
)


@dataclass(slots=True)
class Effects:
    """What one transition asks for: `writes` first, in one transaction, and then the rest.

    `dispatch` are jobs to call now, `timers` pairs of an instant (ms) and what is due then: a job's
    or a step's id. `invocations` are functions to be invoked. `fresh` counts newly memoized
    results. `stale`: the input came from a dispatch that is not current, and changed nothing.
    """

    writes: list[Write] = field(default_factory=list)
    dispatch: list[Job] = field(default_factory=list)
    timers: list[tuple[int, str]] = field(default_factory=list)
    invocations: list[Invocation] = field(default_factory=list)
    fresh: int = 0
    ended: bool = False
    stale: bool = False
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A checkpoint that was not taken: the status and the JSON body of the answer."""

    status: int
    body: dict[str, Any]


def job_row(run_id: str, job: Job) -> PutJob:
    """What is written about `job` of the run `run_id`."""
    return PutJob(
        run_id,
        job.id,
        job.target,
        job.attempt,
        job.generation,
        job.request_id,
        job.due_ms,
        job.position,
        job.planned,
        job.solo,
    )
