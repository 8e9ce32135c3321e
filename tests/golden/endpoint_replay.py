"""Plays the recordings of durable endpoints to the runtime, and compares everything it sends."""

from __future__ import annotations

import copy
import json
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

import onward
from onward import App, endpoint_serving
from onward.protocol import headers as names
from tests.golden.differences import Comparison
from tests.golden.recordings import Exchange, Recording, load
from tests.golden.runtime_replay import CHECKPOINT_HEADERS, environment
from tests.support.loops import HANGS_AFTER_S, LoopThread

NAMES = ("endpoint-all-sync", "endpoint-goes-async-on-sleep")

#: Requests that are not the runtime's to make.
NOT_OURS = ("/output?", "/realtime/")


class RecordedServer:
    """Answers as the recorded server did, each request once and in recorded order."""

    def __init__(self, recording: Recording) -> None:
        self.left = [e for e in recording.exchanges[1:] if not _is_foreign(e)]
        self.requests: list[dict[str, Any]] = []
        self.problems: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        parts = [await receive()]
        while parts[-1].get("more_body"):
            parts.append(await receive())
        text = b"".join(part.get("body", b"") for part in parts)
        headers = {key.decode(): value.decode() for key, value in scope["headers"]}
        request = {
            "method": scope["method"],
            "path": scope["path"],
            "headers": {key: headers[key] for key in CHECKPOINT_HEADERS if key in headers},
            "body": json.loads(text or b"null"),
        }
        self.requests.append(request)
        here = (request["method"], request["path"])
        found = next(
            (e for e in self.left if (e.request["method"], e.request["path"]) == here), None
        )
        if found is None:
            self.problems.append(f"{here} was not recorded")
            status, answer = 500, None
        else:
            self.left.remove(found)
            status, answer = found.response["status"], found.response["body"]
        content = json.dumps(answer).encode()
        fields = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": content})


def _is_foreign(exchange: Exchange) -> bool:
    return any(part in exchange.request["path"] for part in NOT_OURS)


def endpoint_of(app: App, driver: str) -> FastAPI:
    """The recorded endpoint."""
    api = FastAPI()
    if driver == "async":

        @api.get("/api/orders")
        @onward.endpoint(app, "orders")
        async def orders(ctx: onward.Context, sleep: bool = False) -> dict[str, int]:
            a = await ctx.step.run("a", lambda: {"n": 1})
            if sleep:
                await ctx.step.sleep("nap", "1s")
            return {"b": await ctx.step.run("b", lambda: a["n"] + 1)}
    else:

        @api.get("/api/orders")
        @onward.endpoint(app, "orders")
        def orders_blocking(ctx: onward.BlockingContext, sleep: bool = False) -> dict[str, int]:
            a = ctx.step.run("a", lambda: {"n": 1})
            if sleep:
                ctx.step.sleep("nap", "1s")
            return {"b": ctx.step.run("b", lambda: a["n"] + 1)}

    return api


def compare(loops: LoopThread, name: str, driver: str) -> Comparison:
    """How the endpoint differs from the recorded one in the scenario `name`."""
    recording = load(name)
    with pytest.MonkeyPatch.context() as patch:
        environment(patch, signed=False)
        return _Play(loops, recording, driver, patch).play()


