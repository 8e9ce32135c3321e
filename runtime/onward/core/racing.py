"""Which calls the orchestrator may be working on already, and when two calls may run at once.

Ops that are outstanding in race mode make a call of the function each when they are resolved. An
Inngest server makes these calls independently: one that belongs to an earlier result may see the
later ones too, and run beside those that these make.
"""

from __future__ import annotations

from onward.core.calls import CallState, StepCall


class Racing:
    """Told in which order a replay calls steps and gets their results.

    A call is marked `raced` when it was outstanding beside something orchestrated while another
    result came in: if it is a step, an earlier invocation has planned it, and it may run already.
    `always`: so are all that are outstanding together, since the function plans parallel steps.
    `joined`: whether the newest result was such a one. The call of the result before it may then
    see the same journal as this call does.
    """

    __slots__ = ("_always", "_fresh", "_racing", "_waiting", "joined")

    def __init__(self, *, always: bool = False) -> None:
        self._always = always
        self._waiting: dict[int, StepCall] = {}
        self._fresh: list[StepCall] = []
        self._racing = 0
        self.joined = False

    def opened(self, call: StepCall) -> None:
        """User code waits for `call`."""
        self._waiting[call.sequence] = call
        self._fresh.append(call)
        self._racing += call.orchestrated

    def closed(self, call: StepCall) -> None:
        """User code does not wait for `call` any more."""
        if self._waiting.pop(call.sequence, None) is not None:
            self._racing -= call.outstanding

    def delivered(self, call: StepCall) -> None:
        """User code got the memoized result of `call`."""
        raced = self._always or self._racing > 0
        self.closed(call)
        self.joined = call.raced
        if not (raced and self._waiting):
            return
        for other in self._fresh:
            if other.state is CallState.OPEN and not other.raced:
                self._racing += not other.orchestrated
                other.raced = True
        self._fresh.clear()
