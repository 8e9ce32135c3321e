"""The syntax of the Common Expression Language (CEL), as its language definition has it.

https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax. The parser knows no functions
and no variables: whatever is well formed becomes a tree of `Node`s.
"""

from __future__ import annotations

from typing import Any, NoReturn

from onward.core.cel_tokens import Token, refusal, scan

#: How deep a tree may be, so that evaluating it never exhausts the stack.
MOST_LEVELS = 100

_KEYWORDS = frozenset({"true", "false", "null", "in"})
_RESERVED = frozenset(
    (
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let"),
        *("loop", "package", "namespace", "return", "var", "void", "while"),
    )
)
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None}
_BINARY = {
    **dict.fromkeys(("<", "<=", ">=", ">", "==", "!=", "in"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%"), 5),
}
#: What other languages have for an operator, and how CEL writes it.
_WRITTEN = {"and": "&&", "or": "||", "not": "!"}
_MACROS = {("all", 2), ("exists", 2), ("exists_one", 2), ("map", 2), ("map", 3), ("filter", 2)}


class Node:
    """One node of a syntax tree.

    `kind` is one of: `literal` (value), `name` (value), `select` (value: the field; one operand),
    `has` (the same), `index` (operand, key), `call` (value: the function; its arguments), `method`
    (value: the function; target, arguments), `macro` (value: macro and variable; target, bodies),
    `list` (elements), `map` (keys and values alternating), `message` (value: its type), `?:`, `!`,
    `-_`, `||` and `&&` (any number of operands), or a binary operator.
    """

    __slots__ = ("at", "depth", "kind", "operands", "value")

    def __init__(
        self, kind: str, at: int, value: Any = None, operands: tuple[Node, ...] = ()
    ) -> None:
        self.kind = kind
        self.at = at
        self.value = value
        self.operands = operands
        self.depth: int = 1 + max((operand.depth for operand in operands), default=0)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = scan(text)
        self.position = 0
        self.level = 0

    def refuse(self, what: str, at: int) -> NoReturn:
        raise refusal(self.text, what, at)

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.tokens[self.position]
        self.position += 1
        return token

    def sees(self, text: str) -> bool:
        token = self.tokens[self.position]
        return token.kind == "op" and token.text == text

    def accept(self, text: str) -> bool:
        if self.sees(text):
            self.position += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.refuse(f"{text!r} is expected here, not {self.next}{self.hint()}", self.next.at)

    def hint(self) -> str:
        """What to write where a word stands for an operator."""
        near = self.tokens[max(self.position - 1, 0) : self.position + 1]
        words = (token.text for token in near if token.kind == "name" and token.text in _WRITTEN)
        return next((f" ({word!r} is written {_WRITTEN[word]!r})" for word in words), "")

    def node(self, kind: str, at: int, value: Any = None, operands: tuple[Node, ...] = ()) -> Node:
        made = Node(kind, at, value, operands)
        if made.depth > MOST_LEVELS:
            self.refuse(f"it is nested more than {MOST_LEVELS} levels deep", at)
        return made

    def parse(self) -> Node:
        tree = self.expression()
        if self.next.kind != "end":
            told = f"nothing is expected here, but there is {self.next}{self.hint()}"
            self.refuse(told, self.next.at)
        return tree

    def expression(self) -> Node:
        self.level += 1
        if self.level > MOST_LEVELS // 2:
            self.refuse(f"it is nested more than {MOST_LEVELS // 2} brackets deep", self.next.at)
        tree = self.logic(1)
        if self.sees("?"):
            at = self.take().at
            then = self.logic(1)
            self.expect(":")
            tree = self.node("?:", at, None, (tree, then, self.expression()))
        self.level -= 1
        return tree

    def logic(self, level: int) -> Node:
        parts = [self.logic(2) if level == 1 else self.binary(3)]
        at = self.next.at
        operator = "||" if level == 1 else "&&"
        while self.accept(operator):
            parts.append(self.logic(2) if level == 1 else self.binary(3))
        return parts[0] if len(parts) == 1 else self.node(operator, at, None, tuple(parts))

    def binary(self, weakest: int) -> Node:
        left = self.unary()
        while True:
            token = self.next
            strength = _BINARY.get(token.text, 0) if token.kind in {"op", "name"} else 0
            if strength < weakest:
                return left
            self.take()
            left = self.node(token.text, token.at, None, (left, self.binary(strength + 1)))

    def unary(self) -> Node:
        token = self.next
        if token.kind != "op" or token.text not in "!-":
            return self.member(self.primary())
        count = 0
        while self.sees(token.text):
            if token.text == "-" and self.tokens[self.position + 1].kind == "number":
                break
            self.take()
            count += 1
        tree = self.member(self.primary())
        for _ in range(count):
            tree = self.node("!" if token.text == "!" else "-_", token.at, None, (tree,))
        return tree

    def member(self, tree: Node) -> Node:
        while True:
            at = self.next.at
            if self.accept("."):
                name = self.selector()
                if self.accept("("):
                    tree = self.method(tree, name, self.list_until(")"), at)
                else:
                    tree = self.node("select", at, name, (tree,))
            elif self.accept("["):
                key = self.expression()
                self.expect("]")
                tree = self.node("index", at, None, (tree, key))
            elif self.sees("{") and (path := _dotted(tree)):
                self.take()
                tree = self.message(path, at)
            else:
                return tree

    def method(self, target: Node, name: str, arguments: list[Node], at: int) -> Node:
        if (name, len(arguments)) not in _MACROS:
            return self.node("method", at, name, (target, *arguments))
        variable = arguments[0]
        if variable.kind != "name":
            self.refuse(f"the first argument of {name}() must be a plain name", variable.at)
        return self.node("macro", at, (name, variable.value), (target, *arguments[1:]))

    def selector(self) -> str:
        token = self.take()
        if token.kind != "name" or token.text in _KEYWORDS:
            self.refuse(f"a name is expected here, not {token}", token.at)
        return token.text

    def list_until(self, closing: str, *, comma: bool = False) -> list[Node]:
        items: list[Node] = []
        while not self.accept(closing):
            if items:
                self.expect(",")
                if comma and self.accept(closing):
                    break
            items.append(self.expression())
        return items

    def primary(self) -> Node:
        token = self.take()
        if token.kind in {"number", "text", "bytes"}:
            return self.node("literal", token.at, token.value)
        if token.kind == "name":
            return self.name(token, token.text)
        if token.kind == "op":
            match token.text:
                case "-" if self.next.kind == "number":
                    return self.negative(token.at)
                case "." if self.next.kind == "name":
                    return self.name(token, self.selector())
                case "(":
                    tree = self.expression()
                    self.expect(")")
                    return tree
                case "[":
                    items = self.list_until("]", comma=True)
                    return self.node("list", token.at, None, tuple(items))
                case "{":
                    return self.mapping(token.at)
        if token.kind == "end":
            self.refuse("it ends too early", token.at)
        return self.refuse(f"a value is expected here, not {token}", token.at)

    def negative(self, at: int) -> Node:
        value = self.take().value
        if type(value) not in {int, float}:
            self.refuse("an unsigned number cannot be negative", at)
        return self.node("literal", at, -value)

    def name(self, token: Token, text: str) -> Node:
        if text in _CONSTANTS and token.kind == "name":
            return self.node("literal", token.at, _CONSTANTS[text])
        if text in _KEYWORDS or text in _RESERVED:
            self.refuse(f"{text!r} is a reserved word", token.at)
        if not self.accept("("):
            return self.node("name", token.at, text)
        arguments = self.list_until(")")
        if text == "has" and len(arguments) == 1:
            field = arguments[0]
            if field.kind != "select":
                self.refuse("has() needs a field, such as has(event.data.id)", field.at)
            return self.node("has", token.at, field.value, field.operands)
        return self.node("call", token.at, text, tuple(arguments))

    def mapping(self, at: int) -> Node:
        items: list[Node] = []
        while not self.accept("}"):
            if items:
                self.expect(",")
                if self.accept("}"):
                    break
            items.append(self.expression())
            self.expect(":")
            items.append(self.expression())
        return self.node("map", at, None, tuple(items))

    def message(self, path: str, at: int) -> Node:
        items: list[Node] = []
        while not self.accept("}"):
            if items:
                self.expect(",")
                if self.accept("}"):
                    break
            self.selector()
            self.expect(":")
            items.append(self.expression())
        return self.node("message", at, path, tuple(items))


def _dotted(tree: Node) -> str:
    """The dotted name that a tree spells (`a.b.c`), or empty text."""
    parts: list[str] = []
    while tree.kind == "select":
        parts.append(tree.value)
        tree = tree.operands[0]
    return ".".join([tree.value, *reversed(parts)]) if tree.kind == "name" else ""


def parse(text: str) -> Node:
    """The syntax tree of an expression. Raises ExpressionError, which names the position."""
    return _Parser(text).parse()
