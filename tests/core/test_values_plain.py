# No `from __future__ import annotations`: annotations here are objects, as in most user code.
import json
import math
import subprocess
import sys
import textwrap
import typing
from collections import OrderedDict, defaultdict
from decimal import Decimal
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.core.values import PLAIN, codec_for
from onward.errors import ResultError
from tests.core.value_cases import (
    NOW,
    RECEIPT,
    WHERE,
    Color,
    Level,
    Plain,
    Point,
    Receipt,
    T,
    UserId,
    error_of,
    round_trip,
)

# --- plain JSON ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (-0.5, "-0.5"),
        (2**80, str(2**80)),
        ("", '""'),
        ("é\U0001f600", '"\\u00e9\\ud83d\\ude00"'),
        ("\\ud800", '"\\\\ud800"'),
        ({"a": [1, {"b": None}]}, '{"a":[1,{"b":null}]}'),
        ({"é": "\U0001f600"}, '{"\\u00e9":"\\ud83d\\ude00"}'),
        ([], "[]"),
    ],
)
def test_plain_values(value: Any, text: str) -> None:
    assert PLAIN.settle(value, WHERE) == (text, value)
    assert round_trip(PLAIN, value) == value


def test_a_first_run_sees_what_a_replay_gives() -> None:
    shared = [1]
    value = {"pair": (1, (2, [3])), "shared": shared}
    _, first = PLAIN.settle(value, WHERE)
    assert first == {"pair": [1, [2, [3]]], "shared": [1]}
    shared.append(2)
    assert first["shared"] == [1]


def test_subclasses_of_json_types_become_json_types() -> None:
    class Name(str):
        __slots__ = ()

    value = {
        "name": Name("x"),
        "level": Level.LOW,
        "point": Point(1, 2),
        "counts": defaultdict(int, a=1),
        "ordered": OrderedDict(b=2),
    }
    _, first = PLAIN.settle(value, WHERE)
    assert first == {
        "name": "x",
        "level": 1,
        "point": [1, 2],
        "counts": {"a": 1},
        "ordered": {"b": 2},
    }
    assert [type(v) for v in first.values()] == [str, int, list, dict, dict]
    assert type(PLAIN.settle(Level.LOW, WHERE)[1]) is int
    assert type(PLAIN.settle(Name("x"), WHERE)[1]) is str


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (NOW, "result", "datetime.datetime"),
        ({"items": [1, 2, 3, {"when": NOW}]}, "result.items[3].when", "datetime.datetime"),
        ([{"a b": {1, 2}}], "result[0]['a b']", "set"),
        ((1, [b"x"]), "result[1][0]", "bytes"),
        ({"m": RECEIPT}, "result.m", "Receipt"),
        ({"o": Plain()}, "result.o", "Plain"),
        ({"g": (n for n in "ab")}, "result.g", "generator"),
        ({"c": Color.RED}, "result.c", "Color"),
        ({"x": {"y": 1j}}, "result.x.y", "complex"),
        (Decimal(1), "result", "decimal.Decimal"),
    ],
)
def test_what_json_cannot_hold(value: Any, path: str, kind: str) -> None:
    message = error_of(PLAIN, value)
    assert f"{path} is " in message
    assert f"{kind})" in message
    assert "Annotate the body's return type" in message
    assert "return plain JSON values" in message


@pytest.mark.parametrize(
    ("value", "path", "key"),
    [
        ({1: "a"}, "result", "1 (int)"),
        ({"a": [{}, {None: 1}]}, "result.a[1]", "None (NoneType)"),
        ({"a": {True: 1}}, "result.a", "True (bool)"),
        ({"a": ({1.5: 1},)}, "result.a[0]", "1.5 (float)"),
        ({(1, 2): 3}, "result", "(1, 2) (tuple)"),
        ({1: "a", "1": "b"}, "result", "1 (int)"),
    ],
)
def test_keys_that_are_no_strings(value: Any, path: str, key: str) -> None:
    message = error_of(PLAIN, value)
    assert f"{path} is " in message
    assert f"has the key {key}, and JSON keys are strings" in message
    assert "dict[int, str]" in message


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not(number: float) -> None:
    message = error_of(PLAIN, {"scores": [0.5, number]})
    assert f"result.scores[1] is {number} (float), which JSON cannot hold" in message
    assert "result is" in error_of(PLAIN, number)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("\ud800", "result"),
        ({"a": ["ok", "x\udfff"]}, "result.a[1]"),
        ({"a": "\ud83d" + "\ude00"}, "result.a"),  # two halves: JSON would join them
        ({"b": {"k\ud800": 1}}, "result.b"),
    ],
)
def test_lone_surrogates(value: Any, path: str) -> None:
    message = error_of(PLAIN, value)
    assert f"{path} is " in message
    assert "lone surrogate" in message
    message.encode()


def test_cycles_and_depth() -> None:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    assert "contains itself" in error_of(PLAIN, cycle)
    deep: Any = NOW
    for _ in range(100_000):
        deep = [deep]
    assert "nested too deeply" in error_of(PLAIN, deep)
    while deep is not NOW:  # taken apart here, so that freeing it does not recurse
        deep = deep[0]


def test_an_int_with_too_many_digits() -> None:
    assert "result.n is … (int), which has too many digits" in error_of(PLAIN, {"n": 10**5000})


