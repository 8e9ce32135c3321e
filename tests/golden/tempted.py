"""The runtime in situations that would tempt it into a trap."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from onward import App, BlockingContext, Context, Event
from onward.testing import observe_bodies
from tests.golden.recordings import Exchange, load
from tests.golden.runtime_replay import Bench
from tests.support.allowed import allowed_response, one_outcome
from tests.support.served import Answered

FUNCTION = "traps-tempted"


def one() -> int:
    return 1


def fails() -> int:
    raise ValueError("x")


@dataclass
class Invocation:
    """What one call led to: the answer, its kind, the confirmed batches, the bodies that began."""

    answer: Answered
    kind: str
    sent: list[list[dict[str, Any]]]
    begun: list[str]

    @property
    def ops(self) -> list[dict[str, Any]]:
        assert isinstance(self.answer.body, list)
        return self.answer.body

    @property
    def shape(self) -> list[str]:
        """Kind and user's id of each op of the answer."""
        return [f"{op['op']} {op.get('displayName', '')}".strip() for op in self.ops]

    @property
    def batches(self) -> list[list[str]]:
        """The steps of each checkpoint."""
        return [[op["displayName"] for op in batch] for batch in self.sent]


@dataclass
class Tempted:
    """The runtime behind one entry, with one driver, called with hand-made journals."""

    bench: Bench
    driver: str
    entry: str
    app: App = field(init=False)
    begun: list[str] = field(default_factory=list)

    def define(
        self,
        in_async: Callable[[Context], Any],
        in_blocking: Callable[[BlockingContext], Any],
        **options: Any,
    ) -> None:
        """The function that is called."""
        self.app = App("traps", orchestrator=self.bench.url)
        handler: Any = in_async if self.driver == "async" else in_blocking
        self.app.function("tempted", trigger=Event("traps/any"), **options)(handler)
        observe_bodies(
            self.app, lambda e: self.begun.append(e.step_id) if e.phase == "start" else None
        )

    def call(
        self,
        recorded: str,
        number: int = 0,
        *,
        answers: tuple[tuple[int, Any], ...] = (),
        target: str = "step",
        steps: dict[str, Any] | None = None,
        **ctx: Any,
    ) -> Invocation:
        """Call with the request `number` of the recording, changed as told.

        `answers` are those of the checkpoints; the last one repeats.
        """
        call = copy.deepcopy(load(recorded).calls[number])
        body = call.exchange.body
        body["ctx"].update(ctx)
        if steps is not None:
            body["steps"], body["ctx"]["stack"] = steps, {"current": 0, "stack": list(steps)}
        api = self.bench.api
        api.requests, self.begun = [], []
        api.answers = [
            Exchange(0, 0, {}, {"status": status, "body": value}, injected=True)
            for status, value in answers
        ]
        headers = {"content-type": "application/json"}
        served = self.bench.entry(self.app, self.entry)
        answer = served.call(FUNCTION, target, json.dumps(body).encode(), headers)
        return self._checked(answer, targeted=target != "step", refused=bool(answers))

    def _checked(self, answer: Answered, *, targeted: bool, refused: bool) -> Invocation:
        sent = [request["body"]["steps"] for request in self.bench.api.requests]
        kind = "error"
        if answer.status == 206:
            kind = allowed_response(answer.body, targeted=targeted, unconfirmable=refused)
            for batch in sent:
                assert all(op["op"] == "StepRun" for op in batch)
                one_outcome({op["id"]: op["data"] for op in batch}, answer.body)
            confirmed = set() if refused else {op["id"] for batch in sent for op in batch}
            answered = {op["id"] for op in answer.body}
            assert not confirmed & answered, "confirmed, and answered again"
        return Invocation(answer, kind, sent, self.begun)


def sequence(tempted: Tempted, *steps: str, bad: str = "", **options: Any) -> None:
    """A function of these steps one after the other; `bad` fails, `nap` sleeps."""
    expected = options.pop("expected", {})

    async def in_async(ctx: Context) -> str:
        for step in steps:
            if step == "nap":
                await ctx.step.sleep(step, "1s")
            else:
                body = fails if step == bad else one
                await ctx.step.run(step, body, expected=expected.get(step))
        return "ok"

    def in_blocking(ctx: BlockingContext) -> str:
        for step in steps:
            if step == "nap":
                ctx.step.sleep(step, "1s")
            else:
                ctx.step.run(step, fails if step == bad else one, expected=expected.get(step))
        return "ok"

    tempted.define(in_async, in_blocking, **options)


def parallel(tempted: Tempted, *steps: str, bad: tuple[str, ...] = (), **options: Any) -> None:
    """A function of these steps all at once; those named `nap…` sleep."""

    def body_of(step: str) -> Callable[[], int]:
        return fails if step in bad else one

    async def in_async(ctx: Context) -> str:
        await asyncio.gather(
            *(
                ctx.step.sleep(step, "1s")
                if step.startswith("nap")
                else ctx.step.run(step, body_of(step))
                for step in steps
            )
        )
        return "ok"

    def in_blocking(ctx: BlockingContext) -> str:
        def branch(step: str) -> None:
            if step.startswith("nap"):
                ctx.step.sleep(step, "1s")
            else:
                ctx.step.run(step, body_of(step))

        ctx.step.gather(*(lambda step=step: branch(step) for step in steps))
        return "ok"

    tempted.define(in_async, in_blocking, **options)
