"""One step after the other."""

from __future__ import annotations

from tests.sdks.catalogue import scenario
from tests.sdks.suite import App


@scenario()
async def sequential(app: App) -> None:
    run = await app.run("sequential", {"n": 1})
    assert run.result == {"one": 2, "two": 20}
    assert run.traces == {"one": 1, "two": 1, "three": 1}


@scenario()
async def no_steps(app: App) -> None:
    run = await app.run("no-steps", {"who": "wörld"})
    assert run.result == "hello wörld"
    assert run.traces == {"body": 1}


@scenario()
async def context(app: App) -> None:
    id_ = await app.send("context", {"a": [1]}, id=f"{app.id}-context")
    run = await app.ended(await app.started_by(id_))
    assert run.result == {
        "seen": {"name": f"{app.id}/context", "data": {"a": [1]}},
        "events": 1,
        "hasRun": True,
        "attempt": 0,
        "id": f"{app.id}-context",
    }


@scenario()
async def many_steps(app: App) -> None:
    run = await app.run("many-steps", {"steps": 200})
    assert run.result == sum(range(200))
    assert run.traces == {"step": 200}


@scenario()
async def repeated_ids(app: App) -> None:
    run = await app.run("repeated-ids")
    assert run.result == [0, 1, 2, 3, 4]
    assert run.traces == {f"same-{n}": 1 for n in range(5)}


@scenario("typescript")
async def looks_repeated(app: App) -> None:
    run = await app.run("looks-repeated")
    assert run.result == [0, 1, "own"]
    assert run.traces == {"same-0": 1, "same-1": 1, "own": 1}


@scenario("python")
async def looks_repeated_and_collides(app: App) -> None:
    """This SDK takes such an id for the repeated one, and would run the step for ever."""
    run = await app.run("looks-repeated")
    assert run.error["name"] == "NoProgressError"
    assert run.traces.pop("own") <= app.settings.max_idle_continuations + 2
    assert run.traces == {"same-0": 1, "same-1": 1}


@scenario()
async def values(app: App) -> None:
    run = await app.run("values")
    assert run.result == {
        "null": None,
        "false": False,
        "zero": 0,
        "empty": "",
        "list": [],
        "object": {},
        "float": 0.1,
        "large": 9007199254740991,
        "negative": -1,
        "nested": {"a": [{"b": [None, [1, [2]]]}]},
        "unicode": 'grüße, 世界 🌍 \0\u2028 "\\',
        "keys": {"a.b": 1, "$x": 2, "": 3, "öä": 4, "data": 5, "error": 6},
    }
    assert set(run.traces.values()) == {1}
    assert len(run.traces) == len(run.result)


@scenario()
async def unicode_ids(app: App) -> None:
    run = await app.run("unicode-ids")
    assert run.result == ["one", "two"]
    assert run.traces == {"one": 1, "two": 1}


@scenario()
async def returns_nothing(app: App) -> None:
    run = await app.run("returns-nothing")
    assert run.result is None
    assert run.traces == {"nothing": 1, "seen": 1}


@scenario()
async def returns_null(app: App) -> None:
    run = await app.run("returns-null")
    assert run.result is None
    assert run.traces == {"one": 1}


@scenario()
async def large_result(app: App) -> None:
    run = await app.run("large-result", {"size": 1_000_000})
    assert run.result == {"size": 1_000_000}
    assert run.traces == {"large": 1}


@scenario()
async def large_journal(app: App) -> None:
    """Over the size at which a call request leaves the journal out and the SDK fetches it."""
    size = app.settings.trim_bytes // 4
    run = await app.run("large-journal", {"steps": 3, "size": size})
    assert run.result == {"size": 3 * size, "last": "end"}
    assert run.traces == {"part-0": 1, "part-1": 1, "part-2": 1, "last": 1}


@scenario()
async def sleep(app: App) -> None:
    run = await app.run("sleep")
    assert run.result == ["before", "after"]
    assert run.traces == {"before": 1, "after": 1}
    assert run.lasted_s >= 0.3


@scenario()
async def sleep_until(app: App) -> None:
    run = await app.run("sleep-until")
    assert run.result == "after"
    assert run.traces == {"after": 1}
    assert run.lasted_s >= 0.25


@scenario()
async def sleep_until_past(app: App) -> None:
    run = await app.run("sleep-until-past")
    assert run.result == "after"
    assert run.traces == {"after": 1}


@scenario()
async def sleeps_and_steps(app: App) -> None:
    run = await app.run("sleeps-and-steps")
    assert run.result == [0, 1, 2, 3]
    assert run.traces == {f"run-{n}": 1 for n in range(4)}


@scenario()
async def last_is_sleep(app: App) -> None:
    run = await app.run("last-is-sleep")
    assert run.result is None
    assert run.traces == {"one": 1}


@scenario()
async def outside_of_steps(app: App) -> None:
    run = await app.run("outside-of-steps")
    assert run.result == 3
    assert run.traces == {"one": 1, "two": 1}


@scenario("typescript")
async def slow_steps(app: App) -> None:
    """Longer than `maxRuntime` where there is one: the function is then entered again."""
    run = await app.run("slow-steps", {"steps": 6, "ms": 60})
    assert run.result == [0, 1, 2, 3, 4, 5]
    entered = run.traces.pop("function")
    assert run.traces == {f"slow-{n}": 1 for n in range(6)}
    assert entered >= app.options.get("entered", 1)
