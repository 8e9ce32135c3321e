"""docs/from-inngest-py.md maps every public name of the installed PyPI `inngest`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import inngest
import pytest

from onward import middleware
from tests.support.project import ROOT

PACKAGE = Path(inngest.__file__).parent
PAGE = (ROOT / "docs" / "from-inngest-py.md").read_text(encoding="utf-8")
CODE = frozenset(re.findall(r"`([^`\n]+)`", PAGE))

#: What configuration classes have from pydantic and for it.
MACHINERY = re.compile(r"convert_validation_error|from_raw|model_config|serialize_\w+|to_dict")
CONFIGURATION = {
    name for name in inngest.__all__ if hasattr(getattr(inngest, name), "model_fields")
}

#: Callables whose parameters are mapped one by one.
WITH_PARAMETERS = ("Inngest", "NonRetriableError", "RetryAfterError", "StepError")
STEPS = ("run", "invoke", "invoke_by_id", "send_event", "sleep", "sleep_until", "wait_for_event")
FRAMEWORKS = ("fast_api", "flask", "django", "tornado", "digital_ocean")


def _modules() -> Iterator[tuple[str, ast.Module]]:
    """Every public module, as it stands: some need packages that are not installed."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if not any(part.startswith("_") or part.endswith("_test") for part in parts):
            yield ".".join(parts), ast.parse(path.read_text(encoding="utf-8"))


def _names(tree: ast.Module) -> list[str]:
    """What a module exports: its `__all__`, or what it defines."""
    defined = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined.append(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "__all__":
                return list(ast.literal_eval(node.value))
            defined.append(node.targets[0].id)
    return [name for name in defined if not name.startswith("_")]


def _exported() -> set[str]:
    return {f"{module}.{name}" for module, tree in _modules() for name in _names(tree)}


def _members() -> set[str]:
    """The public attributes and methods of the classes that `inngest` exports."""
    found = set()
    for name in inngest.__all__:
        kind = getattr(inngest, name)
        if not inspect.isclass(kind):
            continue
        for base in kind.__mro__:
            if base.__module__.partition(".")[0] == "inngest":
                own = [*vars(base), *getattr(base, "__annotations__", {})]
                found |= {f"{name}.{member}" for member in own if not member.startswith("_")}
    return found


def _parameters() -> set[str]:
    """The parameters of the client, of functions, of steps, of errors, and of `serve`."""
    calls = [(name, getattr(inngest, name).__init__) for name in WITH_PARAMETERS]
    calls += [("create_function", inngest.Inngest.create_function)]
    calls += [(f"Inngest.{name}", getattr(inngest.Inngest, name)) for name in ("send", "send_sync")]
    for kind in (inngest.Step, inngest.StepSync):
        calls += [(f"{kind.__name__}.{name}", getattr(kind, name)) for name in STEPS]
    found = {
        f"{name}({parameter}=)"
        for name, call in calls
        for parameter in list(inspect.signature(call).parameters)[1:]
    }
    for framework in FRAMEWORKS:
        tree = ast.parse((PACKAGE / f"{framework}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == "serve":
                given = [*node.args.args, *node.args.kwonlyargs]
                found |= {f"serve({argument.arg}=)" for argument in given}
    return found


def _variables() -> set[str]:
    keys = import_module("inngest._internal.const").EnvKey
    return {str(key.value) for key in keys}


def _mapped(name: str) -> str:
    """How the page has to call `name`."""
    owner, _, member = name.rpartition(".")
    return member if owner in CONFIGURATION and MACHINERY.fullmatch(member) else name


EXPECTED = {_mapped(name) for name in _exported() | _members() | _parameters() | _variables()}


def test_no_public_name_is_missing() -> None:
    assert sorted(EXPECTED - CODE) == []


def test_there_is_something_to_map() -> None:
    assert len(_exported()) > 70
    assert len(_members()) > 100
    assert len(_parameters()) > 80
    assert {"inngest.fast_api.serve", "inngest.connect.connect", "inngest.Step"} <= _exported()
    assert {"Step.run", "Context.group", "Middleware.transform_input"} <= _members()


def test_no_name_is_mapped_that_there_is_not() -> None:
    said = {name for name in CODE if re.fullmatch(r"inngest\.[\w.]+", name)}
    said |= {name for name in CODE if re.fullmatch(r"(create_function|serve)\(\w+=\)", name)}
    said |= {name for name in CODE if re.fullmatch(r"(Step|StepSync|Inngest)[.(][\w.=()]+", name)}
    assert sorted(said - EXPECTED) == []


ONWARD = sorted(
    {name.rstrip(".") for name in re.findall(r"\bonward(?:_server)?\.[A-Za-z_0-9.]+", PAGE)}
)


@pytest.mark.parametrize("name", ONWARD)
def test_what_it_is_mapped_to_exists(name: str) -> None:
    if name == "onward.run":  # a logger
        return
    package, *parts = name.split(".")
    found = import_module(package)
    for part in parts:
        found = getattr(found, part)


def test_hooks_that_it_names_exist() -> None:
    named = set(re.findall(r"`(?:Middleware\.)?((?:transform|before|after)_\w+)`", PAGE))
    assert {name for name in named if not hasattr(middleware.Middleware, name)} == set()
