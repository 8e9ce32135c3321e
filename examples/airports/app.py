"""The nearest neighbours of every airport: a batch job that outlives its invocations.

    onward run examples/airports/app.py:app nearest --limit 2s

loads the 7,884 airports of the `airportsdata` package, finds for each of them its nearest
neighbours by great-circle distance, 200 airports a step, then aggregates, saves everything into
SQLite and writes a report. `--data` may hold any of these keys:

    {"chunk": 200, "neighbours": 3, "within_km": 250, "workers": 2,
     "out": "build/airports", "table": "my.csv"}

`table` is a CSV file with the columns iata, name, country, lat and lon; the packaged table is used
without it.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import heapq
import json
import math
import os
import sqlite3
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onward

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# The mean radius R1 of the Earth: Moritz, Geodetic Reference System 1980.
EARTH_RADIUS_KM = 6371.0088
# Airports that a worker thread takes at a time: an interrupted chunk ends within one such part.
PART = 25
# How many of the most remote airports the report lists.
LONELIEST = 10

app = onward.App("airports")


@dataclass(frozen=True)
class Job:
    """What the event asks for."""

    chunk: int = 200
    """Airports a step."""
    neighbours: int = 3
    """Neighbours to find for each airport."""
    within_km: int = 250
    """The radius in which to count other airports."""
    workers: int = min(4, os.cpu_count() or 1)
    """Threads that share a chunk. They speed it up where Python runs without its global lock."""
    out: str = ""
    """The directory of the database and the reports. Empty: see `output_directory`."""
    table: str = ""
    """A CSV file to read instead of the packaged table."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Job:
        """Read event data. Raises `NonRetriableError` for an unknown key or a bad value."""
        asked = {key: value for key, value in data.items() if not key.startswith("_")}
        known = {field.name: field.type for field in fields(cls)}
        for key, value in asked.items():
            if key not in known:
                raise onward.NonRetriableError(
                    f"the event's data has {key!r}, which this job does not know; "
                    f"it knows {', '.join(known)}"
                )
            if known[key] == "int" and (type(value) is not int or value < 1):
                raise onward.NonRetriableError(f"{key}: give a whole number above 0, not {value!r}")
            if known[key] == "str" and not isinstance(value, str):
                raise onward.NonRetriableError(f"{key}: give a path, not {value!r}")
        return cls(**asked)


@dataclass(frozen=True)
class Airport:
    """A row of the table; `vector` is its place on the unit sphere."""

    iata: str
    name: str
    country: str
    vector: tuple[float, float, float]


@dataclass(frozen=True)
class Table:
    """The airports by IATA code, and a checksum of all that the results depend on."""

    airports: tuple[Airport, ...]
    checksum: str


@dataclass(frozen=True)
class Loaded:
    """What the step "load" leaves in the journal: a few words, never the table itself."""

    airports: int
    checksum: str
    source: str
    out: str


@dataclass(frozen=True)
class Neighbourhood:
    """The nearest airports with their distance in km; how many others are `within_km`."""

    near: dict[str, float]
    within: int


@dataclass(frozen=True)
class Distance:
    """Two airports and the distance between them."""

    airport: str
    name: str
    neighbour: str
    km: float


@dataclass(frozen=True)
class Crowd:
    """The airport that has most others within the radius, and how many."""

    airport: str
    name: str
    others: int


@dataclass(frozen=True)
class Summary:
    """What the whole table comes to. `loneliest` starts with the most remote."""

    airports: int
    pairs: int
    median_km: float
    loneliest: list[Distance]
    closest: Distance | None
    same_place: list[list[str]]
    crowded: Crowd


@dataclass(frozen=True)
class Outcome:
    """The figures that stand out, and the paths of what was written."""

    airports: int
    pairs: int
    farthest: Distance
    closest: Distance | None
    crowded: Crowd
    database: str
    report: str


@app.function(
    "nearest",
    trigger=onward.Event("airports/nearest.requested"),
    checkpointing=onward.Checkpointing(max_runtime="15m", buffered_steps=10, max_interval="60s"),
)
def nearest(ctx: onward.BlockingContext) -> Outcome:
    """Load, chunk by chunk find the neighbours, aggregate, save, report."""
    job = Job.of(ctx.event.data)
    loaded = ctx.step.run("load", load, job)
    chunks: dict[str, Neighbourhood] = {}
    for start in range(0, loaded.airports, job.chunk):
        # A step's id says what it computed: another chunk size never takes up old results.
        stop = min(start + job.chunk, loaded.airports)
        chunks |= ctx.step.run(
            f"nearest {job.neighbours} of {start}-{stop}", nearest_of, job, loaded, start, stop
        )
    summary = ctx.step.run("aggregate", aggregate, job, loaded, chunks)
    database = ctx.step.run("save", save, loaded, ctx.run_id, chunks, summary)
    report = ctx.step.run("report", write_report, job, loaded, ctx.run_id, summary)
    return Outcome(
        airports=summary.airports,
        pairs=summary.pairs,
        farthest=summary.loneliest[0],
        closest=summary.closest,
        crowded=summary.crowded,
        database=database,
        report=report,
    )


