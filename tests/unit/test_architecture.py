"""Each file and function that docs/architecture.md and CONTRIBUTING.md name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("docs/architecture.md", "CONTRIBUTING.md", "README.md")
PLACE = re.compile(r"`(?P<file>(?:lambdas|infra|cli|localcloud|docs|tests)/[\w/.]*?)(?::(?P<name>\w+))?`")
PLACES = sorted(
    {
        (page, found["file"], found["name"] or "")
        for page in PAGES
        for found in PLACE.finditer((ROOT / page).read_text())
    }
)


def names_in(path: Path) -> set[str]:
    """Functions, classes and methods that a module defines."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, defined)}


@pytest.mark.parametrize(("page", "file", "name"), PLACES)
def test_what_a_page_names_exists(page: str, file: str, name: str) -> None:
    assert (ROOT / file).exists(), f"{page} names {file}"
    if name:
        assert name in names_in(ROOT / file), f"{page} names {name} in {file}"


def test_the_walk_through_the_code_is_read() -> None:
    named = [name for page, _, name in PLACES if page == "docs/architecture.md" and name]
    assert len(named) > 20
