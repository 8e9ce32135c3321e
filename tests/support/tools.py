"""Programs that some tests need and a machine may lack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tools.dev import find_version

REQUIRE_ALL = "ONWARD_REQUIRE_ALL"
# What makes each program say its version; a shim that leads nowhere fails here.
VERSION_COMMANDS = {"java": ["-version"], "docker": ["info"], "podman": ["info"]}


def all_required() -> bool:
    """Whether a skipped test counts as failed (ONWARD_REQUIRE_ALL=1)."""
    return os.environ.get(REQUIRE_ALL, "") not in {"", "0"}


def find_tool(*names: str) -> str | None:
    """Return the path of the first of these programs that is here and really starts, or None.

    `python3.12` and the like are also looked for where pyenv and uv put them.
    """
    for name in names:
        version = re.fullmatch(r"python(3\.\d+)", name)
        path = find_version(version.group(1)) if version else shutil.which(name)
        if path is not None and (version or _starts(path, name)):
            return path
    return None


def require_tool(*names: str, how: str) -> str:
    """Return the path of the first of these programs that starts; else skip the test.

    Args:
        names: Programs of which one is enough, the preferred first.
        how: How to get it; shown with the skipped tests in the summary at the end.
    """
    path = find_tool(*names)
    if path is None:
        pytest.skip(f"needs {' or '.join(names)}; to get it: {how}")
    return path


def _starts(path: str, name: str) -> bool:
    try:
        done = subprocess.run(
            [path, *VERSION_COMMANDS.get(name, ["--version"])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
