"""The script that sets up a checkout: which Python it takes, when it builds anew, what it says."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.project import ROOT
from tools import dev

SCRIPT = ROOT / "tools" / "dev.py"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def _no_choice_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHON", raising=False)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Two folders, the only ones where interpreters are looked for."""
    folders = [tmp_path / "shims here", tmp_path / "bin"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.setattr(dev, "folders", lambda: [str(folder) for folder in folders])
    return iter([folders])


@pytest.fixture(name="folders")
def _folders(places: Iterator[list[Path]]) -> list[Path]:
    return next(places)


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _works(path: Path) -> Path:
    return _script(path, f"exec '{sys.executable}' \"$@\"")


def _pretends(path: Path, version: str) -> Path:
    numbers = [int(part) for part in version.split(".")]
    return _script(path, f"echo '{json.dumps([numbers, str(path), True])}'")


def test_any_python_from_3_6_can_start_it() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    assert "from __future__ import annotations" not in SCRIPT.read_text()  # 3.7 brought it


def test_the_newest_is_taken(folders: list[Path]) -> None:
    _pretends(folders[0] / "python3.12", "3.12.1")
    _pretends(folders[1] / "python3.14", "3.14.0")
    assert dev.choose().version == "3.14.0"


def test_a_shim_that_leads_nowhere_is_passed_over(folders: list[Path]) -> None:
    _script(folders[0] / f"python{VERSION}", "echo 'pyenv: command not found' >&2; exit 127")
    _works(folders[1] / f"python{VERSION}")
    assert dev.choose().version == sys.version.split()[0]
    assert dev.find_version(VERSION) is not None


def test_a_program_that_is_another_version_than_its_name_says_does_not_count(
    folders: list[Path],
) -> None:
    _pretends(folders[0] / "python3.13", "3.12.1")
    assert dev.find_version("3.13") is None


def test_without_any_python_it_ends_with_the_one_command_to_type(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(folders[0].iterdir()) == []
    monkeypatch.setattr(sys, "executable", str(_pretends(folders[1] / "old", "3.9.2")))
    with pytest.raises(SystemExit) as ended:
        dev.choose()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs Python 3.11, 3.12, 3.13 or 3.14" in line
    assert line.endswith(f"Type: {dev.how_to_get_python()}")


@pytest.mark.parametrize("by", ["path", "name"])
def test_python_in_the_environment_decides(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    _pretends(folders[0] / "python3.14", "3.14.0")
    chosen = _pretends(folders[1] / "python3.12", "3.12.1")
    monkeypatch.setenv("PYTHON", str(chosen) if by == "path" else chosen.name)
    assert dev.choose().version == "3.12.1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("exit 3", "it failed"),
        ("echo hello", "it did not answer as a Python does"),
        ("echo '[[3, 10, 4], \"x\", true]'", "it is Python 3.10.4"),
        (None, "there is no such program"),
    ],
)
def test_python_that_cannot_be_used_is_refused(
    folders: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    why: str,
) -> None:
    if text is not None:
        _script(folders[0] / "mine", text)
    _works(folders[1] / f"python{VERSION}")
    monkeypatch.setenv("PYTHON", "mine")
    with pytest.raises(SystemExit) as ended:
        dev.choose()
    assert ended.value.code == 2
    assert f"PYTHON=mine cannot be used: {why}" in capsys.readouterr().err


class Builder:
    """Stands in for the installation: makes what `finished` looks at, or fails."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.versions: list[str] = []
        self.fails = False

    def __call__(self, python: dev.Interpreter) -> tuple[bool, str]:
        self.versions.append(python.version)
        (self.venv / "bin").mkdir(parents=True)
        if self.fails:
            return False, "could not find a version that satisfies the requirement"
        _works(self.venv / "bin" / "python")
        return True, ""


@pytest.fixture
def builder(tmp_path: Path, folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> Builder:
    root = tmp_path / "a checkout"
    root.mkdir()
    (root / "pyproject.toml").write_text("[project]\n")
    _works(folders[0] / f"python{VERSION}")
    builder = Builder(root / ".venv")
    monkeypatch.setattr(dev, "ROOT", root)
    monkeypatch.setattr(dev, "VENV", builder.venv)
    monkeypatch.setattr(dev, "STAMP", builder.venv / "onward-dev.json")
    monkeypatch.setattr(dev, "install", builder)
    monkeypatch.setattr(dev, "WHOLE", "import sys; print(sys.version.split()[0])")
    return builder


def test_a_finished_environment_is_used_as_it_is(builder: Builder) -> None:
    dev.ensure_environment()
    dev.ensure_environment()
    assert builder.versions == [sys.version.split()[0]]


def test_a_half_built_one_is_made_anew(builder: Builder) -> None:
    (builder.venv / "bin").mkdir(parents=True)
    (builder.venv / "left").touch()
    dev.ensure_environment()
    assert not (builder.venv / "left").exists()
    assert len(builder.versions) == 1


def test_a_failed_installation_leaves_no_stamp_and_names_the_next_command(
    builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.fails = True
    with pytest.raises(SystemExit) as ended:
        dev.ensure_environment()
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("python3 tools/dev.py venv")
    assert not dev.STAMP.exists()
    builder.fails = False
    dev.ensure_environment()
    assert len(builder.versions) == 2


@pytest.mark.parametrize("change", ["project", "moved", "python gone", "packages gone", "stamp"])
def test_one_made_for_something_else_is_made_anew(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    dev.ensure_environment()
    if change == "project":
        (dev.ROOT / "pyproject.toml").write_text("[project]\nname = 'onward'\n")
    elif change == "moved":
        dev.STAMP.write_text(dev.STAMP.read_text().replace(str(dev.ROOT), "/elsewhere"))
    elif change == "python gone":
        (builder.venv / "bin" / "python").unlink()
    elif change == "packages gone":
        monkeypatch.setattr(dev, "WHOLE", "import sys; print(sys.version.split()[0], 'pytest')")
    else:
        dev.STAMP.write_text("{")
    assert dev.finished() is None
    dev.ensure_environment()
    assert len(builder.versions) == 2


def test_another_python_asked_for_makes_it_anew(
    builder: Builder, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    dev.ensure_environment()
    monkeypatch.setenv("PYTHON", str(_pretends(folders[1] / "python3.14", "3.14.9")))
    dev.ensure_environment()
    assert builder.versions == [sys.version.split()[0], "3.14.9"]


def test_an_installation_that_fails_behind_a_proxy_is_tried_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in list(os.environ):
        if name.lower() in dev.PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    code = "import os, sys; sys.exit('HTTP_PROXY' in os.environ)"
    assert dev.through_proxy_or_not([sys.executable, "-c", code])[0]
    assert os.environ["HTTP_PROXY"] == "http://127.0.0.1:9"
    assert not dev.through_proxy_or_not([sys.executable, "-c", "import sys; sys.exit(1)"])[0]


def test_an_installation_never_prints_where_packages_come_from() -> None:
    code = "print('at https://user:secret@packages.example:8443/simple/x/')"
    assert dev.quietly([sys.executable, "-c", code])[1].strip() == (
        "at https://<package index>/simple/x/"
    )


def test_two_commands_do_not_build_at_once(builder: Builder) -> None:
    code = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(dev.ROOT / ".venv.lock")]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waiting = subprocess.Popen(
            [sys.executable, "-c", _WAIT.format(root=str(dev.ROOT), here=str(ROOT))], stdout=-1
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.5)
        holder.communicate()
        assert waiting.communicate()[0] == b"entered\n"
    assert builder.versions == []


_WAIT = """
import pathlib, sys
sys.path.insert(0, {here!r})
from tools import dev
dev.ROOT = pathlib.Path({root!r})
with dev.one_at_a_time():
    print("entered")
"""


def test_each_target_of_make_is_a_command_of_the_script() -> None:
    rules = (ROOT / "Makefile").read_text()
    targets = rules.splitlines()[0].removeprefix(".PHONY: ").split()
    assert set(targets) - {"build-OnwardFunction"} <= set(dev.COMMANDS)
    assert "\t@python3 tools/dev.py $@" in rules


@pytest.mark.parametrize("arguments", [[], ["nonsense"]])
def test_a_wrong_command_lists_the_right_ones(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "COMMAND" in done.stderr