# The bodies of the steps. Each can run again, in another process, at any time: it takes what it
# needs from its arguments and from the table, which every process reads once for itself.


def load(job: Job) -> Loaded:
    """Read the table and fix what must stay the same for the whole run."""
    table = read_table(job.table)
    source = job.table or f"airportsdata {_packaged_version()}"
    return Loaded(len(table.airports), table.checksum, source, str(output_directory(job.out)))


def nearest_of(job: Job, loaded: Loaded, start: int, stop: int) -> dict[str, Neighbourhood]:
    """The neighbourhoods of the airports `start` to `stop`, computed by `job.workers` threads."""
    airports = _same_table(job, loaded).airports
    parts = [range(first, min(first + PART, stop)) for first in range(start, stop, PART)]
    pool = ThreadPoolExecutor(job.workers)
    try:
        found = pool.map(lambda part: neighbourhoods(airports, part, job), parts)
        return {iata: neighbourhood for part in found for iata, neighbourhood in part}
    finally:
        # Interrupted at the deadline, the chunk must end now, not after the parts in the queue.
        pool.shutdown(wait=False, cancel_futures=True)


def neighbourhoods(
    airports: tuple[Airport, ...], indices: Iterable[int], job: Job
) -> list[tuple[str, Neighbourhood]]:
    """Compare each of the airports at `indices` with all others.

    The dot product of two unit vectors is the cosine of the angle between them, so the nearest
    neighbour is the one with the largest. Airports at the same distance come in order of code.
    """
    vectors = [airport.vector for airport in airports]
    cosine = math.cos(min(job.within_km / EARTH_RADIUS_KM, math.pi))
    found: list[tuple[str, Neighbourhood]] = []
    for index in indices:
        ax, ay, az = vectors[index]
        closeness = [ax * x + ay * y + az * z for x, y, z in vectors]
        closeness[index] = -math.inf
        best = heapq.nlargest(job.neighbours, range(len(closeness)), key=closeness.__getitem__)
        near = {
            airports[other].iata: kilometres(vectors[index], vectors[other])
            for other in best
            if other != index
        }
        within = len([value for value in closeness if value >= cosine])
        found.append((airports[index].iata, Neighbourhood(near, within)))
    return found


