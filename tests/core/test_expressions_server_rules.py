"""How the Inngest server treats events that do not have what an expression reads.

The cases are facts from the server's own tests (`pkg/expressions`).
"""

from __future__ import annotations

from typing import Any

import pytest

from onward.core.expressions import parse_expression

DATA: dict[str, Any] = {
    "name": "hello",
    "n": 2,
    "float": 3.141,
    "zero": 0,
    "nothing": None,
    "empty": "",
    "yes": True,
    "no": False,
    "tags": ["a", "b", "c"],
    "none": [],
    "a": {"eval": "ok", "num": 1.161},
    "b": {"eval": "ok", "num": 1.161},
    "c": {"eval": "ok", "num": 9},
    "status": "400",
    "encoded": "eyJuZXN0ZWQiOnsiZGF0YSI6InllYSJ9fQ==",
    "list": [3, "ok?", True],
}
SCOPE = {"event": {"name": "e", "data": DATA}, "async": {"status": "200"}}

CASES: list[tuple[str, Any]] = [
    # A missing field is null.
    ('event.data.missing == "foo"', False),
    ("event.data.missing == null", True),
    ("event.data.missing == 0", False),
    ("event.data.m1 == event.data.m2", False),
    ('event.data.missing != "foo"', True),
    ("event.data.missing != null", False),
    ("event.data.missing != 0", True),
    ('event.data.missing != ""', True),
    ("event.data.missing < 5", True),
    ("event.data.missing <= 5", True),
    ("5 < event.data.missing", False),
    ("5 <= event.data.missing", False),
    ("event.data.n > event.data.missing", True),
    ("event.data.missing > 5", False),
    ("event.data.missing >= 5", False),
    ("5 > event.data.missing", True),
    ("5 >= event.data.missing", True),
    ("event.data.name + event.data.missing", "hello"),
    ("event.data.missing + event.data.name", "hello"),
    ("event.data.m1 + event.data.m2", False),
    ("size(event.data.missing)", 0),
    ("size(event.data.missing) == 0", True),
    ('event.data.missing in ["a", "b", "c"]', False),
    ('event.data.missing in ["a", "b", "c"] == false', True),
    ("'item' in event.data.issue.fields.tags", False),
    ("event.data.nothing.field.another == 'another'", False),
    ("event.data.yes == true && event.data.nothing.field.another != 'another'", True),
    ("event.data.missing", False),
    ("event.nonexistent.exists(x, x == 'a')", False),
    ("event.data.some.unknown.contains(event.data.name)", False),
    # Null has the zero of the other side's kind.
    ('null == "foo"', False),
    ('"foo" != null', True),
    ('null < "foo"', True),
    ('"foo" < null', False),
    ("null < uint(5)", True),
    ("null < 5", True),
    ("5 < null", False),
    ("null > 0", False),
    ("5 > null", True),
    ("null <= 0", True),
    ("null >= 1", False),
    ("null < 0.5", True),
    ("event.data.float > null", True),
    ("event.data.float <= null", False),
    ("event.data.nothing == null", True),
    ("event.data.nothing > 0", False),
    ("size(event.data.nothing) > 0", False),
    # Any value counts as true or false.
    ("event.data.name || event.data.status", "hello"),
    ("event.data.empty || event.data.status", "400"),
    ("event.data.missing || event.data.status", "400"),
    ("event.data.name || event.data.missing", "hello"),
    ("event.data.m1 || event.data.m2", False),
    ("event.data.zero || event.data.name", "hello"),
    ("null || event.data.name", "hello"),
    ("event.data.float || false", 3.141),
    ("false || event.data.tags", ["a", "b", "c"]),
    ("uint(5) || false", 5),
    ("uint(0) || event.data.name", "hello"),
    ("event.data.no || event.data.yes", True),
    ("event.data.no || event.data.no", False),
    ("event.data.name && event.data.status", "400"),
    ("event.data.empty && event.data.name", ""),
    ("event.data.name && event.data.empty", ""),
    ("event.data.missing && event.data.name", False),
    ("event.data.yes && event.data.no", False),
    ('event.data.missing ? "truthy" : "falsy"', "falsy"),
    ('event.data.nothing ? "truthy" : "falsy"', "falsy"),
    ('event.data.empty ? "truthy" : "falsy"', "falsy"),
    ('event.data.zero ? "truthy" : "falsy"', "falsy"),
    ('event.data.name ? "truthy" : "falsy"', "truthy"),
    ("event.data.missing ? event.data.missing : event.data.name", "hello"),
    (
        "!((has(event.data.no) && event.data.no) || (has(event.data.m) && event.data.m))",
        True,
    ),
    # Values of different kinds join as text.
    ("'n-' + event.data.n", "n-2"),
    ("event.data.float + '-' + event.data.yes", "3.141-true"),
    ("'' + event.data.list", "[3 ok? true]"),
    ("'' + event.data.c", "map[eval:ok num:9]"),
    # Each number of an event is a double.
    ("event.data.n == 2", True),
    ("event.data.n > 1.5 && event.data.float <= 4", True),
    ("event.data.n + 1", "21"),
    ("int(event.data.n) + 1", 3),
    ("event.data.n + 1.0", 3.0),
    ("string(event.data.n)", "2"),
    # Its own functions.
    ("uppercase(event.data.name) + ' is my name'", "HELLO is my name"),
    ("lowercase('URGENT') == 'urgent'", True),
    ('b64decode("aGkgdGhlcmUh") == "hi there!"', True),
    ("json_parse(b64decode(event.data.encoded)).nested.data", "yea"),
    # The language.
    ("event.data == event.data", True),
    ("event.data.a == event.data.b", True),
    ("event.data.a == event.data.c", False),
    ("event['data'].name != '' && event['data'].missing != true", True),
    ("int(event.data.status) >= 400 &&\n\t event.data.yes == true", True),
    ("async.status == 200", False),
    ("int(async.status) == 200", True),
    ("event.data.tags.exists(x, x == 'd' || x == 'a')", True),
    ("event.data.tags.exists(x, x == 'd') == false", True),
    ("[1, 2, 3].all(x, x > 0) && async.status == '200'", True),
    (r"event.data.name.matches('^[a-z\\d]{0,10}$')", True),
    (r"event.data.name.matches(r'\w')", True),
    ("event.data.name in ['hello', 'Issue'] == true", True),
    ("size(event.data.name) == 5", True),
    ("size(event.data.none) == 0", True),
    ("event.data.name > 3", False),
    ("event.data.tags[7] == 'a'", False),
    ("event.data.tags[0] == 'a'", True),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_an_expression_yields_what_it_yields_on_the_server(text: str, expected: object) -> None:
    expression = parse_expression(text)
    assert expression.unsupported() is None
    found = expression.evaluate(SCOPE)
    assert found == expected
    assert isinstance(found, bool) is isinstance(expected, bool)
    assert expression.test(SCOPE) is (expected is True)


def test_numbers_that_a_double_cannot_hold_stay_apart() -> None:
    scope = {"event": {"data": {"id": 2**60 + 1}}, "async": {"data": {"id": 2**60}}}
    assert not parse_expression("event.data.id == async.data.id").test(scope)
