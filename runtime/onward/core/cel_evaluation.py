"""What an expression's tree yields for given values, under CEL's rules or the Inngest server's.

The server softens the language so that events of any shape can be tested (its `pkg/expressions`):
a missing field and an error behave like null, `&&`, `||` and `?:` take any value as true or false,
`+` joins values of different kinds as text, and each number of an event is a double.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onward.core.cel_syntax import Node
from onward.core.cel_values import (
    FUNCTIONS,
    METHODS,
    Problem,
    any_text,
    apply,
    index,
    kind,
)

_EXACT = 1 << 53
_ZEROS: dict[str, Any] = {"int": 0, "uint": 0, "double": 0.0, "string": ""}
_PATHS = frozenset({"name", "select", "index"})

#: Which method evaluates which kind of node; the others are operators.
_VISITS = {
    "literal": "literal",
    "name": "path",
    "select": "path",
    "index": "path",
    "||": "logic",
    "&&": "logic",
    "?:": "chosen",
    "has": "has",
    "list": "listing",
    "map": "mapping",
    "macro": "macro",
    "method": "method",
    "call": "call",
    "message": "message",
}

Names = Mapping[str, Any]


class _Missing:
    """What stands for a missing field, and for an error, under the server's rules."""


MISSING = _Missing()


class Evaluation:
    """One evaluation under the language's own rules; `value` raises Problem where there is none."""

    def __init__(self, scope: Names) -> None:
        self.scope = scope

    def value(self, node: Node, bound: Names) -> Any:
        """What the node yields; `bound` holds the variables of macros around it."""
        visit = _VISITS.get(node.kind)
        if visit is None:
            return self.apply(FUNCTIONS, node.kind, node, bound)
        return getattr(self, visit)(node, bound)

    def literal(self, node: Node, bound: Names) -> Any:  # noqa: ARG002 - all visits are alike
        """A value that the expression spells out."""
        return node.value

    def chosen(self, node: Node, bound: Names) -> Any:
        """One of the two values after a condition."""
        branch = 1 if self.condition(node.operands[0], bound) else 2
        return self.value(node.operands[branch], bound)

    def has(self, node: Node, bound: Names) -> bool:
        """Whether a field is there."""
        target = self.value(node.operands[0], bound)
        if kind(target) != "map":
            raise Problem(f"there is no field in a {kind(target)}")
        return node.value in target

    def listing(self, node: Node, bound: Names) -> list[Any]:
        """A list that the expression spells out."""
        return [self.value(item, bound) for item in node.operands]

    def method(self, node: Node, bound: Names) -> Any:
        """A function called on a value."""
        return self.apply(METHODS, node.value, node, bound)

    def call(self, node: Node, bound: Names) -> Any:
        """A function called by its name."""
        return self.apply(FUNCTIONS, node.value, node, bound)

    def message(self, node: Node, bound: Names) -> Any:  # noqa: ARG002 - all visits are alike
        """A message of a type that JSON does not have."""
        raise Problem(f"there is no type {node.value}")

    def path(self, node: Node, bound: Names) -> Any:
        """The value that a name, a field or an index leads to."""
        if node.kind == "name":
            names = bound if node.value in bound else self.scope
            if node.value not in names:
                raise Problem(f"there is no {node.value!r}")
            return names[node.value]
        first = node.operands[0]
        target = self.path(first, bound) if first.kind in _PATHS else self.value(first, bound)
        if node.kind == "index":
            return index(target, self.value(node.operands[1], bound))
        if kind(target) != "map" or node.value not in target:
            raise Problem(f"there is no field {node.value!r}")
        return target[node.value]

    def logic(self, node: Node, bound: Names) -> Any:
        """`||` and `&&`: a value that decides outweighs an error beside it."""
        decisive, problem = node.kind == "||", None
        for operand in node.operands:
            try:
                if self.condition(operand, bound) is decisive:
                    return decisive
            except Problem as found:
                problem = problem or found
        if problem is not None:
            raise problem
        return not decisive

    def condition(self, node: Node, bound: Names) -> bool:
        """The node's value, which must be true or false."""
        found = self.value(node, bound)
        if not isinstance(found, bool):
            raise Problem(f"true or false is needed, not a {kind(found)}")
        return found

    def apply(
        self,
        table: Mapping[tuple[str, int], Callable[..., Any]],
        name: str,
        node: Node,
        bound: Names,
    ) -> Any:
        """A function's or an operator's value."""
        return apply(table, name, [self.value(operand, bound) for operand in node.operands])

    def mapping(self, node: Node, bound: Names) -> dict[Any, Any]:
        """A map that the expression spells out."""
        values = [self.value(item, bound) for item in node.operands]
        made: dict[Any, Any] = {}
        for key, value in zip(values[::2], values[1::2], strict=True):
            if kind(key) not in {"string", "int", "uint", "bool"} or key in made:
                raise Problem(f"{key!r} cannot be a key of this map")
            made[key] = value
        return made

    def macro(self, node: Node, bound: Names) -> Any:
        """`all`, `exists`, `exists_one`, `filter` and `map`, over a list or a map's keys."""
        name, variable = node.value
        found = self.value(node.operands[0], bound)
        if kind(found) not in {"list", "map"}:
            raise Problem(f"{name}() needs a list or a map, not a {kind(found)}")
        scopes = [({**bound, variable: item}, item) for item in found]
        if name in {"all", "exists"}:
            return self.quantified(node.operands[1], scopes, decisive=name == "exists")
        tests = name != "map" or len(node.operands) == 3  # noqa: PLR2004
        kept = [s for s in scopes if not tests or self.condition(node.operands[1], s[0])]
        if name == "exists_one":
            return len(kept) == 1
        if name == "filter":
            return [item for _, item in kept]
        return [self.value(node.operands[-1], inner) for inner, _ in kept]

    def quantified(
        self, body: Node, scopes: list[tuple[dict[str, Any], Any]], *, decisive: bool
    ) -> bool:
        """Whether a body holds for all, or for any: like one long `&&`, or `||`."""
        problem = None
        for inner, _ in scopes:
            try:
                if self.condition(body, inner) is decisive:
                    return decisive
            except Problem as found:
                problem = problem or found
        if problem is not None:
            raise problem
        return not decisive


