"""What every HTTP entry serves, decided without IO: introspection, registration, calls, probes.

An entry makes a `Request` of what arrived, asks `Surface.plan` what to do, does it, and answers
what `Surface.finished` or `Surface.registered` give. Nothing here reads a socket or the clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

from onward.core.ops import ErrorInfo
from onward.core.response import function_error
from onward.errors import (
    ConfigurationError,
    MalformedCallRequestError,
    OnwardError,
    UnsignedRequestError,
)
from onward.execution import engine
from onward.execution.abandoned import abandoned
from onward.inspection import AUTHOR, CAPABILITIES, LANGUAGE, inspection
from onward.logs import runtime as log
from onward.own_address import own_url, url_in
from onward.protocol import headers
from onward.protocol.response import STREAMED, WireResponse, base_headers
from onward.protocol.signature import sign, verify

if TYPE_CHECKING:
    from onward.app import App, Function
    from onward.protocol.call_request import CallRequest
    from onward.settings import Settings

#: The largest body that is read, in bytes; larger journals come trimmed.
BODY_LIMIT = 64_000_000

#: What is sent while a streamed answer is not there yet, and how often, in seconds. JSON may begin
#: with blanks, so that servers need not take them off.
KEEP_ALIVE, KEEP_ALIVE_S = b" ", 3.0

IN_BAND, OUT_OF_BAND = "in_band", "out_of_band"

_METHODS = ("GET", "HEAD", "PUT", "POST")


def fields_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Header fields by lower-case name; what is there twice is joined by commas, as HTTP says."""
    fields: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    return fields


@dataclass(frozen=True, slots=True)
class Request:
    """A request as an entry got it.

    `root` is what a mount or a proxy took off the path before `path`; `headers` have lower-case
    names (see `fields_of`); `query` has no question mark.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    scheme: str = "http"
    root: str = ""

    def header(self, name: str) -> str:
        """A header's value, or nothing."""
        return self.headers.get(name, "")

    def parameters(self) -> dict[str, str]:
        """The query's parameters; of a repeated one, the last."""
        return dict(parse_qsl(self.query))


@dataclass(frozen=True, slots=True)
class Reply:
    """A plan: answer this."""

    response: WireResponse


@dataclass(frozen=True, slots=True)
class Registration:
    """A plan: post `body` to `path` of the orchestrator's API with `headers`, then `registered`."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A plan: fetch the journal if it was trimmed, run the function, then `finished`."""

    function: Function
    request: CallRequest
    key: str | None = None


Plan = Reply | Registration | Call


