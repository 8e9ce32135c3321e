"""What starts a function: several triggers, conditions, batches of events."""

from __future__ import annotations

from typing import Any

from onward import BatchEvents, BlockingContext, Context, Cron, Event
from tests.support.harness import EVENT, World


async def _names_async(ctx: Context) -> list[Any]:
    return [ctx.event.name, len(ctx.events), sorted(event.data["n"] for event in ctx.events)]


def _names_blocking(ctx: BlockingContext) -> list[Any]:
    return [ctx.event.name, len(ctx.events), sorted(event.data["n"] for event in ctx.events)]


def _send(world: World, *events: tuple[str, dict[str, Any]]) -> list[str]:
    """Send events to the app; the runs that they start."""
    loops, orchestrator = world.platform.loops, world.orchestrator
    assert world.app is not None
    loops.run(orchestrator.register(world.app.registration(world.url), world))
    sent = loops.run(orchestrator.send([{"name": name, "data": data} for name, data in events]))
    return [run for event in sent for run in world.runs_of(event)]


def test_each_of_several_triggers_starts_the_function(world: World) -> None:
    triggers = [
        Event(EVENT, if_="event.data.n > 1 && event.data.tags.exists(tag, tag == 'x')"),
        Event("other/*"),
        Cron("0 0 29 2 *", timezone="Europe/Berlin", jitter="1s"),
    ]
    world.define(_names_async, _names_blocking, trigger=triggers)
    runs = _send(
        world,
        (EVENT, {"n": 1, "tags": ["x"]}),
        (EVENT, {"n": 2, "tags": ["x"]}),
        (EVENT, {"n": 3, "tags": []}),
        (EVENT, {"n": 4}),
        ("other/one", {"n": 5}),
    )
    assert [world.finish(run).result for run in runs] == [
        [EVENT, 1, [2]],
        ["other/one", 1, [5]],
    ]


def test_a_batch_is_one_run(world: World) -> None:
    batch = BatchEvents(3, "60s", key="event.data.shop", if_="event.data.n < 9")
    world.define(_names_async, _names_blocking, batch_events=batch)
    (alone,) = set(_send(world, *[(EVENT, {"n": n, "shop": n % 2}) for n in (0, 1, 2, 3, 9)]))
    assert world.finish(alone).result == [EVENT, 1, [9]]
    (full,) = set(_send(world, (EVENT, {"n": 4, "shop": 0})))
    assert world.finish(full).result == [EVENT, 3, [0, 2, 4]]
