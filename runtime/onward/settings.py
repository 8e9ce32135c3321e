"""Where the orchestrator is and which keys to use, from the app and the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from onward.errors import ConfigurationError
from onward.protocol import headers

#: Where a dev server listens by default.
DEV_SERVER = "http://127.0.0.1:8288"

CLOUD_API, CLOUD_EVENTS = "https://api.inngest.com", "https://inn.gs"

#: What a dev server takes for an event key: it checks none.
DEV_EVENT_KEY = "dev"

_OFF = ("", "0", "false", "no", "off")
_ON = ("1", "true", "yes", "on")

#: `signkey-<environment>-` and whole bytes in hexadecimal; self-hosted keys have no prefix.
_SIGNING_KEY = re.compile(r"(?:signkey-\w+-)?(?:[0-9a-fA-F]{2})+", re.ASCII)
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_ORIGIN = re.compile(r"https?://[^/?#\s]+/?")

#: What a log level may be called, as a level of the standard library.
_LEVELS = {
    "trace": 5,
    "debug": 10,
    "info": 20,
    "warn": 30,
    "warning": 30,
    "error": 40,
    "fatal": 50,
    "critical": 50,
    "silent": 60,
}

#: Platforms, by a variable that each sets for every process (SDK specification, 3.2).
_PLATFORMS = {
    "VERCEL": "vercel",
    "NETLIFY": "netlify",
    "CF_PAGES": "cloudflare-pages",
    "RENDER": "render",
    "RAILWAY_ENVIRONMENT": "railway",
    "AWS_LAMBDA_FUNCTION_NAME": "aws-lambda",
}


@dataclass(frozen=True, slots=True)
class Given:
    """What an app was given explicitly; it goes before the environment. None: not given."""

    orchestrator: str | None = None
    dev: bool | str | None = None
    signing_key: str | None = None
    signing_key_fallback: str | None = None
    event_key: str | None = None
    env: str | None = None
    serve_origin: str | None = None
    serve_path: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved settings of one process (SDK specification, 3)."""

    api_url: str
    events_url: str
    dev: bool
    signing_key: str | None = field(default=None, repr=False)
    signing_key_fallback: str | None = field(default=None, repr=False)
    event_key: str | None = field(default=None, repr=False)
    env: str | None = None
    serve_origin: str | None = None
    serve_path: str | None = None
    allow_in_band_sync: bool = True
    streaming: bool = False
    log_level: int | None = None
    platform: str | None = None
    deadline_margin: str | None = None
    front_door_limit: str | None = None

    @property
    def mode(self) -> str:
        """`dev` or `cloud` (SDK specification, 7)."""
        return "dev" if self.dev else "cloud"

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """The signing key and its fallback, as far as there are."""
        return tuple(key for key in (self.signing_key, self.signing_key_fallback) if key)

    @property
    def sending_key(self) -> str:
        """The event key to send events with. Raises ConfigurationError in cloud mode without."""
        if self.event_key:
            return self.event_key
        if self.dev:
            return DEV_EVENT_KEY
        raise ConfigurationError(
            "This app has no event key, so it cannot send events. Set INNGEST_EVENT_KEY (or"
            " App(event_key=…)) to a key of the environment that the events are for; with a dev"
            " server, set INNGEST_DEV=1."
        )

    def outgoing(self) -> dict[str, str]:
        """The headers of every request to the orchestrator (SDK specification, 4.1.4)."""
        from onward import __version__

        sdk = f"onward:v{__version__}"
        fields = {
            headers.SDK: sdk,
            "user-agent": sdk,
            headers.REQUEST_VERSION: headers.EXECUTION_VERSION,
        }
        if self.env:
            fields[headers.ENV] = self.env
        if self.platform:
            fields[headers.PLATFORM] = self.platform
        return fields


def resolve_settings(
    environ: Mapping[str, str], orchestrator: str | None = None, *, given: Given | None = None
) -> Settings:
    """Settings from `environ`, such as `os.environ`; what is `given` goes before it.

    `orchestrator` (a URL) is short for `Given(orchestrator)`. Raises ConfigurationError, naming the
    variable and saying what to write.
    """
    given = given or Given(orchestrator)
    dev = _dev(environ, given)
    base, own = _base(environ, given, dev)
    api = own or environ.get("INNGEST_API_BASE_URL") or base or CLOUD_API
    events = own or environ.get("INNGEST_EVENT_API_BASE_URL") or base or CLOUD_EVENTS
    read = _Reader(environ)
    return Settings(
        api_url=_url(api, "the orchestrator's URL"),
        events_url=_url(events, "the event API's URL"),
        dev=dev not in _OFF,
        signing_key=read.signing_key(given.signing_key, "INNGEST_SIGNING_KEY"),
        signing_key_fallback=read.signing_key(
            given.signing_key_fallback, "INNGEST_SIGNING_KEY_FALLBACK"
        ),
        event_key=read.event_key(given.event_key, "INNGEST_EVENT_KEY"),
        env=read.word(given.env, "INNGEST_ENV"),
        serve_origin=read.origin(given.serve_origin),
        serve_path=read.path(given.serve_path, "INNGEST_SERVE_PATH"),
        allow_in_band_sync=read.flag("INNGEST_ALLOW_IN_BAND_SYNC", default=True),
        streaming=read.flag("INNGEST_STREAMING", default=False, on=("force", "allow")),
        log_level=read.level("INNGEST_LOG_LEVEL"),
        platform=next((name for key, name in _PLATFORMS.items() if environ.get(key)), None),
        deadline_margin=environ.get("ONWARD_DEADLINE_MARGIN") or None,
        front_door_limit=read.duration("ONWARD_FRONT_DOOR_LIMIT"),
    )


