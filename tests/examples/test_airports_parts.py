"""The parts of the airports example that need no run: its input, its table, its geometry."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import onward
from examples.airports import app as airports

CSV = """\
iata,name,country,lat,lon
NUL,Null Island,XX,0,0
EAS,One degree east,XX,0,1
NOR,Two degrees north,XX,2,0
TWN,Null Island again,XX,0,0
FAR,The other side,XX,0,180
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "places.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, airports.Job()),
        ({"chunk": 50, "neighbours": 5}, airports.Job(chunk=50, neighbours=5)),
        ({"out": "here", "_inngest": {"cron": "x"}}, airports.Job(out="here")),
    ],
)
def test_event_data_becomes_a_job(data: dict[str, Any], expected: airports.Job) -> None:
    assert airports.Job.of(data) == expected


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"neighbors": 3}, "'neighbors', which this job does not know; it knows chunk, neighbours"),
        ({"chunk": 0}, "chunk: give a whole number above 0, not 0"),
        ({"chunk": True}, "chunk: give a whole number above 0, not True"),
        ({"neighbours": 2.5}, "neighbours: give a whole number above 0, not 2.5"),
        ({"table": 7}, "table: give a path, not 7"),
    ],
)
def test_event_data_that_is_wrong_is_named(data: dict[str, Any], complaint: str) -> None:
    with pytest.raises(onward.NonRetriableError) as caught:
        airports.Job.of(data)
    assert complaint in str(caught.value)


def test_neighbours_of_known_places(table: Path, tmp_path: Path) -> None:
    job = airports.Job(neighbours=2, within_km=120, out=str(tmp_path), table=str(table))
    loaded = airports.load(job)
    found = airports.nearest_of(job, loaded, 0, loaded.airports)
    # A degree of a great circle: 2 pi R1 / 360 = 111.19508 km.
    assert list(found) == ["EAS", "FAR", "NOR", "NUL", "TWN"]
    assert found["NUL"] == airports.Neighbourhood({"TWN": 0, "EAS": 111.2}, 2)
    # NUL and TWN are equally near: in order of code.
    assert list(found["EAS"].near) == ["NUL", "TWN"]
    assert found["NOR"] == airports.Neighbourhood({"NUL": 222.39, "TWN": 222.39}, 0)
    assert found["FAR"].near == {"NOR": 19792.72, "EAS": 19903.92}


def test_no_more_neighbours_than_there_are(table: Path, tmp_path: Path) -> None:
    job = airports.Job(neighbours=50, out=str(tmp_path), table=str(table))
    loaded = airports.load(job)
    found = airports.nearest_of(job, loaded, 0, loaded.airports)
    assert {len(place.near) for place in found.values()} == {4}
    assert all(iata not in place.near for iata, place in found.items())


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    alone = airports.Job(workers=1, out=str(tmp_path))
    together = airports.Job(workers=8, out=str(tmp_path))
    loaded = airports.load(alone)
    assert loaded.airports > 7_000
    assert airports.nearest_of(alone, loaded, 90, 190) == airports.nearest_of(
        together, loaded, 90, 190
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("iata,name,country,lat\nABC,x,XX,1\n", "line 2: KeyError: 'lon'"),
        ("iata,name,country,lat,lon\nABC,x,XX,1,2\nDEF,y,XX,north,2\n", "line 3: ValueError"),
        ("iata,name,country,lat,lon\nABC,x,XX,91,2\n", "latitude 91.0, longitude 2.0 is no place"),
        ("iata,name,country,lat,lon\nABC,x,XX,1\n", "line 2: TypeError"),
        ("iata,name,country,lat,lon\nABC,x,XX,1,2\nABC,y,XX,3,4\n", "each only once"),
        ("iata,name,country,lat,lon\nABC,x,XX,1,2\n", "at least two airports"),
        (None, "line 0: FileNotFoundError"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(
    content: str | None, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "places.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(onward.NonRetriableError) as caught:
        airports.read_table(str(path))
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


def test_a_table_that_changes_under_the_run_ends_it(table: Path, tmp_path: Path) -> None:
    job = airports.Job(out=str(tmp_path), table=str(table))
    loaded = airports.load(job)
    table.write_text(CSV.replace("EAS,One degree east,XX,0,1", "EAS,Moved,XX,0,9"))
    airports.read_table.cache_clear()  # as in another process
    with pytest.raises(onward.NonRetriableError, match="changed while the run was going on"):
        airports.nearest_of(job, loaded, 0, 5)


def test_saving_again_changes_nothing_and_other_runs_stay(table: Path, tmp_path: Path) -> None:
    job = airports.Job(out=str(tmp_path), table=str(table))
    loaded = airports.load(job)
    chunks = airports.nearest_of(job, loaded, 0, loaded.airports)
    summary = airports.aggregate(job, loaded, chunks)
    path = airports.save(loaded, "first", chunks, summary)
    for _ in range(2):
        assert airports.save(loaded, "second", chunks, summary) == path
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT run_id, count(*) FROM neighbour GROUP BY run_id").fetchall()
        assert rows == [("first", 15), ("second", 15)]
        assert database.execute("SELECT count(*) FROM run").fetchone() == (2,)


def test_the_summary_names_the_extremes(table: Path, tmp_path: Path) -> None:
    job = airports.Job(neighbours=1, within_km=120, out=str(tmp_path), table=str(table))
    loaded = airports.load(job)
    summary = airports.aggregate(job, loaded, airports.nearest_of(job, loaded, 0, 5))
    assert summary.airports == summary.pairs == 5
    assert summary.loneliest[0] == airports.Distance("FAR", "The other side", "NOR", 19792.72)
    assert summary.closest == airports.Distance("EAS", "One degree east", "NUL", 111.2)
    assert summary.same_place == [["NUL", "TWN"]]
    assert summary.crowded == airports.Crowd("EAS", "One degree east", 2)


def test_the_default_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    assert airports.output_directory("") == tmp_path / "build" / "airports"
    assert airports.output_directory("elsewhere") == tmp_path / "elsewhere"
    assert (tmp_path / "elsewhere").is_dir()
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "nearest")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    assert airports.output_directory("") == tmp_path / "tmp" / "airports"
