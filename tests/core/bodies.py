"""Bodies of simulated invocations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from onward.core.calls import CallState, Failure, StepCall
from onward.core.ops import ErrorInfo
from tests.core.programs import Step

if TYPE_CHECKING:
    from tests.core.processes import Process


class Body:
    """A body that runs."""

    def __init__(self, process: Process, call: StepCall, step: Step, number: int) -> None:
        self.process, self.call, self.step, self.number = process, call, step, number

    def end(self, now: float) -> None:
        """It returns or raises, now."""
        self.process.bodies.pop(self.call, None)
        self.process.world.ledger.ends(self.call.id)
        if self.process.dead:
            return
        name = self.step.name
        if self.number < self.step.fails:
            error = ErrorInfo("ValueError", f"{name} broke")
            taken = self.process.core.failed(
                self.call, Failure(error, retriable=not self.step.final), now
            )
            if taken and self.call.state is CallState.SETTLED:
                self.process.failed.append(self.call)
        else:
            value = f"{name}.{self.step.index} of try {self.number}" + "." * self.step.size
            taken = self.process.core.settled(self.call, json.dumps(value), value, 0, 0, now)
            if taken and self.call.failure is not None:
                self.process.failed.append(self.call)
            elif taken and self.call.state is CallState.SETTLED:
                self.process.settled.append(self.call)
        self.process.turn()
