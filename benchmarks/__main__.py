"""`tools/dev.py bench [SECTION …] [--json] [--peers PYTHON] [--orchestrator URL]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from benchmarks import chain, imports, latency, memory, orchestrator, replay, steps
from benchmarks.figures import Figure, Options

SECTIONS: dict[str, Callable[[Options], list[Figure]]] = {
    "steps": steps.measure,
    "latency": latency.measure,
    "replay": replay.measure,
    "imports": imports.measure,
    "orchestrator": orchestrator.measure,
    "chain": chain.measure,
    "memory": memory.measure,
}


def main() -> int:
    """Run the sections that were asked for, and print their figures."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--json", action="store_true", help="one JSON array, and nothing else")
    parser.add_argument(
        "--peers",
        metavar="PYTHON",
        help="an interpreter with aws-durable-execution-sdk-python, its -testing package and"
        " inngest, to measure beside Onward",
    )
    parser.add_argument(
        "--orchestrator",
        metavar="URL",
        help="run `chain` on this server, in dev mode, instead of the embedded orchestrator",
    )
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    options = Options(arguments.peers, arguments.orchestrator)
    figures: list[Figure] = []
    for name in arguments.sections or SECTIONS:
        if not arguments.json:
            print(f"\n{name}", flush=True)
        for figure in SECTIONS[name](options):
            figures.append(figure)
            if not arguments.json:
                print("  " + figure.line(), flush=True)
    if arguments.json:
        print(json.dumps([figure.as_dict() for figure in figures], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
