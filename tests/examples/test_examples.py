"""Every other example in full, as its first lines say that it is started."""

from __future__ import annotations

import contextlib
import email
import hashlib
import json
import runpy
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

import onward
from onward_server.serving import Serving, listen
from tests.cli.command import onward as onward_command
from tests.cli.command import run_json
from tests.examples.conftest import EXAMPLES, Observed, uvicorn


def data_of(example: str, name: str, **changes: Any) -> dict[str, Any]:
    data = json.loads(EXAMPLES.joinpath(example, f"{name}.json").read_text(encoding="utf-8"))
    return {**data, **changes}


def run(example: str, function: str, data: dict[str, Any], *options: str) -> dict[str, Any]:
    target = f"examples/{example}/app.py:app"
    report = run_json(target, function, "--data", json.dumps(data), *options)
    assert (report["steps_repeated"], report["killed"]) == (0, 0)
    return report


def steps_of(report: dict[str, Any]) -> list[str]:
    return [step for row in report["timeline"] for step in row["steps"]]


def app_of(example: str) -> onward.App:
    """The example's app, loaded anew: nothing of another test is in it."""
    app = runpy.run_path(str(EXAMPLES / example / "app.py"), run_name=f"fresh_{example}")["app"]
    assert isinstance(app, onward.App)
    return app


@pytest.mark.parametrize(
    ("example", "function", "expected"),
    [
        ("airports", "nearest", (900, 10, 60)),
        ("ai_pipeline", "summarize", (600, 2, 5)),
        ("interactive", "import_contacts", (300, 1, 2)),
        ("advanced", "close_month", (300, 3, 10)),
        ("server", "find_duplicates", (None, 5, 30)),
        ("without_checkpointing", "remind", None),
    ],
)
def test_each_has_the_configuration_that_it_is_about(
    example: str, function: str, expected: tuple[float | None, int, float] | None
) -> None:
    app = app_of(example)
    found = app.functions[f"{app.id}-{function}"].checkpointing
    options = found and (found.max_runtime_s, found.buffered_steps, found.max_interval_s)
    assert options == expected


def test_ai_pipeline_summarizes_saves_and_says_what_it_is(tmp_path: Path) -> None:
    data = data_of("ai_pipeline", "article", out=str(tmp_path))
    report = run("ai_pipeline", "summarize", data)
    assert steps_of(report) == ["preprocess", "model", "postprocess", "save", "respond"]
    result = report["result"]
    sentences = result["summary"].removesuffix(".").split(". ")
    assert len(sentences) == data["sentences"]
    assert all(sentence in data["text"] for sentence in sentences)
    assert data["text"].index(sentences[0]) < data["text"].index(sentences[1])
    # The most frequent word of five letters and more: counted by hand, six times.
    assert result["keywords"][0] == "function"
    assert 0 < result["kept"] < 1
    assert "no language model was called" in result["model"]
    with contextlib.closing(sqlite3.connect(tmp_path / "summaries.sqlite")) as database:
        saved = database.execute("SELECT * FROM summary").fetchall()
    assert saved == [(report["run_id"], result["summary"], result["model"])]


