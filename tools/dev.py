#!/usr/bin/env python3
"""Set up the checkout and run its commands: ``python3 tools/dev.py demo|test|lint|...``.

Standard library only, and written so that any Python from 3.6 can start it: it looks for a Python
that Onward supports (3.14 down to 3.11, or the one that ``PYTHON=`` names), makes ``.venv`` with
it, installs the project there and hands over. A stamp, written last, marks a finished environment;
one without it, or made for another pyproject.toml, path or Python, is made anew.
"""

import argparse
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, NoReturn, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "onward-dev.json"
VERSIONS = ("3.14", "3.13", "3.12", "3.11")
EXTRAS = "aws,server,deploy,encryption,otel"
RECIPE = 1  # raise it when what `install` does changes
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
# They have real deadlines to meet: with seconds to spare, and with less.
PAIRED = ("tests/cli", "tests/watchdog")
ALONE = ("tests/examples/test_airports.py", "tests/rie", "tests/tools/test_fresh_checkout.py")
DEMO = ("run", "examples/airports/app.py:app", "nearest", "--limit", "2s")

# Run inside a candidate: proves that it starts and has what Onward and its environment need.
PROBE = (
    "import sys, json, ssl, sqlite3, ctypes, venv\n"
    "try:\n import ensurepip\n pip = True\nexcept ImportError:\n pip = False\n"
    "print(json.dumps([list(sys.version_info[:3]), sys.executable, pip]))"
)
# Run inside .venv: the modules without which it is not whole. find_spec imports none of them.
WHOLE = (
    "import sys\nfrom importlib.util import find_spec\n"
    "names = ('onward', 'httpx', 'pydantic', 'starlette', 'uvicorn', 'rich', 'typer', 'pytest',"
    " 'xdist', 'hypothesis', 'mypy', 'ruff', 'importlinter', 'airportsdata')\n"
    "missing = [name for name in names if find_spec(name) is None]\n"
    "print(sys.version.split()[0], *missing)"
)
# Run inside .venv, which has tomllib: one requirement of the group `dev` a line.
GROUP = (
    "import sys, tomllib\n"
    "with open(sys.argv[1], 'rb') as file: print(*tomllib.load(file)"
    "['dependency-groups']['dev'], sep='\\n')"
)


class Interpreter:
    """A Python that was really started and fits."""

    def __init__(self, path: str, version: str, *, has_pip: bool) -> None:
        self.path = path
        self.version = version
        self.has_pip = has_pip


