"""End-to-end encryption: nothing secret is on the wire, and functions see no difference."""

from __future__ import annotations

import asyncio
import builtins
import sys
from typing import Any

import pytest
from pydantic import BaseModel

from onward import (
    App,
    BlockingContext,
    ConfigurationError,
    Context,
    Event,
    NonRetriableError,
    StepError,
)
from onward.context import InboundEvent
from onward.errors import DecryptionError, MissingExtraError
from onward.middleware import Call, EncryptionMiddleware, Middleware, Outcome
from onward.middleware.encryption import AES_GCM, LIBSODIUM
from tests.middleware.wire import Tap
from tests.support.harness import World

KEY, OLD = "a long and random key", "the key of last year"
SECRET = "4111-1111-1111-1111"
CALL = Call("shop")

#: Made by version 2.0.0 of the TypeScript SDK's middleware, with the key "golden-key-1".
BY_TYPESCRIPT = (
    "2sGA2QlqusgyaHt6N1JdV98C1W8JZqn3Yl/9cInNoNqT7M9D3mbq+Z8V/bs5gJrJC/ianV4FzGgj2tEwkkrMAB7ax4fB46"
    "mHU0S1"
)


class Card(BaseModel):
    number: str
    limit: int = 5


def read(number: str) -> Card:
    return Card(number=number)


def refuse(number: str) -> None:
    raise NonRetriableError(f"no money on {number}")


async def in_async(ctx: Context) -> dict[str, Any]:
    number = ctx.event.data["encrypted"]["card"]
    card = await ctx.step.run("card", read, number)
    both = await asyncio.gather(*(ctx.step.run(f"p{n}", lambda: [number]) for n in range(2)))
    await ctx.step.sleep("nap", "1ms")
    await ctx.step.send_event("tell", {"name": "told", "data": {"encrypted": number, "open": 1}})
    try:
        await ctx.step.run("fails", refuse, number)
    except StepError as error:
        reason = error.message
    return {"card": card.number, "both": list(both), "reason": reason, "limit": card.limit}


def in_blocking(ctx: BlockingContext) -> dict[str, Any]:
    number = ctx.event.data["encrypted"]["card"]
    card = ctx.step.run("card", read, number)
    both = ctx.step.gather(*(lambda n=n: ctx.step.run(f"p{n}", lambda: [number]) for n in range(2)))
    ctx.step.sleep("nap", "1ms")
    ctx.step.send_event("tell", {"name": "told", "data": {"encrypted": number, "open": 1}})
    try:
        ctx.step.run("fails", refuse, number)
    except StepError as error:
        reason = error.message
    return {"card": card.number, "both": list(both), "reason": reason, "limit": card.limit}


RESULT = {
    "card": SECRET,
    "both": [[SECRET], [SECRET]],
    "reason": f"no money on {SECRET}",
    "limit": 5,
}


def sent(middleware: EncryptionMiddleware, data: dict[str, Any]) -> dict[str, Any]:
    (event,) = middleware.before_send_events(CALL, ({"name": "e", "data": data},))
    assert isinstance(event["data"], dict)
    return event["data"]


@pytest.mark.parametrize("strategy", [LIBSODIUM, AES_GCM])
@pytest.mark.parametrize("options", [{}, {"checkpointing": False}, {"parallel": "orchestrated"}])
def test_nothing_secret_is_on_the_wire(
    world: World, strategy: str, options: dict[str, Any]
) -> None:
    middleware = EncryptionMiddleware(KEY, strategy=strategy, errors=True)
    world.app_options["middleware"] = [middleware]
    tap = Tap(world)
    app = world.define(in_async, in_blocking, **options)
    run = world.run(sent(middleware, {"encrypted": {"card": SECRET}, "id": 7}))
    text = tap.text(run)
    assert tap.bodies
    assert "told" in text
    assert SECRET not in text
    assert SECRET not in str(run.view)
    chain = app.chain()
    assert chain is not None
    assert chain.opened(run.result) == RESULT


def test_the_wire_carries_secrets_without_it(world: World) -> None:
    tap = Tap(world)
    world.define(in_async, in_blocking)
    run = world.run({"encrypted": {"card": SECRET}})
    assert run.result == RESULT
    assert SECRET in tap.text(run)


async def fails_async(ctx: Context) -> None:
    raise NonRetriableError(f"no {ctx.event.data['encrypted']}")


def fails_blocking(ctx: BlockingContext) -> None:
    raise NonRetriableError(f"no {ctx.event.data['encrypted']}")


