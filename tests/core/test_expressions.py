"""The syntax of CEL, and its evaluation by the definition, compared with a library's."""

from __future__ import annotations

import math
import sys
from typing import Any

import cel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.core.expressions import check_expression, evaluable_expression, parse_expression
from onward.errors import ConfigurationError, ExpressionError

SCOPE: dict[str, Any] = {
    "event": {
        "name": "order/paid",
        "data": {
            "id": "k1",
            "n": 3,
            "f": 1.5,
            "ok": True,
            "off": False,
            "nothing": None,
            "text": "hello",  # the library counts bytes, not characters
            "empty": "",
            "list": [1, 2.5, "a", True, None],
            "objects": [{"n": 1}, {"n": 2}],
            "map": {"a": 1, "b": [1]},
        },
    },
    "async": {"data": {"id": "k1", "n": 3.0}},
}

TABLE: list[tuple[str, Any]] = [
    ("1 + 2 * 3 - 4 / 2 % 2", 7),
    ("-5 / 2", -2),
    ("-5 % 3", -2),
    ("5 % -3", 2),
    ("7.0 / 2.0", 3.5),
    ("1.0 / 0.0", math.inf),
    ("0x1F + -0x0F", 16),
    ("1u + 2u == 3u", True),
    ("1 == 1.0 && 1u == 1 && 1.0 == 1u", True),
    (".5 + 1e2 + 1.5E-1", 100.65),
    ("--1", 1),
    ("!!true", True),
    ("1 - -1", 2),
    ("-9223372036854775808", -(2**63)),
    ("9223372036854775807", 2**63 - 1),
    ("1 < 1.5 && 'a' < 'b' && false < true && b'a' < b'b'", True),
    ("1 < 2 == true", True),
    ("1 in [1.0] && 'a' in {'a': 1} && !(3 in [])", True),
    ("true ? 1 : false ? 2 : 3", 1),
    ("false ? 1 : false ? 2 : 3", 3),
    ("[1, 2,] + [3]", [1, 2, 3]),
    ("{'a': 1, 2: 'b',}", {"a": 1, 2: "b"}),
    ("{'a': {'b': [5]}}.a['b'][0]", 5),
    ("[[1, 'a'], {}] == [[1.0, 'a'], {}]", True),
    ("{'a': 1} == {'a': 1.0}", True),
    ("{'a': 1} == {'b': 1}", False),
    ("1 == '1' || null == false || [] == {}", False),
    ("event.data.n == async.data.n", True),
    (".event.data.id", "k1"),
    ("event['data'].list[1]", 2.5),
    ("event.data.if == 1 || true", True),
    ("has(event.data.id) && !has(event.data.missing)", True),
    ("event.data.objects.all(o, o.n > 0)", True),
    ("event.data.objects.exists(o, o.n == 2)", True),
    ("event.data.objects.exists_one(o, o.n > 0)", False),
    ("event.data.objects.map(o, o.n * 10)", [10, 20]),
    ("event.data.objects.map(o, o.n > 1, o.n)", [2]),
    ("event.data.objects.filter(o, o.n < 2)", [{"n": 1}]),
    ("event.data.map.map(k, k)", ["a", "b"]),
    ("[1, 2].exists(a, [2, 3].exists(b, a == b))", True),
    ("[].all(x, x > 1) && ![].exists(x, x > 1)", True),
    # An error beside a value that decides does not count.
    ("1 / 0 == 1 || true", True),
    ("event.data.missing || true", True),
    ("event.data.missing && false", False),
    ("[0, 1].exists(x, 1 / x == 1)", True),
    ("[0, 1].all(x, 1 / x == 2)", False),
    ("size('héllo') == 5 && 'héllo'.size() == 5 && size([1]) + size({}) == 1", True),
    ("size(b'h\\xc3\\xa9')", 3),
    ("'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')", True),
    ("'hello'.matches('l+o$') && matches('hello', '^h')", True),
    (r"'a\nb'.matches('a$')", False),
    ("int('-12') + int(2.9) + int(-2.9) + int(3u)", -9),
    ("uint(3) == 3u && uint('4') == 4u", True),
    ("double('1.5') + double(2)", 3.5),
    ("string(1) + string(1.5) + string(true) + string('x') + string(b'y')", "11.5truexy"),
    ("bool('true') && !bool('false')", True),
    ("bytes('é') == b'é' && b'é' == b'\\xc3\\xa9' && b'\\303\\251' == b'é'", True),
    ("dyn(1) == 1", True),
    (r"'\a\b\f\n\r\t\v\\\?\"\'\`'", "\a\b\f\n\r\t\v\\?\"'`"),
    (r"'\x41\X42\103\u00e9\U0001F600'", "ABCé😀"),
    (r"r'\d'", "\\d"),
    ("'''it's\n'' fine'''", "it's\n'' fine"),
    ('"""say "hi" now"""', 'say "hi" now'),
    ("br'\\d' == b'\\\\d' && bR'''x''' == b'x'", True),
    ("// what for\n 1 // one\n + 1 //", 2),
]


