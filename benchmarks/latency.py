"""A step where a checkpoint call takes a constant time, whatever it holds."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.figures import ROOT, Figure, Options, environment, figure, repeat

#: How long a checkpoint call takes, in milliseconds.
LATENCIES = (1, 5, 20)

#: What `confirmed` may cost beside the call, and what is fast enough for `pipelined`; ms a step.
OVERHEAD, FLOOR = 0.6, 0.1

#: Steps of a run: fewer where each waits for its own call.
STEPS = {"confirmed": 100, "pipelined": 600}


def measure(_options: Options) -> list[Figure]:
    """Milliseconds a step of a whole invocation, warm, from its call request to its answer.

    `confirmed` without its calls' own time.
    """
    import logging

    logging.getLogger("onward").setLevel(logging.ERROR)  # the warning about many steps
    figures = []
    for latency in LATENCIES:
        with constant(latency) as url:
            values = repeat(lambda url=url: bare(url))  # type: ignore[misc]
            name = f"a bare http.client, a call of {latency} ms, beside it"
            figures.append(figure(name, values, "ms/call"))
            for mode in STEPS:
                for kind in ("async", "blocking"):
                    name = f"{mode}, {kind}, a call of {latency} ms"
                    figures.append(_figure(name, url, mode, kind, latency))
    return figures


def _figure(name: str, url: str, mode: str, kind: str, latency: int) -> Figure:
    run, steps = invocation(url, mode, kind, STEPS[mode]), STEPS[mode]
    if mode == "pipelined":
        values = repeat(lambda: run() / steps * 1000)
        return figure(name, values, "ms/step", aim=max(latency / 8, FLOOR))

    def beside_the_calls() -> float:
        before = spent_in_calls(url)
        seconds = run()
        return (seconds - (spent_in_calls(url) - before)) / steps * 1000

    return figure(f"{name}, beside it", repeat(beside_the_calls), "ms/step", aim=OVERHEAD)


def spent_in_calls(url: str) -> float:
    """How many seconds the orchestrator at `url` has spent in checkpoint calls."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    connection.request("GET", "/")
    seconds: float = json.loads(connection.getresponse().read())
    connection.close()
    return seconds


def bare(url: str) -> float:
    """What a call costs beside its own time, without Onward: what waking up costs here."""
    before = spent_in_calls(url)
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    calls, begun = STEPS["confirmed"], time.perf_counter()
    for _ in range(calls):
        connection.request("POST", "/v1/checkpoint/run/async", b"x" * 600)
        connection.getresponse().read()
    seconds = time.perf_counter() - begun
    connection.close()
    return (seconds - (spent_in_calls(url) - before)) / calls * 1000


@contextmanager
def constant(latency: float) -> Iterator[str]:
    """The URL of an orchestrator whose checkpoint call takes `latency` milliseconds."""
    command = [sys.executable, "-m", "benchmarks.constant", str(latency)]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        port = server.stdout.readline().strip() if server.stdout is not None else ""
        yield f"http://127.0.0.1:{port}"
        server.communicate()


def invocation(url: str, mode: str, kind: str, steps: int) -> Callable[[], float]:
    """A function that makes one invocation of `steps` steps and returns its seconds."""
    import onward
    import onward.aws_lambda
    from benchmarks.workloads import async_body, blocking_body, call_request
    from onward.protocol.direct import call_payload

    options = onward.Checkpointing(mode=mode)  # type: ignore[arg-type]
    app = onward.App("latency", orchestrator=url, checkpointing=options)
    register = app.function("chain", trigger=onward.Event("bench"))

    async def in_async(ctx: onward.Context) -> None:
        for number in range(ctx.event.data["steps"]):
            await ctx.step.run(f"step-{number}", async_body, number)

    def in_blocking(ctx: onward.BlockingContext) -> None:
        for number in range(ctx.event.data["steps"]):
            ctx.step.run(f"step-{number}", blocking_body, number)

    register(in_async if kind == "async" else in_blocking)
    handler = onward.aws_lambda.handler(app)
    payload = call_payload("latency-chain", "step", call_request(steps))

    def once() -> float:
        begun = time.perf_counter()
        answer = handler(payload, None)
        spent = time.perf_counter() - begun
        if answer["body"][-1]["op"] != "RunComplete":
            raise RuntimeError(answer)
        return spent

    return once
