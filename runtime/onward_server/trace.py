"""What the orchestrator tells about runs while they happen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger("onward.server")
#: What has no effect here. Apart, so that who shows notices otherwise can turn it off.
notices = logger.getChild("notices")

RUN_STARTED = "run.started"
RUN_ENDED = "run.ended"
RUN_SKIPPED = "run.skipped"
NOTICE = "notice"
CALL_STARTED = "call.started"
CALL_ENDED = "call.ended"
CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """Something that happened to a run. `at` is in seconds since the epoch.

    By kind, `data` holds:

    - `run.started`: `function_id`, `events` (names), `resumed` (found at the orchestrator's start)
    - `call.started`: `request_id`, `target`, `attempt`, `generation`, `journal` (its length)
    - `call.ended`: `request_id`, `status` (None: no answer), `ops` (`op`, `name`, `id` of each),
      `error`, `wall_ms`, `stale` (the answer came too late and was ignored)
    - `checkpoint`: `request_id`, `steps` (names), `new` (how many were not memoized yet)
    - `run.ended`: `status`, `error`
    - `notice`: `app`, `text`, about something that was registered and has no effect; no `run_id`
    - `run.skipped`: `function_id`, `event` (its name), `reason`; there is no run, so no `run_id`
    """

    kind: str
    run_id: str
    at: float
    data: dict[str, Any] = field(default_factory=dict)


Callback = Callable[[TraceEvent], object]


class Trace:
    """Hands trace events to whoever subscribed, on the event loop."""

    def __init__(self) -> None:
        self._callbacks: dict[int, Callback] = {}
        self._next = 0

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` for every event from now on. Returns what ends that."""
        key, self._next = self._next, self._next + 1
        self._callbacks[key] = callback
        return lambda: void(self._callbacks.pop(key, None))

    def emit(self, kind: str, run_id: str, at: float, data: dict[str, Any]) -> None:
        """Tell everybody. What a callback raises is logged and goes no further."""
        if not self._callbacks:
            return
        event = TraceEvent(kind, run_id, at, data)
        for callback in tuple(self._callbacks.values()):
            try:
                callback(event)
            except Exception:
                logger.exception("A trace callback failed on %s of run %s", kind, run_id)


def void(_value: object) -> None:
    """Nothing, whatever the value."""
