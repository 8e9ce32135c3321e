"""How long runs may take to begin and to end."""

from __future__ import annotations

from collections.abc import Callable

from onward_server.model import Effects, Now
from onward_server.registry import Registry
from onward_server.run_state import RunState

_START = "timeout:start"
_FINISH = "timeout:finish"


class RunLimits:
    """Cancels runs by the timeouts of their functions. `arm` sets a timer for a run."""

    def __init__(self, registry: Registry, arm: Callable[[int, str, str], None]) -> None:
        self._registry = registry
        self._arm = arm
        self._unbegun: set[str] = set()

    def watch(self, state: RunState, now_ms: int, *, resumed: bool) -> None:
        """Sets the timers of a run that begins, or that an earlier process began."""
        function = self._registry.functions.get(state.function_id)
        if function is None:
            return
        timeouts = function.flow.timeouts
        if timeouts.start_s is not None and not (resumed and state.called):
            self._unbegun.add(state.run_id)
            self._arm(now_ms + round(timeouts.start_s * 1000), state.run_id, _START)
        if timeouts.finish_s is not None:
            self._arm(state.started_ms + round(timeouts.finish_s * 1000), state.run_id, _FINISH)

    def called(self, run_id: str) -> None:
        """The run's function is being called: it has begun."""
        self._unbegun.discard(run_id)

    def ended(self, run_id: str) -> None:
        """The run is over."""
        self._unbegun.discard(run_id)

    def due(self, run: RunState, key: str, now: Now) -> Effects:
        """What the timer `key` of `run` does."""
        function = self._registry.functions.get(run.function_id)
        timeouts = function.flow.timeouts if function is not None else None
        if key == _START and timeouts is not None and timeouts.start_s is not None:
            if run.run_id not in self._unbegun:
                return Effects(stale=True)
            reason = f"it had not begun after its timeouts.start of {timeouts.start_s:g} s"
            return run.cancel(now, reason)
        if key == _FINISH and timeouts is not None and timeouts.finish_s is not None:
            reason = f"it had not ended after its timeouts.finish of {timeouts.finish_s:g} s"
            return run.expire(now, reason)
        return run.due(key, now)
