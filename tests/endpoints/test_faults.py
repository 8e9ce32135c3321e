"""Requests between an endpoint and its orchestrator are spoiled: the caller does not notice."""

from __future__ import annotations

import pytest

from onward.core import retry
from onward.protocol import endpoint as wire
from tests.endpoints import shop
from tests.endpoints.conftest import Exchanged, Shop
from tests.faults.faulty import every
from tests.faults.proxy import FAULTS, FaultProxy

STEPS = {"": ["first", "second"], "parallel": ["first", "one", "two", "three", "second"]}
ME = {"authorization": "me"}


@pytest.fixture
def patient(the_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Retries come soon, and are not given up."""
    monkeypatch.setattr(retry, "BACKOFF_BASE", 0.005)
    monkeypatch.setattr(wire, "PATIENCE", 10.0)
    monkeypatch.setattr(wire, "LITTLE_PATIENCE", 10.0)
    return the_shop


def through(the_shop: Shop, proxy: FaultProxy) -> None:
    """The application reaches its orchestrator through `proxy`; callers and tests do not."""
    direct, the_shop.api_url = the_shop.api_url, proxy.url
    the_shop.open()
    the_shop.api_url = direct


@pytest.mark.parametrize("fault", FAULTS)
def test_it_answers_directly_and_each_step_runs_once(
    patient: Shop, driver: str, servers: tuple[Exchanged, Exchanged], fault: str
) -> None:
    with FaultProxy(servers[1].url, every(3, fault)) as proxy:
        through(patient, proxy)
        for how, steps in STEPS.items():
            shop.done.clear()
            answer = patient.ask("GET", f"/{driver}/go?how={how}")
            assert (answer.status_code, answer.json()) == (200, {"value": 2})
            assert answer.history == []
            assert {step: shop.done[step] for step in steps} == dict.fromkeys(steps, 1)
        assert fault in proxy.happened


@pytest.mark.parametrize("fault", FAULTS)
def test_what_it_cannot_wait_for_is_finished_by_the_orchestrator(
    patient: Shop, driver: str, servers: tuple[Exchanged, Exchanged], fault: str
) -> None:
    with FaultProxy(servers[1].url, every(2, fault)) as proxy:
        through(patient, proxy)
        path, cart = f"/{driver}/checkout/paris?nap=0.05", {"items": ["a"]}
        first = patient.ask("POST", path, json=cart, headers=ME, follow=False)
        assert first.status_code == 302, first.text
        location = first.headers["location"].replace(proxy.url, patient.api_url)
        answer = patient.ask("GET", location)
        assert (answer.status_code, answer.json()) == (201, {"total": 5})
        assert shop.done == {"price": 1, "count": 1}
        assert fault in proxy.happened
