"""Durable endpoints on the wire (SDK specification, 10.3.2; details as recorded).

The first request is an ordinary one. Its run is created by the first checkpoint, which carries the
request as an event; from then on the orchestrator can send that request again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.core.ids import NO_TARGET, hash_id
from onward.core.journal import Journal
from onward.core.ops import Op, Opcode
from onward.core.retry import Verdict
from onward.errors import MalformedCallRequestError
from onward.protocol import headers
from onward.protocol.call_request import CallRequest
from onward.protocol.checkpoint import BackgroundRun, encode_ops

#: The event that carries the request (recorded).
REQUEST_EVENT = "inngest/http.request"

#: Where runs are created (recorded).
CREATE_PATH = "/v1/checkpoint"

#: The largest request body that a run can be created with, in bytes: the server reads 4 MB, and the
#: body takes a third more in base 64.
BODY_LIMIT = 2_900_000

#: How often an invocation says that it is alive, in seconds.
HEARTBEAT = 5.0

#: How long a caller is made to wait for an orchestrator that does not answer, in seconds: before
#: the first time that it did not, and after.
PATIENCE, LITTLE_PATIENCE = 2.0, 0.5

#: How long, in seconds, requests remember that the orchestrator did not answer.
MEMORY = 10.0

#: The step that carries headers of the request: servers keep nothing else of them.
HEADERS_STEP = "onward:headers"
HEADERS_ID = hash_id(HEADERS_STEP)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The request that a run was created for. `origin` is scheme and host, `query` has no `?`."""

    method: str
    origin: str
    path: str
    query: str = ""
    content_type: str = ""
    ip: str = ""
    body: bytes = b""

    def event(self, function_id: str) -> dict[str, Any]:
        """The event that carries it."""
        return {
            "name": REQUEST_EVENT,
            "data": {
                "content_type": self.content_type,
                "domain": self.origin,
                "ip": self.ip,
                "method": self.method,
                "path": self.path,
                "query_params": self.query,
                "body": base64.b64encode(self.body).decode(),
                "fn": function_id,
            },
        }


@dataclass(slots=True)
class EndpointRun:
    """The checkpoints of a run that is driven from its own request.

    `token` opens the run's output; it, `fn_id` and `app_id` are what the server answered when the
    run was created. `watched`: that server takes the run over when nothing is heard for `lease_s`
    seconds.
    """

    run_id: str
    event: Mapping[str, Any]
    retries: int
    carried: Mapping[str, str] = field(default_factory=dict)
    fn_id: str = ""
    app_id: str = ""
    token: str = ""
    lease_s: float = 0.0
    failed: bool = False
    created: bool = False

    #: No orchestrator reads the answer to the request.
    hands_over = False
    plain_result = False
    heartbeat = HEARTBEAT

    @property
    def patience(self) -> float:
        """Seconds after which a checkpoint is given up."""
        return LITTLE_PATIENCE if self.failed else PATIENCE

    def encode(
        self, ops: Iterable[Op], *, request_started_ms: int, sent_ms: int
    ) -> tuple[str, bytes] | None:
        """The path and the body of a checkpoint of `ops`; None: there is nothing to say."""
        del request_started_ms
        ops = tuple(ops)
        if self.created:
            if not ops and not self.lease_s:
                return None
            known: dict[str, Any] = {"fn_id": self.fn_id, "app_id": self.app_id}
            known |= {"run_id": self.run_id, "ts": sent_ms}
            if self.lease_s:
                known["lease"] = True
            return f"{CREATE_PATH}/{self.run_id}/steps", _body(known, ops)
        if not ops:
            return None
        if self.carried:
            data = json.dumps(dict(self.carried))
            carried = Op(Opcode.STEP_RUN, HEADERS_ID, HEADERS_STEP, HEADERS_STEP, data=data)
            ops = (carried, *ops)
        head = {
            "run_id": self.run_id,
            "event": self.event,
            "ts": sent_ms,
            "request_version": int(headers.EXECUTION_VERSION),
            "retries": self.retries,
            "lease": True,
        }
        return CREATE_PATH, _body(head, ops)

    def judge(self, verdict: Verdict, answer: str) -> Verdict:
        """What `verdict` means here, given the server's answer."""
        if verdict is Verdict.CONFIRMED:
            self.failed = False
            return verdict if self.created else self._take(answer)
        if verdict is Verdict.GONE and not self.created:
            verdict = Verdict.UNCONFIRMED  # our own, of a try whose answer was lost: no token
        self.failed = self.failed or verdict is not Verdict.GONE
        return verdict

    def _take(self, answer: str) -> Verdict:
        """The run was created."""
        try:
            data = json.loads(answer)["data"]
            self.fn_id, self.app_id = str(data["fn_id"]), str(data["app_id"])
            self.token = str(data.get("token") or "")
            self.lease_s = float(data.get("lease") or 0)
        except (ValueError, TypeError, KeyError):
            self.failed = True
            return Verdict.UNCONFIRMED
        self.created = True
        return Verdict.CONFIRMED

    def output_path(self) -> str:
        """Where the run's response will be, with the token that opens it (recorded)."""
        return f"/v1/http/runs/{self.run_id}/output?token={self.token}"


