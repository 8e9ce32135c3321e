"""At which address an app registers: what of a request can be believed about it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from onward.errors import ConfigurationError, MalformedCallRequestError

if TYPE_CHECKING:
    from onward.serving import Request
    from onward.settings import Settings

#: Parameters of one request, which never belong to the address.
_OURS = ("fnId", "stepId", "deployId", "probe")

_HOST = re.compile(r"(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)


def own_url(request: Request, settings: Settings, *, signed: bool) -> str:
    """The address to register.

    `serve_origin` settles it. Otherwise a signed request says where it was sent, in its body.
    Anybody can send an unsigned one: in cloud mode what a proxy says is not believed then.
    Raises MalformedCallRequestError when nothing says at which host the app is.
    """
    told = urlsplit((url_in(request.body) if signed or settings.dev else None) or "")
    if told.netloc:
        origin, path, query = f"{told.scheme}://{told.netloc}", told.path or "/", told.query
    else:
        origin = settings.serve_origin or _origin_of(request, trusted=settings.dev)
        path, query = request.root + request.path, request.query
    kept = [pair for pair in parse_qsl(query) if pair[0] not in _OURS]
    url = (settings.serve_origin or origin) + (settings.serve_path or path)
    return f"{url}?{urlencode(kept)}" if kept else url


def _origin_of(request: Request, *, trusted: bool) -> str:
    """Where the request says that it was sent. Raises MalformedCallRequestError."""
    scheme, host = told_by(request.header, request.scheme, trusted=trusted)
    if not _HOST.fullmatch(host):
        raise MalformedCallRequestError(
            "The request does not say at which host the app is reached. Set"
            " INNGEST_SERVE_ORIGIN, such as https://shop.example.com."
        )
    return f"{scheme}://{host}"


def told_by(header: Callable[[str], str], scheme: str, *, trusted: bool) -> tuple[str, str]:
    """Scheme and host of a request that came over `scheme`; a proxy is believed if `trusted`.

    `header` gives a header's value, empty for none. Anybody may say that a proxy speaks HTTPS.
    """
    proto, host = _first(header("x-forwarded-proto")).lower(), header("host")
    if proto == "https" or (trusted and proto == "http"):
        scheme = proto
    if trusted:
        host = _first(header("x-forwarded-host")) or host
    return scheme, host


def check_called_back(origin: str, settings: Settings) -> None:
    """Whether a run may be created whose calls go, signed, to the `origin` of an unsigned request.

    Whoever gets one of them has a signature over a body of the caller's choice, and could call any
    function with it. So where nothing says which host is the app's, only loopback is called:
    in cloud mode, on servers that answer for any host. Raises ConfigurationError.
    """
    if settings.dev or settings.serve_origin or settings.platform:
        return
    from onward.transport.channel import is_loopback

    host = origin.partition("://")[2]
    if _HOST.fullmatch(host) and is_loopback(urlsplit(origin).hostname or ""):
        return
    raise ConfigurationError(
        f"A durable endpoint was asked for at {host[:100]!r}. This app is in cloud mode, and"
        " nothing says that this is its own host: a caller could have the orchestrator send signed"
        " calls to a host of its own. Set INNGEST_SERVE_ORIGIN (or App(serve_origin=…)) to where"
        " the app is reached, such as https://shop.example.com; with a dev server, set"
        " INNGEST_DEV=1."
    )


def url_in(body: bytes) -> str | None:
    """The `url` that a sync request says it was sent to, if it is one."""
    try:
        said = json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None
    url = said.get("url") if isinstance(said, dict) else None
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return None
    try:
        netloc = urlsplit(url).netloc
    except ValueError:
        return None
    return url if _HOST.fullmatch(netloc) else None


def _first(values: str) -> str:
    """The first of a list of values: what the proxy nearest to the caller said."""
    return values.partition(",")[0].strip()
