"""Expressions in the Common Expression Language (CEL), as triggers, waits and keys use them.

Every well-formed expression parses, so that an app may use whatever its orchestrator knows.
`Expression.unsupported` tells what cannot be evaluated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onward.core.cel_syntax import Node, parse
from onward.errors import ConfigurationError, ExpressionError

#: The variables that an orchestrator gives: the event that started the run, and the one that is
#: tested against it (of a wait or a cancellation).
VARIABLES = ("event", "async")

_CALCULATIONS = frozenset({"+", "-", "*", "/", "%", "-_"})

#: Python's names of what CEL writes otherwise.
_CONSTANTS = {"None": "null", "True": "true", "False": "false"}

#: The kinds of nodes, and the functions, of an expression that a server restricts.
_RESTRICTED = frozenset(
    {
        *("literal", "name", "select", "index", "list", "map"),
        *("?:", "||", "&&", "!", "==", "!=", "<", "<=", ">", ">=", "in"),
        *("int", "uint", "double"),
    }
)


class Expression:
    """A parsed expression. Equal to another with the same text.

    `names` are the variables that it reads.
    """

    __slots__ = ("_tree", "names", "text")

    def __init__(self, text: str, tree: Node) -> None:
        self.text = text
        self._tree = tree
        self.names = frozenset(_free_names(tree, frozenset()))

    def __repr__(self) -> str:
        return f"parse_expression({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def test(self, scope: Mapping[str, Any]) -> bool:
        """Whether the expression yields exactly `true`, under the Inngest server's rules.

        A missing field counts as null, and what cannot be compared is not a match; it never
        raises. `scope` gives the variables, such as `{"event": …, "async": …}`.
        """
        return self.evaluate(scope) is True

    def evaluate(self, scope: Mapping[str, Any], *, strict: bool = False) -> Any:
        """What the expression yields: JSON, or bytes.

        By default under the Inngest server's rules: a missing field or an error on the way behaves
        like null, the whole is then False, and nothing is raised. `strict` is CEL by its
        definition. Raises ExpressionError then, where the expression has no value.
        """
        from onward.core.cel_evaluation import MISSING, Evaluation, ServerEvaluation
        from onward.core.cel_values import Problem

        if not strict:
            found = ServerEvaluation(scope).soft(self._tree, {})
            return False if found is MISSING else found
        try:
            return Evaluation(scope).value(self._tree, {})
        except Problem as problem:
            raise ExpressionError(
                f"The expression {self.text!r} has no value: {problem}."
            ) from None

    def may_be_whole(self) -> bool:
        """Whether it may yield a whole number. A number of an event is a double without `int()`."""
        return _may_be_whole(self._tree)

    def unsupported(self) -> str | None:
        """What of it cannot be evaluated here and how to write it instead, or None."""
        from onward.core.cel_unsupported import find

        return find(self._tree, self.names)


def parse_expression(text: str) -> Expression:
    """`text` as an expression. Raises ExpressionError, which names the position and the fix."""
    if not isinstance(text, str):
        raise ExpressionError(f"{text!r} is not a CEL expression. Write a text.")
    return Expression(text, parse(text))


def evaluable_expression(text: str) -> Expression:
    """`text` as an expression that can be evaluated here: what the embedded orchestrator takes.

    Raises ExpressionError, also for well-formed expressions of which `unsupported` tells something.
    """
    expression = parse_expression(text)
    problem = expression.unsupported()
    if problem is not None:
        raise ExpressionError(
            f"The embedded orchestrator cannot evaluate the expression {text!r}: {problem}."
        )
    return expression


def check_expression(text: object, where: str, *, restricted: bool = False) -> str:
    """`text` again, if it is an expression over the variables that an orchestrator gives.

    Args:
        text: The expression.
        where: What begins the error's message: the function and the field.
        restricted: Whether it belongs to a wait or a cancellation. Those have the variable `async`,
            and Inngest servers take only comparisons, logic, indexes and conversions to numbers.

    Raises ExpressionError.
    """
    if not isinstance(text, str) or not text.strip():
        raise ExpressionError(f"{where} is {text!r}. Write a CEL expression, or leave it out.")
    try:
        expression = parse_expression(text)
    except ConfigurationError as error:
        raise ExpressionError(f"{where} is refused. {error.message}") from None
    for name in sorted(expression.names.difference(VARIABLES if restricted else VARIABLES[:1])):
        if name == VARIABLES[1]:
            raise ExpressionError(
                f"{where} is {text!r}, which reads `async`, the event that a wait or a cancellation"
                " is about. Here is only `event`, the event that starts the run: write that."
            )
        if name in _CONSTANTS:
            raise ExpressionError(f"{where} is {text!r}: {name} is written {_CONSTANTS[name]}.")
        raise ExpressionError(
            f"{where} is {text!r}, which reads the variable {name!r}. There are only `event`, the"
            " event that started the run, and, in waits and cancellations, `async`, the event that"
            f" is waited for. Write for instance event.data.{name}, or quote it if it is a text."
        )
    if restricted:
        _check_restricted(expression._tree, text, where)  # noqa: SLF001 - the same module
    return text


def _check_restricted(tree: Node, text: str, where: str) -> None:
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        used = node.kind
        if used in {"call", "method"}:
            used = node.value
        elif used == "macro":
            used = node.value[0]
        if used in _RESTRICTED:
            nodes.extend(node.operands)
            continue
        raise ExpressionError(
            f"{where} is {text!r}, which uses {used!r}. Inngest servers take only comparisons, &&,"
            " ||, !, ?:, `in`, indexes and int(), uint(), double() here: compare fields of the"
            " events with each other, and test the rest in the function."
        )


def _may_be_whole(node: Node) -> bool:
    if node.kind == "literal":
        return type(node.value) is int
    if node.kind in {"?:", *_CALCULATIONS}:
        return all(map(_may_be_whole, node.operands[node.kind == "?:" :]))
    return node.kind not in {"name", "select", "index"}


def _free_names(node: Node, bound: frozenset[str]) -> Iterator[str]:
    if node.kind == "name" and node.value not in bound:
        yield node.value
    inner = bound | {node.value[1]} if node.kind == "macro" else bound
    for position, operand in enumerate(node.operands):
        yield from _free_names(operand, bound if position == 0 else inner)
