"""Asking an app for its functions: the orchestrator's side of a sync (SDK specification, 4.3)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from onward.errors import Fault, OnwardError
from onward.protocol import headers as names
from onward.protocol.signature import sign, verify
from onward_server.invokers import is_loopback
from onward_server.json_text import JsonError, dumps, loads

if TYPE_CHECKING:
    from onward_server.orchestrator import Orchestrator, Registered

IN_BAND = "in_band"
_TIMEOUT_S = 30.0
_SHOWN = 200


class SyncError(OnwardError):
    """An app could not be asked for its functions; nothing of it was registered."""

    code = "sync_failed"
    fault = Fault.USER


async def sync(orchestrator: Orchestrator, url: str) -> Registered | None:
    """Asks the app at `url` for its functions, in band, and registers what it answers.

    Returns None for an app that registers itself over the API instead (out of band), which it has
    done when this returns. Raises SyncError with what it answered, ConfigurationError for a
    registration that cannot be served.
    """
    key = orchestrator.settings.signing_key
    body = dumps({"url": url}).encode()
    fields = {
        "content-type": "application/json",
        names.SERVER_KIND: "cloud" if key else "dev",
        names.SYNC_KIND: IN_BAND,
    }
    if key:
        fields[names.SIGNATURE] = sign(body, key, int(time.time()))
    try:
        async with httpx.AsyncClient(trust_env=not is_loopback(url), timeout=_TIMEOUT_S) as client:
            response = await client.put(url, content=body, headers=fields)
    except httpx.HTTPError as error:
        raise SyncError(
            f"The app at {url} could not be asked for its functions ({type(error).__name__}:"
            f" {error}). Start it, and give the address that it serves, path and all."
        ) from error
    if not response.is_success:
        raise SyncError(
            f"Asked for its functions, the app at {url} answered HTTP {response.status_code}:"
            f" {response.text[:_SHOWN]!r}. Check its mode (development or cloud) and its signing"
            " key."
        )
    if response.headers.get(names.SYNC_KIND, "").replace("-", "_") != IN_BAND:
        return None
    signature = response.headers.get(names.SIGNATURE, "")
    if key and not verify(response.content, signature, key, now=time.time()):
        raise SyncError(
            f"The app at {url} did not sign its functions with this orchestrator's signing key."
            " Give both the same key, and check both clocks."
        )
    return await orchestrator.register(registration_of(response.content, url))


def registration_of(content: bytes, url: str) -> dict[str, Any]:
    """The registration in the in-band answer `content` of the app at `url`. Raises SyncError."""
    try:
        answer = loads(content)
    except JsonError as error:
        answer = str(error)
    if not isinstance(answer, dict) or not isinstance(answer.get("functions"), list):
        raise SyncError(
            f"Asked for its functions, the app at {url} answered without a list of functions:"
            f" {content[:_SHOWN]!r}. Is this the address of an app?"
        )
    return {
        "appName": answer.get("app_id"),
        "deployType": "ping",
        "framework": answer.get("framework"),
        "functions": answer["functions"],
        "sdk": f"{answer.get('sdk_language')}:v{answer.get('sdk_version')}",
        "url": answer.get("url") or url,
        "v": "0.1",
    }