class Surface:
    """The one address of an app: what is served at `path`.

    Args:
        app: What is served.
        path: Where; begins with a slash.
        framework: How the entry calls itself to orchestrators.

    Raises ConfigurationError when `path` is none, or a variable makes no sense: an app that is not
    configured must not come up. A key that is missing is logged, with the variable that it is.
    """

    def __init__(self, app: App, path: str, *, framework: str) -> None:
        if not path.startswith("/"):
            raise ConfigurationError(
                f"path={path!r} does not begin with '/'. Write '/api/inngest'."
            )
        self.app = app
        self.path = path.rstrip("/")
        self.framework = framework
        self._warned = False
        check_at_start(app.read_settings())

    # ------------------------------------------------------------------ before the body is read

    def admit(self, request: Request) -> WireResponse | None:
        """The answer to a request whose body need not be read; None: read it, then `plan`."""
        if not self._is_here(request):
            seen = request.root + request.path
            return self._plain(404, {"message": f"Nothing is served at {seen}; try {self.path}."})
        if request.method not in _METHODS:
            message = f"{request.method} is not served here; GET, PUT and POST are."
            refused = self._plain(405, {"message": message})
            refused.headers["allow"] = ", ".join(_METHODS)
            return refused
        if request.method == "POST" and abandoned.too_many:
            message = "This process has too much code that could not be stopped."
            busy = self._plain(503, {"message": message})
            busy.headers[headers.RETRY_AFTER] = "1"
            return busy
        length = request.header("content-length")
        if length and not (length.isascii() and length.isdigit()):
            return self.refused(
                OnwardError("The length of the request's body is no number. Nothing was run.")
            )
        if _over_limit(length):
            return self.refused(too_large())
        return None

    def _is_here(self, request: Request) -> bool:
        """Whether the path is ours: below the mount, or with it."""
        below = request.path.rstrip("/")
        return self.path in {below, (request.root + request.path).rstrip("/")}

    # ------------------------------------------------------------------ what to do

    def plan(self, request: Request, *, now: float) -> Plan:
        """What to do about a whole request. `now` in seconds since the epoch."""
        try:
            settings = self.app.settings
        except ConfigurationError as error:  # the environment changed under a running process
            log.error("Onward refuses calls: %s", error.message)
            message = "This app is not configured; its log says what to do."
            return Reply(self._plain(500, {"message": message}))
        key = self._key_that_signed(request, settings, now)
        try:
            if request.method == "POST":
                plan = self._plan_call(request, settings, key, now)
            elif request.method == "PUT":
                plan = self._plan_sync(request, settings, key, now)
            else:
                plan = Reply(self._introspection(request, settings, key, now))
        except UnsignedRequestError as error:
            return Reply(self._plain(401, {"message": error.message}))
        except OnwardError as error:
            return Reply(self._signed(engine.refusal(error), key, now))
        return plan

    def _key_that_signed(self, request: Request, settings: Settings, now: float) -> str | None:
        """Which of the app's keys signed the request; None: none did."""
        signature = request.header(headers.SIGNATURE)
        if not signature:
            return None
        # Every key is tried, whichever fits: the time tells nothing about which one did.
        fits = [
            key for key in settings.signing_keys if verify(request.body, signature, key, now=now)
        ]
        return fits[0] if fits else None

    def _require_signature(self, request: Request, settings: Settings, key: str | None) -> None:
        if key is not None:
            return
        if settings.dev:
            self._warn_in_dev_mode(request, settings)
            return
        if not settings.signing_keys:
            log.error("%s", MISSING_SIGNING_KEY)
        raise UnsignedRequestError("The request is not signed, or not as this app expects it.")

    def _warn_in_dev_mode(self, request: Request, settings: Settings) -> None:
        """Once: what looks as if dev mode was left on by mistake (SDK specification, 4.1.3)."""
        signed_otherwise = settings.signing_keys and request.header(headers.SIGNATURE)
        if self._warned or not (signed_otherwise or request.header(headers.SERVER_KIND) == "cloud"):
            return
        self._warned = True
        log.warning(
            "This app is in dev mode (INNGEST_DEV), which takes unsigned calls from anybody, and"
            " %s. Unset INNGEST_DEV where the app is reachable by others.",
            "a call was signed with a key that it does not have"
            if signed_otherwise
            else "a cloud server called",
        )

    # ------------------------------------------------------------------ call requests

    def _plan_call(self, request: Request, settings: Settings, key: str | None, now: float) -> Plan:
        self._require_signature(request, settings, key)
        query = request.parameters()
        if "probe" in query:
            return Reply(self._signed(self._probe(query["probe"]), key, now))
        missing = [name for name in ("fnId", "stepId") if not query.get(name)]
        if missing:
            message = (
                f"The address of this call request lacks {' and '.join(missing)}. Nothing was run."
                " Call functions at the addresses that the app registered."
            )
            info = ErrorInfo(MalformedCallRequestError.__name__, message)
            answer = engine.answer(function_error(info, retriable=False))
            return Reply(self._signed(answer, key, now))
        function, call = engine.decode(self.app, query["fnId"], query["stepId"], request.body)
        return Call(function, call, key)

    def _probe(self, name: str) -> WireResponse:
        """Whether server and app have the same key is what the signatures say."""
        if name == "trust":
            answer = self._plain(200, {})
            return WireResponse(answer.status, answer.headers, b"")
        return self._plain(400, {"message": f"The probe {name!r} is not known here; 'trust' is."})

    def finished(self, plan: Call, response: WireResponse, *, now: float) -> WireResponse:
        """The answer to a call request, signed if the request was."""
        return self._signed(response, plan.key, now)

    def streamed(self, plan: Plan) -> WireResponse | None:
        """The head of a streamed answer, if this one is to be streamed.

        `KEEP_ALIVE` goes every `KEEP_ALIVE_S` seconds while the function runs, and then
        `encode_stream` of what `finished` gives.
        """
        if not isinstance(plan, Call) or not self.app.settings.streaming:
            return None
        return self._named(WireResponse(STREAMED, base_headers(engine.sdk_name()), b""))

    def refused(self, error: OnwardError) -> WireResponse:
        """The answer to a request that could not even be read, or not be run."""
        return self._named(engine.refusal(error))

    # ------------------------------------------------------------------ registration

    def _plan_sync(self, request: Request, settings: Settings, key: str | None, now: float) -> Plan:
        """Registration, in band or out of band (SDK specification, 4.3)."""
        kind = request.header(headers.SYNC_KIND).replace("-", "_").lower()
        if kind == IN_BAND and settings.allow_in_band_sync:
            self._require_signature(request, settings, key)
            return Reply(self._in_band(request, settings, key, now))
        server_kind = request.header(headers.SERVER_KIND)
        if server_kind == "dev" and not settings.dev and key is None:
            return Reply(self._wrong_server())
        fields = {headers.SYNC_KIND: OUT_OF_BAND, headers.FRAMEWORK: self.framework}
        if server_kind in {"dev", "cloud"}:
            fields[headers.EXPECTED_SERVER_KIND] = server_kind
        deploy = request.parameters().get("deployId", "")
        path = "/fn/register" + (f"?deployId={quote(deploy, safe='')}" if deploy else "")
        return Registration(path, self._registration(request, settings, key), fields, key)

    def _wrong_server(self) -> WireResponse:
        message = (
            "This app is in cloud mode; a dev server cannot register or call it. Start the app with"
            " INNGEST_DEV=1 to use it with a dev server."
        )
        return self._plain(403, {"message": message, "modified": False})

    def _registration(
        self, request: Request, settings: Settings, key: str | None
    ) -> dict[str, Any]:
        return {
            **self.app.registration(own_url(request, settings, signed=key is not None)),
            "capabilities": CAPABILITIES,
        }

    def registered(
        self, plan: Registration, told: engine.Registered, *, now: float
    ) -> WireResponse:
        """The answer to a registration. A stranger is not told where the orchestrator is."""
        status, message = 200, "Successfully registered"
        if told.error is not None:
            keys = " Is INNGEST_SIGNING_KEY that environment's key?"
            hint = keys if (told.told or "").startswith("401") else ""
            log.error("The app %r could not be registered: %s%s", self.app.id, told.error, hint)
            status, message = 500, told.error
            if plan.key is None and not self.app.settings.dev:
                said = f": {told.told}." if told.told else "."
                message = (
                    f"The orchestrator did not register the app{said} The app's log says more."
                )
        answer = self._plain(status, {"message": message, "modified": told.modified})
        answer.headers[headers.SYNC_KIND] = OUT_OF_BAND
        return self._signed(answer, plan.key, now)

    def _in_band(
        self, request: Request, settings: Settings, key: str | None, now: float
    ) -> WireResponse:
        """Everything that a registration holds, as the answer (SDK specification, 4.3.5)."""
        url = url_in(request.body)
        if url is None:
            message = 'An in-band sync says where the app was reached: {"url": "https://…"}.'
            return self._signed(self._plain(400, {"message": message}), key, now)
        registration = self._registration(request, settings, key)
        version = engine.sdk_name().partition(":v")[2]
        body = {
            "app_id": self.app.id,
            "capabilities": CAPABILITIES,
            "env": settings.env,
            "framework": self.framework,
            "functions": registration["functions"],
            "inspection": self._inspection(request, key),
            "platform": settings.platform,
            "sdk": registration["sdk"],
            "sdk_author": AUTHOR,
            "sdk_language": LANGUAGE,
            "sdk_version": version,
            "url": registration["url"],
        }
        answer = self._plain(200, body)
        answer.headers[headers.SYNC_KIND] = IN_BAND
        return self._signed(answer, key, now)

    # ------------------------------------------------------------------ introspection

    def _introspection(
        self, request: Request, settings: Settings, key: str | None, now: float
    ) -> WireResponse:
        if request.header(headers.SERVER_KIND) == "dev" and not settings.dev and key is None:
            return self._wrong_server()
        answer = self._plain(200, self._inspection(request, key))
        return self._signed(answer, key, now)

    def _inspection(self, request: Request, key: str | None) -> dict[str, Any]:
        wrong = False if request.header(headers.SIGNATURE) else None
        return inspection(
            self.app,
            framework=self.framework,
            version=engine.sdk_name().partition(":v")[2],
            authenticated=True if key else wrong,
        )

    # ------------------------------------------------------------------ answers

    def _plain(self, status: int, body: object) -> WireResponse:
        text = json.dumps(body).encode()
        return self._named(WireResponse(status, base_headers(engine.sdk_name()), text))

    def _named(self, response: WireResponse) -> WireResponse:
        response.headers[headers.FRAMEWORK] = self.framework
        return response

    def _signed(self, response: WireResponse, key: str | None, now: float) -> WireResponse:
        """`response`, signed with the key that signed the request."""
        self._named(response)
        if key is not None:
            response.headers[headers.SIGNATURE] = sign(response.body, key, int(now))
        return response


