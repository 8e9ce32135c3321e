"""Regular expressions of CEL's `matches`, which are RE2's, by Python's own."""

from __future__ import annotations

import re

from onward.core.cel_values import Problem

_ONLY_PYTHON = ("(?=", "(?!", "(?<=", "(?<!", "(?P=", "(?(", "(?>")


def why_not(pattern: str) -> str | None:
    """Why a pattern cannot be used, or None. RE2 has neither look-around nor back-references."""
    for piece in _ONLY_PYTHON:
        if piece in pattern:
            return f"the pattern {pattern!r} uses {piece}…), which RE2 does not have"
    try:
        re.compile(_translated(pattern), re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        return f"the pattern {pattern!r} is not a regular expression ({error})"
    return None


def search(text: str, pattern: str) -> bool:
    """Whether the pattern occurs in the text. Raises Problem for a pattern that is none."""
    problem = why_not(pattern)
    if problem is not None:
        raise Problem(problem)
    return re.search(_translated(pattern), text, re.ASCII) is not None


def _translated(pattern: str) -> str:
    r"""RE2's `$` and `\z` are the very end; a back-reference is an error there."""
    parts: list[str] = []
    position, bracket = 0, False
    lines = "(?m" in pattern or "(?im" in pattern or "(?sm" in pattern
    while position < len(pattern):
        piece = pattern[position : position + 2] if pattern[position] == "\\" else pattern[position]
        if piece == "\\z":
            piece = "\\Z"
        elif len(piece) == 2 and piece[1] in "123456789Z":  # noqa: PLR2004
            raise re.error(f"{piece} is not in RE2", pattern, position)
        elif piece == "$" and not bracket and not lines:
            piece = "\\Z"
        elif piece in {"[", "]"}:
            bracket = piece == "["
        parts.append(piece)
        position += 2 if piece[0] == "\\" and pattern[position] == "\\" else 1
    return "".join(parts)
