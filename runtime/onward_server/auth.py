"""Who may use the API: signing keys and event keys, once the orchestrator has some."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onward.protocol import headers as names
from onward.protocol.signature import bearer_token
from onward_server.json_text import dumps
from onward_server.settings import Settings

_EVENTS = "/e/"
#: Read with a token of their own.
_OUTPUT = "/output"
_OPEN = frozenset({"/health"})
_BEARER = "bearer "
_PREFIX = re.compile(r"^signkey-\w+-")


class Auth:
    """Checks requests. Without a signing key everything is open, as on a development server."""

    def __init__(self, settings: Settings) -> None:
        key = settings.signing_key
        self._token = _bare(bearer_token(key)) if key else None
        self._event_keys = settings.event_keys
        #: What the answers' server kind is.
        self.kind = "cloud" if key else "dev"

    def refuses(self, path: str, fields: Mapping[str, str]) -> str | None:
        """Why a request to `path` with these header fields is refused; None where it is not."""
        if path.startswith(_EVENTS):
            key = path[len(_EVENTS) :].split("/", maxsplit=1)[0]
            known = not self._event_keys or any(_same(key, one) for one in self._event_keys)
            return None if known else "Event key not found"
        if self._token is None or path in _OPEN:
            return None
        if path.endswith(_OUTPUT) and path.startswith(("/v1/checkpoint/", "/v1/http/runs/")):
            return None
        given = fields.get("authorization", "")
        if given[: len(_BEARER)].lower() != _BEARER:
            return "Unauthorized"
        token = _bare(given[len(_BEARER) :].strip())
        return None if _same(token, self._token) else "Unauthorized"


def _bare(token: str) -> str:
    """`token` without its prefix, which the Python SDK leaves out."""
    return _PREFIX.sub("", token)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def guarded(app: ASGIApp, auth: Auth) -> ASGIApp:
    """`app` behind `auth`; its answers say what kind of server this is."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        fields = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = auth.refuses(scope["path"], fields)
        if refusal is not None:
            body: dict[str, object] = {"error": refusal, "data": None, "status": 401}
            if scope["path"].startswith(_EVENTS):
                body = {"ids": [""], "status": 401, "error": refusal}
            fields = {names.SERVER_KIND: auth.kind, "content-type": "application/json"}
            await Response(dumps(body), 401, fields)(scope, receive, send)
            return
        await app(scope, receive, send if auth.kind == "dev" else _cloud(send))

    return answer


def _cloud(send: Send) -> Send:
    kind = names.SERVER_KIND.encode()

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            fields = [
                (name, b"cloud" if name == kind else value) for name, value in message["headers"]
            ]
            message = {**message, "headers": fields}
        await send(message)

    return sent