MISSING_SIGNING_KEY = (
    "This app is in cloud mode and has no signing key, so it runs no call requests. Set"
    " INNGEST_SIGNING_KEY (or App(signing_key=…)) to the environment's key; with a dev server, or"
    " on a network where nobody else can reach the app, set INNGEST_DEV=1."
)


def check_at_start(settings: Settings) -> None:
    """Say at once what would otherwise be found at the first call; set the log level."""
    if settings.log_level is not None:
        log.setLevel(settings.log_level)
    if not settings.dev and not settings.signing_keys:
        log.error("%s", MISSING_SIGNING_KEY)


def _over_limit(length: str) -> bool:
    """Whether a `content-length`, of digits alone, is over `BODY_LIMIT`; zeros may lead it."""
    digits = length.lstrip("0")
    return len(digits) > len(str(BODY_LIMIT)) or int(digits or 0) > BODY_LIMIT


def too_large() -> OnwardError:
    """What is said of a body over `BODY_LIMIT`."""
    return OnwardError(
        f"The call request is over {BODY_LIMIT:,} bytes. Nothing was run. Have the"
        " orchestrator trim journals (use_api), or keep results smaller."
    )


def incomplete() -> OnwardError:
    """What is said of a body that ended too early; nobody is left to read it."""
    return OnwardError("The caller hung up before its request was complete.")


def no_length() -> OnwardError:
    """What is said of a body whose end the server does not know."""
    return OnwardError(
        "The body of this request has no length, and this WSGI server does not say where it ends"
        " (`wsgi.input_terminated`). Nothing was run. Serve the app with one that does, such as"
        " gunicorn."
    )