@pytest.mark.parametrize("errors", [False, True])
def test_errors_are_encrypted_where_asked_for(world: World, errors: bool) -> None:
    middleware = EncryptionMiddleware(KEY, errors=errors)
    world.app_options["middleware"] = [middleware]
    world.define(fails_async, fails_blocking)
    run = world.run(sent(middleware, {"encrypted": SECRET}))
    assert (SECRET in str(run.error)) is not errors
    told = middleware.transform_recorded(CALL, Outcome(None, error=_info(run.error))).error
    assert told is not None
    assert (told.name, told.message) == ("NonRetriableError", f"no {SECRET}")


def _info(error: dict[str, Any]) -> Any:
    from onward.middleware import ErrorInfo

    return ErrorInfo(error["name"], error["message"], error.get("stack", ""))


async def waits_async(ctx: Context) -> Any:
    event = await ctx.step.wait_for_event("wait", event="answer", timeout="30s")
    assert event is not None
    return event.data["encrypted"]


def waits_blocking(ctx: BlockingContext) -> Any:
    event = ctx.step.wait_for_event("wait", event="answer", timeout="30s")
    assert event is not None
    return event.data["encrypted"]


def test_an_awaited_event_is_decrypted(world: World) -> None:
    import threading

    middleware = EncryptionMiddleware(KEY)
    world.app_options["middleware"] = [middleware]
    app = world.define(waits_async, waits_blocking)
    waiting = threading.Event()
    world.before_call = lambda _: waiting.set()
    run_id = world.start()
    data = sent(middleware, {"encrypted": [SECRET]})

    async def answer() -> None:
        await world.orchestrator.send([{"name": "answer", "data": data}])

    def answered() -> None:
        assert world.app is not None
        while not any(i.shape == ["WaitForEvent wait"] for i in world.invocations):
            threading.Event().wait(0.001)
        world.platform.loops.run(answer())

    thread = threading.Thread(target=answered)
    thread.start()
    run = world.finish(run_id)
    thread.join()
    chain = app.chain()
    assert chain is not None
    assert chain.opened(run.result) == [SECRET]


async def calls_async(ctx: Context) -> Any:
    return await ctx.step.invoke("call", "child", data={"encrypted": SECRET, "open": 1})


def calls_blocking(ctx: BlockingContext) -> Any:
    return ctx.step.invoke("call", "child", data={"encrypted": SECRET, "open": 1})


async def child_async(ctx: Context) -> Any:
    return [ctx.event.data["encrypted"], ctx.event.data["open"]]


def child_blocking(ctx: BlockingContext) -> Any:
    return [ctx.event.data["encrypted"], ctx.event.data["open"]]


def test_invoked_functions_share_the_key(world: World) -> None:
    world.app_options["middleware"] = [EncryptionMiddleware(KEY)]
    tap = Tap(world)
    app = world.define(calls_async, calls_blocking)
    child = child_async if world.driver == "async" else child_blocking
    app.function("child", trigger=Event("never"))(child)
    run = world.run()
    assert SECRET not in tap.text(run)
    chain = app.chain()
    assert chain is not None
    assert chain.opened(run.result) == [SECRET, 1]


async def one_step_async(ctx: Context) -> str:
    card = await ctx.step.run("card", read, SECRET)
    await ctx.step.sleep("nap", "1ms")
    return card.number


def one_step_blocking(ctx: BlockingContext) -> str:
    card = ctx.step.run("card", read, SECRET)
    ctx.step.sleep("nap", "1ms")
    return card.number


class Switching(Middleware):
    """Another middleware from the second invocation on, as if a new version was deployed."""

    def __init__(self, *versions: Middleware) -> None:
        self.versions = versions

    def transform_recorded(self, call: Call, outcome: Outcome) -> Outcome:
        return self.versions[1].transform_recorded(call, outcome)

    def transform_output(self, call: Call, outcome: Outcome) -> Outcome:
        return self.versions[bool(call.recorded)].transform_output(call, outcome)

    reversible = True


def test_keys_are_rotated_under_a_running_run(world: World) -> None:
    after = EncryptionMiddleware(KEY, fallback_keys=["another", OLD])
    world.app_options["middleware"] = [Switching(EncryptionMiddleware(OLD), after)]
    world.define(one_step_async, one_step_blocking)
    run = world.run()
    assert EncryptionMiddleware(KEY).unseal(run.result) == SECRET


def test_what_was_never_encrypted_passes(world: World) -> None:
    after = EncryptionMiddleware(KEY)
    world.app_options["middleware"] = [Switching(Middleware(), after)]
    world.define(one_step_async, one_step_blocking)
    assert after.unseal(world.run({"encrypted": "open"}).result) == SECRET


def test_a_wrong_key_fails_the_call_and_says_what_to_do(world: World) -> None:
    after = EncryptionMiddleware(KEY)
    world.app_options["middleware"] = [Switching(EncryptionMiddleware(OLD), after)]
    world.define(one_step_async, one_step_blocking, retries=1)
    run = world.run()
    assert run.error["name"] == "MiddlewareError"
    for text in ("Switching.transform_recorded", "'function'", "fallback_keys", "1 key"):
        assert text in run.error["message"]
    assert [i.attempt for i in run.invocations] == [0, 0, 1]
    assert run.once


