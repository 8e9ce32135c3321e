"""What an app tells of itself: to anybody, and to an orchestrator that has its key."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from onward.protocol.signature import bearer_token

if TYPE_CHECKING:
    from onward.app import App

#: What this SDK can do beyond the least, as servers ask for it (SDK specification, 4.5).
CAPABILITIES = {"in_band_sync": "v1", "trust_probe": "v1"}

#: The schema's version (SDK specification, 4.5).
SCHEMA_VERSION = "2024-05-24"

AUTHOR, LANGUAGE = "onward", "py"


def inspection(
    app: App, *, framework: str, version: str, authenticated: bool | None
) -> dict[str, Any]:
    """What the app tells of itself: nothing secret, unless `authenticated`.

    `authenticated` is None for a request without a signature, False for one with a wrong one.
    `version` is the SDK's.
    """
    settings = app.settings
    shown: dict[str, Any] = {
        "authentication_succeeded": authenticated,
        "capabilities": CAPABILITIES,
        "extra": {"native_crypto": True},
        "function_count": len(app.functions),
        "has_event_key": settings.event_key is not None,
        "has_signing_key": settings.signing_key is not None,
        "has_signing_key_fallback": settings.signing_key_fallback is not None,
        "mode": settings.mode,
        "schema_version": SCHEMA_VERSION,
    }
    if not authenticated:
        return shown
    event_key = settings.event_key
    return shown | {
        "api_origin": settings.api_url,
        "app_id": app.id,
        "env": settings.env,
        "event_api_origin": settings.events_url,
        "event_key_hash": sha256(event_key.encode()).hexdigest() if event_key else None,
        "extra": {"native_crypto": True, "is_streaming": settings.streaming},
        "framework": framework,
        "sdk_language": LANGUAGE,
        "sdk_version": version,
        "serve_origin": settings.serve_origin,
        "serve_path": settings.serve_path,
        "signing_key_fallback_hash": _hash_of(settings.signing_key_fallback),
        "signing_key_hash": _hash_of(settings.signing_key),
    }


def _hash_of(key: str | None) -> str | None:
    """SHA-256 of a signing key's bytes, without its prefix."""
    return bearer_token(key).rpartition("-")[2] if key else None