def say(message: str) -> None:
    """Print one line for the person at the terminal, on standard error."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()


def stop(message: str) -> NoReturn:
    """End with status 2 and a message that says what to do."""
    say(message)
    sys.exit(2)


def clean_environment(bin_dir: Optional[Path] = None) -> Dict[str, str]:
    """Return the environment without what would make a Python look elsewhere for its modules."""
    env = dict(os.environ)
    for name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__"):
        env.pop(name, None)
    if bin_dir is not None:
        env["VIRTUAL_ENV"] = str(bin_dir.parent)
        env["PATH"] = str(bin_dir) + os.pathsep + env.get("PATH", os.defpath)
    return env


# --- finding a Python ---------------------------------------------------------------------------


def probe(path: str) -> Tuple[Optional[Interpreter], str]:
    """Start `path`; return the interpreter, or None and why it is not usable."""
    try:
        done = subprocess.run(
            [path, "-c", PROBE],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=clean_environment(),
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it failed"]
        return None, lines[-1] if "Error" in lines[-1] else lines[0]
    try:
        version, executable, has_pip = json.loads(done.stdout.decode("utf-8", "replace"))
    except ValueError:
        return None, "it did not answer as a Python does"
    text = ".".join(str(part) for part in version)
    if text.rpartition(".")[0] not in VERSIONS:
        return None, f"it is Python {text}"
    return Interpreter(executable or path, text, has_pip=has_pip), ""


def folders() -> List[str]:
    """Return where interpreters may lie: PATH, then where pyenv, uv and Homebrew put them."""
    home = os.path.expanduser("~")
    pyenv = os.environ.get("PYENV_ROOT") or os.path.join(home, ".pyenv")
    found = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part]
    found += sorted(glob.glob(os.path.join(pyenv, "versions", "*", "bin")), reverse=True)
    found += sorted(glob.glob(os.path.join(home, ".local/share/uv/python/*/bin")), reverse=True)
    found += ["/usr/local/bin", "/opt/homebrew/bin", "/usr/bin"]
    return list(dict.fromkeys(found))


def named(name: str) -> Iterator[str]:
    """Yield every executable file called `name`, in the order of `folders`."""
    for folder in folders():
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            yield path


def usable(paths: Iterator[str], *, can_make_environments: bool) -> Optional[Interpreter]:
    """Return the first of `paths` that starts and fits."""
    for path in paths:
        found, _ = probe(path)
        if found is not None and (found.has_pip or can_make_environments):
            return found
    return None


def find_version(version: str) -> Optional[str]:
    """Return the path of a working Python of this version ("3.12"), or None."""
    found = usable(named("python" + version), can_make_environments=True)
    return found.path if found is not None and found.version.startswith(version + ".") else None


def requested() -> Optional[Interpreter]:
    """Return the interpreter that PYTHON= names, if any; end when it cannot be used."""
    wanted = os.environ.get("PYTHON", "").strip()
    if not wanted:
        return None
    wanted = os.path.expanduser(wanted)
    paths = [wanted] if os.sep in wanted else list(named(wanted))
    why = "there is no such program"
    for path in paths:
        found, why = probe(path)
        if found is not None:
            return found
    return stop(
        "PYTHON={} cannot be used: {}. Name a Python 3.11 to 3.14, or unset PYTHON.".format(
            os.environ["PYTHON"], why
        )
    )


def choose() -> Interpreter:
    """Return the Python to use: PYTHON=, else the newest that works; end when there is none."""
    found = requested()
    if found is not None:
        return found
    has_uv = working_uv() is not None
    for version in VERSIONS:
        found = usable(named("python" + version), can_make_environments=has_uv)
        if found is not None:
            return found
    for paths in (iter([sys.executable or "python3"]), named("python3")):
        found = usable(paths, can_make_environments=has_uv)
        if found is not None:
            return found
    return stop(
        "Onward needs Python 3.11, 3.12, 3.13 or 3.14 (with venv and pip); this is Python "
        f"{sys.version.split()[0]} and no other was found. Type: {how_to_get_python()}"
    )


def how_to_get_python() -> str:
    """Return the one command that brings a Python to this machine."""
    if shutil.which("uv"):
        return "uv python install 3.13"
    sudo = "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "
    if shutil.which("apt-get"):
        return sudo + "apt-get install -y python3 python3-venv"
    if shutil.which("dnf"):
        return sudo + "dnf install -y python3.12"
    if shutil.which("brew"):
        return "brew install python@3.13"
    return "install Python 3.13, then PYTHON=/path/to/python3.13 python3 tools/dev.py venv"


# --- the environment ----------------------------------------------------------------------------


def wanted_stamp() -> Dict[str, object]:
    """Return what the stamp of a finished environment says, less its Python."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return {"pyproject": digest, "root": str(ROOT), "recipe": RECIPE}


