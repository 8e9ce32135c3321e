"""Events that an app sends outside of functions, with its middleware around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from onward.errors import OnwardError
from onward.middleware.base import Sent
from onward.transport.http import Plan, Work

if TYPE_CHECKING:
    from onward.middleware.chain import Chain


def through(
    chain: Chain,
    events: Sequence[dict[str, Any]],
    send: Callable[[Sequence[dict[str, Any]]], Plan[list[str]]],
) -> Plan[list[str]]:
    """The ids of `events`, sent as `send` plans it. Raises what it does, and MiddlewareError."""
    calls = chain.calls()
    going = yield Work(partial(chain.outgoing, calls, events))
    try:
        ids = yield from send(going)
    except OnwardError as error:
        yield Work(partial(chain.sent, calls, Sent(going, error=error)))
        raise
    yield Work(partial(chain.sent, calls, Sent(going, tuple(ids))))
    return ids
