"""What functions log is said once, and knows its run, its function and its step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from onward import BlockingContext, ConfigurationError, Context
from onward.middleware import LoggingMiddleware, RunFilter
from tests.support.harness import COMPOSITE, World

own = logging.getLogger("tests.own")
other = logging.getLogger("tests.other")


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def said(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def steps(self) -> dict[str, str]:
        return {record.getMessage(): vars(record)["step_id"] for record in self.records}


@pytest.fixture
def records() -> Iterator[Records]:
    handler = Records()
    for logger in (own, other, logging.getLogger("onward.run")):
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield handler
    for logger in (own, other, logging.getLogger("onward.run")):
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def body(logger: Any) -> None:
    logger.info("in the step")
    other.info("elsewhere in the step")


async def in_async(ctx: Context) -> None:
    ctx.logger.info("begun %d", 1)
    other.info("elsewhere")
    await ctx.step.run("work", body, ctx.logger)
    ctx.logger.info("between", extra={"order": 7})
    await ctx.step.sleep("nap", "1ms")
    ctx.logger.info("after the nap")
    other.info("elsewhere after the nap")


def in_blocking(ctx: BlockingContext) -> None:
    ctx.logger.info("begun %d", 1)
    other.info("elsewhere")
    ctx.step.run("work", body, ctx.logger)
    ctx.logger.info("between", extra={"order": 7})
    ctx.step.sleep("nap", "1ms")
    ctx.logger.info("after the nap")
    other.info("elsewhere after the nap")


OWN = ["begun 1", "in the step", "between", "after the nap"]
OTHER = ["elsewhere", "elsewhere in the step", "elsewhere after the nap"]


def test_the_standard_logger_of_the_user(world: World, records: Records) -> None:
    world.app_options["middleware"] = [LoggingMiddleware(own)]
    world.define(in_async, in_blocking)
    run = world.run()
    mine = [record for record in records.records if record.name == "tests.own"]
    assert [record.getMessage() for record in mine] == OWN
    assert {vars(record)["run_id"] for record in mine} == {run.view.run_id}
    assert {vars(record)["function_id"] for record in mine} == {COMPOSITE}
    assert {vars(record)["attempt"] for record in mine} == {0}
    assert [vars(record)["step_id"] for record in mine] == ["", "work", "", ""]
    assert vars(mine[2])["order"] == 7
    assert {record.filename for record in mine} == {"test_logging.py"}


def test_an_adapter_keeps_what_it_adds(world: World, records: Records) -> None:
    class Shouting(logging.LoggerAdapter[logging.Logger]):
        def process(self, msg: Any, kwargs: Any) -> Any:
            return f"{msg}!", kwargs

    world.app_options["middleware"] = [LoggingMiddleware(Shouting(own, {}))]
    world.define(in_async, in_blocking)
    world.run()
    mine = [record.getMessage() for record in records.records if record.name == "tests.own"]
    assert mine == [f"{said}!" for said in OWN]


def test_a_filter_serves_all_other_loggers(world: World, records: Records) -> None:
    records.addFilter(RunFilter())
    world.app_options["middleware"] = [LoggingMiddleware()]
    world.define(in_async, in_blocking)
    run = world.run()
    elsewhere = [record for record in records.records if record.name == "tests.other"]
    assert [record.getMessage() for record in elsewhere] == OTHER
    assert {vars(record)["run_id"] for record in elsewhere} == {run.view.run_id}
    assert [vars(record)["step_id"] for record in elsewhere] == ["", "work", ""]


def test_outside_of_runs_the_filter_drops_nothing(records: Records) -> None:
    records.addFilter(RunFilter())
    own.info("alone")
    assert records.steps() == {"alone": ""}
    assert vars(records.records[0])["run_id"] == ""


def test_without_middleware_the_run_has_its_logger(world: World, records: Records) -> None:
    world.define(in_async, in_blocking)
    world.run()
    mine = [record for record in records.records if record.name == "onward.run"]
    assert [record.getMessage() for record in mine] == OWN
    assert [vars(record)["step_id"] for record in mine] == ["", "work", "", ""]
    assert records.said.count("elsewhere") == 2


class Structured:
    """As structlog's: `bind`, events with keywords, and methods that are awaited."""

    def __init__(self, log: list[tuple[str, dict[str, Any]]], **bound: Any) -> None:
        self.log = log
        self.bound = bound
        self.name = "structured"

    def bind(self, **more: Any) -> Structured:
        return Structured(self.log, **{**self.bound, **more})

    def info(self, event: str, *args: Any, **keywords: Any) -> None:
        self.log.append((event % args if args else event, {**self.bound, **keywords}))

    async def ainfo(self, event: str, *args: Any, **keywords: Any) -> None:
        self.info(event, *args, **keywords)


async def structured_async(ctx: Context) -> str:
    logger: Any = ctx.logger
    await logger.bind(order=7).ainfo("begun")
    await ctx.step.run("work", lambda: logger.info("in the step", n=1))
    await ctx.step.sleep("nap", "1ms")
    logger.info("after the nap")
    return str(logger.name)


def structured_blocking(ctx: BlockingContext) -> str:
    logger: Any = ctx.logger
    logger.bind(order=7).info("begun")
    ctx.step.run("work", lambda: logger.info("in the step", n=1))
    ctx.step.sleep("nap", "1ms")
    logger.info("after the nap")
    return str(logger.name)


def test_a_logger_with_bind(world: World) -> None:
    log: list[tuple[str, dict[str, Any]]] = []
    world.app_options["middleware"] = [LoggingMiddleware(Structured(log))]
    world.define(structured_async, structured_blocking)
    run = world.run()
    assert run.result == "structured"
    ids = {"run_id": run.view.run_id, "function_id": COMPOSITE, "attempt": 0}
    assert log == [
        ("begun", {**ids, "step_id": "", "order": 7}),
        ("in the step", {**ids, "step_id": "work", "n": 1}),
        ("after the nap", {**ids, "step_id": ""}),
    ]


def test_what_is_no_logger() -> None:
    with pytest.raises(ConfigurationError, match=r"no info\(\)"):
        LoggingMiddleware(7)
