"""The two commands on a machine that has only a checkout, under the circumstances people have."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import airportsdata
import pytest

from tests.support.project import ROOT, project_files

pytestmark = pytest.mark.slow

DEFAULT_PORT = 8288


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the tree in a path with spaces, with an environment left half-built."""
    root = tmp_path / "a fresh checkout"
    for name in project_files():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    return root


@pytest.fixture
def _port_in_use() -> Iterator[None]:
    """Keep the default port of a dev server busy, unless something on this machine already does."""
    try:
        listener = socket.create_server(("127.0.0.1", DEFAULT_PORT))
    except OSError:
        yield
        return
    with listener:
        yield


@pytest.mark.usefixtures("_port_in_use")
def test_the_demo_works_with_a_dead_proxy_and_the_port_in_use(checkout: Path) -> None:
    env = {
        name: value
        for name, value in os.environ.items()
        if name.lower() not in {"no_proxy", "virtual_env", "pythonpath"}
    }
    env.update(
        HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9", PYTHON=sys.executable
    )
    command = [sys.executable, "tools/dev.py"]
    done = subprocess.run(
        [*command, "demo", "--json"],
        cwd=checkout,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Making .venv anew" in done.stderr
    report = json.loads(done.stdout)
    assert report["status"] == "Completed"
    # One step for every 200 airports; load, aggregate, save and report.
    steps = -(-len(airportsdata.load("IATA")) // 200) + 4
    assert (report["steps"], report["steps_repeated"], report["killed"]) == (steps, 0, 0)
    assert report["invocations"] > 1

    again = subprocess.run(
        [*command, "venv"], cwd=checkout, env=env, capture_output=True, text=True, check=False
    )
    assert again.returncode == 0
    assert again.stderr == ""
    assert again.stdout.strip() == str(checkout / ".venv" / "bin" / "python")