async def test_ai_pipeline_responds_with_an_event_that_starts_others(
    observed: Observed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNGEST_DEV", observed.url)
    app = app_of("ai_pipeline")

    @app.function("reader", trigger=onward.Event("text/summary.ready"))
    async def reader(ctx: onward.Context) -> dict[str, Any]:
        heard.append(ctx.event.data)
        return {}

    heard: list[dict[str, Any]] = []
    with listen() as listener:
        async with Serving(onward.asgi.serve(app), listener) as serving:
            await observed.orchestrator.register(app.registration(f"{serving.url}/api/inngest"))
            data = data_of("ai_pipeline", "article", out=str(tmp_path))
            view = await observed.run("text/summary.requested", data)
            runs = [event.run_id for event in observed.trace if event.kind == "run.started"]
            assert len(runs) == 2
            await observed.orchestrator.result(runs[1])
    assert heard == [{"run": view.run_id, "summary": view.result["summary"]}]


def test_interactive_shows_every_mark_and_imports(tmp_path: Path) -> None:
    report = run(
        "interactive",
        "import_contacts",
        data_of("interactive", "contacts", out=str(tmp_path)),
    )
    assert report["result"] == {
        "status": "imported",
        "progress": [10, 25, 50, 90, 100],
        "contacts": 3,
        "duplicates": 1,
        "problems": [],
    }
    # Each step is confirmed before the next one; the last may go along with the answer.
    assert report["checkpoints"] >= report["steps"] - 1 == 8
    with contextlib.closing(sqlite3.connect(tmp_path / "contacts.sqlite")) as database:
        saved = database.execute("SELECT email, name FROM contact ORDER BY email").fetchall()
    assert saved == [
        ("ada@example.org", "Ada Lovelace"),
        ("alan@example.org", "Alan Turing"),
        ("grace@example.org", "Grace Hopper"),
    ]
    bar = json.loads((tmp_path / f"{report['run_id']}.json").read_text(encoding="utf-8"))
    assert bar == {"percent": 100, "message": "done"}


def test_interactive_returns_early_with_every_problem(tmp_path: Path) -> None:
    report = run(
        "interactive", "import_contacts", data_of("interactive", "invalid", out=str(tmp_path))
    )
    assert steps_of(report) == ["progress-10", "validate"]
    assert report["result"]["status"] == "rejected"
    assert report["result"]["progress"] == [10]
    assert report["result"]["problems"] == [
        "line 3: the name is empty",
        "line 4: 'grace at example.org' is no e-mail address",
    ]
    assert not (tmp_path / "contacts.sqlite").exists()


async def test_advanced_checkpoints_exactly_after_steps_3_and_6(
    observed: Observed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNGEST_DEV", observed.url)
    app = app_of("advanced")
    with listen() as listener:
        async with Serving(onward.asgi.serve(app), listener) as serving:
            await observed.orchestrator.register(app.registration(f"{serving.url}/api/inngest"))
            data = data_of("advanced", "march", out=str(tmp_path))
            view = await observed.run("books/month.ended", data)
    assert observed.told("checkpoint", "steps") == [
        ["read", "check", "balances"],
        ["trial balance", "profit", "closing entries"],
    ]
    # One call in all, and the seventh step's result came with its final answer.
    (ops,) = observed.told("call.ended", "ops")
    assert [(op["op"], op["name"]) for op in ops][:1] == [("StepRun", "statement")]
    assert [op["op"] for op in ops] == ["StepRun", "RunComplete"]
    assert view.result == {
        "turnover_cents": 535960 + 80000 + 8990,
        "profit_cents": 105000 - 80000 - 8990,
        "bookings": 4,
        "statement": str(tmp_path / "2024-03.md"),
    }
    statement = (tmp_path / "2024-03.md").read_text(encoding="utf-8").splitlines()
    assert "| asset:bank | 5,359.60 | 0.00 | 5,359.60 |" in statement
    assert "| income:sales | -1,050.00 | 1,050.00 | 0.00 |" in statement
    assert "| equity:retained earnings | 0.00 | -160.10 | -160.10 |" in statement


async def test_server_does_the_whole_job_in_one_invocation(
    observed: Observed, tmp_path: Path
) -> None:
    contents = {f"{n:02d}.txt": f"{n % 9:04d}" for n in range(36)}
    for name, content in contents.items():
        tmp_path.joinpath(name).write_text(content, encoding="utf-8")
    tmp_path.joinpath("empty").touch()
    tmp_path.joinpath("unlike any other").write_text("longer", encoding="utf-8")
    async with uvicorn("examples.server.app:asgi", observed.url) as url:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.put(f"{url}/api/inngest")
        assert answer.status_code == 200, answer.text
        view = await observed.run("files/duplicates.requested", {"root": str(tmp_path), "batch": 4})
    groups: dict[str, list[str]] = {}
    for name, content in contents.items():
        groups.setdefault(hashlib.sha256(content.encode()).hexdigest(), []).append(name)
    assert view.status == "Completed"
    assert view.result == {
        "files": 38,
        "hashed": 36,
        "wasted_bytes": 4 * (36 - 9),
        "groups": list(groups.values()),
        "unreadable": [],
    }
    # 11 steps, five in a checkpoint, the last one with the final answer of the only call.
    assert [len(steps) for steps in observed.told("checkpoint", "steps")] == [5, 5]
    assert len(observed.told("call.ended", "ops")) == 1


def test_server_names_a_directory_that_is_not_there(tmp_path: Path) -> None:
    data = json.dumps({"root": str(tmp_path / "gone")})
    done = onward_command(
        "run", "examples/server/app.py:app", "find_duplicates", "--data", data, "--json"
    )
    assert (done.status, done.json["status"]) == (1, "Failed")
    assert "is no directory on this server" in done.json["error"]["message"]


@pytest.mark.parametrize("paid", [False, True])
def test_without_checkpointing_each_step_is_a_call(paid: bool, tmp_path: Path) -> None:
    if paid:
        tmp_path.joinpath("payments.json").write_text('["2024-0017"]', encoding="utf-8")
    data = data_of("without_checkpointing", "invoice", out=str(tmp_path), grace="0.2s")
    report = run("without_checkpointing", "remind", data)
    steps = ["reminder", "paid?"] if paid else ["reminder", "paid?", "final notice"]
    assert steps_of(report) == steps
    # One for each step, one that answers the sleep, one that completes; and no checkpoint.
    assert report["invocations"] == len(steps) + 2
    assert report["checkpoints"] == 0
    assert all(len(row["steps"]) <= 1 for row in report["timeline"])
    assert report["result"]["paid"] is paid
    subjects = [
        email.message_from_bytes(Path(letter).read_bytes())["Subject"]
        for letter in report["result"]["letters"]
    ]
    assert (
        subjects
        == ["Reminder: invoice 2024-0017", "Final notice: invoice 2024-0017"][: len(steps) - 1]
    )


@pytest.mark.parametrize(
    ("example", "function", "data", "complaint"),
    [
        ("ai_pipeline", "summarize", {"text": " "}, "needs a text"),
        ("interactive", "import_contacts", {}, "needs csv, a text"),
        ("advanced", "close_month", {"month": "March", "bookings": []}, "like 2024-03"),
        (
            "advanced",
            "close_month",
            {"month": "2024-03", "bookings": [[["asset:bank", "1"]]]},
            "bookings that do not balance, by cents: {1: 100}",
        ),
        ("without_checkpointing", "remind", {"invoice": "../x", "email": "a@b.c"}, "invoice: give"),
    ],
)
def test_data_that_is_wrong_fails_at_once_and_says_why(
    example: str, function: str, data: dict[str, Any], complaint: str
) -> None:
    done = onward_command(
        "run", f"examples/{example}/app.py", function, "--data", json.dumps(data), "--json"
    )
    assert (done.status, done.json["status"]) == (1, "Failed")
    assert complaint in done.json["error"]["message"]
    assert done.json["invocations"] <= 2
