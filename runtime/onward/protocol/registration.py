"""What an app sends to register: its functions, what starts them, and where they are called.

SDK specification, 4.3.2, 10.1.1 and 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: The event that an orchestrator sends when a run has failed for good.
FUNCTION_FAILED = "inngest/function.failed"

#: How often the handler of a failed run is tried again, as the recorded SDK registers it.
FAILURE_RETRIES = 1

_NAMES = {
    "batch_events": "batchEvents",
    "rate_limit": "rateLimit",
}


def failure_id(id_: str) -> str:
    """The id of the function that handles failed runs of the function `id_`."""
    return f"{id_}-failure"


def failure_name(name: str) -> str:
    """Its name, for people."""
    return f"{name} (failure)"


def failure_expression(composite_id: str) -> str:
    """What the event of a failed run of the function must satisfy."""
    return f"event.data.function_id == '{composite_id}'"


def function_entry(
    composite_id: str,
    name: str,
    url: str,
    *,
    retries: int,
    triggers: Sequence[Mapping[str, Any]],
    checkpoint: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One function.

    Args:
        composite_id: The id that the orchestrator knows: `app-function`.
        name: For people.
        url: Where the app is served.
        retries: How often a failed call is tried again.
        triggers: Each as it goes over the wire.
        checkpoint: From `checkpoint_entry`; None without checkpointing.
        options: The function's other settings, each as it goes over the wire, by their names here.
    """
    joint = "&" if "?" in url else "?"
    entry: dict[str, Any] = {
        "id": composite_id,
        "name": name,
        "triggers": list(triggers),
        "steps": {
            "step": {
                "id": "step",
                "name": "step",
                "runtime": {
                    "type": "http",
                    "url": f"{url}{joint}fnId={_quoted(composite_id)}&stepId=step",
                },
                "retries": {"attempts": retries},
            }
        },
    }
    for option, value in (options or {}).items():
        entry[_NAMES.get(option, option)] = value
    if checkpoint is not None:
        entry["checkpoint"] = dict(checkpoint)
    return entry


def _quoted(id_: str) -> str:
    """An id as a value in an address (RFC 3986, 2.1 to 2.3)."""
    text = id_.encode().decode("latin-1")
    return "".join(
        c if (c.isascii() and c.isalnum()) or c in "-._~" else f"%{ord(c):02X}" for c in text
    )


def checkpoint_entry(steps: int, interval: str, max_runtime: str) -> dict[str, Any]:
    """The checkpointing of a function: finished steps a checkpoint, and two time strings."""
    return {"batch_steps": steps, "batch_interval": interval, "max_runtime": max_runtime}


def app_entry(
    app_id: str, url: str, sdk: str, functions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The whole of it. `sdk` is the value of the `X-Inngest-Sdk` header."""
    return {
        "url": url,
        "deployType": "ping",
        "framework": "onward",
        "appName": app_id,
        "sdk": sdk,
        "v": "0.1",
        "capabilities": {},
        "functions": list(functions),
    }
