"""Events that are sent: once, in order, within the limits, and what is said where they are not."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from onward import (
    App,
    ConfigurationError,
    Event,
    EventError,
    EventRejectedError,
    EventSchemaError,
    EventsNotSentError,
    NewEvent,
    client,
    outbound,
)
from onward.transport.http import clients
from tests.clients.conftest import Service
from tests.support.checkpoint_api import CheckpointApi
from tests.support.harness import clean_environment

SEED = "x-inngest-event-id-seed"


class Paid(BaseModel):
    order: int


# ---------------------------------------------------------------------- what is sent


def test_one_event(service: Service) -> None:
    (event_id,) = service.app.send({"name": "shop/nobody", "data": {"n": "żółw"}})
    assert len(event_id) == 26
    (event,) = [each for each in service.events("shop/nobody") if each["internal_id"] == event_id]
    assert event["data"] == {"n": "żółw"}
    assert event["id"] == event_id


def test_several_events_keep_their_order(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "MOST_EVENTS", 3)
    ids = service.app.send(NewEvent("shop/many", {"n": n}) for n in range(8))
    posts = [fields for method, path, fields in service.requests if path.startswith("/e/")]
    assert len(posts) == 3
    assert len({fields[SEED] for fields in posts}) == 3
    events = {each["internal_id"]: each["data"]["n"] for each in service.events("shop/many")}
    assert [events[event_id] for event_id in ids] == list(range(8))


def test_large_events_go_in_requests_of_their_own() -> None:
    events = [{"name": "large", "data": {"text": "x" * size}} for size in (10, 600_000, 600_000)]
    assert [chunk[:2] for chunk in outbound.chunks(events)] == [(0, 2), (2, 1)]


def test_no_events(service: Service) -> None:
    assert service.app.send([]) == []
    assert service.requests == []


def test_all_that_an_event_has(service: Service) -> None:
    when = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    event = NewEvent("shop/full", Paid(order=1), id="mine", ts=when, user={"name": "A"}, v="2")
    service.app.send(event)
    (seen,) = service.events("shop/full")
    assert (seen["id"], seen["data"], seen["ts"]) == (
        "mine",
        {"order": 1},
        int(when.timestamp() * 1000),
    )


def test_an_id_counts_once(service: Service) -> None:
    event = NewEvent("shop/nothing", id="only-once")
    first, second = service.app.send(event), service.app.send(event)
    assert first != second
    assert len(service.app.runs_of(*first)) == 1
    assert service.app.runs_of(*second) == []


def test_headers(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    monkeypatch.setenv("INNGEST_ENV", "feature/x")
    monkeypatch.setenv("INNGEST_EVENT_KEY", "key?1")
    App("shop", orchestrator=service.app.orchestrator).send({"name": "shop/nobody"})
    (_, path, fields), *_ = service.requests
    assert path == "/e/key?1"
    assert fields["x-inngest-env"] == "feature/x"
    assert fields["x-inngest-sdk"].startswith("onward:v")
    assert fields["content-type"] == "application/json"


# ---------------------------------------------------------------------- sent again


def test_a_request_that_is_made_again_makes_no_twins(service: Service) -> None:
    service.lose_answers = 2
    (event_id,) = service.app.send({"name": "shop/nothing", "data": {"again": True}})
    posts = [fields for _, path, fields in service.requests if path.startswith("/e/")]
    assert len(posts) == 3
    assert len({fields[SEED] for fields in posts}) == 1
    twins = [each for each in service.events("shop/nothing") if each["data"] == {"again": True}]
    assert [each["internal_id"] for each in twins] == [event_id]
    assert len(service.app.runs_of(event_id)) == 1


async def test_nor_does_the_async_twin(service: Service) -> None:
    service.lose_answers = 1
    (event_id,) = await service.app.send_async({"name": "shop/nothing", "data": {"again": 2}})
    twins = [each for each in service.events("shop/nothing") if each["data"] == {"again": 2}]
    assert [each["internal_id"] for each in twins] == [event_id]


# ---------------------------------------------------------------------- loops, threads, forks


def test_several_event_loops(service: Service) -> None:
    async def send() -> list[str]:
        many = [service.app.send_async({"name": "shop/loops"}) for _ in range(20)]
        return [ids[0] for ids in await asyncio.gather(*many)]

    ids = [event_id for _ in range(3) for event_id in asyncio.run(send())]
    assert len(set(ids)) == 60
    assert {each["internal_id"] for each in service.events("shop/loops")} == set(ids)


def test_several_threads(service: Service) -> None:
    ids: list[str] = []

    def send() -> None:
        ids.extend(service.app.send([{"name": "shop/threads"}] * 2))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 16


def _send_in_child(app: App, ids: Any) -> None:
    ids.put(app.send({"name": "shop/forks"}))
    ids.put(asyncio.run(app.send_async({"name": "shop/forks"})))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forks(service: Service) -> None:
    """A connection that is open, and a thread that waits for work, stay the parent's."""
    before = service.app.send({"name": "shop/forks"})
    before += asyncio.run(service.app.send_async({"name": "shop/forks"}))
    forking = multiprocessing.get_context("fork")
    queue = forking.Queue()
    child = forking.Process(target=_send_in_child, args=(service.app, queue))
    child.start()
    inside = queue.get(timeout=30) + queue.get(timeout=30)
    child.join(30)
    assert child.exitcode == 0
    after = service.app.send({"name": "shop/forks"})
    assert {each["internal_id"] for each in service.events("shop/forks")} == {
        *before,
        *inside,
        *after,
    }


