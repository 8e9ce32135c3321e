"""SIGTERM on a server: flush, and continue in another process."""

from __future__ import annotations

import signal
import threading
from typing import Any

from onward.execution.session import drain_all

_installed: Any = None


def drain_on_sigterm() -> None:
    """Drain before whatever handles SIGTERM now; only the main thread can have that done.

    Asking again changes nothing. Without a handler of the server's, SIGTERM ends the process at
    once, and so it stays.
    """
    global _installed  # noqa: PLW0603 - there is one handler a process
    if threading.current_thread() is not threading.main_thread():
        return
    previous = signal.getsignal(signal.SIGTERM)
    if not callable(previous) or previous in (signal.default_int_handler, _installed):
        return

    def drain(number: int, frame: object) -> None:
        threading.Thread(target=drain_all, name="onward-drain", daemon=True).start()
        previous(number, frame)  # type: ignore[arg-type]  # what it was installed for

    _installed = drain
    signal.signal(signal.SIGTERM, drain)
