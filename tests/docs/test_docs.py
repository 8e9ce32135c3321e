"""The documentation's code runs, its links lead somewhere, and every error has its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onward import errors

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")


def _snippets() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in SNIPPET.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            found.append((f"{page.relative_to(ROOT)}:{line}", match.group(1)))
    return found


@pytest.mark.parametrize(("place", "code"), _snippets(), ids=[place for place, _ in _snippets()])
def test_a_snippet_runs(place: str, code: str) -> None:
    exec(compile(code, place, "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_a_link_leads_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing


def test_every_error_has_its_place() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^## `(\w+)`$", text, re.MULTILINE))
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.OnwardError)
    ]
    assert described == {kind.code for kind in kinds}
    for kind in kinds:
        assert f"`{kind.__name__}`" in text


def test_there_are_snippets_to_run() -> None:
    assert len(_snippets()) >= 3
