"""The templates: valid for their platforms, wired to what Onward reads, and they run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

import onward
from onward.settings import resolve_settings
from onward_deploy.errors import UsageError
from onward_deploy.templates_path import template_names, templates_path
from tests.support.project import ROOT
from tools.isolated import program

TOP = (ROOT / "sam-template.yaml").read_text()
SAM_TEMPLATES = ("sam-template.yaml", "templates/aws-lambda/template.yaml")
APPS = {"aws-lambda": "src/app.py:app", "vercel-fastapi": "app.py:durable"}
# Parameter, default: as they stand in the template.
DEFAULTS = dict(re.findall(r"^  (\w+):\n    Type: .*\n    Default: (.*)$", TOP, re.MULTILINE))
# Environment variable, parameter.
WIRED = dict(
    re.findall(r"^ {10}(\w+): (?:!If \[\w+, )?!Ref (\w+)", TOP, re.MULTILINE),
)


def _load(path: Path, name: str, monkeypatch: pytest.MonkeyPatch, **env: str) -> ModuleType:
    for variable, value in env.items():
        monkeypatch.setenv(variable, value)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_template_is_tried_here() -> None:
    assert template_names() == sorted(APPS)
    with pytest.raises(UsageError, match=r"no template 'azure'. There are: aws-lambda, vercel"):
        templates_path("azure")


@pytest.mark.parametrize("name", SAM_TEMPLATES)
def test_a_sam_template_is_valid(name: str) -> None:
    linter = program("cfn-lint", "cfn-lint==1.58.0")
    done = subprocess.run(
        [str(linter), str(ROOT / name)],
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_sam_templates_say_the_same() -> None:
    own = (ROOT / SAM_TEMPLATES[1]).read_text()
    built = re.sub(r"    Metadata:\n.*?(?=    Properties:)", "", TOP, flags=re.DOTALL)
    assert built.replace("CodeUri: .\n", "CodeUri: src/\n") == own


def test_every_variable_is_one_that_onward_reads() -> None:
    read = _Recording(DEFAULTS)
    onward.Checkpointing.from_env(read)
    resolve_settings(read)
    assert set(WIRED) <= read.asked
    assert {"ONWARD_DEADLINE_MARGIN", "ONWARD_MAX_RUNTIME", "INNGEST_BASE_URL"} <= set(WIRED)


class _Recording(Mapping[str, str]):
    """An empty environment that notes which variables are asked for."""

    def __init__(self, _: object) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_the_parameters_defaults_are_onwards_defaults() -> None:
    environment = {
        variable: DEFAULTS[parameter].strip('"')
        for variable, parameter in WIRED.items()
        if variable.startswith("ONWARD_")
    }
    assert onward.Checkpointing.from_env(environment) == onward.SAFE
    resolve_settings(environment)


@pytest.mark.parametrize("folder", [".", "templates/aws-lambda"])
def test_samconfig_names_what_is_there(folder: str) -> None:
    config = tomllib.loads((ROOT / folder / "samconfig.toml").read_text())["default"]
    named = config.get("build", {}).get("parameters", {}).get("template_file", "template.yaml")
    assert (ROOT / folder / named).is_file()
    assert config["validate"]["parameters"]["lint"] is True
    overrides = dict(
        pair.split("=") for pair in config["deploy"]["parameters"]["parameter_overrides"].split()
    )
    assert set(overrides) <= set(DEFAULTS)


@pytest.mark.parametrize("name", APPS)
def test_a_template_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "onward_deploy", "run", APPS[name], "greet", "--json"]
    done = subprocess.run(
        [*command, "--data", '{"names": ["Ada", "Alan"]}'],
        cwd=templates_path(name),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["result"] == {"greetings": ["Hello, Ada!", "Hello, Alan!"]}
    assert (report["steps"], report["steps_repeated"]) == (2, 0)


async def test_vercel_serves_the_functions_beside_the_routes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = templates_path("vercel-fastapi") / "app.py"
    module = _load(path, "vercel_template", monkeypatch, INNGEST_DEV="1")
    transport = httpx.ASGITransport(app=module.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/")).json() == {"functions": "/api/inngest"}
        introspection = await client.get("/api/inngest")
        assert introspection.status_code == 200
        assert introspection.json()["function_count"] == 1
        assert (await client.get("/elsewhere")).status_code == 404


def test_vercel_is_told_how_long_a_call_may_take() -> None:
    config = json.loads((templates_path("vercel-fastapi") / "vercel.json").read_text())
    assert set(config["functions"]) == {"app.py"}
    assert 1 <= config["functions"]["app.py"]["maxDuration"] <= 800
