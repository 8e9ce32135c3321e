"""Bring AWS's Lambda Runtime Interface Emulator into the environment, from PyPI alone.

The wheel of `aws-sam-cli` carries the emulator as one static binary an architecture. The wheel
(8 MB) is downloaded without its dependencies, the binary taken out, and the rest thrown away.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SAM_CLI = "1.170.0"
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
MASK = 0o755


class EmulatorUnavailableError(RuntimeError):
    """The emulator is not here and could not be brought here; the message says why."""


def emulator(folder: Path | None = None) -> Path:
    """Return the path of the emulator, downloading it the first time.

    Args:
        folder: Where it is kept; `onward-tools` in the running environment when left out.

    Raises:
        EmulatorUnavailableError: Not on Linux, on an architecture that AWS Lambda does not have, or
            the package index did not give the wheel.
    """
    architecture = ARCHITECTURES.get(platform.machine().lower())
    if sys.platform != "linux" or architecture is None:
        raise EmulatorUnavailableError(
            "the Lambda runtime emulator runs on Linux (x86_64 or arm64), and this is "
            f"{platform.system()} on {platform.machine()}"
        )
    name = f"aws-lambda-rie-{architecture}"
    kept = (folder or Path(sys.prefix) / "onward-tools") / f"{name}-{SAM_CLI}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as temporary:
            unpacked = _unpack(_download(Path(temporary)), name, Path(temporary))
            unpacked.replace(kept)
    return kept


def _download(folder: Path) -> Path:
    """Download the wheel into `folder`; return its path."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    command += ["--no-input", "--no-deps", "-d", str(folder), f"aws-sam-cli=={SAM_CLI}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise EmulatorUnavailableError(
            f"pip could not download aws-sam-cli {SAM_CLI}, which carries the Lambda runtime "
            f"emulator: {last}. Check the network, then run `python -m tools.rie`"
        )
    return wheels[0]


def _unpack(wheel: Path, name: str, folder: Path) -> Path:
    """Take the binary `name` out of the wheel into `folder`; return its path."""
    target = folder / name
    with zipfile.ZipFile(wheel) as archive:
        target.write_bytes(archive.read(f"samcli/local/rapid/{name}"))
    target.chmod(MASK)
    return target


if __name__ == "__main__":
    print(emulator())
