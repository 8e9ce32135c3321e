"""Plays recorded call requests to the runtime, and compares everything that it sends."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

import onward.transport.channel
from onward import App, Event
from tests.golden.differences import Comparison
from tests.golden.recordings import Exchange, RecordedCall, load
from tests.golden.runtime_code import CODE
from tests.support.allowed import allowed_response
from tests.support.loops import LoopThread
from tests.support.served import PATH, Answered, Served, ServedByLambda, ServedOverHttp

#: The key that `signed-*` was recorded with, and when.
SIGNING_KEY = "signkey-test-66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
SIGNED_AT = 1795403262

#: How long a checkpoint that nothing confirms is sent again, in seconds.
RETRY_BUDGET = 0.5

CHECKPOINT_HEADERS = ("authorization", "content-type", "user-agent", "x-inngest-sdk")

#: Calls whose parallel steps the recorded SDK plans: the later calls that one of ours does it in.
EAGER = {("parallel-three", 0): (1, 2, 3, 4), ("parallel-one-fails", 0): (1, 2)}
CONTINUES = {("max-runtime-reached", 0)}
HANDED_OVER = {("checkpoint-api-down-fallback", 0)}
COMPLETES = {("race-two", 2)}


class RecordedApi:
    """The orchestrator's API, with the recorded answers of one call's checkpoints in their order.

    Any more get the last answer again, or 200: what was sent is compared afterwards.
    """

    def __init__(self) -> None:
        self.answers: list[Exchange] = []
        self.event_ids: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.journal: dict[str, Any] = {}
        self.reads: list[str] = []
        self.checkpointed = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        parts = [await receive()]
        while parts[-1].get("more_body"):
            parts.append(await receive())
        body = json.loads(b"".join(part.get("body", b"") for part in parts) or b"null")
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        request = {
            "method": scope["method"],
            "path": scope["path"],
            "headers": {key: headers[key] for key in CHECKPOINT_HEADERS if key in headers},
            "body": body,
        }
        status, answer = self._answer(request)
        content = json.dumps(answer).encode()
        fields = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": content})

    def _answer(self, request: dict[str, Any]) -> tuple[int, Any]:
        if request["path"].startswith("/e/"):
            assert len(request["body"]) == len(self.event_ids)
            return 200, {"ids": self.event_ids, "status": 200}
        if request["path"].startswith("/v0/runs/"):
            self.reads.append(request["path"])
            return 200, self.journal
        self.requests.append(request)
        self.checkpointed.set()
        if not self.answers:
            return 200, None
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        return answer.response["status"], answer.response["body"]


class Bench:
    """Everything that a comparison needs; each is made once."""

    def __init__(self, loops: LoopThread) -> None:
        self.api = RecordedApi()
        self.url = loops.serve(self.api)
        self.asgi = ServedOverHttp(loops)
        self._made: dict[tuple[str, str, str], Comparison] = {}

    def app(self, name: str, driver: str) -> App:
        """The app that has the scenario's function."""
        code = CODE[name](self.api.checkpointed)
        recorded = load(name).function_id
        id_ = "golden-signed" if recorded == "golden-signed-signed" else "golden"
        app = App(id_, orchestrator=self.url)
        handler = code.in_async if driver == "async" else code.in_blocking
        own, failed = recorded.removeprefix(f"{id_}-"), recorded.endswith("-failure")
        app.function(
            own.removesuffix("-failure"),
            trigger=Event("golden/any"),
            checkpointing=code.checkpointing,
            on_failure=handler if failed else None,
        )(handler)
        return app

    def entry(self, app: App, entry: str) -> Served:
        """The entry to `app` that is called so."""
        if entry == "lambda":
            return ServedByLambda(app)
        self.asgi.app = app
        return self.asgi

    def compare(self, name: str, driver: str, entry: str) -> Comparison:
        """How our answers to the calls of the scenario `name` differ from the recorded ones."""
        key = (name, driver, entry)
        if key not in self._made:
            with pytest.MonkeyPatch.context() as patch:
                environment(patch, signed=name.startswith("signed"))
                patch.setattr(onward.transport.channel, "RETRY_BUDGET", RETRY_BUDGET)
                self._made[key] = self._play(name, self.app(name, driver), entry)
        return self._made[key]

    def _play(self, name: str, app: App, entry: str) -> Comparison:
        comparison, calls = Comparison(), load(name).calls
        for n, call in enumerate(calls):
            ours, sent = self.ask(app, call, entry)
            if isinstance(ours.body, list) and ours.status == 206:
                targeted = call.query["stepId"] != "step"
                failed = any(c.injected for c in call.checkpoints)
                allowed_response(ours.body, targeted=targeted, unconfirmable=failed)
            where = (name, n)
            if where in EAGER:
                later = [calls[m] for m in EAGER[where]]
                _compare_eager(comparison, [call, *later], ours, sent)
                continue
            _compare_checkpoints(comparison, call, sent, retried=where in HANDED_OVER)
            status, body = _expected(comparison, where, call, calls)
            comparison.same(status, ours.status, f"{n}.status")
            comparison.answer(body, ours.body, f"{n}.body")
            comparison.headers(call.exchange.response["headers"], ours.headers)
        app.channel.close()
        return comparison

    def ask(
        self, app: App, call: RecordedCall, entry: str
    ) -> tuple[Answered, list[dict[str, Any]]]:
        """Our answer to the recorded call, and the checkpoints that were sent before it."""
        api = self.api
        api.answers, api.requests = call.checkpoints, []
        api.checkpointed.clear()
        api.event_ids = _recorded_event_ids(call)
        request = call.exchange.request
        raw = request.get("raw_body") or json.dumps(call.exchange.body)
        answered = self.entry(app, entry).call(
            call.query["fnId"], call.query["stepId"], raw.encode(), request["headers"]
        )
        return answered, list(api.requests)


