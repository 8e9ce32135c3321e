"""Random programs, settings and runs, each from one seed."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from onward.core.buffer import FlushPolicy
from onward.core.ops import Opcode
from tests.core.fates import RandomFate, Setting
from tests.core.programs import All, Node, Outside, Race, Seq, Sleep, Step, Try, Wait, named
from tests.core.simulation import World

WAITS = (Opcode.WAIT_FOR_EVENT, Opcode.WAIT_FOR_SIGNAL, Opcode.INVOKE_FUNCTION)
_SECONDS = (0.05, 0.1, 0.1, 0.3, 1.0)


def random_step(random: Random) -> Step:
    """A step of some kind."""
    fails = random.choice((0, 0, 0, 0, 1, 2, 9))
    return Step(
        random.choice(_SECONDS),
        fails=fails,
        final=bool(fails) and random.random() < 0.3,
        barrier=random.random() < 0.1,
        timeout=random.choice((None, None, None, 0.2)),
        in_place=random.choice((0, 0, 0, 1, 2)),
    )


def random_wait(random: Random, seconds: float) -> Wait:
    """A wait for something that comes, or does not."""
    return Wait(seconds, random.random() < 0.5, random.choice(WAITS))


def random_program(random: Random, *, outside: bool = False, depth: int = 3) -> Node:
    """A program of a few dozen steps at most."""

    def grow(depth: int) -> Node:
        kind = random.randrange(10) if depth else random.randrange(4)
        if kind < 3:
            return random_step(random)
        if kind == 3:
            seconds = random.choice((0.2, 1.0, 3.0))
            return random.choice((Sleep(seconds), random_wait(random, seconds)))
        if kind == 9:
            return Try(grow(depth - 1), grow(depth - 1))
        nodes = tuple(grow(depth - 1) for _ in range(random.randint(2, 4)))
        if outside and random.random() < 0.3:
            nodes = (Seq((Outside(random.choice((0.005, 0.05))), nodes[0])), *nodes[1:])
        if kind < 6:
            return Seq(nodes, same_id=random.random() < 0.2)
        if kind == 8:
            return Race(nodes)
        return All(nodes, cancels=random.random() < 0.7)

    return named(Seq((grow(depth), grow(depth))))


def random_policy(random: Random) -> FlushPolicy | None:
    """Checkpointing options, or none."""
    if random.random() < 0.1:
        return None
    return FlushPolicy(
        random.choice((1, 1, 2, 3, 10)),
        random.choice((0.0, 0.0, 0.15)),
        pipelined=random.random() < 0.3,
    )


def random_setting(random: Random) -> Setting:
    """How a function may be configured, and on what platform it may run."""
    window = random.choice((None, None, 2.0, 1.2))
    return Setting(
        random_policy(random),
        plan_parallel=random.random() < 0.15,
        max_attempts=random.choice((1, 2, 4, 4)),
        window=window,
        abandons=window is None or random.random() < 0.6,
        round_trip=random.choice((0.001, 0.01, 0.1)),
    )


def branches_without_losers(random: Random, depth: int = 3) -> Node:
    """A program in which no branch is ever cancelled."""

    def grow(depth: int) -> Node:
        kind = random.randrange(10) if depth else random.randrange(5)
        if kind < 3:
            fails = random.choice((0, 0, 0, 0, 1))
            return replace(random_step(random), fails=fails, final=False)
        if kind < 5:
            seconds = random.choice((0.2, 0.2, 0.21, 1.0, 3.0))  # several come at the same time
            return random.choice((Sleep(seconds), random_wait(random, seconds)))
        nodes = tuple(grow(depth - 1) for _ in range(random.randint(2, 4)))
        if kind < 7:
            return Seq(nodes, same_id=random.random() < 0.1)
        return All(nodes, cancels=False)

    return named(Seq((grow(depth), grow(depth))))


def random_race(seed: int) -> World:
    """A run on an orchestrator that makes a call for each result in race mode, all at once.

    What no journal can tell is left out. A lost race: its sleep makes a call when it ends, which
    may come while another invocation runs eagerly. A call that comes later than a whole later call
    took, or is tried again after a crash, while others go on: it sees what the newest one sees.
    """
    random = Random(seed)
    program = branches_without_losers(random)
    setting = replace(random_setting(random), races=True, max_attempts=99)
    fate = RandomFate(random, trouble=random.choice((0, 0.3)), disorder=random.choice((0, 0, 0.3)))
    return World(program, setting, fate, most_actions=20_000).run()


def random_run(seed: int, *, outside: bool = False) -> World:
    """Some run of some program, with whatever happens to it, to its end."""
    random = Random(seed)
    program = random_program(random, outside=outside)
    setting = random_setting(random)
    fate = RandomFate(
        random,
        trouble=random.choice((0, 0.3)),
        kills=random.choice((0, 0, 1, 3)),
        disorder=random.choice((0, 0, 0.3)),
    )
    world = World(program, setting, fate)
    if random.random() < 0.1:
        for _ in range(random.randint(1, 60)):
            world.step()
        if not world.orchestrator.over:
            world.orchestrator.cancel()
    return world.run()
