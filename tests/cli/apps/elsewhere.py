"""An app that was told of another orchestrator, and whose settings are read on import."""

from __future__ import annotations

import onward
import onward.asgi

# No orchestrator of a test is there.
app = onward.App("elsewhere", dev="http://127.0.0.1:9")


@app.function(
    "note",
    trigger=[onward.Event("elsewhere/note"), onward.Cron("0 3 1 1 *", timezone="Europe/Berlin")],
    priority=onward.Priority("event.data.urgent ? 120 : 0"),
)
async def note(ctx: onward.Context) -> int:
    """One step, and a line in the log."""
    ctx.logger.info("taking note")
    return await ctx.step.run("count", len, "four", barrier=True)


served = onward.asgi.serve(app)
assert app.settings.api_url == "http://127.0.0.1:9"
