"""What the core asks a driver to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onward.core.calls import Failure, StepCall
from onward.core.ops import Op
from onward.core.response import Response


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give the call's outcome to user code, then let it run until it is idle again.

    `memoized`: `value` is the journal's JSON value and has to be rebuilt first.
    """

    call: StepCall
    value: Any = None
    failure: Failure | None = None
    memoized: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Run the call's body; report `settled` or `failed`, or `cut` or `stuck` after a `Cut`."""

    call: StepCall


@dataclass(frozen=True, slots=True)
class Send:
    """Checkpoint `ops`; report `checkpointed`."""

    ops: tuple[Op, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """Stop these bodies now; report each as `cut`, `stuck`, or whatever it ended with."""

    calls: tuple[StepCall, ...]


@dataclass(frozen=True, slots=True)
class Respond:
    """Unwind user code if it has not ended, drop running bodies, answer."""

    response: Response


@dataclass(frozen=True, slots=True)
class Hang:
    """Do not answer: a body that cannot be stopped would go on in the next invocation."""


@dataclass(frozen=True, slots=True)
class ReadJournal:
    """Ask the orchestrator for the run's journal as it is now; report `journal_read`."""


Action = Deliver | Start | Send | Cut | ReadJournal | Respond | Hang
