"""The catalogue of AWS's rules: each rule has a source, and each place and test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CATALOGUE = ROOT / "docs" / "ec2-rules.md"
PLACE = re.compile(r"`([\w./-]+\.py):(\w+)`")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in CATALOGUE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| rule"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_a_rule_has_a_source_an_emulator_or_a_reason_and_a_test(row: list[str]) -> None:
    assert len(row) == 4, row
    assert all(row)
    assert PLACE.search(row[3]), "name the test that holds the product to it"


@pytest.mark.parametrize(
    ("path", "name"), sorted({place for row in ROWS for cell in row for place in PLACE.findall(cell)})
)
def test_each_place_that_the_catalogue_names_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    defined = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    assigned = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    assert name in defined | assigned