def finished() -> Optional[str]:
    """Return the Python version of a finished environment that still works, or None."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        version = stamp.pop("python")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    if stamp != wanted_stamp():
        return None
    try:
        done = subprocess.run(
            [str(VENV / "bin" / "python"), "-c", WHOLE],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    answer = done.stdout.decode("utf-8", "replace").split()
    return version if done.returncode == 0 and answer == [version] else None


def working_uv() -> Optional[str]:
    """Return the path of a uv that starts, or None."""
    path = shutil.which("uv")
    if path is None:
        return None
    done = subprocess.run(
        [path, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return path if done.returncode == 0 else None


def quietly(command: List[str]) -> Tuple[bool, str]:
    """Run `command`; return whether it succeeded, and its output with hosts masked."""
    done = subprocess.run(
        command,
        cwd=str(ROOT),
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    text = done.stdout.decode("utf-8", "replace")
    return done.returncode == 0, re.sub(r"(https?://)[^/\s'\"]+", r"\1<package index>", text)


def through_proxy_or_not(command: List[str]) -> Tuple[bool, str]:
    """Run an installation; when it fails with a proxy configured, try once more without it."""
    succeeded, output = quietly(command)
    proxies = {name: os.environ[name] for name in os.environ if name.lower() in PROXIES}
    if succeeded or not proxies:
        return succeeded, output
    say("That failed with {} set; trying without.".format(", ".join(sorted(proxies))))
    for name in proxies:
        del os.environ[name]
    try:
        return quietly(command)
    finally:
        os.environ.update(proxies)


def install(python: Interpreter) -> Tuple[bool, str]:
    """Make .venv and install the project into it; return whether it worked, and the output."""
    uv = working_uv()
    if uv is not None:
        succeeded, output = install_with_uv(uv, python)
        if succeeded or not python.has_pip:
            return succeeded, output
        say("uv did not manage it; trying with venv and pip.")
        remove(VENV)
    succeeded, output = quietly([python.path, "-m", "venv", str(VENV)])
    if not succeeded:
        return succeeded, output
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-q"]
    pip += ["--disable-pip-version-check", "--no-input"]
    return through_proxy_or_not([*pip, *requirements()])


def install_with_uv(uv: str, python: Interpreter) -> Tuple[bool, str]:
    """Make .venv and install the project into it with uv."""
    succeeded, output = quietly([uv, "venv", "-q", "--python", python.path, str(VENV)])
    if not succeeded:
        return succeeded, output
    interpreter = str(VENV / "bin" / "python")
    return through_proxy_or_not(
        [uv, "pip", "install", "-q", "--python", interpreter, *requirements()]
    )


def requirements() -> List[str]:
    """Return what is installed: the project, editable, with its extras and the group `dev`."""
    listed = subprocess.check_output(
        [str(VENV / "bin" / "python"), "-c", GROUP, str(ROOT / "pyproject.toml")],
        env=clean_environment(),
    )
    group = listed.decode("utf-8").splitlines()
    return ["-e", f"{ROOT}[{EXTRAS}]", *group]


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(str(path))


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the lock of the environment, so that two commands do not build it at once."""
    try:
        import fcntl
    except ImportError:
        stop("Onward is developed on Linux or macOS; on Windows use WSL.")
    with (ROOT / ".venv.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure_environment() -> None:
    """Make .venv unless it is finished and fits; end with the one command to type when it fails."""
    with one_at_a_time():
        version = finished()
        python = requested()
        if version is not None and (python is None or python.version == version):
            return
        python = python or choose()
        if VENV.exists() or VENV.is_symlink():
            say("Making .venv anew: it is unfinished, or was made for something else.")
        say(f"Installing into .venv with Python {python.version} (a minute or so) ...")
        started = time.time()
        remove(VENV)
        succeeded, output = install(python)
        if not succeeded:
            say("\n".join(output.strip().splitlines()[-15:]))
            stop(how_to_repair(python, output))
        stamp = dict(wanted_stamp(), python=python.version)
        partial = STAMP.with_suffix(".partial")
        partial.write_text(json.dumps(stamp) + "\n", encoding="utf-8")
        os.replace(str(partial), str(STAMP))
        say(f"Ready in {time.time() - started:.0f} s.")


def how_to_repair(python: Interpreter, output: str) -> str:
    """Return the message for an installation that failed."""
    if "ensurepip" in output or not python.has_pip:
        command = how_to_get_python()
    else:
        command = f"PYTHON='{python.path}' python3 tools/dev.py venv"
    return f"The installation failed (above). The next command starts afresh: {command}"


# --- the commands -------------------------------------------------------------------------------


def in_venv(*command: str) -> int:
    """Run a Python command of the environment in the checkout; return its exit status."""
    sys.stdout.flush()
    process = subprocess.Popen(
        [str(VENV / "bin" / "python"), *command],
        cwd=str(ROOT),
        env=clean_environment(VENV / "bin"),
    )
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the child had it too, and ends in its own way
            continue


def check(title: str, *command: str) -> bool:
    """Run one check; say how it ended."""
    started = time.time()
    good = in_venv(*command) == 0
    say("{} {} ({:.1f} s)".format("ok    " if good else "FAILED", title, time.time() - started))
    return good


def lint(_: List[str]) -> int:
    """Run ruff, mypy and import-linter; return 1 when one of them complains."""
    imports = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    results = [
        check("ruff check", "-m", "ruff", "check", "-q", "."),
        check("ruff format", "-m", "ruff", "format", "-q", "--check", "."),
        check("mypy", "-m", "mypy"),
        check("import contracts", "-c", imports),
    ]
    return 0 if all(results) else 1


def test(arguments: List[str]) -> int:
    """Run the checks of `lint`, then pytest; with arguments, pytest alone with these."""
    if arguments:
        return in_venv("-m", "pytest", *arguments)
    linted = lint([])
    # Most tests wait for processes: three at a time keep two cores busy. Those that have a real
    # deadline to meet come after, two at a time, and at last one by one.
    later = [f"--ignore={path}" for path in (*PAIRED, *ALONE)]
    tested = in_venv("-m", "pytest", "-n", "3", "--dist", "loadfile", *later)
    tested = in_venv("-m", "pytest", "-n", "2", "--dist", "loadfile", *PAIRED) or tested
    tested = in_venv("-m", "pytest", *ALONE) or tested
    if linted:
        say("A check before the tests FAILED: python3 tools/dev.py lint")
    return tested or linted


def demo(arguments: List[str]) -> int:
    """Run the airports job with 2 s an invocation; arguments go to `onward run`."""
    return in_venv("-m", "onward_deploy", *DEMO, *arguments)


def bench(arguments: List[str]) -> int:
    """Run the benchmarks; arguments go to them."""
    return in_venv("-m", "benchmarks", *arguments)


def venv(_: List[str]) -> int:
    """Set up the environment and print its interpreter's path."""
    print(VENV / "bin" / "python")
    return 0


def tidy(_: List[str]) -> int:
    """Format the code and apply ruff's safe fixes."""
    return in_venv("-m", "ruff", "check", "-q", "--fix", ".") | in_venv("-m", "ruff", "format", ".")


def python(arguments: List[str]) -> int:
    """Run the environment's Python with the arguments."""
    return in_venv(*arguments)


COMMANDS = {
    "demo": (demo, "run a data job of about 40 steps although each invocation ends after 2 s"),
    "test": (test, "run ruff, mypy, import-linter and all tests (arguments: pytest's, alone)"),
    "lint": (lint, "run ruff, mypy and import-linter"),
    "format": (tidy, "format the code and apply safe fixes"),
    "bench": (bench, "run the benchmarks"),
    "venv": (venv, "only set up .venv"),
    "python": (python, "run the environment's Python"),
}


def main(argv: List[str]) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="tools/dev.py",
        description="Set up the checkout and run its commands.",
        epilog="\n".join(f"  {name:8}{text}" for name, (_, text) in COMMANDS.items())
        + "\n\nPYTHON= names the interpreter to use (3.11 to 3.14).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    options = parser.parse_args(argv)
    ensure_environment()
    return COMMANDS[options.command][0](options.arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
