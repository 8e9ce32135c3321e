"""What of CEL the embedded orchestrator does not evaluate; everything else it does."""

from __future__ import annotations

from onward.core.cel_patterns import why_not
from onward.core.cel_syntax import Node
from onward.core.cel_values import FUNCTIONS, METHODS

_TIME = frozenset({"now", "now_plus", "now_minus", "date", "timestamp", "duration"})
_VARIABLES = frozenset({"event", "async"})


def find(tree: Node, names: frozenset[str]) -> str | None:
    """The first thing in the tree that cannot be evaluated, with what to write instead."""
    unknown = sorted(names - _VARIABLES)
    if unknown:
        return f"there is no variable {unknown[0]!r}, only `event` and `async`"
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        problem = _problem(node)
        if problem is not None:
            return problem
        nodes.extend(reversed(node.operands))
    return None


def _problem(node: Node) -> str | None:
    if node.kind == "message":
        return f"messages such as {node.value}{{…}} are not evaluated; write a map, {{'a': 1}}"
    if node.kind not in {"call", "method"}:
        return None
    table = FUNCTIONS if node.kind == "call" else METHODS
    if (node.value, len(node.operands)) not in table or not node.value.isidentifier():
        if node.value in _TIME or node.value.startswith("get"):
            return f"the function {node.value}() is not evaluated; test the time in the function"
        known = sorted({name for name, _ in table if name.isidentifier()} - {"in"})
        return f"there is no function {node.value}() of this kind; there are {', '.join(known)}"
    pattern = node.operands[-1]
    if node.value == "matches" and pattern.kind == "literal" and isinstance(pattern.value, str):
        return why_not(pattern.value)
    return None
