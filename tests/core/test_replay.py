from __future__ import annotations

from onward.core.calls import CallState, StepCall
from onward.core.ids import hash_step
from onward.core.journal import Journal, Memo
from onward.core.ops import Opcode
from onward.core.replay import Replay


def _replay(*names: str) -> Replay:
    return Replay(Journal(Memo(hash_step(name, 0), name) for name in names))


def _call(name: str) -> StepCall:
    return StepCall(Opcode.STEP_RUN, name, id=hash_step(name, 0))


def _claim(replay: Replay, *names: str) -> list[StepCall]:
    calls = [_call(name) for name in names]
    for call in calls:
        assert replay.claim(call)
    return calls


def _next(replay: Replay) -> tuple[str, str | None]:
    delivery = replay.next()
    assert delivery is not None
    call, memo, warning = delivery
    assert call.state is CallState.DELIVERED
    assert memo.value == call.user_id
    return call.user_id, warning


def test_calls_without_a_memo_are_not_claimed() -> None:
    replay = _replay("a")
    assert not replay.claim(_call("b"))
    assert not replay.waiting
    assert replay.next() is None


def test_memos_come_in_recorded_order_whatever_the_order_of_calls() -> None:
    replay = _replay("c", "a", "b")
    _claim(replay, "a", "b", "c")
    assert [_next(replay) for _ in range(3)] == [("c", None), ("a", None), ("b", None)]
    assert not replay.waiting
    assert replay.delivered == 3


def test_a_memo_waits_for_the_one_before_it_if_it_may() -> None:
    replay = _replay("a", "b")
    _claim(replay, "b")
    alone = (replay.waiting, replay.in_order)
    _claim(replay, "a")
    assert (alone, replay.in_order) == ((True, False), True)
    assert [_next(replay)[0], _next(replay)[0]] == ["a", "b"]


def test_a_memo_that_nobody_asks_for_is_passed_over_silently() -> None:
    replay = _replay("lost", "b", "c")
    _claim(replay, "b", "c")
    assert [_next(replay), _next(replay)] == [("b", None), ("c", None)]
    assert replay.never_called == 1


def test_a_memo_that_was_passed_over_comes_late_with_a_warning() -> None:
    replay = _replay("a", "b", "c")
    _claim(replay, "b")
    assert _next(replay) == ("b", None)
    _claim(replay, "c", "a")
    assert replay.in_order, "nothing is gained by waiting"
    name, warning = _next(replay)
    assert name == "a", "recorded order again, as far as it can be"
    assert warning is not None
    assert "'a'" in warning
    assert "another order than before" in warning
    assert _next(replay) == ("c", None)
    assert replay.never_called == 0


def test_it_warns_once() -> None:
    replay = _replay("a", "b", "c")
    _claim(replay, "c")
    _next(replay)
    _claim(replay, "a")
    assert _next(replay)[1] is not None
    _claim(replay, "b")
    assert _next(replay) == ("b", None)


def test_a_cancelled_branch_gives_its_memo_back() -> None:
    replay = _replay("a", "b")
    a, _ = _claim(replay, "a", "b")
    replay.withdraw(a)
    assert _next(replay) == ("b", None)
    assert not replay.waiting
    replay.withdraw(a)


def test_a_late_memo_can_be_withdrawn() -> None:
    replay = _replay("a", "b", "c")
    _claim(replay, "b")
    _next(replay)
    (a,) = _claim(replay, "a")
    replay.withdraw(a)
    assert not replay.waiting
    assert not replay.in_order
    _claim(replay, "c")
    assert _next(replay) == ("c", None)


def test_a_long_journal_is_delivered_in_order() -> None:
    names = [f"s{n}" for n in range(1000)]
    replay = _replay(*names)
    for name in names:
        _claim(replay, name)
        assert replay.in_order
        assert _next(replay) == (name, None)


def test_without_an_order_results_come_as_they_are_asked_for() -> None:
    replay = Replay(Journal((Memo(hash_step(n, 0), n) for n in ("c", "a", "b")), ordered=False))
    calls = {name: _call(name) for name in ("a", "b")}
    for sequence, call in enumerate(calls.values()):
        call.sequence = sequence
        assert replay.claim(call)
    assert replay.in_order
    assert [_next(replay), _next(replay)] == [("a", None), ("b", None)]
    assert replay.claim(_call("c"))
    assert _next(replay) == ("c", None)