class ServerEvaluation(Evaluation):
    """One evaluation under the Inngest server's rules."""

    def soft(self, node: Node, bound: Names) -> Any:
        """The node's value, or MISSING where it has none."""
        try:
            return self.value(node, bound)
        except Problem:
            return MISSING

    def value(self, node: Node, bound: Names) -> Any:
        """What the node yields; each number of an event is a double."""
        found = super().value(node, bound)
        if node.kind in _PATHS and _root(node) not in bound:
            return _doubles(found)
        return found

    def condition(self, node: Node, bound: Names) -> bool:
        """Whether the value counts as true."""
        return _truthy(self.soft(node, bound))

    def logic(self, node: Node, bound: Names) -> Any:
        """`||` yields its first value that counts as true, `&&` its first that does not."""
        found: Any = MISSING
        for operand in node.operands:
            found = self.soft(operand, bound)
            if _truthy(found) is (node.kind == "||"):
                break
        if found is MISSING:
            raise Problem("a field is missing")
        return found

    def apply(
        self,
        table: Mapping[tuple[str, int], Callable[..., Any]],
        name: str,
        node: Node,
        bound: Names,
    ) -> Any:
        """A function's or an operator's value, with missing fields and null made to fit."""
        values = [self.soft(operand, bound) for operand in node.operands]
        if MISSING in values:
            return _with_missing(name, values)
        try:
            return apply(table, name, values)
        except Problem:
            kinds = [kind(value) for value in values]
            if len(values) != 2 or kinds[0] == kinds[1]:  # noqa: PLR2004
                raise
            if name == "+":
                return any_text(values[0]) + any_text(values[1])
            if "null" not in kinds:
                raise
            zero = _ZEROS.get(kinds[0] if kinds[1] == "null" else kinds[1])
            return apply(table, name, [zero if value is None else value for value in values])


def _root(node: Node) -> object:
    while node.kind in {"select", "index"}:
        node = node.operands[0]
    return node.value if node.kind == "name" else None


def _doubles(value: Any) -> Any:
    """JSON as the server's decoder has it. What a double cannot hold exactly stays as it is."""
    if type(value) is int and -_EXACT <= value <= _EXACT:
        return float(value)
    if isinstance(value, list):
        return [_doubles(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _doubles(item) for key, item in value.items()}
    return value


def _truthy(value: Any) -> bool:
    if value is MISSING or value is None:
        return False
    return bool(value) if isinstance(value, (bool, int, float, str)) else True


def _with_missing(name: str, values: list[Any]) -> Any:
    """What the server takes instead of a call with a missing argument."""
    match name:
        case "+":
            return next((value for value in values if value is not MISSING), False)
        case "==":
            return None in values
        case "!=":
            return None not in values
        case "<" | "<=":
            return values[0] is MISSING
        case ">" | ">=":
            return values[0] is not MISSING
        case "size":
            return 0
    return False
