"""Steps and functions that fail."""

from __future__ import annotations

from tests.sdks.catalogue import scenario
from tests.sdks.suite import App


@scenario()
async def step_retried(app: App) -> None:
    run = await app.run("step-retried")
    assert run.result == ["before", "shaky", "after"]
    assert run.traces == {"before": 1, "shaky": 3, "after": 1}


@scenario()
async def step_fails(app: App) -> None:
    run = await app.run("step-fails")
    assert run.error["message"] == "bad failed"
    assert run.traces == {"before": 1, "bad": 3}


@scenario()
async def no_retries(app: App) -> None:
    run = await app.run("no-retries")
    assert run.error["message"] == "bad failed"
    assert run.traces == {"bad": 1}


@scenario()
async def step_caught(app: App) -> None:
    run = await app.run("step-caught")
    assert run.result == {"caught": "bad failed", "undone": "undo"}
    assert run.traces == {"bad": 2, "undo": 1}


@scenario()
async def caught_and_failed_again(app: App) -> None:
    run = await app.run("caught-and-failed-again")
    assert run.error["message"] == "worse failed"
    assert run.traces == {"bad": 2, "worse": 2}


@scenario()
async def step_non_retriable(app: App) -> None:
    run = await app.run("step-non-retriable")
    assert run.error["message"] == "no use"
    assert run.traces == {"bad": 1}


@scenario("typescript")
async def step_non_retriable_caught(app: App) -> None:
    run = await app.run("step-non-retriable-caught")
    assert run.result == ["no use", "after"]
    assert run.traces == {"bad": 1, "after": 1}


@scenario()
async def retry_after(app: App) -> None:
    run = await app.run("retry-after")
    assert run.result == "later"
    assert run.traces == {"later": 2}
    assert run.lasted_s >= 0.9


@scenario()
async def function_retried(app: App) -> None:
    run = await app.run("function-retried")
    assert run.result == ["one", "two"]
    # What is outside of steps runs anew each time that the function is entered.
    assert run.traces.pop("function") >= run.traces.pop("between") >= 3
    assert run.traces == {"one": 1, "two": 1}


@scenario()
async def function_fails(app: App) -> None:
    run = await app.run("function-fails")
    assert run.error["message"] == "between failed"
    assert run.traces == {"one": 1, "between": 2}


@scenario()
async def function_non_retriable(app: App) -> None:
    run = await app.run("function-non-retriable")
    assert run.error["message"] == "never again"
    assert run.traces == {"function": 1}


@scenario()
async def function_retry_after(app: App) -> None:
    run = await app.run("function-retry-after")
    assert run.result == "function"
    assert run.traces == {"function": 2}
    assert run.lasted_s >= 0.9


@scenario()
async def fails_after_parallel(app: App) -> None:
    run = await app.run("fails-after-parallel")
    assert run.result == ["a", "b", "shaky"]
    assert run.traces == {"a": 1, "b": 1, "shaky": 2}


@scenario()
async def fails_after_sleep(app: App) -> None:
    run = await app.run("fails-after-sleep")
    assert run.result == "shaky"
    assert run.traces == {"before": 1, "shaky": 2}


@scenario()
async def each_step_retried(app: App) -> None:
    """Each step has attempts of its own."""
    run = await app.run("each-step-retried")
    assert run.result == ["a", "b", "c"]
    assert run.traces == {"a": 2, "b": 2, "c": 2}


@scenario()
async def on_failure(app: App) -> None:
    run = await app.run("on-failure", {"order": 7})
    assert run.error["message"] == "bad failed"
    assert run.traces == {"bad": 1}
    (handled,) = await app.runs_of("on-failure-failure", 1)
    assert handled.result == "bad failed"
    assert handled.traces["told"] == 1
    expected = {"message": "bad failed", "data": {"order": 7}, "run": run.view.run_id}
    assert app.told("failure")
    assert all(value == expected for value in app.told("failure"))


@scenario()
async def on_failure_unused(app: App) -> None:
    run = await app.run("on-failure-unused")
    assert run.result == "one"
    assert run.traces == {"one": 1}
    assert f"{app.id}-on-failure-unused-failure" not in app.suite.begun


@scenario()
async def error_kinds(app: App) -> None:
    run = await app.run("error-kinds")
    assert run.result["named"] == "größe 🌍"
    assert run.result["cause"] == "outer"
    assert run.traces["named"] == run.traces["cause"] == 1
