"""What importing Onward and building a handler costs, over a bare interpreter."""

from __future__ import annotations

from benchmarks.figures import Figure, cpu_of, figure, has_module, ratio

ONWARD = """
import onward
app = onward.App("cold")
@app.function("f", trigger=onward.Event("x"))
def f(ctx): return ctx.step.run("a", int)
handler = onward.aws_lambda.handler(app)
"""
INNGEST = "import inngest"
ROUNDS = 9


def measure(peers: str | None) -> list[Figure]:
    """Milliseconds of CPU."""
    pairs = [(cpu_of("pass"), cpu_of(ONWARD)) for _ in range(ROUNDS)]
    ours = figure("import onward, build a handler", [b - a for a, b in pairs], "ms CPU", aim=80)
    figures = [ours]
    if peers and has_module(peers, "inngest"):
        pairs = [
            (cpu_of("pass", python=peers), cpu_of(INNGEST, python=peers)) for _ in range(ROUNDS)
        ]
        theirs = figure("import inngest", [b - a for a, b in pairs], "ms CPU")
        figures += [theirs, ratio("ratio", ours, theirs, aim=0.2)]
    return figures
