"""Small programs in place of user code, and what runs them: no threads, no event loop, no clock.

A program is a tree of nodes. `Fibers` runs it the way an event loop runs tasks: in turns, first
come first served, until every branch waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from onward.core.calls import StepCall
from onward.core.ops import Opcode


@dataclass(frozen=True, slots=True)
class Step:
    """`ctx.step.run`. Its first `fails` tries raise; `seconds` is how long its body takes.

    Its result has `size` bytes more than it needs. `index` counts repeats of `name`, from 0.
    """

    seconds: float = 0.1
    fails: int = 0
    final: bool = False
    barrier: bool = False
    timeout: float | None = None
    in_place: int = 0
    size: int = 0
    name: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True)
class Sleep:
    """`ctx.step.sleep`."""

    seconds: float = 1.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """What it waits for comes after `seconds`, or not at all: an invoked function fails then.

    `kind`: an event, a signal, or the result of a function that is invoked.
    """

    seconds: float = 1.0
    comes: bool = True
    kind: Opcode = Opcode.WAIT_FOR_EVENT
    name: str = ""


@dataclass(frozen=True, slots=True)
class Outside:
    """Awaits something that is no step, for `seconds`."""

    seconds: float = 0.01


@dataclass(frozen=True, slots=True)
class Seq:
    """One after another; `same_id`: its steps share one id."""

    nodes: tuple[Node, ...]
    same_id: bool = False


@dataclass(frozen=True, slots=True)
class All:
    """All at once. An error cancels the others, as in a TaskGroup, or leaves them, as in gather."""

    nodes: tuple[Node, ...]
    cancels: bool = True


@dataclass(frozen=True, slots=True)
class Race:
    """All at once, until the first has ended; the others are cancelled."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Try:
    """`otherwise` runs if `node` raises."""

    node: Node
    otherwise: Node


Node = Step | Sleep | Wait | Outside | Seq | All | Race | Try
Leaf = Step | Sleep | Wait