def environment(patch: pytest.MonkeyPatch, *, signed: bool) -> None:
    """The environment of the recorded function."""
    import os

    for variable in list(os.environ):
        if variable.startswith(("INNGEST_", "ONWARD_", "AWS_LAMBDA_", "VERCEL")):
            patch.delenv(variable)
    if signed:
        patch.setenv("INNGEST_SIGNING_KEY", SIGNING_KEY)
        patch.setattr("onward.asgi.time", _ClockOfTheRecording())
    else:
        patch.setenv("INNGEST_DEV", "1")


class _ClockOfTheRecording:
    """Stands in for the module `time`: signatures are good for five minutes."""

    @staticmethod
    def time() -> float:
        return SIGNED_AT + 1.0


def _recorded_event_ids(call: RecordedCall) -> list[str]:
    for checkpoint in call.checkpoints:
        for op in checkpoint.body["steps"]:
            if op["opts"].get("type") == "step.sendEvent":
                return list(op["data"]["ids"])
    return []


def _compare_checkpoints(
    comparison: Comparison, call: RecordedCall, sent: list[dict[str, Any]], *, retried: bool
) -> None:
    recorded = [checkpoint.request for checkpoint in call.checkpoints]
    if retried and len(sent) > 1:
        comparison.use("retries of a checkpoint")
        recorded = [recorded[0]] * len(sent)
    comparison.same(len(recorded), len(sent), "number of checkpoints")
    for n, (theirs, ours) in enumerate(zip(recorded, sent, strict=False)):
        comparison.checkpoint(theirs, ours, f"checkpoint {n}")


def _expected(
    comparison: Comparison, where: tuple[str, int], call: RecordedCall, calls: list[RecordedCall]
) -> tuple[int, Any]:
    """What we have to answer: what was recorded, or a listed difference from it."""
    from hashlib import sha1

    status, body = call.exchange.response["status"], call.exchange.response["body"]
    if where in CONTINUES:
        comparison.use("continuation")
        id_ = sha1(f"onward:continue:{call.ctx['request_id']}".encode()).hexdigest()
        names = {"name": "continue", "displayName": "continue"}
        return status, [{"op": "DiscoveryRequest", "id": id_, **names, "opts": {}}]
    if where in HANDED_OVER:
        comparison.use("handover")
        return status, [*body, *calls[where[1] + 1].exchange.response["body"]]
    if where in COMPLETES:
        comparison.use("206 for 200")
        complete = load("no-steps").calls[0].exchange.response["body"][-1]
        return 206, [{**complete, "data": body}]
    return status, body


def _compare_eager(
    comparison: Comparison,
    calls: list[RecordedCall],
    ours: Answered,
    sent: list[dict[str, Any]],
) -> None:
    """One call of ours does what the recorded ones do together: the same ops, in some order."""
    comparison.use("eager")
    recorded = [op for call in calls for op in _finished(call)]
    made = [op for checkpoint in sent for op in checkpoint["body"]["steps"]]
    assert isinstance(ours.body, list)
    made += ours.body

    def by_id(op: dict[str, Any]) -> str:
        return str(op["id"])

    comparison.ops(sorted(recorded, key=by_id), sorted(made, key=by_id), "eager")
    comparison.same(recorded[-1]["id"], made[-1]["id"], "the last op")
    last = calls[-1].exchange.response
    comparison.same(last["status"], ours.status, "status")
    comparison.headers(last["headers"], ours.headers)


def _finished(call: RecordedCall) -> list[dict[str, Any]]:
    checkpointed = [op for checkpoint in call.checkpoints for op in checkpoint.body["steps"]]
    answered = [op for op in call.exchange.response["body"] if op["op"] != "StepPlanned"]
    return [*checkpointed, *answered]


__all__ = ["PATH", "Bench"]