@pytest.mark.parametrize(("text", "expected"), TABLE)
def test_an_expression_yields(text: str, expected: object) -> None:
    expression = parse_expression(text)
    assert expression.unsupported() is None
    found = expression.evaluate(SCOPE, strict=True)
    assert found == expected
    assert isinstance(found, bool) is isinstance(expected, bool)


@pytest.mark.parametrize(
    "text",
    [
        "event.data.missing",
        "event.data.id.more",
        "event.data.list[5]",
        "event.data.list[-1]",
        "event.data.list[0.5]",
        "event.data.list['a']",
        "event.data[null]",
        "has(event.data.id.more)",
        "nobody",
        "1 + 1.0",
        "1 + 'a'",
        "1u - 2u",
        "1u + 1",
        "9223372036854775807 + 1",
        "-(-9223372036854775807 - 1)",
        "1 / 0",
        "1 % 0",
        "1.5 % 1.0",
        "'a' < 1",
        "null < null",
        "[1] < [2]",
        "!1",
        "-'a'",
        "1 || false",
        "'a' ? 1 : 2",
        "1 in 'a'",
        "[1] in {'a': 1}",
        "size(1)",
        "int('x')",
        "int('1.5')",
        "int(1e30)",
        "uint(-1)",
        "double('x')",
        "bool('yes')",
        "string(null)",
        "string(b'\\xff')",
        "bytes(1)",
        "'a'.contains(1)",
        "'a'.matches('(')",
        "'a'.matches('(?=a)')",
        "'aa'.matches(r'(a)\\1')",
        "[1].map(x, x.y)",
        "1.all(x, true)",
        "{'a': 1, 'a': 2}",
        "{null: 1}",
        "unknown(1)",
        "1.size()",
        "a.B{c: 1}",
        "event.data.missing || false",
        "[0, 1].exists(x, 1 / x == 2)",
    ],
)
def test_what_has_no_value_is_an_error_or_no_match(text: str) -> None:
    expression = parse_expression(text)
    with pytest.raises(ExpressionError, match="has no value"):
        expression.evaluate(SCOPE, strict=True)
    assert expression.test(SCOPE) is False


