"""What importing Onward imports: a fixed set, because every cold start pays for it."""

from __future__ import annotations

import json
import subprocess
import sys

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
    "inspect",
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
# What typing, dataclasses and enum bring differs between versions of Python; what Onward asks for
# by name does not.
STANDARD = {
    "json",
    "typing",
}


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


def _roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_the_package_imports_no_module_of_it() -> None:
    modules = _imported("import onward")
    assert {name for name in modules if name.startswith("onward")} == {"onward"}
    assert not _roots(modules) & LAZY


def test_the_package_alone_brings_nothing_but_typing() -> None:
    alone = _imported("from __future__ import annotations; import typing")
    assert _imported("import onward") - alone == {"onward"}
