"""What importing Onward imports: a fixed set, because every cold start pays for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Never needed before a function runs a step.
LAZY = {
    "aiohttp",
    "anyio",
    "asyncio",
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "concurrent",
    "email",
    "http",
    "httpx",
    "mangum",
    "opentelemetry",
    "pydantic",
    "pydantic_core",
    "rich",
    "sqlite3",
    "ssl",
    "starlette",
    "typer",
    "urllib",
    "uvicorn",
    "vercel_runtime",
}
ASYNC_HANDLER = """
import onward
import onward.aws_lambda

app = onward.App("shop")

@app.function("fulfil", trigger=onward.Event("order/paid"))
async def fulfil(ctx: onward.Context) -> int:
    return await ctx.step.run("charge", lambda: 1)

handler = onward.aws_lambda.handler(app)
"""
BLOCKING_HANDLER = ASYNC_HANDLER.replace("async ", "").replace("await ", "")
# The standard library's modules that a handler loads, and what they bring themselves (which differs
# between versions of Python).
STANDARD = (
    "__future__",
    "collections.abc",
    "dataclasses",
    "enum",
    "math",
    "re",
    "typing",
)
# Onward's own modules that a handler loads before its first call.
OWN = """
onward
onward.app
onward.aws_lambda
onward.config
onward.context
onward.core
onward.core.durations
onward.errors
onward.functions
onward.triggers
"""
# What the first call loads besides: the standard library's, and Onward's own, before a driver.
ENGINE_STANDARD = (
    "contextlib",
    "contextvars",
    "functools",
    "hashlib",
    "heapq",
    "json",
    "threading",
)
ENGINE_OWN = """
onward.core.actions
onward.core.buffer
onward.core.calls
onward.core.deadline
onward.core.failures
onward.core.ids
onward.core.invocation
onward.core.journal
onward.core.ops
onward.core.planning
onward.core.racing
onward.core.replay
onward.core.response
onward.core.retry
onward.core.situation
onward.core.values
onward.execution
onward.execution.engine
onward.execution.failing
onward.execution.session
onward.execution.steps
onward.execution.watch
onward.protocol
onward.protocol.call_request
onward.protocol.checkpoint
onward.protocol.headers
onward.protocol.response
onward.core.record
onward.core.retry
"""


def _imported(code: str) -> set[str]:
    """Return the modules that `code` loads in an interpreter of its own."""
    script = (
        "import sys; before = set(sys.modules)\n"
        f"exec({code!r}, {{'__name__': 'app'}})\n"
        "import json; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def _standard(*more: str) -> set[str]:
    return _imported("; ".join(f"import {name}" for name in (*STANDARD[1:], *more)))


def _roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_the_package_imports_no_module_of_it() -> None:
    modules = _imported("import onward")
    assert {name for name in modules if name.startswith("onward")} == {"onward"}
    assert not _roots(modules) & LAZY


def test_the_package_alone_brings_nothing_but_typing() -> None:
    alone = _imported("from __future__ import annotations; import typing")
    assert _imported("import onward") - alone == {"onward"}


@pytest.mark.parametrize(
    ("trigger", "more"),
    [
        ("onward.Event('a', if_='event.data.n > 1')", "expressions cel_syntax cel_tokens"),
        ("onward.Cron('0 9 * * MON')", "cron"),
    ],
)
def test_what_a_trigger_needs_is_loaded_with_it(trigger: str, more: str) -> None:
    plain, code = ASYNC_HANDLER, ASYNC_HANDLER.replace('onward.Event("order/paid")', trigger)
    assert code != plain
    own = {name for name in _imported(code) - _imported(plain) if name.startswith("onward")}
    assert own == {f"onward.core.{name}" for name in more.split()}


def test_flow_control_is_loaded_by_who_uses_it() -> None:
    code = ASYNC_HANDLER.replace(
        'trigger=onward.Event("order/paid")',
        'trigger=onward.Event("order/paid"), throttle=onward.Throttle(1, "1m")',
    )
    assert _imported(code) - _imported(ASYNC_HANDLER) == {"onward.flow"}


@pytest.mark.parametrize("code", [ASYNC_HANDLER, BLOCKING_HANDLER], ids=["async", "blocking"])
def test_building_a_handler_imports_a_fixed_set(code: str) -> None:
    modules = _imported(code)
    assert not _roots(modules) & LAZY
    assert modules - _standard() - {"__future__"} == set(OWN.split())
    assert set(STANDARD) <= modules


def test_the_first_call_imports_a_fixed_set() -> None:
    modules = _imported(ASYNC_HANDLER + "\nimport onward.execution.engine")
    assert not _roots(modules) & LAZY
    added = modules - _standard(*ENGINE_STANDARD) - {"__future__"} - set(OWN.split())
    assert added == set(ENGINE_OWN.split())


def test_what_is_called_lazy_would_be_noticed() -> None:
    assert {"asyncio", "http"} <= _roots(_imported("import asyncio, http.client")) & LAZY
