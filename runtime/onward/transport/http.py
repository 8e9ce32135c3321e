"""Requests other than checkpoints, by httpx: trimmed journals, events, registration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from onward.errors import JournalFetchError, OnwardError, OrchestratorUnavailableError
from onward.transport.channel import Keys, is_loopback

if TYPE_CHECKING:
    import httpx

#: Seconds for one request.
TIMEOUT = 30.0


def _client(base_url: str) -> httpx.Client:
    import httpx

    host = urlsplit(base_url).hostname or ""
    transport = httpx.HTTPTransport(retries=2, trust_env=not is_loopback(host))
    return httpx.Client(
        base_url=base_url, timeout=TIMEOUT, transport=transport, trust_env=not is_loopback(host)
    )


def request(
    base_url: str, method: str, path: str, *, keys: Keys | None = None, body: object = None
) -> Any:
    """The JSON answer to one request.

    Raises OrchestratorUnavailableError for no answer, 429 or 5xx, and OnwardError for any other
    that is not 2xx.
    """
    import httpx

    fields: dict[str, str] = {}
    key = keys.authorization() if keys is not None else None
    if key is not None:
        fields["authorization"] = key
    try:
        with _client(base_url) as client:
            answer = client.request(method, path, json=body, headers=fields)
    except httpx.HTTPError as error:
        message = f"{method} {base_url}{path} got no answer ({error}). Is the orchestrator running?"
        raise OrchestratorUnavailableError(message) from error
    if keys is not None and answer.status_code == 401 and keys.fall_back(key):  # noqa: PLR2004
        return request(base_url, method, path, keys=keys, body=body)
    if not answer.is_success:
        message = f"{method} {base_url}{path} answered {answer.status_code}: {answer.text[:500]}"
        may_help = answer.status_code == 429 or answer.status_code >= 500  # noqa: PLR2004
        raise (OrchestratorUnavailableError if may_help else OnwardError)(message)
    try:
        return answer.json() if answer.content else None
    except ValueError as error:
        status, text = answer.status_code, answer.text[:500]
        message = f"{method} {base_url}{path} answered {status} without JSON: {text}"
        raise OnwardError(message) from error


def fetch_journal(
    base_url: str, run_id: str, keys: Keys | None = None
) -> tuple[Mapping[str, Any], list[Any]]:
    """Steps and events of a run whose call request was too large to carry them.

    Raises JournalFetchError (SDK specification, 4.4.2).
    """
    try:
        steps = request(base_url, "GET", f"/v0/runs/{run_id}/actions", keys=keys)
        events = request(base_url, "GET", f"/v0/runs/{run_id}/batch", keys=keys)
    except OnwardError as error:
        message = (
            f"The trimmed journal of run {run_id} could not be fetched: {error} Nothing was run."
        )
        raise JournalFetchError(message) from error
    steps = {} if steps is None else steps
    if not isinstance(steps, dict) or not _are_events(events):
        message = (
            f"The trimmed journal of run {run_id} is not what the protocol says: an object of steps"
            " and a list of events. Nothing was run."
        )
        raise JournalFetchError(message)
    return steps, events


def _are_events(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)
