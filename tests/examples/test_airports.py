"""The airports example in full: `onward run` with a limit, real processes, real kills."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import random
import sqlite3
from pathlib import Path
from typing import Any

import airportsdata
import pytest

from examples.airports import app
from tests.cli.command import onward, run_json

APP = "examples/airports/app.py:app"
AIRPORTS: dict[str, Any] = dict(airportsdata.load("IATA"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("airports")
    return run_json(APP, "nearest", "--limit", "2s", "--data", json.dumps({"out": str(out)}))


def rows(report: dict[str, Any], query: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(report["result"]["database"])) as database:
        return database.execute(query, {"run": report["run_id"]}).fetchall()


def haversine_km(one: str, other: str) -> float:
    """Another formula than the example's, straight from the degrees in the table."""
    lat1, lon1, lat2, lon2 = (
        math.radians(AIRPORTS[iata][key]) for iata in (one, other) for key in ("lat", "lon")
    )
    h = math.sin((lat2 - lat1) / 2) ** 2
    h += math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * 6371.0088 * math.asin(math.sqrt(h))


@pytest.mark.slow  # with the run that the next tests look at
def test_it_outlives_its_invocations_and_repeats_nothing(report: dict[str, Any]) -> None:
    chunks = math.ceil(len(AIRPORTS) / 200)
    assert report["status"] == "Completed"
    assert report["steps"] == chunks + 4
    assert (report["steps_repeated"], report["repeated"], report["killed"]) == (0, [], 0)
    assert report["invocations"] > 1
    assert report["continuations"] == report["invocations"] - 1
    assert all(row["margin_ms"] > 0 for row in report["timeline"])
    done = [step for row in report["timeline"] for step in row["steps"]]
    assert done[0] == "load"
    assert done[1:3] == ["nearest 3 of 0-200", "nearest 3 of 200-400"]
    assert done[-3:] == ["aggregate", "save", "report"]


def test_a_sample_agrees_with_brute_force(report: dict[str, Any]) -> None:
    sample = random.Random(20).sample(sorted(AIRPORTS), 25)
    sample += ["BSL", "IPC", report["result"]["crowded"]["airport"]]
    for iata in sample:
        saved = rows(
            report,
            "SELECT neighbour, km FROM neighbour WHERE run_id = :run"
            f" AND airport = '{iata}' ORDER BY place",
        )
        distances = {other: haversine_km(iata, other) for other in AIRPORTS if other != iata}
        nearest = sorted(distances.values())[:3]
        assert [km for _, km in saved] == pytest.approx(nearest, abs=0.006)
        assert [distances[other] for other, _ in saved] == pytest.approx(nearest, abs=0.006)


def test_the_most_crowded_and_the_farthest_agree_with_the_table(report: dict[str, Any]) -> None:
    crowded, farthest = report["result"]["crowded"], report["result"]["farthest"]
    around = [haversine_km(crowded["airport"], other) for other in AIRPORTS]
    assert sum(km <= 250 for km in around) == crowded["others"] + 1  # itself
    assert crowded["name"] == AIRPORTS[crowded["airport"]]["name"]
    others = (haversine_km(farthest["airport"], o) for o in AIRPORTS if o != farthest["airport"])
    assert farthest["km"] == pytest.approx(min(others), abs=0.006)
    top = rows(report, "SELECT max(km) FROM neighbour WHERE run_id = :run AND place = 1")
    assert top == [(farthest["km"],)]


def test_everything_is_in_the_database(report: dict[str, Any]) -> None:
    counts = rows(
        report,
        "SELECT airport, count(*), min(place), max(place) FROM neighbour WHERE run_id = :run"
        " GROUP BY airport",
    )
    assert {iata for iata, *_ in counts} == set(AIRPORTS)
    assert {tuple(numbers) for _, *numbers in counts} == {(3, 1, 3)}
    assert report["result"]["pairs"] == 3 * len(AIRPORTS)
    ((source, summary),) = rows(report, "SELECT source, summary FROM run WHERE run_id = :run")
    assert source == f"airportsdata {airportsdata.__version__}"
    assert json.loads(summary)["crowded"] == report["result"]["crowded"]


def test_the_report_says_the_same(report: dict[str, Any]) -> None:
    result = report["result"]
    path = Path(result["report"])
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# Nearest airports\n\n{len(AIRPORTS):,} airports from airportsdata")
    assert f"Closest pair: {result['closest']['airport']} and" in text
    assert f"| 1 | {result['farthest']['airport']} {result['farthest']['name']} |" in text
    # Nothing half written is left beside what the result names.
    assert {entry.name for entry in path.parent.iterdir()} == {
        path.name,
        Path(result["database"]).name,
    }


@pytest.mark.slow
def test_killed_in_the_middle_it_comes_to_the_same_result(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        columns = ("iata", "name", "country", "lat", "lon")
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(AIRPORTS[iata] for iata in sorted(AIRPORTS)[:6_000])
    data = {"chunk": 60, "out": str(tmp_path), "table": str(table)}
    killed = run_json(APP, "nearest", "--limit", "1.5s", "--late", "1s", "--data", json.dumps(data))
    assert killed["status"] == "Completed"
    assert killed["killed"] >= 1
    # Each kill costs what no checkpoint had confirmed, at most a buffer of ten steps.
    assert 1 <= killed["steps_repeated"] <= 10 * killed["killed"]
    job = app.Job.of(data)
    undisturbed = app.nearest_of(job, app.load(job), 0, 6_000)
    saved = rows(killed, "SELECT airport, place, neighbour, km FROM neighbour WHERE run_id = :run")
    assert sorted(saved) == sorted(
        (iata, place, neighbour, km)
        for iata, neighbourhood in undisturbed.items()
        for place, (neighbour, km) in enumerate(app.by_distance(neighbourhood), 1)
    )


def test_wrong_data_ends_the_run_before_its_first_step() -> None:
    done = onward("run", APP, "nearest", "--data", '{"neighbors": 3}', "--json")
    assert done.status == 1
    assert done.json["status"] == "Failed"
    assert (done.json["steps"], done.json["invocations"]) == (0, 1)
    assert "'neighbors', which this job does not know" in done.json["error"]["message"]


def test_without_json_it_ends_with_the_line_that_sums_it_up(tmp_path: Path) -> None:
    table = tmp_path / "two.csv"
    table.write_text("iata,name,country,lat,lon\nONE,One,XX,0,0\nTWO,Two,XX,0,1\n")
    data = json.dumps({"out": str(tmp_path), "table": str(table)})
    done = onward("run", APP, "nearest", "--data", data)
    assert done.status == 0, done
    assert done.last_line.startswith("5 steps, 0 repeated, 1 invocation, 0 killed; report in ")
    assert Path(done.last_line.partition("report in ")[2]).is_file()