def _dev(environ: Mapping[str, str], given: Given) -> str:
    """What says whether this is dev mode: one of `_ON`, one of `_OFF`, or a dev server's URL."""
    if given.dev is None:
        value = environ.get("INNGEST_DEV", "").strip()
    else:
        value = given.dev if isinstance(given.dev, str) else str(int(given.dev))
    return value.lower() if value.lower() in {*_ON, *_OFF} else value


def _base(environ: Mapping[str, str], given: Given, dev: str) -> tuple[str | None, str | None]:
    """The URL for both APIs, and the one that the app itself was given."""
    base = environ.get("INNGEST_BASE_URL") or None
    if dev not in {*_ON, *_OFF}:
        url = _url(dev, "INNGEST_DEV")
        base = url if given.dev is not None else base or url
    elif dev in _ON:  # an app that was given `True` was not told where the dev server is
        named = _dev(environ, Given())
        base = base or (_url(named, "INNGEST_DEV") if named not in {*_ON, *_OFF} else None)
    if dev not in _OFF:
        base = base or DEV_SERVER
    return base, given.orchestrator


def _url(value: str, name: str) -> str:
    if not value.startswith(("http://", "https://")):
        message = f"{name}={value!r} is not a URL. Give it with its scheme, like {DEV_SERVER}."
        raise ConfigurationError(message)
    if "@" in value.partition("://")[2].partition("/")[0]:  # never shown: it holds a password
        raise ConfigurationError(
            f"{name} has a user name or password, which calls to an orchestrator do not carry."
            " Leave it out; its keys are INNGEST_SIGNING_KEY and INNGEST_EVENT_KEY."
        )
    return value.rstrip("/")


class _Reader:
    """Reads variables that have a form of their own; what the app was given goes before them.

    A key's text is never shown: messages end up in logs.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def _value(self, given: str | None, name: str) -> str | None:
        return (given if given is not None else self._environ.get(name, "")).strip() or None

    def signing_key(self, given: str | None, name: str) -> str | None:
        """A signing key."""
        value = self._value(given, name)
        if value is not None and not _SIGNING_KEY.fullmatch(value):
            raise ConfigurationError(
                f"{name} is set to {len(value)} characters that are no signing key. One looks like"
                " signkey-prod-0123…ef: a prefix, and an even number of hexadecimal digits. Copy it"
                " again from the environment's settings; a server of your own takes the bare digits"
                " that it was started with."
            )
        return value

    def event_key(self, given: str | None, name: str) -> str | None:
        """An event key."""
        value = self._value(given, name)
        if value is None:
            return None
        if value.startswith("signkey-"):
            raise ConfigurationError(
                f"{name} holds a signing key, which must never be sent with events. Set it to an"
                " event key, and the signing key as INNGEST_SIGNING_KEY."
            )
        if not _PRINTABLE.fullmatch(value):
            raise ConfigurationError(
                f"{name} holds blanks or characters that no event key has. Copy it again."
            )
        return value

    def word(self, given: str | None, name: str) -> str | None:
        """A name that goes into a header."""
        value = self._value(given, name)
        if value is not None and not re.fullmatch(r"[\x20-\x7e]+", value):
            raise ConfigurationError(
                f"{name}={value!r} cannot be sent in a header. Use printable ASCII characters, such"
                " as the branch's name."
            )
        return value

    def origin(self, given: str | None) -> str | None:
        """The app's own origin; INNGEST_SERVE_HOST is the variable's older name."""
        name = "INNGEST_SERVE_ORIGIN"
        if not self._environ.get(name) and self._environ.get("INNGEST_SERVE_HOST"):
            name = "INNGEST_SERVE_HOST"
        value = self._value(given, name)
        if value is not None and not _ORIGIN.fullmatch(value):
            raise ConfigurationError(
                f"{name}={value!r} is no origin. Write scheme and host, such as"
                " https://shop.example.com; the path is INNGEST_SERVE_PATH's."
            )
        return value.rstrip("/") if value else None

    def path(self, given: str | None, name: str) -> str | None:
        """A path."""
        value = self._value(given, name)
        if value is not None and (not value.startswith("/") or not _PRINTABLE.fullmatch(value)):
            raise ConfigurationError(
                f"{name}={value!r} is no path. Begin it with '/', such as /api/inngest."
            )
        return value

    def flag(self, name: str, *, default: bool, on: tuple[str, ...] = ()) -> bool:
        """A yes or no."""
        value = (self._environ.get(name) or "").strip().lower()
        if not value:
            return default
        if value in {*_ON, *on}:
            return True
        if value in {*_OFF, "disable"}:
            return False
        raise ConfigurationError(f"{name}={value!r} is neither yes nor no. Write 1 or 0.")

    def duration(self, name: str) -> str | None:
        """A duration, as it was written."""
        value = (self._environ.get(name) or "").strip()
        if value:
            from onward.core.durations import parse_duration

            parse_duration(value, what=name)
        return value or None

    def level(self, name: str) -> int | None:
        """A log level."""
        value = (self._environ.get(name) or "").strip().lower()
        if value and value not in _LEVELS:
            known = ", ".join(_LEVELS)
            raise ConfigurationError(f"{name}={value!r} is no log level. Write one of {known}.")
        return _LEVELS.get(value)
