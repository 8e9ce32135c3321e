"""SIGTERM on a server: flush, and continue in another process."""

from __future__ import annotations

import signal
import threading

from onward.execution.session import drain_all


def drain_on_sigterm() -> None:
    """Drain before whatever handles SIGTERM now; only the main thread can have that done.

    Without a handler of the server's, SIGTERM ends the process at once, and so it stays.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    previous = signal.getsignal(signal.SIGTERM)
    if not callable(previous) or previous is signal.default_int_handler:
        return

    def drain(number: int, frame: object) -> None:
        threading.Thread(target=drain_all, name="onward-drain", daemon=True).start()
        previous(number, frame)  # type: ignore[arg-type]  # what it was installed for

    signal.signal(signal.SIGTERM, drain)
