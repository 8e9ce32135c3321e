"""What the wheel and the sdist hold, and that the wheel works on its own."""

from __future__ import annotations

import ast
import json
import site
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import onward
from tests.support.project import PACKAGES, ROOT, project_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIST_INFO = f"onward-{PROJECT['version']}.dist-info/"


def _build(source: Path, out: Path, target: str) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the wheel; dependencies are shared with this one."""
    folder = tmp_path_factory.mktemp("an environment") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index"]
    subprocess.run([*pip, "--no-deps", str(wheel)], check=True, capture_output=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A folder on the path this way has its own .pth files ignored: no editable install leaks in.
    (packages / "shared.pth").write_text("\n".join(site.getsitepackages()))
    return python


def test_the_wheel_holds_the_packages_and_the_templates_and_nothing_else(wheel: Path) -> None:
    expected = set()
    for name in project_files():
        for package in PACKAGES:
            if name.startswith(f"{package}/"):
                expected.add(name.partition("/")[2])
        if name.startswith("templates/"):
            expected.add(f"onward_deploy/{name}")
    found = {name for name in _names(wheel) if not name.startswith(DIST_INFO)}
    assert found == expected
    for package in PACKAGES:
        assert f"{Path(package).name}/py.typed" in found
        assert f"{Path(package).name}/__init__.py" in found


def test_the_wheel_carries_the_license_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        license_text = archive.read(f"{DIST_INFO}licenses/LICENSE").decode()
        assert "Apache License" in license_text
        commands = archive.read(f"{DIST_INFO}entry_points.txt").decode()
        assert "onward = onward_deploy.cli:main" in commands


def test_a_wheel_built_from_the_sdist_is_the_same(wheel: Path, tmp_path: Path) -> None:
    sdist = _build(ROOT, tmp_path / "sdist", "sdist")
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(tmp_path)], check=True)
    source = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert not (source / "tests").exists()
    assert _names(_build(source, tmp_path / "wheel", "wheel")) == _names(wheel)


def test_the_wheel_works_where_there_is_no_checkout(installed: Path, tmp_path: Path) -> None:
    code = """
import json, onward, onward_deploy, onward_server
from onward_deploy.templates_path import template_names, templates_path
print(json.dumps({
    "files": [onward.__file__, onward_server.__file__, onward_deploy.__file__],
    "public": [name for name in onward.__all__ if getattr(onward, name) is None],
    "templates": template_names(),
    "path": str(templates_path("aws-lambda")),
}))
"""
    done = subprocess.run(
        [str(installed), "-I", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    home = str(installed.parents[1])
    assert all(file.startswith(home) for file in [*answer["files"], answer["path"]])
    assert answer["public"] == []
    assert answer["templates"] == sorted(p.name for p in (ROOT / "templates").iterdir())


def test_the_command_is_installed(installed: Path, tmp_path: Path) -> None:
    command = str(installed.parent / "onward")
    done = subprocess.run(
        [command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout
    assert "dev" in done.stdout


def test_every_public_name_is_there() -> None:
    assert len(set(onward.__all__)) == len(onward.__all__)
    for name in onward.__all__:
        assert getattr(onward, name) is not None, name
        assert name in dir(onward)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = onward.nonsense


def test_what_type_checkers_see_is_what_is_there() -> None:
    tree = ast.parse((ROOT / "runtime/onward/__init__.py").read_text())
    seen = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If):
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom):
                    seen |= {alias.asname or alias.name for alias in inner.names}
    assert seen == set(onward.__all__) - {"__version__"}


def test_the_version_is_said_once() -> None:
    assert onward.__version__ == PROJECT["version"]
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_each_supported_python_has_its_classifier() -> None:
    versions = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={versions[0]}"
