"""Call requests as the recorded server writes them, rendered from stored JSON text."""

from __future__ import annotations

from dataclasses import dataclass

from onward.core.ids import NO_TARGET
from onward.protocol import headers
from onward_server.identifiers import new_traceparent, queue_item_ref
from onward_server.json_text import dumps
from onward_server.model import Job
from onward_server.run_state import RunState


@dataclass(frozen=True, slots=True)
class RenderedCall:
    """A call request ready to be sent: `headers` with lower-case names, `body` as JSON in UTF-8."""

    function_id: str
    target: str
    headers: dict[str, str]
    body: bytes


def render_call(run: RunState, job: Job, fn_id: str) -> RenderedCall:
    """The call request for `job`, with the journal as it stands.

    A journal over the limit is left out, and so are the events: `use_api` tells the function to
    fetch both.
    """
    trimmed = run.size > run.settings.trim_bytes
    context = {
        "attempt": job.attempt,
        "disable_immediate_execution": job.planned,
        "env": "",
        "fn_id": fn_id,
        "generation_id": job.generation,
        "job_id": job.id,
        "max_attempts": run.max_attempts,
        "qi_id": queue_item_ref(job.id),
        "request_id": job.request_id,
        "run_id": run.run_id,
        "stack": {"current": job.position, "stack": list(run.steps)},
        "step_id": NO_TARGET,
        "use_api": trimmed,
    }
    steps = "" if trimmed else ",".join(run.steps.values())
    events = "[]" if trimmed else run.events
    body = (
        f'{{"ctx":{dumps(context)},"defers":{{}},"event":{run.first_event},'
        f'"events":{events},"steps":{{{steps}}},"use_api":{"true" if trimmed else "false"},'
        f'"version":{run.version}}}'
    )
    fields = {
        "content-type": "application/json",
        "user-agent": "Inngest",
        headers.TRACE_PARENT: new_traceparent(),
        headers.GENERATION_ID: str(job.generation),
        headers.JOB_ID: job.id,
        headers.REQUEST_VERSION: str(run.version),
        headers.STEP_ID: job.target,
        headers.REQUEST_ID: job.request_id,
    }
    return RenderedCall(run.function_id, job.target, fields, body.encode())
