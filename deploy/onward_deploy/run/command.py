"""`onward run`: a throw-away orchestrator, the function in a worker process, one run."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from onward.core.durations import format_duration, parse_duration
from onward_deploy.errors import EXIT_FAILED, EXIT_OK, UsageError
from onward_deploy.loading import parse_target
from onward_deploy.output import console, print_json
from onward_deploy.run.ledger import Ledger
from onward_deploy.run.process import WorkerSpec
from onward_deploy.run.progress import Progress, progress_for
from onward_deploy.run.report import Invocation, Report
from onward_deploy.run.supervisor import Supervisor
from onward_server.serving import Serving, listen, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from onward_server import Orchestrator, RunView, TraceEvent

#: AWS Lambda's maximum, in seconds; the limit where `--limit` does not say.
MAX_LIMIT_S = 900.0
#: What starts a function that no event triggers.
START_EVENT = "onward/run"
#: Retries come soon: somebody is waiting for the run.
RETRY_BASE_S, RETRY_MAX_S = 0.1, 2.0
TICK_S = 0.1

#: Where else the runtime could be told to look for an orchestrator, or to sign for one.
_OTHER_ORCHESTRATORS = (
    "INNGEST_BASE_URL",
    "INNGEST_API_BASE_URL",
    "INNGEST_EVENT_API_BASE_URL",
    "INNGEST_SIGNING_KEY",
    "INNGEST_SIGNING_KEY_FALLBACK",
    "INNGEST_EVENT_KEY",
    "INNGEST_ENV",
)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `onward run` was asked for. `limit` and `late` are durations, as text."""

    target: str
    function: str
    data: dict[str, Any]
    limit: str | None = None
    late: str | None = None
    as_json: bool = False

    def seconds(self) -> tuple[float, float]:
        """`limit` and `late` in seconds. Raises DurationError, UsageError for what cannot work."""
        limit = MAX_LIMIT_S if self.limit is None else parse_duration(self.limit, what="--limit")
        late = 0.0 if self.late is None else parse_duration(self.late, what="--late")
        if limit == 0:
            raise UsageError("--limit is 0, which leaves no time at all. Write such as 2s or 15m.")
        if late and self.limit is None:
            raise UsageError(
                "--late makes invocations outlive a limit, and there is none. Add such as"
                " `--limit 2s`."
            )
        if limit + late > MAX_LIMIT_S:
            raise UsageError(
                f"--limit and --late come to {format_duration(limit + late)}. No platform gives an"
                f" invocation more than {format_duration(MAX_LIMIT_S)}, AWS Lambda's maximum, and"
                " the runtime would not believe it. Write less; a run may take much longer."
            )
        return limit, late


def run(options: RunOptions) -> int:
    """Run once and print what happened. Returns the exit status.

    Raises UsageError, DurationError, WorkerError; KeyboardInterrupt on Ctrl-C.
    """
    progress = progress_for(as_json=options.as_json)
    with progress:
        report = asyncio.run(execute(options, progress))
    if options.as_json:
        print_json(report.as_json())
    else:
        from onward_deploy.run.timeline import print_report

        print_report(console(), report)
    return EXIT_OK if report.completed else EXIT_FAILED


def worker_environment(url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with the orchestrator at `url` as the only one that the runtime can find."""
    kept = {key: value for key, value in environment.items() if key not in _OTHER_ORCHESTRATORS}
    return {**kept, "INNGEST_DEV": url}


#: The fields of a registration that keep runs from starting at once.
_FLOW_CONTROL = frozenset(
    {
        "batchEvents",
        "concurrency",
        "debounce",
        "idempotency",
        "priority",
        "rateLimit",
        "singleton",
        "throttle",
    }
)


def choose(registration: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The function that the user calls `name`, from an app's registration.

    Raises UsageError that lists the functions there are.
    """
    app = registration["appName"]
    by_id: dict[str, dict[str, Any]] = {entry["id"]: entry for entry in registration["functions"]}
    found = by_id.get(f"{app}-{name}") or by_id.get(name)
    if found is not None:
        return found
    known = [id_.removeprefix(f"{app}-") for id_ in by_id]
    if not known:
        raise UsageError(
            f"The app {app!r} has no functions. Register one with"
            f' @app.function("{name}", trigger=onward.Event("…")) in the module that was named.'
        )
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"The app {app!r} has no function {name!r}. It has: {', '.join(known)}.{hint}")