def _body(head: Mapping[str, Any], ops: Iterable[Op]) -> bytes:
    return f'{json.dumps(head)[:-1]},"steps":{encode_ops(ops)}}}'.encode()


# ------------------------------------------------------------------ when it is sent again


class EndpointCall(BackgroundRun):
    """The checkpoints of a run whose request an orchestrator sends again."""

    __slots__ = ()

    #: An Inngest server gives no response from an op to those who wait for it (seen on one).
    plain_result = True


def is_call(fields: Mapping[str, str]) -> bool:
    """Whether a request with these headers (lower-case names) is a run's, sent by an orchestrator.

    A dev server's signature is empty, but there (recorded).
    """
    return bool(fields.get(headers.RUN_ID)) and headers.SIGNATURE in fields


def call_of(fields: Mapping[str, str], function_id: str, max_attempts: int) -> CallRequest:
    """The call request in the headers (lower-case names) of a request that was sent again.

    The journal and the event have to be fetched. Servers do not tell the attempt; the embedded
    orchestrator does. Raises MalformedCallRequestError.
    """
    run_id = fields[headers.RUN_ID]
    if not run_id.isalnum() or not run_id.isascii():
        raise _malformed(headers.RUN_ID, run_id)
    attempt = fields.get(headers.ATTEMPT)
    if attempt is not None and not (attempt.isascii() and attempt.isdecimal()):
        raise _malformed(headers.ATTEMPT, attempt)
    generation = fields.get(headers.GENERATION_ID, "")
    # Who else retries knows when to stop: only a function that has no retries fails at once.
    unknown = max_attempts if max_attempts == 1 else 2**31
    return CallRequest(
        function_id=function_id,
        run_id=run_id,
        request_id=fields.get(headers.REQUEST_ID) or fields.get(headers.JOB_ID) or run_id,
        target=fields.get(headers.STEP_ID) or NO_TARGET,
        job_id=fields.get(headers.JOB_ID, ""),
        generation_id=int(generation) if generation.isdecimal() else 0,
        attempt=int(attempt or 0),
        attempt_known=attempt is not None,
        max_attempts=max_attempts if attempt is not None else unknown,
        disable_immediate_execution=fields.get(headers.FORCE_STEP_PLAN, "").lower() == "true",
        use_api=True,
    )


def _malformed(name: str, value: str) -> MalformedCallRequestError:
    return MalformedCallRequestError(
        f"The header {name} of a call to a durable endpoint is {value[:80]!r}. Nothing was run."
    )


def take_headers(journal: Journal) -> tuple[Journal, dict[str, str]]:
    """`journal` without the step that carries headers, and those headers."""
    memo = journal.get(HEADERS_ID)
    if memo is None:
        return journal, {}
    carried = memo.value if isinstance(memo.value, dict) else {}
    rest = Journal((memo for memo in journal if memo.id != HEADERS_ID), ordered=journal.ordered)
    return rest, {str(name): str(value) for name, value in carried.items()}


# ------------------------------------------------------------------ responses as results


def encode_result(status: int, fields: Iterable[tuple[str, str]], body: bytes) -> dict[str, Any]:
    """A response as the result of a run, which the output endpoint gives back.

    `headers` holds each name once; where one is there several times, `fields` has all of them.
    A body that is no text is in base 64, and `encoding` says so; both are Onward's own.
    """
    pairs = [(name, value) for name, value in fields if name != "content-length"]
    result: dict[str, Any] = {"status": status, "headers": dict(pairs)}
    if len(result["headers"]) < len(pairs):
        result["fields"] = [list(pair) for pair in pairs]
    try:
        result["body"] = body.decode()
    except UnicodeDecodeError:
        result["body"], result["encoding"] = base64.b64encode(body).decode(), "base64"
    return result


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as a run's result has it."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


def decode_result(value: object) -> StoredResponse | None:
    """The response in a run's result, in an envelope or not; None if it is another value."""
    if isinstance(value, dict) and set(value) == {"data"}:
        value = value["data"]
    if not isinstance(value, dict) or not isinstance(value.get("status"), int):
        return None
    if not 100 <= value["status"] <= 599:  # noqa: PLR2004 - what HTTP knows
        return None
    named = value.get("headers")
    pairs = value.get("fields") or list((named if isinstance(named, dict) else {}).items())
    text = value.get("body")
    body = text if isinstance(text, str) else ""
    raw = body.encode("utf-8", "surrogatepass")
    if value.get("encoding") == "base64":
        raw = base64.b64decode(body)
    fields = tuple((str(name).lower(), str(field)) for name, field in pairs)
    return StoredResponse(value["status"], fields, raw)