class ProgramError(Exception):
    """A step failed for good; its text is the step's id."""


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly under `node`."""
    if isinstance(node, (Seq, All, Race)):
        return node.nodes
    return (node.node, node.otherwise) if isinstance(node, Try) else ()


def walk(node: Node) -> Iterator[Node]:
    """`node` and everything under it."""
    yield node
    for child in children(node):
        yield from walk(child)


def named(node: Node) -> Node:
    """`node` with a name for every step: s1, s2 … in the order of the text."""
    count = iter(range(1, 1_000_000))

    def visit(node: Node) -> Node:
        if isinstance(node, (Step, Sleep, Wait)):
            return replace(node, name=node.name or f"s{next(count)}")
        if isinstance(node, Seq) and node.same_id:
            name, repeats = f"s{next(count)}", iter(range(1_000_000))
            return replace(
                node,
                nodes=tuple(
                    replace(child, name=name, index=next(repeats))
                    if isinstance(child, Step)
                    else visit(child)
                    for child in node.nodes
                ),
            )
        if isinstance(node, (Seq, All, Race)):
            return replace(node, nodes=tuple(map(visit, node.nodes)))
        if isinstance(node, Try):
            return replace(node, node=visit(node.node), otherwise=visit(node.otherwise))
        return node

    return visit(node)


@dataclass(slots=True)
class Spawn:
    """What a fiber asks for: run `nodes` as fibers of their own."""

    node: All | Race


Asks = Leaf | Outside | Spawn
Code = Generator[Asks, Any, Any]


def code_of(node: Node) -> Code:
    """`node` as code that yields what it waits for."""
    if isinstance(node, Seq):
        results: list[Any] = []
        for child in node.nodes:
            results += [(yield from code_of(child))]
        return results
    if isinstance(node, (All, Race)):
        return (yield Spawn(node))
    if isinstance(node, Try):
        try:
            return {"ok": (yield from code_of(node.node))}
        except ProgramError as error:
            return {"caught": str(error), "then": (yield from code_of(node.otherwise))}
    return (yield node)


@dataclass(slots=True, eq=False)
class Group:
    """Fibers that one fiber waits for."""

    parent: Fiber
    node: All | Race
    fibers: list[Fiber] = field(default_factory=list)
    results: dict[int, Any] = field(default_factory=dict)
    over: bool = False


@dataclass(slots=True, eq=False)
class Fiber:
    """One branch of a program. It waits for at most one of `call`, `group` and `outside`."""

    code: Code
    group_of: Group | None = None
    number: int = 0
    call: StepCall | None = None
    group: Group | None = None
    outside: bool = False
    over: bool = False


class Fibers:
    """Runs a program.

    `call` makes a step's call, `close` ends one whose branch was cancelled, `wait` has something
    called after so many seconds. `ended` is called with the program's result and error.
    """

    def __init__(
        self,
        program: Node,
        *,
        call: Callable[[Fiber, Leaf], StepCall],
        close: Callable[[StepCall], None],
        wait: Callable[[float, Callable[[], None]], None],
        ended: Callable[[Any, Exception | None], None],
    ) -> None:
        self._call, self._close, self._wait, self._ended = call, close, wait, ended
        self._ready: deque[tuple[Fiber, Any, Exception | None]] = deque()
        self.live: list[Fiber] = []
        self._spawn(code_of(program), None, 0)

    @property
    def busy(self) -> bool:
        """Whether a branch waits for something that is no step."""
        return any(fiber.outside for fiber in self.live)

    def waiting(self) -> list[StepCall]:
        """The calls that branches wait for."""
        return [fiber.call for fiber in self.live if fiber.call is not None]

    def resume(self, fiber: Fiber, value: Any = None, error: Exception | None = None) -> None:
        """What `fiber` waited for has come."""
        fiber.call, fiber.outside = None, False
        self._ready.append((fiber, value, error))

    def run(self) -> None:
        """Run until every branch waits."""
        while self._ready:
            fiber, value, error = self._ready.popleft()
            if not fiber.over:
                self._turn(fiber, value, error)

    def stop(self) -> None:
        """Cancel everything."""
        for fiber in list(self.live):
            self._end(fiber)
            fiber.code.close()
        self._ready.clear()

    def _spawn(self, code: Code, group: Group | None, number: int) -> Fiber:
        fiber = Fiber(code, group, number)
        self.live.append(fiber)
        self._ready.append((fiber, None, None))
        return fiber

    def _turn(self, fiber: Fiber, value: Any, error: Exception | None) -> None:
        try:
            asks = fiber.code.send(value) if error is None else fiber.code.throw(error)
        except StopIteration as end:
            self._done(fiber, end.value, None)
            return
        except Exception as raised:  # noqa: BLE001 - whatever a branch raises is its outcome
            self._done(fiber, None, raised)
            return
        if isinstance(asks, Spawn):
            fiber.group = group = Group(fiber, asks.node)
            codes = map(code_of, asks.node.nodes)
            group.fibers = [self._spawn(code, group, n) for n, code in enumerate(codes)]
        elif isinstance(asks, Outside):
            fiber.outside = True
            self._wait(asks.seconds, lambda: self.resume(fiber))
        else:
            fiber.call = self._call(fiber, asks)

    def _end(self, fiber: Fiber) -> None:
        fiber.over = True
        self.live.remove(fiber)

    def _done(self, fiber: Fiber, value: Any, error: Exception | None) -> None:
        self._end(fiber)
        group = fiber.group_of
        if group is None:
            self._ended(value, error)
            return
        if group.over:
            return
        racing = isinstance(group.node, Race)
        group.results[fiber.number] = value
        if error is None and not racing and len(group.results) < len(group.fibers):
            return
        group.over = True
        if racing or (isinstance(group.node, All) and group.node.cancels):
            for other in group.fibers:
                self._cancel(other)
        if error is not None:
            self.resume(group.parent, error=error)
        elif racing:
            self.resume(group.parent, {"winner": fiber.number, "value": value})
        else:
            self.resume(group.parent, [group.results[n] for n in range(len(group.fibers))])
        group.parent.group = None

    def _cancel(self, fiber: Fiber) -> None:
        if fiber.over:
            return
        self._end(fiber)
        if fiber.call is not None:
            self._close(fiber.call)
        if fiber.group is not None:
            for child in fiber.group.fibers:
                self._cancel(child)
        fiber.code.close()