@pytest.mark.parametrize(
    ("text", "position", "part"),
    [
        ("", 1, "ends too early"),
        ("   ", 4, "ends too early"),
        ("a b", 3, "nothing is expected here, but there is 'b'"),
        ("event.data.x = 1", 14, "equality is written '=='"),
        ("a & b", 3, "'&' is not part"),
        ("a === b", 5, "'=' is not part"),
        ("'open", 1, "no closing '"),
        ("'''open'", 1, "no closing '''"),
        ("'a\nb'", 1, "no closing '"),
        ("(1", 3, "')' is expected"),
        ("[1, 2", 6, "',' is expected"),
        ("[,]", 2, "a value is expected"),
        ("{'a' 1}", 6, "':' is expected"),
        ("event.data.", 12, "a name is expected"),
        ("event..data", 7, "a name is expected"),
        ("event.in", 7, "a name is expected"),
        ("event.'a'", 7, "a name is expected"),
        ("f(1,)", 5, "a value is expected"),
        ("has(a)", 5, "has() needs a field"),
        ("a.map(1, 2)", 7, "must be a plain name"),
        ("for", 1, "reserved word"),
        ("in", 1, "reserved word"),
        ("a ? b", 6, "':' is expected"),
        ("a ? b ? c : d : e", 7, "':' is expected"),
        ("!-a", 2, "a value is expected"),
        ("9223372036854775808", 1, "64 bits"),
        ("-9223372036854775809", 2, "64 bits"),
        ("18446744073709551616u", 1, "64 bits"),
        ("-1u", 1, "unsigned"),
        ("1a", 1, "is not a number"),
        ("0x", 1, "is not a number"),
        ("1.", 3, "a name is expected"),
        ("rb'a'", 3, "nothing is expected"),
        (r"'\q'", 2, "not an escape"),
        (r"'\x4'", 2, "not an escape"),
        (r"'\ud800'", 2, "not an escape"),
        (r"'\400'", 2, "not an escape"),
        (r"b'\u0041'", 3, "not an escape"),
        ("é", 1, "is not part"),
        ("a.`b`", 3, "'`' is not part"),
        ("a.?b", 3, "a name is expected"),
        ("(" * 200 + "1" + ")" * 200, 50, "brackets deep"),
        ("a" + " + a" * 500, 400, "levels deep"),
        ("-" * 500 + "a", 1, "levels deep"),
    ],
)
def test_what_is_no_cel_names_the_position(text: str, position: int, part: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text)
    assert part in caught.value.message
    named = int(caught.value.message.partition("at position ")[2].partition(":")[0])
    assert abs(named - position) <= (0 if len(text) < 100 else 5)
    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize(
    "text",
    ["1" + " + 1" * 98, "!" * 98 + "true", "size(" * 48 + "'a'" + ")" * 48, "a" + ".a" * 98],
)
def test_the_deepest_that_parses_can_be_evaluated(text: str) -> None:
    expression = parse_expression(text)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(800)
    try:
        assert expression.evaluate(SCOPE) is not None
        assert expression.test(SCOPE) in {True, False}
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("now() > event.ts", "test the time in the function"),
        ("date(event.data.at) == date('2020-01-01')", "test the time in the function"),
        ("event.data.at.getHours() == 1", "test the time in the function"),
        ("timestamp(event.data.at) + duration('1h')", "test the time in the function"),
        ("siez(event.data.id)", "there are b64decode, bool"),
        ("event.data.id.toUpper()", "there are contains, endsWith"),
        ("size(1, 2)", "no function size()"),
        ("negate(1)", "no function negate()"),
        ("type(event.data.id)", "no function type()"),
        ("google.protobuf.Value{a: 1}", "google.protobuf.Value{…}"),
        ("order.data.id == 'a'", "no variable 'order'"),
        ("event.data.id.matches('(?=a)')", "RE2"),
        ("event.data.id.matches('(')", "not a regular expression"),
        ("event.data.id.matches(r'(a)\\1')", "not in RE2"),
    ],
)
def test_what_cannot_be_evaluated_is_known_when_it_is_parsed(text: str, part: str) -> None:
    assert part in str(parse_expression(text).unsupported())
    with pytest.raises(ExpressionError, match="embedded orchestrator cannot evaluate"):
        evaluable_expression(text)


def test_the_variables_that_an_expression_reads() -> None:
    text = "event.data.a.exists(x, x == async.data.b) || [1].map(event, event).size() == y"
    assert parse_expression(text).names == {"event", "async", "y"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is ''. Write a CEL expression"),
        (7, "is 7. Write a CEL expression"),
        ("event.data.", "a name is expected"),
        ("order.data.id == 'a'", "reads the variable 'order'"),
    ],
)
def test_a_checked_expression_names_its_field(text: object, part: str) -> None:
    with pytest.raises(ExpressionError, match=r"^if_ of function 'f'") as caught:
        check_expression(text, "if_ of function 'f'")
    assert part in caught.value.message


def test_expressions_with_the_same_text_are_equal() -> None:
    first, second = (
        parse_expression("event.data.id == 'a'"),
        parse_expression("event.data.id == 'a'"),
    )
    assert first == second
    assert hash(first) == hash(second)
    assert first != parse_expression("event.data.id == 'b'")
    assert repr(first) == "parse_expression(\"event.data.id == 'a'\")"


