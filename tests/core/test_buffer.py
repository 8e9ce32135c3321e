from __future__ import annotations

from math import inf

import pytest

from onward.core.buffer import FLUSH_BYTES, PIPELINE_STEPS, Buffer, FlushPolicy
from onward.core.ops import Op, Opcode


def _op(name: str, size: int = 1) -> Op:
    return Op(Opcode.STEP_RUN, name, data="x" * size)


def _buffer(count: int = 0, **policy: object) -> Buffer:
    buffer = Buffer(FlushPolicy(**policy))  # type: ignore[arg-type]
    for n in range(count):
        buffer.add(_op(f"s{n}"), float(n))
    return buffer


def test_an_empty_buffer_has_nothing_to_flush() -> None:
    buffer = _buffer(max_interval=1.0, pipelined=True)
    assert not buffer
    assert not buffer.due(1e9)
    assert buffer.due_at() == inf
    assert buffer.unconfirmed == ()


@pytest.mark.parametrize(
    ("policy", "count", "due"),
    [
        ({}, 1, True),
        ({"buffered_steps": 3}, 2, False),
        ({"buffered_steps": 3}, 3, True),
        ({"buffered_steps": 3, "pipelined": True}, 1, True),
    ],
)
def test_when_steps_are_due(policy: dict[str, object], count: int, *, due: bool) -> None:
    assert _buffer(count, **policy).due(0.0) is due


def test_bytes_make_it_due() -> None:
    buffer = _buffer(buffered_steps=100)
    buffer.add(_op("a", FLUSH_BYTES - 1), 0.0)
    assert not buffer.due(0.0)
    buffer.add(_op("b", 1), 0.0)
    assert buffer.due(0.0)
    assert buffer.bytes == FLUSH_BYTES


def test_the_interval_counts_from_the_oldest() -> None:
    buffer = _buffer(3, buffered_steps=100, max_interval=5.0)
    assert buffer.due_at() == 5.0
    assert not buffer.due(4.9)
    assert buffer.due(5.0)
    buffer.take()
    buffer.confirm()
    assert buffer.due_at() == inf
    buffer.add(_op("later"), 20.0)
    assert buffer.due_at() == 25.0


def test_one_batch_at_a_time() -> None:
    buffer = _buffer(2)
    assert [op.id for op in buffer.take()] == ["s0", "s1"]
    buffer.add(_op("late"), 3.0)
    assert not buffer.due(1e9)
    with pytest.raises(RuntimeError, match="in flight already"):
        buffer.take()
    assert [op.id for op in buffer.unconfirmed] == ["s0", "s1", "late"]
    buffer.confirm()
    assert buffer.confirmed == 2
    assert [op.id for op in buffer.unconfirmed] == ["late"]
    assert buffer.due(0.0)


def test_a_failed_batch_waits_again_before_what_came_since() -> None:
    buffer = _buffer(2, buffered_steps=100, max_interval=5.0)
    buffer.take()
    buffer.add(_op("late"), 3.0)
    buffer.fail()
    assert [op.id for op in buffer.waiting] == ["s0", "s1", "late"]
    assert buffer.bytes == 3
    assert buffer.confirmed == 0
    assert buffer.due(0.0), "it has waited long enough"


def test_a_batch_may_be_a_part() -> None:
    buffer = _buffer(3, buffered_steps=3, max_interval=5.0)
    assert [op.id for op in buffer.take(1)] == ["s0"]
    assert [op.id for op in buffer.waiting] == ["s1", "s2"]
    assert buffer.bytes == 2
    buffer.confirm()
    assert buffer.due(0.0), "the rest was due with it"


def test_what_can_never_be_confirmed_is_dropped() -> None:
    buffer = _buffer(2)
    buffer.drop(buffer.waiting[0])
    assert [op.id for op in buffer.waiting] == ["s1"]
    assert buffer.bytes == 1


@pytest.mark.parametrize(
    ("steps", "pipelined", "window"),
    [(1, False, 1), (7, False, 7), (1, True, PIPELINE_STEPS), (300, True, 300)],
)
def test_how_many_steps_fill_it(steps: int, window: int, *, pipelined: bool) -> None:
    buffer = _buffer(window - 1, buffered_steps=steps, pipelined=pipelined)
    assert not buffer.full
    buffer.add(_op("last"), 0.0)
    assert buffer.full
