"""Every boundary that an undisturbed run passes, a kill at each, and what must hold then."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Protocol

from tests.crash.pipeline import MODES, expected, steps_of
from tests.crash.world import Played
from tests.support.tools import REQUIRE_ALL, all_required

#: By default a kill at every so manyth boundary; with ONWARD_REQUIRE_ALL=1 at each.
STRIDE = 9

#: How many bodies run at once at most.
PARALLEL = 2


@dataclass(frozen=True)
class Case:
    """How many boundaries were found, and at how many of them a process was killed."""

    name: str
    boundaries: int
    kills: int

    def __str__(self) -> str:
        every = "" if self.kills == self.boundaries else f"; {REQUIRE_ALL}=1 kills at each"
        return f"{self.name}: {self.boundaries} boundaries, {self.kills} kills{every}"


#: What the terminal's summary shows.
counted: list[Case] = []


class Scenes(Protocol):
    """Plays runs with or without a kill."""

    def play(self, event: str, at: str = "") -> Played:
        """Play the run that `event` starts, with a kill at `at`."""
        ...


def kill_at_each(scenes: Scenes, victim: str, names: set[str], kind: str, mode: str) -> None:
    """Find the boundaries called `names` from one run, and play a run with a kill at each."""
    event = f"{kind}/{mode}"
    undisturbed = scenes.play(event)
    assert undisturbed.killed is None
    check(undisturbed, mode)
    assert undisturbed.ledger.repeated == set()
    assert {reached.name for reached in undisturbed.trace} == names
    places = list(dict.fromkeys(reached.place for reached in undisturbed.trace))
    assert places
    chosen = places if all_required() else places[len(counted) % STRIDE :: STRIDE]
    assert chosen
    counted.append(Case(f"{victim} killed, {kind}, {mode}", len(places), len(chosen)))
    for place in chosen:
        played = scenes.play(event, place)
        try:
            assert played.killed == -signal.SIGKILL
            check(played, mode)
            assert played.run["output"] == undisturbed.run["output"]
        except AssertionError as error:
            shown = replace(played, trace=played.trace[-5:])
            error.add_note(f"The {victim} was killed at {place} ({kind}, {mode}): {shown}")
            raise


def check(played: Played, mode: str) -> None:
    """What holds for every run, killed or not."""
    options, _ = MODES[mode]
    steps, ledger = set(steps_of(mode)), played.ledger
    assert played.runs == 1
    assert (played.run["status"], played.run["output"]) == ("Completed", expected(mode))
    assert sorted(played.journal) == sorted(steps)
    assert set(ledger.ends) == steps
    # What was acknowledged was durable before, and what was durable is not computed again.
    assert played.answered <= played.confirmed
    assert {step: ledger.starts[step] for step in played.confirmed} == dict.fromkeys(
        played.confirmed, 1
    )
    assert ledger.repeated <= steps - played.confirmed
    assert max(ledger.starts.values()) <= 1 + (played.killed is not None)
    if options.mode == "confirmed":
        assert len(ledger.repeated) <= max(options.buffered_steps, PARALLEL)