def _paths() -> st.SearchStrategy[str]:
    fields = [*SCOPE["event"]["data"], "missing"]
    return st.sampled_from(fields).map(lambda name: f"event.data.{name}") | st.sampled_from(
        ["async.data.n", "event.data.map.a", "event.data.list[0]", "event.data.objects[1].n"]
    )


_LITERALS = st.sampled_from(
    [
        "0",
        "1",
        "-3",
        "2.5",
        "true",
        "false",
        "null",
        "'a'",
        "''",
        "'k1'",
        "[1, 'a']",
        "[]",
        "{'a': 1}",
    ]
)


def _operation(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    binary = st.sampled_from(["+", "-", "*", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in"])
    return st.one_of(
        st.tuples(inner, binary, inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
        inner.map(lambda e: f"!({e})"),
        inner.map(lambda e: f"size({e})"),
        inner.map(lambda e: f"[{e}].exists(x, x == 1)"),
        inner.map(lambda e: f"({e}).all(x, x != 'a')"),
        inner.map(lambda e: f"({e}).filter(x, x == 1)"),
    )


def _sound() -> st.SearchStrategy[str]:
    """Expressions whose kinds fit, most of which have a value."""
    numbers = st.recursive(
        st.sampled_from(["0", "1", "-3", "7", "event.data.n", "size(event.data.list)"]),
        lambda inner: st.tuples(inner, st.sampled_from("+-*/%"), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        max_leaves=3,
    )
    doubles = st.sampled_from(["1.5", "-0.5", "event.data.f", "async.data.n", "2.0 * event.data.f"])
    texts = st.recursive(
        st.sampled_from(["'a'", "''", "event.data.id", "event.data.text", "string(event.data.n)"]),
        lambda inner: st.tuples(inner, inner).map(lambda t: f"({t[0]} + {t[1]})"),
        max_leaves=3,
    )
    compare = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    tests = [
        st.tuples(numbers | doubles, compare, numbers | doubles),
        st.tuples(texts, compare, texts),
        st.tuples(texts | numbers, st.sampled_from(["==", "!=", "in"]), st.just("event.data.list")),
        st.tuples(texts, st.just("in"), st.just("event.data.map")),
    ]
    facts = st.sampled_from(["event.data.ok", "has(event.data.missing)", "has(event.data.id)"])
    methods = st.tuples(texts, st.sampled_from(["contains", "startsWith", "endsWith"]), texts).map(
        lambda t: f"{t[0]}.{t[1]}({t[2]})"
    )
    base = facts | methods | st.one_of(tests).map(" ".join).map(lambda text: f"({text})")
    return st.recursive(
        base,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["&&", "||", "=="]), inner).map(
                lambda t: f"({t[0]} {t[1]} {t[2]})"
            ),
            st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
            inner.map(lambda e: f"!({e})"),
            st.tuples(numbers, compare).map(
                lambda t: f"event.data.objects.filter(o, o.n {t[1]} {t[0]}).size() == 1"
            ),
            inner.map(lambda e: f"[1, 2].exists(x, x == 1 && {e})"),
        ),
        max_leaves=5,
    )


EXPRESSIONS = _sound() | st.recursive(_LITERALS | _paths(), _operation, max_leaves=5)


def _theirs(text: str) -> Any:
    try:
        return cel.evaluate(text, SCOPE)
    except (KeyError, RuntimeError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS)
def test_expressions_agree_with_a_library(text: str) -> None:
    expression = parse_expression(text)
    try:
        found = expression.evaluate(SCOPE, strict=True)
    except ExpressionError:
        found = None
    assert found == _theirs(text)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS)
def test_the_servers_rules_give_every_expression_a_value(text: str) -> None:
    expression = parse_expression(text)
    found = expression.evaluate(SCOPE)
    assert expression.test(SCOPE) is (found is True)


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("ab.()[]{}'\"\\,:?!-+*/%<>=&|01xu \nrb_é"), max_size=30))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        outcome = parse_expression(text).text
    except ExpressionError as error:
        outcome = error.message
    assert outcome == text or "at position" in outcome
