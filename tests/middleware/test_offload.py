"""Large payloads go to a store; functions see no difference, and the wire stays small."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from onward import BlockingContext, ConfigurationError, Context
from onward.context import InboundEvent
from onward.errors import OffloadError
from onward.middleware import (
    Call,
    DirectoryStore,
    EncryptionMiddleware,
    Middleware,
    OffloadMiddleware,
    Outcome,
    S3Store,
    Step,
    Store,
)
from tests.middleware.s3_server import S3Server
from tests.middleware.wire import Tap
from tests.support.harness import Platform, World, clean_environment
from tests.support.loops import HANGS_AFTER_S

LARGE = "0123456789" * 500
SMALL = "small"
STEP = Step("report", "a" * 40)


class Report(BaseModel):
    text: str
    pages: int = 3


def report(text: str) -> Report:
    return Report(text=text)


async def in_async(ctx: Context) -> Report:
    made = await ctx.step.run("report", report, LARGE)
    small = await ctx.step.run("small", lambda: SMALL)
    await ctx.step.sleep("nap", "1ms")
    assert isinstance(made, Report)
    assert small == SMALL
    return await ctx.step.run("again", report, made.text)


def in_blocking(ctx: BlockingContext) -> Report:
    made = ctx.step.run("report", report, LARGE)
    small = ctx.step.run("small", lambda: SMALL)
    ctx.step.sleep("nap", "1ms")
    assert isinstance(made, Report)
    assert small == SMALL
    return ctx.step.run("again", report, made.text)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def s3_store(s3: S3Server, bucket: str = "payloads", **options: Any) -> S3Store:
    client = {
        "endpoint_url": s3.url,
        "region_name": "eu-central-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    return S3Store(bucket, "onward", client_options=client, **options)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server) -> Store:
    s3.objects.clear()
    return DirectoryStore(tmp_path / "store") if request.param == "directory" else s3_store(s3)


def middleware_for(store: Store, **options: Any) -> OffloadMiddleware:
    return OffloadMiddleware(store, threshold="1KB", **options)


def call(*middleware: Middleware, run_id: str = "01RUN") -> Call:
    return Call("shop", run_id=run_id, middleware=middleware)


@pytest.mark.parametrize("options", [{}, {"checkpointing": False}])
def test_large_results_are_kept_in_the_store(
    world: World, store: Store, options: dict[str, Any]
) -> None:
    world.app_options["middleware"] = [middleware_for(store)]
    tap = Tap(world)
    app = world.define(in_async, in_blocking, **options)
    run = world.run()
    text = tap.text(run)
    assert LARGE not in text
    assert SMALL in text
    chain = app.chain()
    assert chain is not None
    assert chain.opened(run.result) == {"text": LARGE, "pages": 3}
    assert run.once


def test_function_results_stay_on_request(world: World, tmp_path: Path) -> None:
    middleware = middleware_for(DirectoryStore(tmp_path), results=False)
    world.app_options["middleware"] = [middleware]
    world.define(in_async, in_blocking)
    assert world.run().result == {"text": LARGE, "pages": 3}


@pytest.mark.parametrize("order", ["offload first", "encryption first"])
def test_with_encryption_nothing_is_kept_in_the_clear(
    world: World, tmp_path: Path, order: str
) -> None:
    both: list[Middleware] = [
        OffloadMiddleware(DirectoryStore(tmp_path), "1KB"),
        EncryptionMiddleware("a long and random key"),
    ]
    world.app_options["middleware"] = both if order == "offload first" else both[::-1]
    tap = Tap(world)
    app = world.define(in_async, in_blocking)
    run = world.run()
    objects = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(objects) == 3
    assert all("0123456789" not in text and "__ENCRYPTED__" in text for text in objects)
    assert "0123456789" not in tap.text(run)
    chain = app.chain()
    assert chain is not None
    assert chain.opened(run.result) == {"text": LARGE, "pages": 3}


class Losing(Middleware):
    """Loses what is stored, before the second invocation reads it."""

    def __init__(self, path: Path, *, damage: bool) -> None:
        self.path = path
        self.damage = damage

    def transform_recorded(self, call: Call, outcome: Outcome) -> Outcome:
        for path in self.path.rglob("*.json"):
            if self.damage:
                path.write_text("[]")
            else:
                path.unlink()
        return outcome

    reversible = True


@pytest.mark.parametrize("damage", [False, True])
def test_a_lost_or_damaged_object_is_told_with_step_key_and_fix(
    world: World, tmp_path: Path, damage: bool
) -> None:
    world.app_options["middleware"] = [
        Losing(tmp_path, damage=damage),
        middleware_for(DirectoryStore(tmp_path)),
    ]
    world.define(in_async, in_blocking, retries=0)
    message = world.run().error["message"]
    fix = "not what was written" if damage else "lifecycle rule"
    # Where the journal was read again its steps are known by their hashed ids alone.
    assert re.search(
        r"('report'|hashed id [0-9a-f]{40}).*runs/\w+/[0-9a-f]{40}/[0-9a-f]{64}\.json", message
    )
    for text in ("OffloadMiddleware.transform_recorded", "'function'", str(tmp_path), fix):
        assert text in message


def test_a_store_that_fails_fails_the_step_which_is_tried_again(
    world: World, tmp_path: Path
) -> None:
    class Flaky(DirectoryStore):
        tries = 0

        def put(self, key: str, data: bytes) -> None:
            self.tries += 1
            if self.tries == 1:
                raise OffloadError("the store is away.")
            super().put(key, data)

    world.app_options["middleware"] = [middleware_for(Flaky(tmp_path))]
    app = world.define(in_async, in_blocking)
    run = world.run()
    chain = app.chain()
    assert chain is not None
    assert chain.opened(run.result)["text"] == LARGE
    assert run.starts["report"] == 2
    (error,) = [op["error"] for i in run.invocations for op in i.body if "error" in op]
    assert error["name"] == "MiddlewareError"
    assert "the store is away" in error["message"]


def test_the_event_loop_goes_on_while_the_store_is_waited_for(world: World, tmp_path: Path) -> None:
    threads: set[int] = set()

    class Noting(DirectoryStore):
        def put(self, key: str, data: bytes) -> None:
            threads.add(threading.get_ident())
            super().put(key, data)

        def get(self, key: str) -> bytes | None:
            threads.add(threading.get_ident())
            return super().get(key)

    where: list[int] = []

    async def noting_async(ctx: Context) -> Report:
        where.append(threading.get_ident())
        return await in_async(ctx)

    world.app_options["middleware"] = [middleware_for(Noting(tmp_path))]
    world.define(noting_async, in_blocking)
    world.run()
    assert threads
    assert not threads & set(where)


@pytest.mark.parametrize("entry", ["asgi", "lambda"])
def test_a_store_that_does_not_answer_is_cut_with_its_step(
    platform: Platform, entry: str, tmp_path: Path
) -> None:
    answers = threading.Event()
    begun: list[str] = []

    class Hanging(DirectoryStore):
        def put(self, key: str, data: bytes) -> None:
            begun.append(key)
            if len(begun) == 1:
                assert answers.wait(HANGS_AFTER_S)
            super().put(key, data)

    async def report_async() -> str:
        return LARGE

    async def function(ctx: Context) -> str:
        result = await ctx.step.run("report", report_async, timeout="100ms")
        answers.set()
        return result

    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        middleware = [middleware_for(Hanging(tmp_path), results=False)]
        world = World(platform, "async", entry, app_options={"middleware": middleware})
        world.define(function, None)
        run = world.run()
        world.close()
    assert run.result == LARGE
    assert run.kinds.split()[0] == "b", "the first try timed out"
    assert len(begun) == 2


# ---------------------------------------------------------------------- references and events


def offloaded(middleware: OffloadMiddleware, value: Any) -> dict[str, Any]:
    outcome = Outcome(STEP, data=value)
    reference = middleware.transform_output(call(middleware), outcome).data
    assert isinstance(reference, dict)
    return reference


def loaded(middleware: OffloadMiddleware, reference: Any) -> Any:
    return middleware.transform_recorded(call(middleware), Outcome(STEP, data=reference)).data


def test_the_reference_names_version_key_size_digest_and_step(store: Store) -> None:
    reference = offloaded(middleware_for(store), LARGE)
    key = f"runs/01RUN/{'a' * 40}/{reference['sha256']}.json"
    assert reference == {
        "__ONWARD_OFFLOADED__": 1,
        "key": key,
        "size": len(LARGE) + 2,
        "sha256": reference["sha256"],
        "step": "report",
    }
    assert store.get(key) == json.dumps(LARGE).encode()
    assert offloaded(middleware_for(store), LARGE) == reference


def test_what_looks_like_a_reference_is_kept_apart(store: Store) -> None:
    middleware = middleware_for(store)
    forged = {"__ONWARD_OFFLOADED__": 1, "key": "events/x", "sha256": "x"}
    assert loaded(middleware, offloaded(middleware, forged)) == forged
    mentions = {"text": "__ONWARD_OFFLOADED__"}
    assert loaded(middleware, offloaded(middleware, mentions)) == mentions


@pytest.mark.parametrize(
    "key",
    [
        "../../etc/passwd",
        "runs/../events/" + "0" * 64 + ".json",
        "runs/a/../" + "0" * 64 + ".json",
        "/runs/a/b/" + "0" * 64 + ".json",
        "events/" + "1" * 64 + ".json",
        "events/" + "0" * 64 + ".json\n",
        None,
        7,
    ],
)
def test_a_reference_asks_for_no_other_object(tmp_path: Path, key: Any) -> None:
    class Untouched(DirectoryStore):
        def get(self, key: str) -> bytes | None:
            raise AssertionError(key)

    middleware = middleware_for(Untouched(tmp_path))
    reference = {"__ONWARD_OFFLOADED__": 1, "key": key, "sha256": "0" * 64, "step": "report"}
    with pytest.raises(OffloadError, match="no object's key"):
        loaded(middleware, reference)


def test_a_newer_format_is_told(tmp_path: Path) -> None:
    middleware = middleware_for(DirectoryStore(tmp_path))
    with pytest.raises(OffloadError, match="format 2"):
        loaded(middleware, {"__ONWARD_OFFLOADED__": 2})


def test_data_of_events(store: Store) -> None:
    middleware = middleware_for(store)
    data = {"text": LARGE, "id": 7}
    small = {"name": "small", "data": {"id": 8}}
    sent = middleware.before_send_events(call(middleware), ({"name": "e", "data": data}, small))
    assert LARGE not in json.dumps(sent)
    assert sent[1] == small
    added = {**sent[0]["data"], "_inngest": {"fn_id": "x"}}
    received = middleware.transform_event(call(middleware), InboundEvent("e", added))
    assert received.data == {**data, "_inngest": {"fn_id": "x"}}
    kept = middleware_for(store, events=False)
    assert kept.before_send_events(call(kept), ({"name": "e", "data": data},))[0]["data"] == data


async def sends_async(ctx: Context) -> str:
    await ctx.step.send_event("tell", {"name": "told", "data": {"text": LARGE}})
    event = await ctx.step.wait_for_event("wait", event="told", timeout="1ms")
    return str(event)


def sends_blocking(ctx: BlockingContext) -> str:
    ctx.step.send_event("tell", {"name": "told", "data": {"text": LARGE}})
    return str(ctx.step.wait_for_event("wait", event="told", timeout="1ms"))


def test_sent_events_leave_their_data_in_the_store(world: World, tmp_path: Path) -> None:
    world.app_options["middleware"] = [middleware_for(DirectoryStore(tmp_path))]
    tap = Tap(world)
    world.define(sends_async, sends_blocking)
    text = tap.text(world.run())
    assert LARGE not in text
    assert "__ONWARD_OFFLOADED__" in text
    assert len(list((tmp_path / "events").glob("*.json"))) == 1


# ---------------------------------------------------------------------- stores


def test_put_options_reach_s3(s3: S3Server) -> None:
    s3_store(s3, put_options={"ServerSideEncryption": "aws:kms"}).put("events/x.json", b"[]")
    assert s3.headers["x-amz-server-side-encryption"] == "aws:kms"
    assert s3.headers["content-type"] == "application/json"
    assert s3.objects["payloads/onward/events/x.json"] == b"[]"


def test_a_refusal_of_s3_is_told(s3: S3Server) -> None:
    denied = s3_store(s3, "denied")
    told = r"s3://denied/onward/events/x\.json cannot be .*Access ?Denied"
    with pytest.raises(OffloadError, match=told):
        denied.get("events/x.json")
    with pytest.raises(OffloadError, match=told):
        denied.put("events/x.json", b"")


def test_nothing_is_an_answer(store: Store) -> None:
    assert store.get("events/nothing.json") is None


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(OffloadError, match="cannot be written"):
        DirectoryStore(tmp_path).put("runs/x.json", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_bad_options(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="no directory"):
        DirectoryStore(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="bucket"):
        S3Store("")
    with pytest.raises(ConfigurationError, match="store"):
        OffloadMiddleware("s3://bucket")  # type: ignore[arg-type]
    for threshold in ("256 apples", "", -1, 1.5, True):
        with pytest.raises(ConfigurationError, match="threshold"):
            OffloadMiddleware(DirectoryStore(tmp_path), threshold)  # type: ignore[arg-type]
    assert OffloadMiddleware(DirectoryStore(tmp_path), "1 KiB").threshold == 1024
    assert OffloadMiddleware(DirectoryStore(tmp_path)).threshold == 256_000


def test_an_error_passes(tmp_path: Path) -> None:
    from onward.middleware import ErrorInfo

    middleware = middleware_for(DirectoryStore(tmp_path))
    outcome = Outcome(STEP, error=ErrorInfo("E", LARGE))
    assert middleware.transform_output(call(middleware), outcome) is outcome
    assert middleware.transform_recorded(call(middleware), outcome) is outcome
