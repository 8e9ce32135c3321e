"""A middleware that writes down every hook."""

from __future__ import annotations

import threading
from typing import Any

from onward.middleware import Call, Middleware, Step
from onward.middleware.base import HOOKS


class Recorder(Middleware):
    """Appends `name.hook` to `log`, with the step that the hook is about."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.runs: set[str] = set()
        self.lock = threading.Lock()

    def note(self, hook: str, call: Call | None, args: tuple[Any, ...]) -> None:
        about = args[0] if args else None
        step = about if isinstance(about, Step) else getattr(about, "step", None)
        told = f" {step.id or 'recorded'}" if step is not None else ""
        if hook == "before_response":
            told = f" {about.kind}" if about is not None else " none"
        with self.lock:
            self.log.append(f"{self.name}.{hook}{told}")
            if call is not None:
                self.runs.add(call.run_id)


def _hook(name: str) -> Any:
    base = getattr(Middleware, name)

    def hook(self: Recorder, call: Call | None, *args: Any) -> Any:
        self.note(name, call, args)
        return base(self, call, *args)

    return hook


for _name in HOOKS:
    setattr(Recorder, _name, _hook(_name))


class WaitingRecorder(Recorder):
    """The same, called on threads where the function is async."""

    waits = True
