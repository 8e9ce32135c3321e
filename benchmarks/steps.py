"""A step with a full buffer and no checkpoint due, beside AWS's SDK over an in-memory service."""

from __future__ import annotations

from benchmarks.figures import Figure, Options, ask, figure, has_module, ratio, repeat

STEPS = 2000
AIMS = {"async": 40.0, "blocking": 30.0, "mixed": 400.0}
NAMES = {
    "async": "async body in an async function",
    "blocking": "blocking body in a blocking function",
    "mixed": "blocking body in an async function",
}


def measure(options: Options) -> list[Figure]:
    """Microseconds a step."""
    peers = options.peers
    import logging

    from benchmarks.workloads import seconds_of

    logging.getLogger("onward").setLevel(logging.ERROR)  # the warning about many steps
    figures = []
    for kind, aim in AIMS.items():
        values = repeat(lambda kind=kind: seconds_of(kind, STEPS) / STEPS * 1e6)  # type: ignore[misc]
        figures.append(figure(NAMES[kind], values, "µs/step", aim=aim))
    if peers and has_module(peers, "aws_durable_execution_sdk_python_testing"):
        values = [ask("benchmarks.peer_aws_durable", python=peers) for _ in range(3)]
        theirs = figure("AWS durable SDK, in-memory service at zero latency", values, "µs/step")
        figures += [theirs, ratio("ratio, async body", figures[0], theirs)]
    return figures
