"""What happens where an optional dependency is not installed: one line that says what to type."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.packaging.test_distribution import PROJECT

#: Code, the extra that it needs, and the distribution of it that is missing.
CASES = {
    "the command line": ("deploy", "typer", "from onward_deploy.cli import main; main()"),
    "an orchestrator's API": (
        "server",
        "starlette",
        "import onward_server; onward_server.Orchestrator().asgi",
    ),
    "an orchestrator as a process": (
        "server",
        "starlette",
        "import runpy; runpy.run_module('onward_server', run_name='__main__', alter_sys=True)",
    ),
    "serving": (
        "server",
        "uvicorn",
        "import runpy; runpy.run_module('onward_server', run_name='__main__', alter_sys=True)",
    ),
    "encryption": (
        "encryption",
        "nacl",
        "from onward.middleware import EncryptionMiddleware as M; M('key')",
    ),
    "encryption by AES": (
        "encryption",
        "cryptography",
        "import onward.middleware as m; m.EncryptionMiddleware('k', strategy='onward/aes-256-gcm')",
    ),
    "spans": (
        "otel",
        "opentelemetry",
        "from onward.middleware import OpenTelemetryMiddleware as M; M()",
    ),
    "S3": ("aws", "boto3", "from onward.middleware import S3Store; S3Store('bucket')"),
}

#: Modules that are not called as the distribution that has them.
_DISTRIBUTIONS = {"nacl": "pynacl", "opentelemetry": "opentelemetry-api"}

#: A finder before all others: for it, the module is not installed.
_WITHOUT = """
import importlib.util, sys
sys.argv = ["onward", "--port", "0"]
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {module!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without())
found = importlib.util.find_spec
def find_spec(name, package=None):
    return None if name == {module!r} else found(name, package)
importlib.util.find_spec = find_spec
{code}
"""


@pytest.mark.parametrize("case", CASES)
def test_a_missing_extra_is_named_with_the_command_that_brings_it(case: str) -> None:
    extra, module, code = CASES[case]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(module=module, code=code)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    assert f"pip install 'onward[{extra}]'" in done.stderr.strip().splitlines()[-1]
    listed = " ".join(PROJECT["optional-dependencies"][extra])
    assert _DISTRIBUTIONS.get(module, module) in listed


def test_every_extra_is_tried_here() -> None:
    assert {extra for extra, _, _ in CASES.values()} == set(PROJECT["optional-dependencies"])
