"""No skip is silent: the summary names it and its remedy, and it can be made to fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import ROOT
from tests.support.tools import find_tool

TESTS = """
import pytest
from tests.support.tools import require_tool

def test_passes():
    pass

def test_lacks():
    require_tool("no-such-program", how="brew it")

def test_lacks_too():
    require_tool("no-such-program", how="brew it")

@pytest.mark.xfail(reason="known", strict=True)
def test_known():
    raise AssertionError
"""
MODULE = "import pytest\npytest.importorskip('no_such_module_at_all')\n"


def _pytest(folder: Path, text: str, *, require_all: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-c", os.devnull]
    return subprocess.run(
        [*command, "--rootdir", str(folder), "-p", "no:cacheprovider", str(folder)],
        cwd=ROOT,
        env={**os.environ, "ONWARD_REQUIRE_ALL": require_all, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_summary_says_what_was_skipped_and_how_to_get_it(tmp_path: Path) -> None:
    done = _pytest(tmp_path, TESTS, require_all="")
    assert done.returncode == 0, done.stdout
    assert "not tested here" in done.stdout
    assert "2 tests skipped: needs no-such-program; to get it: brew it" in done.stdout


@pytest.mark.parametrize(("text", "failed"), [(TESTS, 2), (MODULE, 0)])
def test_a_skip_fails_when_everything_is_required(tmp_path: Path, text: str, failed: int) -> None:
    done = _pytest(tmp_path, text, require_all="1")
    assert done.returncode != 0
    if failed:
        assert f"{failed} failed, 1 passed, 1 xfailed" in done.stdout
        assert "to get it: brew it" in done.stdout
    else:
        assert "no_such_module_at_all" in done.stdout


def test_a_program_that_is_there_but_does_not_start_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "node"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool("node") is None
    shim.write_text("#!/bin/sh\nexit 0\n")
    assert find_tool("absent", "node") == str(shim)
