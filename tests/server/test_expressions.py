from __future__ import annotations

import pytest

from onward.errors import ConfigurationError
from onward_server.expressions import parse_expression

SCOPE = {
    "event": {
        "name": "e",
        "data": {"id": "k1", "total": 7, "ok": True, "items": [{"n": 1}], "x": None},
    },
    "async": {"name": "a", "data": {"id": "k1", "total": 7.0}},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("async.data.id == event.data.id", True),
        ("async.data.total == event.data.total", True),
        ("event.data.total > 5 && event.data.total <= 7", True),
        ("event.data.total != 7", False),
        ("event.data.total < 5 || event.data.ok == true", True),
        ("!(event.data.ok)", False),
        ("event.data.ok", True),
        ("event.data.items[0].n == 1", True),
        ("event.data.items[3].n == 1", False),
        ("event.data['id'] == \"k1\"", True),
        ("event.data.missing == null", False),
        ("event.data.x == null", True),
        ("event.data.missing != 'a'", True),
        ("event.data.id == 'it\\'s'", False),
        ("event.data.ok == 1", False),
        ("event.data.id > 1", False),
        ("event.data.total == -7", False),
        ("event.data.id", False),
    ],
)
def test_comparisons(text: str, expected: bool) -> None:
    assert parse_expression(text)(SCOPE) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "size(event.data.items) > 1",
        "event.data.id =",
        "event.data.",
        "a == b",
        "1 + 1 == 2",
        "event.data.id == 'open",
        "(event.data.ok",
        "event.data.ok event.data.ok",
        "event.data[x]",
        "event.data.id in ['a']",
        "event.data.ok ? true : false",
    ],
)
def test_everything_else_is_refused_when_it_is_parsed(text: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot evaluate"):
        parse_expression(text)
