"""Random programs, settings and runs, each from one seed."""

from __future__ import annotations

from random import Random

from onward.core.buffer import FlushPolicy
from tests.core.fates import RandomFate, Setting
from tests.core.programs import All, Node, Outside, Race, Seq, Sleep, Step, Try, Wait, named
from tests.core.simulation import World

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


def random_program(random: Random, *, outside: bool = False, depth: int = 3) -> Node:
    """A program of a few dozen steps at most."""

    def grow(depth: int) -> Node:
        kind = random.randrange(10) if depth else random.randrange(4)
        if kind < 3:
            return random_step(random)
        if kind == 3:
            seconds = random.choice((0.2, 1.0, 3.0))
            return random.choice((Sleep(seconds), Wait(seconds, comes=random.random() < 0.5)))
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
