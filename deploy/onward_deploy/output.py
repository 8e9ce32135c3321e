"""What every command prints with: consoles, JSON, errors with their exit status."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from onward.errors import ConfigurationError, OnwardError
from onward_deploy.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    EXIT_USAGE,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType
    from rich.text import Text

JSON_INDENT = 2
#: Columns of what is written to a file or a pipe, unless `COLUMNS` says.
FILE_WIDTH = 120


def console(*, stderr: bool = False) -> Console:
    """A console for human eyes. Colours only on a terminal, and none with `NO_COLOR`."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    known = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, highlight=False, width=None if known else FILE_WIDTH)


def say(out: Console, what: RenderableType) -> None:
    """Print prose: wrapped between words on a terminal, and elsewhere a line for each line."""
    out.print(what, soft_wrap=not out.is_terminal)


def print_json(value: Any, *, indent: int | None = JSON_INDENT) -> None:
    """One JSON value on standard output. Raises OnwardError for one that JSON cannot carry."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=indent) + "\n")
    sys.stdout.flush()


def exit_status(error: OnwardError) -> int:
    """2 for a command line or a declaration that cannot work, 1 for everything else."""
    return EXIT_USAGE if isinstance(error, UsageError | ConfigurationError) else EXIT_FAILED


def print_error(error: OnwardError, *, as_json: bool) -> None:
    """`error` on standard error or, with `as_json`, as an object on standard output."""
    details = error.details if isinstance(error, UsageError) else ""
    if as_json:
        what = {"code": error.code, "message": error.message, "details": details or None}
        print_json({"status": "error", "error": what})
        return
    from rich.text import Text

    out = console(stderr=True)
    if details:
        out.print(Text(details, style="dim"), soft_wrap=True)
    say(out, Text.assemble(("error: ", "bold red"), error.message))


@contextlib.contextmanager
def reporting(*, as_json: bool) -> Iterator[None]:
    """Print what a command raises, and end it with the right status."""
    import typer

    try:
        yield
    except OnwardError as error:
        print_error(error, as_json=as_json)
        raise typer.Exit(exit_status(error)) from None
    except KeyboardInterrupt:
        console(stderr=True).print("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except asyncio.CancelledError:
        console(stderr=True).print("terminated")
        raise typer.Exit(EXIT_TERMINATED) from None


def counted(count: int, noun: str) -> str:
    """`1 step`, `2 steps`, `1,000 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def read_data(text: str | None) -> dict[str, Any]:
    """The event data from `--data`: JSON, `@file`, or `@-` for standard input; None is `{}`.

    Raises UsageError when the file cannot be read, or for anything but a JSON object.
    """
    if text is None:
        return {}
    source = "--data"
    if text.startswith("@"):
        source = "standard input" if text == "@-" else text[1:]
        text = _read_source(text[1:])
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{source} is not valid JSON: {error}. An example: --data '{{\"id\": 7}}' (mind the"
            " shell's quotes), or --data @file.json."
        ) from None
    if not isinstance(value, dict):
        raise UsageError(
            f"{source} must be a JSON object, since it becomes an event's data; it is"
            f" {_json_kind(value)}. Wrap it: '{{\"value\": …}}'."
        )
    return value


def _read_source(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read()
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - the path is the user's text
            return file.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"--data: {path!r} is not UTF-8 text ({error}).") from None
    except OSError as error:
        raise UsageError(
            f"--data: {path!r} cannot be read: {error.strerror or error}. `@` takes the path of a"
            " file relative to the current directory."
        ) from None


def _json_kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, list):
        return "an array"
    return "a string" if isinstance(value, str) else "a number"


def error_lines(error: dict[str, Any]) -> list[Text]:
    """An error as it travels (`name`, `message`, `stack`): its traceback, then what it says."""
    from rich.text import Text

    name, message = error.get("name") or "Error", str(error.get("message") or "")
    stack = str(error.get("stack") or "").rstrip()
    # A traceback ends with the very words that follow.
    if message and stack.endswith(message):
        stack = stack.removesuffix(message).rpartition("\n")[0]
    traceback = [Text(stack, style="dim")] if stack else []
    return [*traceback, Text.assemble((f"{name}: ", "bold red"), message)]
