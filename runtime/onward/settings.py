"""Where the orchestrator is and which keys to use, from the app and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onward.errors import ConfigurationError

#: Where a dev server listens by default.
DEV_SERVER = "http://127.0.0.1:8288"

CLOUD_API, CLOUD_EVENTS = "https://api.inngest.com", "https://inn.gs"

_OFF = ("", "0", "false", "no", "off")
_ON = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved settings of one process (SDK specification, 3)."""

    api_url: str
    events_url: str
    dev: bool
    deployed: bool
    signing_key: str | None = None
    signing_key_fallback: str | None = None
    event_key: str | None = None
    env: str | None = None
    serve_origin: str | None = None
    deadline_margin: str | None = None

    @property
    def refuses_unsigned(self) -> bool:
        """Whether HTTP calls have to be signed."""
        return not self.dev and (self.deployed or self.signing_key is not None)


def _url(value: str, name: str) -> str:
    if not value.startswith(("http://", "https://")):
        message = f"{name}={value!r} is not a URL. Give it with its scheme, like {DEV_SERVER}."
        raise ConfigurationError(message)
    return value.rstrip("/")


def resolve_settings(environ: Mapping[str, str], orchestrator: str | None = None) -> Settings:
    """Settings from `environ`, such as `os.environ`; `orchestrator` (a URL) goes before it.

    `INNGEST_DEV` is `1` or the URL of a dev server. Raises ConfigurationError for a bad URL.
    """
    dev = environ.get("INNGEST_DEV", "")
    is_dev = dev.lower() not in _OFF
    base = orchestrator or environ.get("INNGEST_BASE_URL")
    if is_dev and dev.lower() not in _ON:
        base = base or _url(dev, "INNGEST_DEV")
    if is_dev:
        base = base or DEV_SERVER
    api = environ.get("INNGEST_API_BASE_URL") or base or CLOUD_API
    events = environ.get("INNGEST_EVENT_API_BASE_URL") or base or CLOUD_EVENTS
    return Settings(
        api_url=_url(api, "the orchestrator's URL"),
        events_url=_url(events, "the event API's URL"),
        dev=is_dev,
        deployed=bool(environ.get("AWS_LAMBDA_FUNCTION_NAME") or environ.get("VERCEL")),
        signing_key=environ.get("INNGEST_SIGNING_KEY") or None,
        signing_key_fallback=environ.get("INNGEST_SIGNING_KEY_FALLBACK") or None,
        event_key=environ.get("INNGEST_EVENT_KEY") or None,
        env=environ.get("INNGEST_ENV") or None,
        serve_origin=environ.get("INNGEST_SERVE_ORIGIN") or None,
        deadline_margin=environ.get("ONWARD_DEADLINE_MARGIN") or None,
    )
