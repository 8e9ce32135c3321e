"""Our own daemon threads for bodies and branches.

asyncio's default executor is joined at exit, so an answer would wait for a body that was abandoned.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing import Self

_T = TypeVar("_T")
_R = TypeVar("_R")

#: Seconds after which an idle thread ends.
IDLE_S = 5.0


class BodyCut(BaseException):
    """Raised inside a body, or in user code outside of steps, when its time is over."""


class Worker:
    """A thread that runs one job at a time and can be interrupted while it does."""

    def __init__(self, pool: Workers) -> None:
        self._pool = pool
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="onward-worker", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job`, which must not raise, on this idle worker."""
        self._jobs.put(job)

    def _loop(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=IDLE_S)
            except Empty:
                if self._pool.retire(self):
                    return
                continue  # it was given a job at that moment
            job()
            del job
            self._pool.release(self)


class Workers:
    """Idle workers are kept for `IDLE_S` seconds; a new one is made when there is none."""

    def __init__(self) -> None:
        self._idle: list[Worker] = []
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], None]) -> None:
        """Run `job`, which must not raise, on some worker."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        (worker or Worker(self)).submit(job)

    def forget(self) -> None:
        """No thread of these is there any more."""
        self._idle, self._lock = [], threading.Lock()

    def release(self, worker: Worker) -> None:
        """`worker` is idle again."""
        with self._lock:
            self._idle.append(worker)

    def retire(self, worker: Worker) -> bool:
        """Whether nobody needs `worker`: it gets no job any more."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            return True


workers = Workers()


def each_on_workers(job: Callable[[_T], _R], items: Sequence[_T], at_a_time: int) -> list[_R]:
    """`job` of each item, in order, so many at a time. Blocks; raises the first error."""
    results: dict[int, _R] = {}
    errors: dict[int, BaseException] = {}
    numbers = iter(range(len(items)))
    take, left = threading.Lock(), threading.Semaphore(0)

    def lane() -> None:
        while not errors:
            with take:
                number = next(numbers, None)
            if number is None:
                break
            try:
                results[number] = job(items[number])
            except BaseException as error:  # noqa: BLE001 - raised again by the caller
                errors[number] = error
        left.release()

    lanes = 0
    try:
        while lanes < min(at_a_time, len(items)):
            workers.submit(lane)
            lanes += 1
    except RuntimeError:  # no more threads are to be had
        lane()
        lanes += 1
    for _ in range(lanes):
        left.acquire()
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(items))]


if hasattr(os, "register_at_fork"):
    # A forked child has none of these threads.
    os.register_at_fork(after_in_child=workers.forget)


class Interruptible:
    """A stretch of code in one thread that another thread may interrupt with `BodyCut`.

    On the main thread by a signal, which also ends a blocking system call; on any other thread by
    an asynchronous exception, which arrives when the thread next runs Python code. One that is
    interrupted before it begins does not begin.
    """

    __slots__ = ("_lock", "_running", "_when_over", "interrupted", "masked", "thread_id")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = False
        self._when_over: list[Callable[[Interruptible], object]] = []
        self.thread_id = 0
        self.interrupted = False
        self.masked = False

    def __enter__(self) -> Self:
        with self._lock:
            if self.interrupted:
                raise BodyCut
            self.thread_id = threading.get_ident()
            self._running = True
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        with self._lock:
            if self.interrupted:
                _raise_in(self.thread_id, None)
            told, self._when_over = self._when_over, []
        for callback in told:
            callback(self)

    def add_done_callback(self, callback: Callable[[Interruptible], object]) -> None:
        """Have `callback` called when the stretch ends, in its thread; at once if it does not run.

        It must not raise.
        """
        with self._lock:
            if self._running:
                self._when_over.append(callback)
                return
        callback(self)

    @property
    def running(self) -> bool:
        """Whether the stretch runs right now."""
        return self._running

    def unmask(self) -> None:
        """The stretch is past code of Onward's that must not be interrupted."""
        self.masked = False
        if self.interrupted:
            raise BodyCut

    def interrupt(self) -> None:
        """Raise `BodyCut` in the stretch, unless it has ended; if it is masked, at `unmask`."""
        with self._lock:
            self.interrupted = True
            if not self._running or self.masked:
                return
            if self.thread_id == threading.main_thread().ident and _signal_main(self):
                return
            _raise_in(self.thread_id, BodyCut)


def _raise_in(thread_id: int, kind: type[BaseException] | None) -> None:
    target = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), target)


_target: Interruptible | None = None
_prepared = False


def prepare_main_thread() -> None:
    """Install the signal by which the main thread is interrupted; only there, and only once.

    The handler stays: setting it anew for each invocation would cost more than it does.
    """
    global _prepared  # noqa: PLW0603 - one handler a process
    import signal

    if _prepared or threading.current_thread() is not threading.main_thread():
        return
    if hasattr(signal, "pthread_kill") and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
        signal.signal(signal.SIGALRM, _on_signal)
        _prepared = True


def _on_signal(_number: int, _frame: object) -> None:
    target = _target
    if target is not None and target.running and not target.masked:
        raise BodyCut


def _signal_main(stretch: Interruptible) -> bool:
    global _target  # noqa: PLW0603 - the handler has no other way to know
    if not _prepared:
        return False
    import signal

    _target = stretch
    # A timer's signal is the process's: another thread may take it, and the main thread sleeps on.
    signal.pthread_kill(stretch.thread_id, signal.SIGALRM)
    return True
