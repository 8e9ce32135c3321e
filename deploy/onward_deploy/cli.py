"""Entry point of the command `onward`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line in `sys.argv`; ends the process with its exit status.

    0: done. 1: the run, or the request, failed. 2: the command line cannot work. 130: Ctrl-C.
    """
    try:
        from onward_deploy.commands import run_cli
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.stderr.write(
            f"The command `onward` needs {error.name}, which is not installed. Run:\n"
            "  pip install 'onward[deploy]'\n"
        )
        sys.exit(1)
    sys.exit(run_cli())
