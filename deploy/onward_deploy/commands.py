"""The commands of `onward` and their options; each imports what it does only when it is called."""

from __future__ import annotations

from typing import Annotated

import typer

from onward_deploy.errors import EXIT_FAILED, EXIT_OK
from onward_deploy.output import read_data, reporting

app = typer.Typer(
    name="onward",
    help="Run, serve and watch functions that outlive their invocation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs = typer.Typer(help="List, show and cancel runs.", no_args_is_help=True)
app.add_typer(runs, name="runs")

Target = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:APP",
        help="The app: [bold]orders.main:app[/bold] or [bold]orders/main.py:app[/bold];"
        " `:app` may be left out.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="JSON|@FILE", help="The event's data; @- reads standard input."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The orchestrator: an Inngest server or `onward dev`. Without it INNGEST_DEV,"
        " INNGEST_BASE_URL, or http://127.0.0.1:8288.",
    ),
]


@app.command(
    "run",
    no_args_is_help=True,
    help="Start a run locally and wait for it.\n\nThe function gets a process of its own, which is"
    " killed at the limit as a platform would. Exit status: 0 completed, 1 failed, 2 bad usage.",
)
def run_command(
    target: Target,
    function: Annotated[str, typer.Argument(metavar="FUNCTION", help="The function's id.")],
    *,
    data: Data = None,
    limit: Annotated[
        str | None,
        typer.Option("--limit", metavar="DURATION", help="Kill each invocation after this. [15m]"),
    ] = None,
    late: Annotated[
        str | None,
        typer.Option(
            "--late",
            metavar="DURATION",
            help="Let invocations believe that they have this much more time, so that they are"
            " killed.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """`onward run`."""
    from onward_deploy.run.command import RunOptions, run

    with reporting(as_json=as_json):
        options = RunOptions(target, function, read_data(data), limit, late, as_json=as_json)
        raise typer.Exit(run(options))


@app.command(
    "dev",
    no_args_is_help=True,
    help="Serve an app beside an orchestrator, and log its runs as they happen.\n\nWith --json the"
    " log is one JSON object a line.",
)
def dev_command(
    target: Target,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8288,
    db: Annotated[
        str | None, typer.Option(metavar="FILE", help="Keep runs here. Without it, in memory.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """`onward dev`."""
    from onward_deploy.dev.command import DevOptions, dev

    with reporting(as_json=as_json):
        raise typer.Exit(dev(DevOptions(target, host, port, db, as_json=as_json)))


@app.command("send", no_args_is_help=True)
def send_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The event's name.")],
    *,
    data: Data = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", help="An id of your own: the same one again starts nothing."),
    ] = None,
    url: Url = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Event key. Without it INNGEST_EVENT_KEY.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send an event."""
    from onward_deploy.remote import send

    with reporting(as_json=as_json):
        send(name, read_data(data), id_=id_, url=url, key=key, as_json=as_json)


@runs.command("list")
def list_command(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many at most.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the newest runs."""
    from onward_deploy.remote import list_runs

    with reporting(as_json=as_json):
        list_runs(limit, url=url, as_json=as_json)


RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run's id, or the end of it.")]


@runs.command("show")
def show_command(run_id: RunId, *, url: Url = None, as_json: AsJson = False) -> None:
    """Show one run: its status, and its result or error."""
    from onward_deploy.remote import show_run

    with reporting(as_json=as_json):
        show_run(run_id, url=url, as_json=as_json)


@runs.command("cancel")
def cancel_command(run_id: RunId, *, url: Url = None, as_json: AsJson = False) -> None:
    """Cancel a run. No step of it starts after its next checkpoint."""
    from onward_deploy.remote import cancel_run

    with reporting(as_json=as_json):
        cancel_run(run_id, url=url, as_json=as_json)


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        from onward import __version__

        typer.echo(f"onward {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run, serve and watch functions that outlive their invocation."""


def run_cli() -> int:
    """Run the command line. Returns the exit status."""
    try:
        app(prog_name="onward")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else EXIT_FAILED
    return EXIT_OK
