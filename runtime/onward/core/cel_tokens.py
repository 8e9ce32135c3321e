"""The words that CEL text is made of: names, numbers, text, bytes and operators."""

from __future__ import annotations

from typing import Any

from onward.errors import ExpressionError

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdefABCDEF")
_NAME = _LETTERS | _DIGITS
_PAIRS = frozenset({"==", "!=", "<=", ">=", "&&", "||"})
_SINGLES = frozenset("<>!?:.,+-*/%()[]{}")
_QUOTES = frozenset("\"'")
_ESCAPES = {
    **dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)),
    **{character: character for character in "\\?\"'`"},
}
_LONGEST_INT = 1 << 63
#: How much of an expression its error repeats.
_SHOWN = 300
_CODE_POINTS = {"x": 2, "X": 2, "u": 4, "U": 8}


class Uint(int):
    """An unsigned 64-bit integer of CEL: a type of its own, equal to the same int."""

    __slots__ = ()


class Token:
    """`kind` is `name`, `number`, `text`, `bytes`, `op` or `end`; `at` is its offset."""

    __slots__ = ("at", "kind", "text", "value")

    def __init__(self, kind: str, at: int, text: str, value: Any = None) -> None:
        self.kind = kind
        self.at = at
        self.text = text
        self.value = value

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def refusal(text: str, what: str, at: int) -> ExpressionError:
    """The error for an expression that is not well formed at the offset `at`."""
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return ExpressionError(
        f"The expression {shown!r} is not valid CEL at position {at + 1}: {what}. Write for"
        " instance \"event.data.total > 0 && event.data.currency == 'EUR'\"; the language is"
        " defined at https://cel.dev."
    )


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.tokens: list[Token] = []

    def refuse(self, what: str, at: int) -> ExpressionError:
        return refusal(self.text, what, at)

    def span(self, start: int, characters: frozenset[str]) -> int:
        end = start
        while end < len(self.text) and self.text[end] in characters:
            end += 1
        return end

    def scan(self) -> list[Token]:
        text = self.text
        while self.at < len(text):
            character = text[self.at]
            if character in " \t\n\r\f":
                self.at += 1
            elif text.startswith("//", self.at):
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            elif character in _QUOTES:
                self.quoted(self.at, raw=False, octets=False)
            elif character in _LETTERS:
                self.word()
            elif character in _DIGITS or (
                character == "." and text[self.at + 1 : self.at + 2] in _DIGITS
            ):
                self.number()
            else:
                self.operator()
        self.tokens.append(Token("end", len(text), ""))
        return self.tokens

    def operator(self) -> None:
        text = self.text[self.at : self.at + 2]
        if text not in _PAIRS:
            text = text[:1]
            if text not in _SINGLES:
                hint = " (equality is written '==')" if text == "=" else ""
                raise self.refuse(f"{text!r} is not part of the language{hint}", self.at)
        self.tokens.append(Token("op", self.at, text))
        self.at += len(text)

    def word(self) -> None:
        start = self.at
        end = self.span(start, _NAME)
        word = self.text[start:end]
        if self.text[end : end + 1] in _QUOTES and word.lower() in {"r", "b", "br"}:
            self.at = end
            self.quoted(start, raw="r" in word.lower(), octets="b" in word.lower())
            return
        self.at = end
        self.tokens.append(Token("name", start, word))

    def number(self) -> None:
        start, text = self.at, self.text
        if text[start : start + 2] in {"0x", "0X"}:
            end = self.span(start + 2, _HEX)
            if end > start + 2:
                self.whole(start, end, int(text[start + 2 : end], 16))
                return
        end = self.span(start, _DIGITS)
        real = False
        if text[end : end + 1] == "." and text[end + 1 : end + 2] in _DIGITS:
            real, end = True, self.span(end + 1, _DIGITS)
        if text[end : end + 1] in {"e", "E"}:
            first = end + 2 if text[end + 1 : end + 2] in {"+", "-"} else end + 1
            last = self.span(first, _DIGITS)
            if last > first:
                real, end = True, last
        if not real:
            self.whole(start, end, int(text[start:end]))
            return
        self.put_number(start, end, float(text[start:end]))

    def whole(self, start: int, end: int, value: int) -> None:
        if self.text[end : end + 1] in {"u", "U"}:
            if value >= 2 * _LONGEST_INT:
                raise self.refuse("the number has more than 64 bits", start)
            self.put_number(start, end + 1, Uint(value))
            return
        negative = bool(self.tokens) and self.tokens[-1].text == "-"
        if value > _LONGEST_INT or (value == _LONGEST_INT and not negative):
            raise self.refuse("the number has more than 64 bits", start)
        self.put_number(start, end, value)

    def put_number(self, start: int, end: int, value: float) -> None:
        if self.text[end : end + 1] in _NAME:
            raise self.refuse(f"{self.text[start : end + 1]!r} is not a number", start)
        self.tokens.append(Token("number", start, self.text[start:end], value))
        self.at = end

    def quoted(self, start: int, *, raw: bool, octets: bool) -> None:
        text = self.text
        quote = text[self.at] * 3 if text.startswith(text[self.at] * 3, self.at) else text[self.at]
        position = self.at + len(quote)
        parts: list[str | bytes] = []
        while not text.startswith(quote, position):
            if position >= len(text) or (len(quote) == 1 and text[position] in "\r\n"):
                raise self.refuse(f"the text has no closing {quote}", start)
            if text[position] == "\\" and not raw:
                part, position = self.escape(position, octets=octets)
                parts.append(part)
            else:
                parts.append(text[position])
                position += 1
        self.at = position + len(quote)
        value: str | bytes
        if octets:
            value = b"".join(p if isinstance(p, bytes) else p.encode() for p in parts)
        else:
            value = "".join(str(part) for part in parts)
        self.tokens.append(
            Token("bytes" if octets else "text", start, text[start : self.at], value)
        )

    def escape(self, at: int, *, octets: bool) -> tuple[str | bytes, int]:
        text = self.text
        mark = text[at + 1 : at + 2]
        if mark in _ESCAPES:
            return _ESCAPES[mark], at + 2
        if mark in _CODE_POINTS and not (octets and mark in {"u", "U"}):
            digits = text[at + 2 : at + 2 + _CODE_POINTS[mark]]
            base, end = 16, at + 2 + _CODE_POINTS[mark]
            valid = len(digits) == _CODE_POINTS[mark] and _HEX.issuperset(digits)
        else:
            digits = text[at + 1 : at + 4]
            base, end = 8, at + 4
            valid = len(digits) == 3 and digits[0] in "0123" and set("01234567").issuperset(digits)  # noqa: PLR2004
        value = int(digits, base) if valid else -1
        surrogate = 0xD800 <= value <= 0xDFFF  # noqa: PLR2004
        if not 0 <= value <= 0x10FFFF or surrogate:  # noqa: PLR2004
            raise self.refuse(f"{text[at : at + 2]!r} is not an escape of the language", at)
        return (bytes([value]) if octets else chr(value)), end


def scan(text: str) -> list[Token]:
    """The tokens of an expression, the last of kind `end`. Raises ExpressionError."""
    return _Scanner(text).scan()
