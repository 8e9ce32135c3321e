"""Both SDKs in cloud mode: calls and answers are signed, and requests bear tokens of the key."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.sdks import scenarios  # noqa: F401 - fills the catalogue
from tests.sdks.node import FOLDER, node_with_sdk
from tests.sdks.running import Results, cases_of, chosen_cases, started
from tests.sdks.suite import SETTINGS, Sdk, running

KEY, OTHER_KEY = f"signkey-test-{'a1' * 32}", f"signkey-test-{'b2' * 32}"
EVENT_KEY = "an-event-key"
SIGNED = replace(SETTINGS, signing_key=KEY, event_keys=(EVENT_KEY,))
KEYS = {"SIGNING_KEY": KEY, "EVENT_KEY": EVENT_KEY}

TYPESCRIPT = Sdk(
    "typescript",
    ("node", str(FOLDER / "serve.mjs")),
    (
        {"id": "ts-signed", "checkpointing": True},
        {"id": "ts-signed-buffered", "checkpointing": {"bufferedSteps": 5}},
    ),
)
PYTHON = Sdk(
    "python",
    (sys.executable, "-m", "tests.sdks.python.serve"),
    (
        {"id": "py-signed", "blocking": False, "framework": "fastapi"},
        {"id": "py-signed-blocking", "blocking": True, "framework": "flask"},
    ),
)
#: Every kind of request: calls, checkpoints, reads of the journal, events, signals.
SOME = frozenset(
    {
        "sequential",
        "values",
        "unicode-ids",
        "large-journal",
        "parallel",
        "sleeps-and-steps",
        "step-retried",
        "function-retried",
        "step-fails",
        "on-failure",
        "wait",
        "send-event",
        "send-event-once",
        "wait-signal",
        "invoke-own",
        "cancelled",
    }
)


def signed_cases(sdk: Sdk) -> list[object]:
    return cases_of(sdk, sdk.name, {app["id"]: SOME for app in sdk.apps})


@pytest.fixture(scope="module")
def typescript() -> Sdk:
    return replace(TYPESCRIPT, command=(node_with_sdk(), *TYPESCRIPT.command[1:]))


@pytest.fixture(scope="module")
def results_of_typescript(
    typescript: Sdk, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    folder = tmp_path_factory.mktemp("signed-typescript")
    cases = [case for case in chosen_cases(request) if case[0].startswith("ts-")]
    with started(typescript, folder, cases, settings=SIGNED, environment=KEYS) as results:
        yield results


@pytest.fixture(scope="module")
def results_of_python(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Results]:
    folder = tmp_path_factory.mktemp("signed-python")
    cases = [case for case in chosen_cases(request) if case[0].startswith("py-")]
    with started(PYTHON, folder, cases, settings=SIGNED, environment=KEYS) as results:
        yield results


@pytest.mark.parametrize("case", signed_cases(TYPESCRIPT))
def test_typescript(results_of_typescript: Results, case: tuple[str, str]) -> None:
    results_of_typescript.check(case)


@pytest.mark.parametrize("case", signed_cases(PYTHON))
def test_python(results_of_python: Results, case: tuple[str, str]) -> None:
    results_of_python.check(case)


@pytest.mark.parametrize("name", ["typescript", "python"])
async def test_nobody_else_can_call(name: str, typescript: Sdk, tmp_path: Path) -> None:
    sdk = typescript if name == "typescript" else PYTHON
    sdk = replace(sdk, apps=sdk.apps[:1])
    async with running(sdk, tmp_path, settings=SIGNED, environment=KEYS) as suite:
        (app,) = suite.apps.values()
        url = f"{suite.urls[app.id]}?fnId={app.id}-no-steps&stepId=step"
        event = {"name": f"{app.id}/no-steps", "data": {"who": "me"}, "id": "1", "ts": 1}
        ctx = {"run_id": "R", "attempt": 0, "stack": {"stack": [], "current": 0}}
        body = {"ctx": ctx, "event": event, "events": [event], "steps": {}, "version": 2}
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(url, json=body)
            sent = await client.post(f"{suite.url}/e/another-key", json=event)
            read = await client.get(f"{suite.url}/v1/events")
        assert answer.status_code in {401, 500}
        assert (sent.status_code, read.status_code) == (401, 401)
        assert app.told("body") == []
        assert (await app.run("no-steps", {"who": "them"})).result == "hello them"


@pytest.mark.parametrize("name", ["typescript", "python"])
async def test_another_key_registers_nothing(name: str, typescript: Sdk, tmp_path: Path) -> None:
    sdk = typescript if name == "typescript" else PYTHON
    other = {**KEYS, "SIGNING_KEY": OTHER_KEY}
    with pytest.raises(AssertionError, match=r"(?i)unauthorized|your signing key"):
        async with running(sdk, tmp_path, settings=SIGNED, environment=other):
            pass