def test_messages_stay_short_and_survive_a_broken_repr() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Broken)" in error_of(PLAIN, {"b": Broken()})
    assert len(error_of(PLAIN, {"b": b"x" * 10_000})) < 500


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_every_json_value_comes_back_as_it_is(value: Any) -> None:
    text, first = PLAIN.settle(value, WHERE)
    assert first == value
    assert repr(first) == repr(value)
    assert len(text) == len(text.encode())


python_values = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(st.characters(categories=["L", "Cs"]), max_size=4)
    | st.binary(max_size=2)
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 2) | st.none(), inner, max_size=3)
    ),
    max_leaves=8,
)


def fits_json(value: Any) -> bool:
    """The same rule, written anew: what the specification of JSON allows, in UTF-8."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, (list, tuple)):
        return all(fits_json(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and fits_json(k) and fits_json(v) for k, v in value.items())
    return value is None or isinstance(value, int)


def as_json_has_it(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [as_json_has_it(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json_has_it(item) for key, item in value.items()}
    return value


@given(python_values)
def test_any_value_settles_as_a_replay_gives_it_or_is_refused(value: Any) -> None:
    try:
        text, first = PLAIN.settle(value, WHERE)
    except ResultError as error:
        message = str(error)
        assert not fits_json(value), message
        return
    assert json.loads(text) == first == as_json_has_it(value)
    assert fits_json(value)


# --- annotations that JSON itself can hold ------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (None, [None], [0, "", False]),
        (type(None), [None], [0]),
        (int, [3, True, 2**70], ["3", 3.0, None]),
        (float, [1.5, 3], ["1.5", None]),
        (str, ["", "é"], [3, b"x"]),
        (bool, [True], [1, 0, "true"]),
        (dict, [{}, {"a": [1]}], [[], None]),
        (list, [[], [1, "a"]], [{}, (1,)]),
        (typing.Dict, [{"a": 1}], [[]]),  # noqa: UP006 - what users still write
        (typing.List, [[1]], [{}]),  # noqa: UP006
        (dict[str, Any], [{"a": 1}], [[1]]),
        (list[Any], [[1, None]], [{}]),
        (list[int], [[], [1, 2]], [[1, "2"], ["1"], {}]),
        (dict[str, int], [{"a": 1}], [{"a": "1"}, {"a": None}]),
        (dict[str, list[float]], [{"a": [1, 1.5]}], [{"a": ["1"]}]),
        (int | None, [3, None], ["3"]),
        (Optional[str], ["x", None], [3]),  # noqa: UP045
        (Union[int, str], [3, "3"], [3.5, None]),  # noqa: UP007
        (list[int] | dict[str, int], [[1], {"a": 1}], [["1"], 3]),
        (Literal["a", 1, None], ["a", 1, None], ["b", True, 2]),  # noqa: PYI061
        (Literal[True], [True], [1]),
        (UserId, [3], ["3"]),
    ],
)
def test_annotated_plain_json(annotation: Any, good: list[Any], bad: list[Any]) -> None:
    codec = codec_for(annotation)
    for value in good:
        result = round_trip(codec, value)
        assert result == value
        assert type(result) is type(value)
    for value in bad:
        message = error_of(codec, value)
        assert "cannot be rebuilt" in message
        assert "return annotation" in message


def test_a_mismatch_names_the_path_and_the_annotation() -> None:
    message = error_of(codec_for(dict[str, list[int]]), {"a": [1], "b": [1, "2"]})
    assert "result.b[1] is '2' (str) and comes back as 2 (int)" in message
    assert "dict[str, list[int]]" in message
    message = error_of(codec_for(int), "3")
    assert "the body returned '3' (str)" in message
    assert "annotation int says" in message


def test_plain_annotations_refuse_what_json_cannot_hold() -> None:
    assert "JSON keys are strings" in error_of(codec_for(dict[str, Any]), {1: 2})
    assert "result.a is nan" in error_of(codec_for(dict[str, float]), {"a": math.nan})
    assert "result[0] is " in error_of(codec_for(list[Any]), [NOW])
    assert "lone surrogate" in error_of(codec_for(str), "\ud800")


@pytest.mark.parametrize("annotation", [Any, object, T, typing.NoReturn, typing.Never, int | Any])
def test_annotations_that_say_nothing(annotation: Any) -> None:
    assert codec_for(annotation) is PLAIN


def test_a_recorded_result_of_another_type_is_refused() -> None:
    with pytest.raises(ResultError) as caught:
        codec_for(int).load("3", WHERE)
    message = str(caught.value)
    assert message.startswith(f"{WHERE}: its recorded result '3' (str) cannot be rebuilt")
    assert "new id" in message
    with pytest.raises(ResultError, match=r"result\.items is refused: Field required"):
        codec_for(Receipt).load({"note": "old"}, WHERE)


# --- what importing costs -----------------------------------------------------------------------


def imported_by(code: str) -> set[str]:
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_plain_results_need_nothing_heavy() -> None:
    plain = textwrap.dedent("""
        import json, re, types, math
        from onward.core.values import codec_of
        def body(): ...
        codec_of(body).settle({"a": [1]}, "step 'a'")
        codec_of(lambda: 1).load({"a": [1]}, "step 'a'")
    """)
    modules = imported_by(plain)
    assert not modules & {"pydantic", "asyncio", "httpx", "logging", "onward.core.annotations"}
    annotated = plain.replace("body()", "body() -> dict[str, int | None]", 1)
    assert "pydantic" not in imported_by(annotated.replace("[1]}", "1}"))