def kilometres(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """The great-circle distance of two unit vectors in km, to 10 m, from the chord between them."""
    return round(2 * EARTH_RADIUS_KM * math.asin(min(math.dist(one, other) / 2, 1)), 2)


def by_distance(neighbourhood: Neighbourhood) -> list[tuple[str, float]]:
    """The nearest airports as (code, km), nearest first. JSON objects promise no order."""
    return sorted(neighbourhood.near.items(), key=lambda pair: (pair[1], pair[0]))


def aggregate(job: Job, loaded: Loaded, chunks: dict[str, Neighbourhood]) -> Summary:
    """Sum up all neighbourhoods."""
    names = {airport.iata: airport.name for airport in _same_table(job, loaded).airports}
    nearest_first = sorted(
        (km, iata, neighbour)
        for iata, neighbourhood in chunks.items()
        for neighbour, km in by_distance(neighbourhood)[:1]
    )
    distances = [_distance(names, *pair) for pair in nearest_first]
    crowded = min(chunks, key=lambda iata: (-chunks[iata].within, iata))
    return Summary(
        airports=len(chunks),
        pairs=sum(len(neighbourhood.near) for neighbourhood in chunks.values()),
        median_km=round(statistics.median(km for km, _, _ in nearest_first), 2),
        loneliest=distances[: -LONELIEST - 1 : -1],
        closest=next((pair for pair in distances if pair.km > 0), None),
        same_place=[[one, other] for km, one, other in nearest_first if not km and one < other],
        crowded=Crowd(crowded, names[crowded], chunks[crowded].within),
    )


def save(loaded: Loaded, run_id: str, chunks: dict[str, Neighbourhood], summary: Summary) -> str:
    """Write everything in one transaction. Again: replaces this run's rows with the same rows."""
    path = Path(loaded.out, "airports.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS run (run_id TEXT PRIMARY KEY, source TEXT NOT NULL,"
            " checksum TEXT NOT NULL, summary TEXT NOT NULL)"
        )
        database.execute(
            "CREATE TABLE IF NOT EXISTS neighbour (run_id TEXT, airport TEXT, place INTEGER,"
            " neighbour TEXT NOT NULL, km REAL NOT NULL,"
            " PRIMARY KEY (run_id, airport, place)) WITHOUT ROWID"
        )
        database.execute(
            "INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?)",
            (run_id, loaded.source, loaded.checksum, json.dumps(asdict(summary))),
        )
        database.executemany(
            "INSERT OR REPLACE INTO neighbour VALUES (?, ?, ?, ?, ?)", _rows(run_id, chunks)
        )
    return str(path)


def write_report(job: Job, loaded: Loaded, run_id: str, summary: Summary) -> str:
    """Write the report as Markdown and return its path. It is there whole or not at all."""
    lonely = "\n".join(
        f"| {place} | {pair.airport} {pair.name} | {pair.neighbour} | {pair.km:,.1f} |"
        for place, pair in enumerate(summary.loneliest, 1)
    )
    crowd, pair = summary.crowded, summary.closest
    closest = f"{pair.airport} and {pair.neighbour}, {pair.km} km" if pair else "none"
    same_place = ", ".join(" and ".join(codes) for codes in summary.same_place) or "none"
    text = f"""\
# Nearest airports

{summary.airports:,} airports from {loaded.source} (checksum {loaded.checksum}), \
{summary.pairs:,} neighbours.

- The median airport's nearest neighbour is {summary.median_km:,.1f} km away.
- Closest pair: {closest}.
- At the very same place: {same_place}.
- Most crowded: {crowd.airport} {crowd.name}, with {crowd.others} others within \
{job.within_km} km.

| | farthest from any neighbour | nearest neighbour | km |
|---|---|---|---|
{lonely}
"""
    path = Path(loaded.out, f"{run_id}.md")
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
    return str(path)


# The table, read once a process.


@functools.lru_cache(maxsize=1)
def read_table(path: str) -> Table:
    """Read the CSV file at `path`, or the packaged table if it is empty.

    Raises `NonRetriableError` for a file that is missing, has no such columns, or names an
    airport twice.
    """
    airports = sorted(_csv_rows(path) if path else _packaged_rows(), key=lambda row: row.iata)
    if len({airport.iata for airport in airports}) < max(len(airports), 2):
        raise onward.NonRetriableError(f"{path}: give at least two airports, and each only once")
    content = "\n".join(f"{airport.iata} {airport.vector}" for airport in airports)
    return Table(tuple(airports), hashlib.sha256(content.encode()).hexdigest()[:16])


def unit_vector(latitude: float, longitude: float) -> tuple[float, float, float]:
    """The point on the unit sphere at these degrees. Raises `ValueError` out of their ranges."""
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):  # noqa: PLR2004 (degrees)
        raise ValueError(f"latitude {latitude}, longitude {longitude} is no place on Earth")
    phi, lam = math.radians(latitude), math.radians(longitude)
    return math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)


def output_directory(asked: str) -> Path:
    """Create the output directory and return its absolute path.

    Without one asked for it is `build/airports`, or a directory for temporary files on AWS Lambda,
    where nothing else can be written; give a shared file system's there to keep the results.
    """
    on_lambda = "AWS_LAMBDA_FUNCTION_NAME" in os.environ
    default = Path(tempfile.gettempdir() if on_lambda else "build", "airports")
    path = (Path(asked) if asked else default).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def _same_table(job: Job, loaded: Loaded) -> Table:
    table = read_table(job.table)
    if table.checksum != loaded.checksum:
        raise onward.NonRetriableError(
            f"{loaded.source} changed while the run was going on (checksum {table.checksum}, "
            f"at first {loaded.checksum}); start a new run"
        )
    return table


def _packaged_version() -> str:
    import airportsdata

    return airportsdata.__version__


def _packaged_rows() -> Iterator[Airport]:
    import airportsdata

    for row in airportsdata.load("IATA").values():
        place = unit_vector(row["lat"], row["lon"])
        yield Airport(row["iata"], row["name"], row["country"], place)


def _csv_rows(path: str) -> Iterator[Airport]:
    line = 0
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            for row in rows:
                line = rows.line_num
                place = unit_vector(float(row["lat"]), float(row["lon"]))
                yield Airport(row["iata"], row["name"], row["country"], place)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise onward.NonRetriableError(
            f"{path}, line {line}: {type(error).__name__}: {error}; give a CSV file with the "
            "columns iata, name, country, lat and lon (degrees)",
            cause=error,
        ) from error


def _distance(names: Mapping[str, str], km: float, iata: str, neighbour: str) -> Distance:
    return Distance(iata, names[iata], neighbour, km)


def _rows(
    run_id: str, chunks: Mapping[str, Neighbourhood]
) -> Iterator[tuple[str, str, int, str, float]]:
    for iata, neighbourhood in chunks.items():
        for place, (neighbour, km) in enumerate(by_distance(neighbourhood), 1):
            yield run_id, iata, place, neighbour, km
