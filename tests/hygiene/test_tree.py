"""What the tree must not hold, and how large its parts may be."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.project import PACKAGES, ROOT, project_files

MODULE_LINES = 500
FUNCTION_LINES = 60

# Path to reason. A test asserts that each one is still needed.
LONG_MODULES: dict[str, str] = {}
# "path::function" to reason.
LONG_FUNCTIONS: dict[str, str] = {}

# The parts are joined here, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a path of one machine": re.compile(
        "|".join(["/wo" + r"rk/", "/tm" + r"p/onward\b", "/ro" + "ot/"])
    ),
    "the host of a package registry": re.compile(
        "|".join(
            [
                r"pypi\." + "org",
                "pythonhosted" + r"\.org",
                "registry" + r"\.npmjs",
                "artifact" + "ory",
            ]
        )
    ),
}
BIND_EVERYWHERE = re.compile(r"0\.0\.0\.0|(?<![\w\"':])\[?::\]?(?=[\"'])")
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ".sh", ".cfg", ".ini", ""}


def _text(name: str) -> str:
    path = ROOT / name
    if path.suffix not in TEXT:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _python(*folders: str) -> list[str]:
    return [
        name
        for name in project_files()
        if name.endswith(".py") and (not folders or name.startswith(folders))
    ]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_speaks_of_one_machine(what: str) -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in project_files()
        for number, line in enumerate(_text(name).splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []


def test_the_forbidden_words_are_found_where_they_are() -> None:
    assert FORBIDDEN["a path of one machine"].search("see /wo" + "rk/main")
    assert FORBIDDEN["the host of a package registry"].search("https://pypi." + "org/simple")
    assert BIND_EVERYWHERE.search('host="0.0.' + '0.0"')


# A server may be asked for every interface; nothing does so by itself.
ANSWERS_TO_EVERY_ADDRESS = {
    "runtime/onward_server/serving.py": "gives a URL that works for a listener on every interface",
}


def test_nothing_binds_to_every_interface() -> None:
    found = {
        name
        for name in _python("runtime/", "deploy/", "tools/", "examples/", "benchmarks/")
        if BIND_EVERYWHERE.search(_text(name))
    }
    assert found == set(ANSWERS_TO_EVERY_ADDRESS)


def test_modules_stay_readable() -> None:
    long = {name for name in _python() if len(_text(name).splitlines()) > MODULE_LINES}
    assert long == set(LONG_MODULES), f"split what is over {MODULE_LINES} lines, or give a reason"


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has, its docstring not counted."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def test_functions_stay_readable() -> None:
    long = {
        f"{name}::{node.name}"
        for name in _python()
        for node in ast.walk(ast.parse(_text(name)))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and _lines(node) > FUNCTION_LINES
    }
    assert long == set(LONG_FUNCTIONS), f"split what is over {FUNCTION_LINES} lines, or say why not"


def test_the_core_asks_no_clock_and_touches_no_file() -> None:
    impure = {"now", "utcnow", "today", "open", "print", "input", "monotonic", "perf_counter"}
    found = []
    for name in _python("runtime/onward/core/"):
        for node in ast.walk(ast.parse(_text(name))):
            if isinstance(node, ast.Call):
                called = node.func
                word = (
                    called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                )
                if word in impure:
                    found.append(f"{name}:{node.lineno}: {word}()")
    assert found == []


def test_every_suppression_names_its_rule() -> None:
    bare = re.compile(r"#\s*(noqa(?!:)|type:\s*ignore(?!\[))")
    found = [
        f"{name}:{number}"
        for name in _python()
        for number, line in enumerate(_text(name).splitlines(), 1)
        if bare.search(line) and Path(name) != Path(__file__).relative_to(ROOT)
    ]
    assert found == []


def test_every_package_is_typed() -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(project_files())


def test_no_database_and_no_environment_is_committed() -> None:
    unwanted = re.compile(r"(\.(db|sqlite3?|pyc|whl|egg-info|jar)$)|(^|/)(node_modules|\.venv)/")
    assert [name for name in project_files() if unwanted.search(name)] == []