class _Play:
    def __init__(
        self, loops: LoopThread, recording: Recording, driver: str, patch: pytest.MonkeyPatch
    ) -> None:
        self.recording = recording
        self.server = RecordedServer(recording)
        created = next(e for e in recording.exchanges if e.request["path"] == "/v1/checkpoint")
        self.run_id = created.body["run_id"]
        patch.setattr(endpoint_serving, "new_ulid", lambda: self.run_id)
        self.app = App("golden", orchestrator=loops.serve(self.server))
        self.url = loops.serve(endpoint_of(self.app, driver))
        self.comparison = Comparison()

    def play(self) -> Comparison:
        comparison, server = self.comparison, self.server
        first = self.recording.exchanges[0]
        answer = self._request(first, {})
        status = first.response["status"]
        comparison.same(status, answer.status_code, "status")
        if status == 200:
            comparison.same(first.response["body"], answer.json(), "body")
            comparison.same(first.response["headers"], _own(answer), "headers")
        self._compare_checkpoints()
        if status == 302:
            self._compare_output(answer)
            self._continue(first)
        comparison.problems += server.problems
        comparison.problems += [f"not asked for: {e.request['path']}" for e in server.left]
        self.app.channel.close()
        return comparison

    def _request(self, first: Exchange, headers: dict[str, str]) -> httpx.Response:
        """The recorded request, as it reached the recorded endpoint."""
        data = self._event()["data"]
        fields = {
            "host": urlsplit(data["domain"]).netloc,
            "content-type": data["content_type"],
            **headers,
        }
        with httpx.Client(trust_env=False, timeout=HANGS_AFTER_S) as client:
            return client.request(
                first.request["method"], self.url + first.request["path"], headers=fields
            )

    def _event(self) -> dict[str, Any]:
        event: dict[str, Any] = self.recording.exchanges[1].body["event"]
        return event

    def _compare_checkpoints(self) -> None:
        recorded = [
            e.request
            for e in self.recording.exchanges
            if e.request["path"].startswith("/v1/checkpoint")
        ]
        sent = self.server.requests
        self.comparison.same(len(recorded), len(sent), "number of checkpoints")
        for n, (theirs, ours) in enumerate(zip(recorded, sent, strict=False)):
            self.comparison.checkpoint(*self._forgiven(theirs, ours), f"checkpoint {n}")

    def _forgiven(
        self, recorded: dict[str, Any], ours: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both without what a listed difference explains."""
        theirs, mine, comparison = copy.deepcopy(recorded), copy.deepcopy(ours), self.comparison
        if "event" in theirs["body"]:
            data, own = theirs["body"]["event"]["data"], mine["body"]["event"]["data"]
            if (data.pop("ip"), own.pop("ip")) == ("", "127.0.0.1"):
                comparison.use("endpoint.ip")
            if (data.pop("fn"), own.pop("fn")) == ("", "golden-orders"):
                comparison.use("endpoint.fn")
            if mine["body"].pop("lease", None) is True:
                comparison.use("endpoint.lease")
        for op in theirs["body"]["steps"]:
            if op.get("mode") == "async":
                comparison.use("op.mode")
                del op["mode"]
            if op["op"] == "RunComplete" and op["data"].pop("version", None) == 2:
                comparison.use("endpoint.version")
            if op["op"] == "RunComplete" and op["data"]["body"] == "null":
                comparison.use("endpoint.body")
                op["data"]["body"] = '{"b":2}'
        return theirs, mine

    def _compare_output(self, answer: httpx.Response) -> None:
        """The caller is sent where the recorded one was."""
        recorded = next(e for e in self.recording.exchanges if "/output?" in e.request["path"])
        expected = (self.app.orchestrator or "") + recorded.request["path"]
        self.comparison.same(expected, answer.headers.get("location"), "location")

    def _continue(self, first: Exchange) -> None:
        """The server sends the request again, as its source says, until the run is complete.

        The recorded answers are known by what the journal holds at the next call, and by the
        output.
        """
        journals = [e for e in self.recording.exchanges if e.request["path"].endswith("/actions")]
        output = next(e for e in self.recording.exchanges if "/output?" in e.request["path"])
        for n, journal in enumerate(journals):
            call = {
                names.RUN_ID: self.run_id,
                names.SIGNATURE: "",
                names.REQUEST_ID: f"01M835XX00000000000000000{n}",
                names.REQUEST_VERSION: "2",
            }
            answer = self._request(first, call)
            before = set(journal.response["body"])
            if n + 1 < len(journals):
                self.comparison.same(206, answer.status_code, f"call {n}.status")
                [op] = answer.json()
                after = journals[n + 1].response["body"]
                [added] = set(after) - before
                found = {"id": op.get("id"), "op": op.get("op"), "data": op.get("data")}
                expected = {"id": added, "op": "StepRun", "data": after[added]["data"]}
            else:
                # Not recorded. A response in an op is not given back by the output: seen later.
                found = {"status": answer.status_code, "body": answer.json()["data"]["body"]}
                expected = {"status": 200, "body": output.response["body"]}
            self.comparison.same(expected, found, f"call {n}")


def _own(answer: httpx.Response) -> dict[str, str]:
    """The answer's headers, without the server's own and the one that names the run."""
    added = ("date", "server", "content-length", names.RUN_ID)
    return {key: value for key, value in answer.headers.items() if key not in added}