def test_connections_are_kept(service: Service, api: CheckpointApi) -> None:
    del service
    api.pages["/e/dev"] = (200, b'{"ids": ["01M"], "status": 200}')
    app = App("shop", orchestrator=api.url, dev=True)
    for _ in range(5):
        assert app.send({"name": "shop/nobody"}) == ["01M"]
    assert api.connections == 1


# ---------------------------------------------------------------------- what cannot be sent


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ("shop/paid", r"'shop/paid' \(str\) is no event"),
        (7, "is no event"),
        ([{"name": "a"}, 7], r"events\[1\] is 7 \(int\), which is no event"),
        ({"data": {}}, "has the name None"),
        ({"name": " "}, "has the name ' '"),
        ({"name": "x", "payload": {}}, "has 'payload', which no event has"),
        ({"name": "inngest/x"}, "'inngest/' are the server's"),
        ({"name": "Inngest/x"}, "'inngest/' are the server's"),
        ({"name": "x" * 513}, "513 characters, over 512"),
        ({"name": "x", "id": 7}, r"its id is 7 \(int\)"),
        ({"name": "x", "ts": "now"}, r"its ts is 'now' \(str\)"),
        ({"name": "x", "ts": datetime(2026, 1, 1)}, "its ts is datetime"),  # noqa: DTZ001
        ({"name": "x", "ts": 1_700_000_000}, "which is not between 1980 and 2100"),
        ({"name": "x", "user": 7}, r"its user is 7 \(int\)"),
        ({"name": "x", "user": {"a": object()}}, "its user or meta cannot be written as JSON"),
        ({"name": "x", "data": [1]}, "which is no JSON object"),
        ({"name": "x", "data": {"a": [{"b": object()}]}}, r"data\.a\[0\]\.b is <object"),
        ({"name": "x", "data": {1: 2}}, "data has the key 1"),
        ({"name": "x", "data": {"a": float("nan")}}, "data.a is nan"),
        ({"name": "x", "data": {"a": "\ud800"}}, "data.a is "),
        ({"name": "x", "data": {"a": "x" * 3_200_000}}, "over the server's 3,145,728"),
    ],
)
def test_what_is_no_event(event: Any, told: str, service: Service) -> None:
    with pytest.raises(EventError, match=told) as info:
        service.app.send(event)
    assert "Nothing was sent." in info.value.message
    assert not info.value.retriable
    assert service.requests == []


def test_a_cycle(service: Service) -> None:
    data: dict[str, Any] = {}
    data["self"] = data
    with pytest.raises(EventError, match="contains itself"):
        service.app.send({"name": "x", "data": data})


def test_data_that_does_not_fit_its_schema(service: Service) -> None:
    app = App("shop", orchestrator=service.app.orchestrator, dev=True, schemas={"shop/*": Paid})
    events = [NewEvent("shop/a", {"order": 1}), NewEvent("shop/b", {"order": "x", "more": 1})]
    with pytest.raises(EventSchemaError, match=r"'shop/b'.*Paid.*app 'shop'.*data\.order"):
        app.send(events)
    assert service.requests == []
    assert len(app.send([events[0], NewEvent("other", {"order": "x"})])) == 2


def test_two_schemas_for_one_event() -> None:
    class Other(BaseModel):
        order: str

    app = App("shop", schemas={"shop/paid": Paid})
    app.function("same", trigger=Event("shop/paid", schema=Paid))(lambda ctx: None)
    with pytest.raises(
        ConfigurationError, match=r"'shop/paid' has two schemas: Paid in app 'shop'"
    ):
        app.function("other", trigger=Event("shop/paid", schema=Other))(lambda ctx: None)
    assert list(app.functions) == ["shop-same"]


@pytest.mark.parametrize("schema", ["Paid", {"order": int}, None])
def test_what_is_no_schema(schema: object) -> None:
    with pytest.raises(ConfigurationError, match=r"which is no type\. Give the type itself"):
        App("shop", schemas={"shop/paid": schema})


@pytest.mark.parametrize("schemas", [[Paid], {7: Paid}])
def test_schemas_that_name_no_events(schemas: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"schemas of app 'shop'.* Write a .*/paid'"):
        App("shop", schemas=schemas)


