"""What a run must come to, worked out from its program and the order of its results alone.

It knows nothing of invocations, buffers or deadlines. `outcome` gives a program's meaning: every
node ends at the position of the result that ends it. `Ledger` says what may still run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onward.core.ids import hash_step
from tests.core.programs import All, Node, Outside, Race, Seq, Sleep, Step, Try, Wait


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a node ended, and where: after so many results."""

    at: int
    value: Any = None
    error: str | None = None


def outcome(node: Node, results: Mapping[str, Outcome], start: int = 0) -> Outcome | None:
    """How `node`, begun after `start` results, ends; None if it has not.

    `results` by hashed id, each with its position from 1.
    """
    if isinstance(node, (Step, Sleep, Wait)):
        found = results.get(hash_step(node.name, node.index if isinstance(node, Step) else 0))
        return found and Outcome(max(found.at, start), found.value, found.error)
    if isinstance(node, Outside):
        return Outcome(start)
    if isinstance(node, Seq):
        return _sequence(node, results, start)
    if isinstance(node, Try):
        first = outcome(node.node, results, start)
        if first is None or first.error is None:
            return first and Outcome(first.at, {"ok": first.value})
        then = outcome(node.otherwise, results, first.at)
        if then is None or then.error is not None:
            return then
        return Outcome(then.at, {"caught": first.error, "then": then.value})
    return _together(node, [outcome(child, results, start) for child in node.nodes])


def _sequence(node: Seq, results: Mapping[str, Outcome], start: int) -> Outcome | None:
    values = []
    for child in node.nodes:
        end = outcome(child, results, start)
        if end is None or end.error is not None:
            return end
        values.append(end.value)
        start = end.at
    return Outcome(start, values)


def _together(node: All | Race, ends: Sequence[Outcome | None]) -> Outcome | None:
    ended = sorted((e.at, n) for n, e in enumerate(ends) if e is not None)
    if isinstance(node, Race):
        for at, number in ended:
            first = ends[number]
            assert first is not None
            return first if first.error else Outcome(at, {"winner": number, "value": first.value})
        return None
    failed = [end for end in ends if end is not None and end.error is not None]
    if failed:
        return min(failed, key=lambda end: end.at)
    if len(ended) < len(ends):
        return None
    return Outcome(max(at for at, _ in ended), [end.value for end in ends if end is not None])


class Violation(AssertionError):  # noqa: N818 - it is what a check found
    """Something happened that must never happen."""


@dataclass(slots=True)
class Ledger:
    """What is known from outside: which results are confirmed, in which order, and who runs."""

    program: Node
    results: dict[str, Outcome] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    tries: dict[str, int] = field(default_factory=dict)

    def confirm(self, id_: str, value: Any = None, error: str | None = None) -> None:
        """A result is memoized; the first one wins."""
        known = self.results.setdefault(id_, Outcome(len(self.results) + 1, value, error))
        if (known.error is None) != (error is None):
            raise Violation(f"{id_} has two outcomes: {known} and {value or error}")

    def begins(self, id_: str) -> int:
        """A body begins; its try, from 0."""
        if id_ in self.results:
            raise Violation(f"the body of {id_} runs although its result is confirmed")
        if id_ in self.running:
            raise Violation(f"the body of {id_} runs twice at once")
        self.running.add(id_)
        self.tries[id_] = self.tries.get(id_, 0) + 1
        return self.tries[id_] - 1

    def ends(self, id_: str) -> None:
        """A body has ended, in whatever way."""
        self.running.discard(id_)

    def completed(self, value: Any) -> None:
        """The run ended with `value`."""
        expected = outcome(self.program, self.results)
        if expected is None or expected.error is not None or expected.value != value:
            raise Violation(f"the run completed with {value}, not as it must: {expected}")

    def failed_with_step(self, error: str) -> None:
        """The run ended because a step's error went uncaught."""
        expected = outcome(self.program, self.results)
        if expected is None or expected.error != error:
            raise Violation(f"the run failed with {error}, not as it must: {expected}")

    def seen(self, delivered: Sequence[str]) -> None:
        """User code was given `delivered`, in this order: what is confirmed of it is a prefix."""
        kept = [id_ for id_ in delivered if id_ in self.results]
        if kept != list(delivered[: len(kept)]):
            raise Violation("a result is confirmed, and one that user code got before it is not")
        if kept != sorted(kept, key=lambda id_: self.results[id_].at):
            raise Violation("results are confirmed in another order than user code got them")
