"""The small part of CEL that the embedded orchestrator evaluates in `if` expressions.

Comparisons of paths (`event.data.id`, `async.data.items[0].id`) and literals, joined by `&&`, `||`,
`!` and brackets. Everything else is refused when it is parsed, never at the time it matters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from onward.errors import ConfigurationError

Scope = Mapping[str, Any]
Expression = Callable[[Scope], bool]
_Node = Callable[[Scope], Any]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|(?P<text>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<op>==|!=|<=|>=|&&|\|\||[<>!()\[\].]))"
)
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ROOTS = ("event", "async")


class _Missing:
    """What a path that leads nowhere yields: it equals nothing and has no order."""


_MISSING = _Missing()


def _same_kind(left: Any, right: Any) -> bool:
    numbers = (int, float)
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    if isinstance(left, numbers) and isinstance(right, numbers):
        return True
    return type(left) is type(right)


def _equal(left: Any, right: Any) -> bool:
    return left is not _MISSING and _same_kind(left, right) and bool(left == right)


def _ordered(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    def check(left: Any, right: Any) -> bool:
        comparable = isinstance(left, (int, float, str)) and _same_kind(left, right)
        return comparable and bool(compare(left, right))

    return check


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _ordered(lambda left, right: left < right),
    "<=": _ordered(lambda left, right: left <= right),
    ">": _ordered(lambda left, right: left > right),
    ">=": _ordered(lambda left, right: left >= right),
}


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        position, end = 0, len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                self.refuse(f"at {text[position : position + 20]!r}")
            self.tokens.append((str(match.lastgroup), match.group(match.lastgroup or 0)))
            position = match.end()
        self.position = 0

    def refuse(self, where: str) -> NoReturn:
        raise ConfigurationError(
            f"The embedded orchestrator cannot evaluate the expression {self.text!r} ({where})."
            " It knows comparisons (== != < <= > >=) of paths that start at `event` or `async`,"
            " text, numbers, true, false and null, joined by &&, ||, ! and brackets. Write it"
            " that way, or test in the function itself."
        )

    def peek(self) -> str:
        return self.tokens[self.position][1] if self.position < len(self.tokens) else ""

    def take(self) -> tuple[str, str]:
        if self.position >= len(self.tokens):
            self.refuse("it ends too early")
        self.position += 1
        return self.tokens[self.position - 1]

    def expect(self, text: str) -> None:
        kind, found = self.take()
        if found != text or kind == "text":
            self.refuse(f"{text!r} expected, not {found!r}")

    def parse(self) -> _Node:
        node = self.either()
        if self.position < len(self.tokens):
            self.refuse(f"nothing expected after the end, but {self.peek()!r} is there")
        return node

    def either(self) -> _Node:
        parts = [self.both()]
        while self.peek() == "||":
            self.take()
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else lambda scope: any(p(scope) is True for p in parts)

    def both(self) -> _Node:
        parts = [self.comparison()]
        while self.peek() == "&&":
            self.take()
            parts.append(self.comparison())
        return parts[0] if len(parts) == 1 else lambda scope: all(p(scope) is True for p in parts)

    def comparison(self) -> _Node:
        left = self.operand()
        compare = _COMPARISONS.get(self.peek())
        if compare is None:
            return left
        self.take()
        right = self.operand()
        return lambda scope: compare(left(scope), right(scope))

    def operand(self) -> _Node:
        kind, text = self.take()
        if kind == "op" and text == "!":
            inner = self.operand()
            return lambda scope: inner(scope) is False
        if kind == "op" and text == "(":
            node = self.either()
            self.expect(")")
            return node
        if kind == "name" and text in _ROOTS:
            return self.path(text)
        value = self.literal(kind, text)
        return lambda _scope: value

    def literal(self, kind: str, text: str) -> Any:
        if kind == "number":
            return float(text) if "." in text else int(text)
        if kind == "text":
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind == "name" and text in _CONSTANTS:
            return _CONSTANTS[text]
        return self.refuse(f"{text!r} is neither a path nor a literal")

    def path(self, root: str) -> _Node:
        keys: list[str | int] = [root]
        while self.peek() in {".", "["}:
            opening = self.take()[1]
            kind, text = self.take()
            if opening == ".":
                if kind != "name":
                    self.refuse(f"{text!r} is not a name")
                keys.append(text)
                continue
            if kind == "number" and text.isdigit():
                keys.append(int(text))
            elif kind == "text":
                keys.append(re.sub(r"\\(.)", r"\1", text[1:-1]))
            else:
                self.refuse(f"{text!r} is not an index")
            self.expect("]")
        return lambda scope: _follow(scope, keys)


def _follow(scope: Scope, keys: list[str | int]) -> Any:
    value: Any = scope
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(str(key), _MISSING)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return _MISSING
    return value


def parse_expression(text: str) -> Expression:
    """`text` as a test of `{"event": …, "async": …}`; only `true` counts as true.

    Raises ConfigurationError for anything that is not understood, with what is.
    """
    node = _Parser(text).parse()
    return lambda scope: node(scope) is True