def test_a_schema_that_pydantic_does_not_know(service: Service) -> None:
    class Opaque: ...

    app = App("shop", orchestrator=service.app.orchestrator, dev=True, schemas={"x": Opaque})
    with pytest.raises(ConfigurationError, match="Opaque cannot be an event's schema"):
        app.send({"name": "x"})


def test_a_model_that_is_not_rebuilt_from_its_json(service: Service) -> None:
    from pydantic import Field

    class Leaky(BaseModel):
        secret: str = Field(default="", exclude=True)

    app = App("shop", orchestrator=service.app.orchestrator, dev=True, schemas={"x": Leaky})
    with pytest.raises(EventSchemaError, match=r"would arrive as .*excluded"):
        app.send(NewEvent("x", Leaky(secret="s")))


# ---------------------------------------------------------------------- what is refused


def test_no_event_key(monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    with pytest.raises(ConfigurationError, match="INNGEST_EVENT_KEY"):
        App("shop", dev=False).send({"name": "x"})


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, b'{"ids": [""], "status": 400, "error": "event name is odd"}', "event name is odd"),
        (401, b'{"error": "Event key not found", "status": 401}', "Set INNGEST_EVENT_KEY"),
        (404, b"<html>not here</html>", "<html>not here</html>"),
    ],
)
def test_a_refusal(status: int, body: bytes, told: str, api: CheckpointApi) -> None:
    api.pages["/e/dev"] = (status, body)
    with pytest.raises(EventRejectedError, match="The event 'x' was refused: POST") as info:
        App("shop", orchestrator=api.url, dev=True).send({"name": "x"})
    error = info.value
    assert told in error.message
    assert (error.status, error.sent, error.retriable) == (status, (), False)
    assert "/e/dev" not in error.message
    assert len(api.others) == 1


def test_the_event_among_many_that_was_refused(api: CheckpointApi) -> None:
    """The recorded server takes the events in order up to the one that it refuses."""
    api.pages["/e/dev"] = (400, b'{"ids": ["01A", "01B"], "status": 400, "error": "no"}')
    with pytest.raises(EventRejectedError, match=r"The event 'c' \(events\[2\]\) was refused") as i:
        App("shop", orchestrator=api.url, dev=True).send([{"name": name} for name in "abcd"])
    assert i.value.sent == ("01A", "01B")


def test_which_of_many_was_refused_may_be_unknown(api: CheckpointApi) -> None:
    api.pages["/e/dev"] = (400, b'{"ids": [""], "status": 400, "error": "no"}')
    with pytest.raises(EventRejectedError, match=r"One of events\[0\] to events\[3\] was refused"):
        App("shop", orchestrator=api.url, dev=True).send([{"name": name} for name in "abcd"])


@pytest.mark.parametrize("body", [b"<html>a captive portal</html>", b"{}", b'{"ids": []}'])
def test_a_success_without_ids(body: bytes, api: CheckpointApi) -> None:
    api.pages["/e/dev"] = (200, body)
    with pytest.raises(EventsNotSentError, match="answered 200 without an id for each event"):
        App("shop", orchestrator=api.url, dev=True).send({"name": "x"})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SEND_TRIES", 2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_pass_is_tried_again(status: int, api: CheckpointApi) -> None:
    api.pages["/e/dev"] = (status, b"busy")
    with pytest.raises(EventsNotSentError, match=rf"in 2 tries: .* answered {status}: busy") as i:
        App("shop", orchestrator=api.url, dev=True).send({"name": "x"})
    assert i.value.retriable
    assert len(api.others) == 2


@pytest.mark.usefixtures("quick")
def test_nobody_listens(api: CheckpointApi) -> None:
    api.down()
    with pytest.raises(EventsNotSentError, match="Is the orchestrator running"):
        App("shop", orchestrator=api.url, dev=True).send({"name": "x"})


@pytest.mark.usefixtures("quick")
def test_what_was_sent_before(api: CheckpointApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "MOST_EVENTS", 1)
    app = App("shop", orchestrator=api.url, dev=True)
    api.pages["/e/dev"] = (200, b'{"ids": ["01A"], "status": 200}')
    plan = client.sending(app, [{"name": "a"}, {"name": "b"}])
    from onward.transport.http import Ask, Reply, exchange

    first = next(plan)
    assert isinstance(first, Ask)
    second = plan.send(exchange(first))
    assert isinstance(second, Ask)
    with pytest.raises(
        EventRejectedError, match=r"events\[1\].* 1 of the 2 events were taken"
    ) as i:
        plan.send(Reply(400, "no"))
    assert i.value.sent == ("01A",)


@pytest.fixture
def api() -> Any:
    with CheckpointApi() as api:
        yield api
    clients.close()
