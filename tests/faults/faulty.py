"""Runs of a program whose requests, in both directions, go through proxies that spoil them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self

from onward import App, Event
from onward_server import Answer
from tests.faults.proxy import FAULTS, REPEATED, FaultProxy, Passed
from tests.support.harness import EVENT, FUNCTION, Platform, World
from tests.support.matrix import CHECKPOINTING
from tests.support.programs import Node, Tries, bodies, define, meaning

#: Of the requests in one direction, no more than so many of the first ones are spoiled.
SPOILED = 30

Choose = Callable[[int], str]


def nothing(_number: int) -> str:
    """No fault."""
    return ""


def every(count: int, fault: str) -> Choose:
    """`fault` for the second request, and for each `count`-th one after it."""
    return lambda number: fault if number < SPOILED and number % count == 1 else ""


def at_random(seed: str, share: float, faults: tuple[str, ...] = FAULTS) -> Choose:
    """A fault for `share` of the requests: the same ones for the same seed."""

    def choose(number: int) -> str:
        random = Random(f"{seed} {number}")
        spoiled = number < SPOILED and random.random() < share
        return random.choice(faults) if spoiled else ""

    return choose


@dataclass
class Ledger:
    """Which steps are confirmed, by run, and bodies that began although their step was."""

    confirmed: set[tuple[str, str]] = field(default_factory=set)
    again: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begins(self, run_id: str, step: str) -> None:
        """A body begins."""
        with self.lock:
            if (run_id, step) in self.confirmed:
                self.again.append((run_id, step))

    def checkpointed(self, passed: Passed, _whole: bool) -> None:
        """A checkpoint was answered; whether the answer arrives is another matter."""
        if passed.status == 200 and passed.path.endswith("/async"):
            body = json.loads(passed.body)
            self._confirm(body["run_id"], body["steps"])

    def answered(self, passed: Passed, whole: bool) -> None:
        """A call was answered: its steps are confirmed when the orchestrator has the answer."""
        if whole and passed.status == 206:
            run_id = json.loads(passed.body)["ctx"]["run_id"]
            self._confirm(run_id, json.loads(passed.answer))

    def _confirm(self, run_id: str, ops: list[dict[str, Any]]) -> None:
        steps = {op["userland"]["id"] for op in ops if op["op"] in {"StepRun", "StepFailed"}}
        with self.lock:
            self.confirmed |= {(run_id, step) for step in steps}


class FaultyWorld(World):
    """A world with a proxy in each direction; a context manager."""

    def __init__(
        self,
        platform: Platform,
        driver: str,
        entry: str,
        *,
        checkpointing: str,
        calls: Choose = nothing,
        checkpoints: Choose = nothing,
    ) -> None:
        super().__init__(platform, driver, entry)
        self._stack = ExitStack()
        self.ledger = Ledger()
        self.tries = Tries(self.ledger.begins)
        # A proxy's address has no path of its own: what is asked for goes through unchanged.
        origin, _, path = World.url.fget(self).partition("/api/")  # type: ignore[attr-defined]
        self.calls = FaultProxy(origin, calls, self.ledger.answered)
        self.api_proxy = FaultProxy(platform.api_url, checkpoints, self.ledger.checkpointed)
        self._url = f"{self.calls.url}/api/{path}"
        app = App("faults", orchestrator=self.api_proxy.url)
        options = {"checkpointing": CHECKPOINTING[checkpointing], "retries": 20}
        define(app, FUNCTION, driver, self.tries.body, trigger=Event(EVENT), **options)
        self.deploy(app)

    @property
    def url(self) -> str:
        """Where the orchestrator calls: the proxy."""
        return self._url

    def __enter__(self) -> Self:
        self._stack.callback(self.close)
        self._stack.enter_context(self.calls)
        self._stack.enter_context(self.api_proxy)
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def _answered(self, request: dict[str, Any], target: str, answer: Answer) -> None:
        """Of two invocations by one call a step may fail in one, and be confirmed by the other."""
        super()._answered(request, target, answer)
        if REPEATED & set(self.calls.happened):
            twice = "was confirmed, and is StepError now"
            self.violations = [told for told in self.violations if twice not in told]

    def check(self, program: Node, runs: int = 2) -> None:
        """Several runs of the program at once: each ends once, and with what it means."""
        ids = [self.start({"program": program}) for _ in range(runs)]
        ended = [self.finish(run_id) for run_id in ids]
        steps = bodies(program)
        for run_id, run in zip(ids, ended, strict=True):
            assert run.result == meaning(program)
            assert {step for run, step in self.tries.began if run == run_id} == steps
        if not REPEATED & set(self.calls.happened):
            assert self.ledger.again == [], "a body began although its step was confirmed"
