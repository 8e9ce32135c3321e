"""The checkout itself: where it lies, what belongs to it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("runtime/onward", "runtime/onward_server", "deploy/onward_deploy")


@cache
def project_files() -> tuple[str, ...]:
    """Return the paths of the files that belong to the project, relative to its root.

    Those that git tracks, and new ones that it does not ignore; without git, all but the hidden.
    """
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names = [name for name in listed.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = [
            path.relative_to(ROOT).as_posix()
            for path in ROOT.rglob("*")
            if not any(
                p.startswith(".") or p == "__pycache__" for p in path.relative_to(ROOT).parts
            )
        ]
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))
