"""Programs from PyPI whose dependencies must not meet the project's: each has its own place."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path


class ProgramUnavailableError(RuntimeError):
    """A program is not here and could not be brought here; the message says why."""


def program(name: str, *requirements: str) -> Path:
    """Return the path of the program `name`, installing `requirements` for it the first time.

    Raises:
        ProgramUnavailableError: The package index did not give what is required.
    """
    digest = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:12]
    folder = Path(sys.prefix) / "onward-tools" / f"{name}-{digest}"
    path = folder / "bin" / name
    finished = folder / "finished"
    if not finished.exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--no-input"]
        done = subprocess.run(
            [*command, "--disable-pip-version-check", *requirements],
            capture_output=True,
            text=True,
            check=False,
            cwd=tempfile.gettempdir(),
        )
        if done.returncode != 0 or not path.exists():
            last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise ProgramUnavailableError(f"{name} could not be installed: {last}")
        finished.touch()
    return path
