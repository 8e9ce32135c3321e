"""What `sam build` makes of this checkout answers in the emulator, by its URL and directly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import ROOT
from tests.support.rie import Rie
from tests.support.tools import require_tool


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = require_tool("make", how="apt-get install make")
    folder = tmp_path_factory.mktemp("a bundle")
    version = f"LAMBDA_PYTHON={sys.version_info.major}.{sys.version_info.minor}"
    done = subprocess.run(
        [make, "-s", "build-OnwardFunction", f"ARTIFACTS_DIR={folder}", version],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _through_the_url(method: str) -> dict[str, Any]:
    http = {"method": method, "path": "/api/inngest", "sourceIp": "127.0.0.1"}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/api/inngest",
        "rawQueryString": "",
        "headers": {"host": "abc.lambda-url.us-east-1.on.aws"},
        "requestContext": {"http": http, "timeEpoch": 1},
        "isBase64Encoded": False,
    }


def test_the_bundle_answers_by_url_and_directly(bundle: Path) -> None:
    with Rie("app.handler", bundle, timeout_s=20, env={"INNGEST_DEV": "1"}) as rie:
        by_url = rie.invoke(_through_the_url("GET")).json()
        assert by_url["statusCode"] == 200, rie.log()
        assert json.loads(by_url["body"])["function_count"] == 1
        direct = rie.invoke({"onward": "functions"}).json()
        assert "my-app-greet" in json.dumps(direct), rie.log()
        malformed = rie.invoke({"nonsense": True}).json()
        assert "nonsense" in json.dumps(malformed), rie.log()


def test_a_call_through_the_url_must_be_signed(bundle: Path) -> None:
    with Rie("app.handler", bundle, timeout_s=20) as rie:
        event = _through_the_url("POST")
        event["rawQueryString"] = "fnId=my-app-greet&stepId=step"
        event["body"] = json.dumps({"ctx": {}, "event": {}, "steps": {}})
        answer = rie.invoke(event).json()
    assert answer["statusCode"] == 401
