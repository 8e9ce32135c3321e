"""How long a journal takes to replay, after parsing."""

from __future__ import annotations

from benchmarks.figures import Figure, Options, figure, repeat

AIM_10_000 = 0.25


def measure(_options: Options) -> list[Figure]:
    """Seconds for the whole journal, and microseconds a step to show that it is linear."""
    import logging

    from benchmarks.workloads import seconds_of

    logging.getLogger("onward").setLevel(logging.ERROR)  # the warning about many steps
    figures = []
    for kind in ("async", "blocking"):
        for count in (100, 1000, 10_000):
            values = repeat(lambda kind=kind, count=count: seconds_of(kind, count, count))  # type: ignore[misc]
            aim = AIM_10_000 if count == 10_000 else None  # noqa: PLR2004 - the aim is for this one
            each = min(values) / count * 1e6
            note = f"{each:.1f} µs a step"
            figures.append(
                figure(f"{kind}, {count:,} memoized steps", values, "s", aim=aim, note=note)
            )
    return figures