def test_decrypt_only_encrypts_nothing(world: World) -> None:
    reader = EncryptionMiddleware(KEY, decrypt_only=True)
    world.app_options["middleware"] = [reader]
    world.define(one_step_async, one_step_blocking)
    assert world.run().result == SECRET
    assert sent(reader, {"encrypted": 1}) == {"encrypted": 1}
    assert reader.unseal(EncryptionMiddleware(KEY).seal("[1]")) == [1]


# ---------------------------------------------------------------------- the format


def test_data_of_the_typescript_sdk_is_read() -> None:
    middleware = EncryptionMiddleware("golden-key-1")
    envelope = {"__ENCRYPTED__": True, "__STRATEGY__": LIBSODIUM, "data": BY_TYPESCRIPT}
    assert middleware.unseal(envelope) == {"card": "4111 é", "n": [1, 2.5, None]}


def test_a_key_as_text_is_hashed_as_the_other_sdks_do() -> None:
    import nacl.encoding
    import nacl.hash
    import nacl.secret

    digest = nacl.hash.generichash(KEY.encode(), digest_size=32)
    box = nacl.secret.SecretBox(digest, encoder=nacl.encoding.HexEncoder)
    sealed = EncryptionMiddleware(KEY).seal('{"a":1}')
    assert box.decrypt(sealed["data"], encoder=nacl.encoding.Base64Encoder) == b'{"a":1}'
    assert EncryptionMiddleware(bytes.fromhex(digest.decode())).unseal(sealed) == {"a": 1}
    assert EncryptionMiddleware(digest).unseal(sealed) == {"a": 1}


@pytest.mark.parametrize(
    ("envelope", "told"),
    [
        ({"data": "x"}, "first version of the TypeScript"),
        ({"__STRATEGY__": "other", "data": "x"}, "'other'"),
        ({"__STRATEGY__": LIBSODIUM, "data": "%"}, "base64"),
        ({"__STRATEGY__": LIBSODIUM, "data": ""}, "None of the 1 key"),
        ({"__STRATEGY__": AES_GCM, "data": ""}, "None of the 1 key"),
    ],
)
def test_what_cannot_be_opened(envelope: dict[str, Any], told: str) -> None:
    with pytest.raises(DecryptionError, match=told):
        EncryptionMiddleware(KEY).unseal({"__ENCRYPTED__": True, **envelope})


@pytest.mark.parametrize("strategy", [LIBSODIUM, AES_GCM])
def test_any_change_is_noticed(strategy: str) -> None:
    from base64 import b64decode, b64encode

    middleware = EncryptionMiddleware(KEY, strategy=strategy)
    envelope = middleware.seal('"abc"')
    raw = bytearray(b64decode(envelope["data"]))
    for place in range(len(raw)):
        raw[place] ^= 1
        with pytest.raises(DecryptionError):
            middleware.unseal({**envelope, "data": b64encode(raw).decode()})
        raw[place] ^= 1


def test_the_same_data_is_never_encrypted_to_the_same() -> None:
    middleware = EncryptionMiddleware(KEY)
    assert middleware.seal("1") != middleware.seal("1")


def test_events_of_the_other_sdks() -> None:
    middleware = EncryptionMiddleware(KEY)
    sealed = middleware.seal('{"a":1}')
    inside = InboundEvent("e", {"secret": sealed, "open": 2})
    assert middleware.transform_event(CALL, inside).data == {"secret": {"a": 1}, "open": 2}
    whole = InboundEvent("e", {**sealed, "_inngest": {"x": 1}})
    assert middleware.transform_event(CALL, whole).data == {"_inngest": {"x": 1}, "a": 1}


@pytest.mark.parametrize("key", ["", " padded", b"short", b"x" * 64, None, 7])
def test_what_is_no_key(key: Any) -> None:
    with pytest.raises(ConfigurationError, match="no key") as raised:
        EncryptionMiddleware(key)
    assert "padded" not in raised.value.message


def test_bad_options() -> None:
    with pytest.raises(ConfigurationError, match=r"fallback_keys=\[key\]"):
        EncryptionMiddleware(KEY, fallback_keys=OLD)
    with pytest.raises(ConfigurationError, match="strategy"):
        EncryptionMiddleware(KEY, strategy="rot13")
    assert KEY not in repr(App("shop", middleware=[EncryptionMiddleware(KEY)]))


@pytest.mark.parametrize(("package", "strategy"), [("nacl", LIBSODIUM), ("cryptography", AES_GCM)])
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, strategy: str
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'onward\[encryption\]'"):
        EncryptionMiddleware(KEY, strategy=strategy)