def alone(registration: Mapping[str, Any], function: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A registration in which one event starts `function` at once; and that event's name.

    Other functions run only where this one invokes them; neither an expression nor flow control
    keeps it from starting.
    """
    events = [trigger["event"] for trigger in function["triggers"] if trigger.get("event")]
    name = events[0] if events and not events[0].endswith("*") else START_EVENT
    only = {**_at_once(function), "triggers": [{"event": name}]}
    others = [
        {**_at_once(other), "triggers": []}
        for other in registration["functions"]
        if other["id"] != function["id"]
    ]
    return {**registration, "functions": [only, *others]}, name


def _at_once(function: dict[str, Any]) -> dict[str, Any]:
    """`function` without what makes its runs wait, or not start."""
    return {key: value for key, value in function.items() if key not in _FLOW_CONTROL}


async def execute(options: RunOptions, progress: Progress) -> Report:
    """Start everything, wait for the run to end, stop everything.

    Raises UsageError for an app or a function that is not there, WorkerError when the first worker
    ends before it could serve.
    """
    limit, late = options.seconds()
    target = str(parse_target(options.target))
    listener = listen()
    url = url_of(listener)
    progress.starting(target)
    with TemporaryDirectory(prefix="onward-run-") as scratch, _terminable(), listener:
        ledger = Ledger(Path(scratch, "ledger.jsonl"))
        environment = worker_environment(url, os.environ)
        spec = WorkerSpec(target, ledger.path, environment, progress.output)
        supervisor = Supervisor(spec, limit=limit, late=late, changed=progress.changed)
        try:
            registration = await supervisor.start()
            function = choose(registration, options.function)
            report = Report(
                registration["appName"],
                function["id"],
                ledger,
                limit,
                limited=options.limit is not None,
                invocations=supervisor.invocations,
            )
            only, event = alone(registration, function)
            async with _orchestrator() as orchestrator, Serving(orchestrator.asgi, listener):
                await orchestrator.register(only, supervisor)
                orchestrator.subscribe(lambda trace: _note(trace, supervisor.invocations))
                supervisor.begin()
                await _one_run(
                    orchestrator, {"name": event, "data": options.data}, report, progress
                )
        finally:
            await supervisor.stop()
        ledger.refresh()
    return report


async def _one_run(
    orchestrator: Orchestrator, event: dict[str, Any], report: Report, progress: Progress
) -> None:
    began = time.monotonic()
    event_ids = await orchestrator.send([event])
    report.run_id = (await orchestrator.runs_of(event_ids[0]))[0]
    progress.begin(report)
    ticking = asyncio.create_task(_tick(progress))
    try:
        view = await orchestrator.result(report.run_id)
    finally:
        ticking.cancel()
    report.wall = time.monotonic() - began
    _take(view, report)


def _take(view: RunView, report: Report) -> None:
    report.status = view.status
    report.result = view.result
    report.error = view.error


async def _tick(progress: Progress) -> None:
    while True:
        progress.tick()
        await asyncio.sleep(TICK_S)


def _note(trace: TraceEvent, invocations: list[Invocation]) -> None:
    """Count a checkpoint where it came from."""
    if trace.kind != "checkpoint":
        return
    for one in reversed(invocations):
        if one.request_id == trace.data["request_id"]:
            one.checkpoints += 1
            return


@contextlib.asynccontextmanager
async def _orchestrator() -> AsyncIterator[Orchestrator]:
    from onward_server import Orchestrator, Settings

    settings = Settings(retry_base_s=RETRY_BASE_S, retry_max_s=RETRY_MAX_S)
    orchestrator = Orchestrator(db=":memory:", settings=settings)
    await orchestrator.start()
    try:
        yield orchestrator
    finally:
        await orchestrator.stop()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does: everything is stopped on the way out."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is None:
        raise RuntimeError("There is no task to cancel.")
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
