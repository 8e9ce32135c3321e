"""A simulated world around the core: drivers, bodies, checkpoints, kills, on a virtual clock.

Whole runs over many invocations take a millisecond, and nothing is left to chance: what could go
either way is decided by a `Fate`. Whatever must never happen raises `Violation`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from onward.core.ids import hash_step
from onward.core.journal import Memo
from onward.core.ops import ErrorInfo, Opcode
from onward.core.response import Response
from tests.core.fates import Fate, Setting
from tests.core.model import Ledger, Violation
from tests.core.orchestration import Job, Orchestrator
from tests.core.processes import Process
from tests.core.programs import Node, Outside, ProgramError, Race, Sleep, Wait, walk

#: More than any right run needs.
MOST_ACTIONS = 5_000


@dataclass(slots=True, eq=False)
class Happening:
    """Something that happens at an instant. `owner`: it dies with that process."""

    due: float
    order: int
    kind: str
    fire: Callable[[], None]
    owner: Process | None = None


def _memo(node: Sleep | Wait) -> Memo:
    """What a nap resolves to, as a journal has it."""
    id_ = hash_step(node.name, 0)
    if isinstance(node, Sleep) or not (node.comes or node.kind is Opcode.INVOKE_FUNCTION):
        return Memo(id_)
    if node.kind is Opcode.WAIT_FOR_EVENT:
        return Memo(id_, raw={"name": node.name})
    if not node.comes:
        return Memo(id_, error=ErrorInfo("ValueError", node.name), raw={"error": {}})
    invoked = node.kind is Opcode.INVOKE_FUNCTION
    value = f"{node.name} of a child" if invoked else {"signal": node.name, "data": 1}
    return Memo(id_, value, raw={"data": value})


@dataclass(eq=False)
class World:
    """One run of `program`, and everything around it."""

    program: Node
    setting: Setting = field(default_factory=Setting)
    fate: Fate = field(default_factory=Fate)
    now: float = 0.0
    happenings: list[Happening] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    history: list[Process] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    confirmed_by: dict[Process, set[str]] = field(default_factory=dict)
    started: list[tuple[float, str]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    kills: int = 0
    actions: int = 0
    most_actions: int = MOST_ACTIONS
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.program)
        self._order = 0
        self._waits_outside = any(isinstance(node, Outside) for node in walk(self.program))
        naps = [node for node in walk(self.program) if isinstance(node, (Sleep, Wait))]
        self._naps = {hash_step(node.name, 0): (node.seconds, _memo(node)) for node in naps}
        self.orchestrator = Orchestrator(
            self.ledger,
            dispatch=self._dispatch,
            later=self._later,
            parse=lambda text: None if text is None else json.loads(text),
            naps=self._naps.__getitem__,
            max_attempts=self.setting.max_attempts,
            classic=self.setting.classic,
            max_result=self.setting.max_result,
            races=self.setting.races,
        )
        self.orchestrator.begin()

    def at(
        self, due: float, kind: str, fire: Callable[[], None], owner: Process | None = None
    ) -> Happening:
        """Have something happen at an instant."""
        self._order += 1
        happening = Happening(due, self._order, kind, fire, owner)
        self.happenings.append(happening)
        return happening

    def after(
        self, seconds: float, kind: str, fire: Callable[[], None], owner: Process | None = None
    ) -> Happening:
        """Have something happen in so many seconds."""
        return self.at(self.now + seconds, kind, fire, owner)

    def _dispatch(self, job: Job) -> None:
        self.after(0, "dispatch", lambda: self._begin(job))

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self.after(seconds, "orchestrator", what)

    def _begin(self, job: Job) -> None:
        if self.orchestrator.over:
            return
        process = Process(self, job)
        self.processes.append(process)
        self.history.append(process)
        self.most_at_once = max(self.most_at_once, len(self.processes))
        process.begin()

    def answered(self, process: Process, response: Response) -> None:
        """A process answered."""
        self.orchestrator.answered(process.job, response, unconfirmable=process.unconfirmable)
        self.seen(process)

    def seen(self, process: Process) -> None:
        """What a process gave to user code must agree with what is confirmed.

        Branches that wait outside of steps can come in another order than before.
        """
        if not self._waits_outside:
            self.ledger.seen(process.seen)

    def left(self, process: Process) -> None:
        """A process has ended: does it agree with those before it?"""
        self.seen(process)
        if process.warned and not self._waits_outside:
            raise Violation("the order was said to be out of reach, and nothing waits outside")
        if self._waits_outside or len(self.history) < 2 or process.situation.targeted:
            return
        before = [p for p in self.history if p is not process and p.dead][-1:]
        for earlier in before:
            known = [id_ for id_ in earlier.seen if id_ in process.situation.journal]
            shorter = min(len(known), len(process.seen))
            if known[:shorter] != process.seen[:shorter]:
                raise Violation(f"a replay delivered {process.seen}, and before {earlier.seen}")

    def sent_for_good(self, process: Process) -> set[str]:
        """What this process knows to be confirmed."""
        return self.confirmed_by.get(process, set())

    def count(self) -> None:
        """Something was done; a run that never ends is stopped."""
        self.actions += 1
        if self.actions > self.most_actions:
            raise Violation("the run does not end")

    def step(self) -> bool:
        """Let the next thing happen. False: nothing is left."""
        if not self.happenings:
            return False
        self.count()
        self.happenings.sort(key=lambda h: (h.due, h.order))
        # A call that came later than it is due could be told from others by nothing in its journal.
        at_once = self.setting.races and self.happenings[0].kind == "dispatch"
        which = 0 if at_once else self.fate.choose(len(self.happenings))
        chosen = self.happenings.pop(which)
        self.now = max(self.now, chosen.due)
        chosen.fire()
        return True

    def run(self) -> World:
        """Go on until the run is over, and check what it came to."""
        while not self.orchestrator.over:
            if not self.step():
                raise Violation("the run hangs")
        self.settle()
        self.check_result()
        return self

    def settle(self) -> None:
        """The run is over: its processes must end by themselves."""
        while self.processes:
            if not self.step():
                raise Violation("a process of a run that is over does not end")

    def check_result(self) -> None:
        """The run's result must be the model's."""
        error = self.orchestrator.error
        open_order = any(isinstance(node, Race) for node in walk(self.program)) or any(
            result.error for result in self.ledger.results.values()
        )
        if self._waits_outside and open_order:
            return  # which branch comes first is not in the journal
        if error is None:
            self.ledger.completed(self.orchestrator.result)
        elif error.name == ProgramError.__name__:
            self.ledger.failed_with_step(error.message)
