"""Generated documents are up to date, and examples are valid."""

from __future__ import annotations

import html
import json
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from cli.files import read_entries
from cli.main import app
from docs.make.reference import DOCS, FIELDS, RIGHTS, commands, reference, schema
from lambdas.domain.model.errors import CODES, OURS

ROOT = DOCS.parent
PICTURES = DOCS / "pictures"


def test_the_pool_reference_is_up_to_date() -> None:
    assert (DOCS / "pool-reference.md").read_text(encoding="utf-8") == reference(), "run python -m docs.make.reference"


def test_the_schema_is_up_to_date() -> None:
    assert json.loads((DOCS / "pool.schema.json").read_text(encoding="utf-8")) == schema(), (
        "run python -m docs.make.reference"
    )


def test_the_manual_of_the_command_is_up_to_date() -> None:
    assert (DOCS / "commands.md").read_text(encoding="utf-8") == commands(), "run python -m docs.make.reference"


def test_every_command_has_its_rights_and_its_fields() -> None:
    names = {one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands}
    assert {name for group in RIGHTS for name in group.split(", ")} == names
    assert {name for group in FIELDS for name in group.split(", ")} == names - {"get", "delete", "page"}


def test_every_known_code_is_in_the_table() -> None:
    text = (DOCS / "error-codes.md").read_text(encoding="utf-8")
    codes = [code for table in (CODES, OURS) for codes in table.values() for code in codes]
    assert not [code for code in codes if not re.search(rf"\b{re.escape(code)}\b", text)]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_valid(path: Path) -> None:
    entries = read_entries(path.read_text(encoding="utf-8"))
    assert entries
    assert [entry.faults for entry in entries] == [()] * len(entries)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("demo", ("✓", "target_size", "NO_CAPACITY", "lacks 1 of 6", "0.918", "max_instnaces", "untouched")),
        ("demo-aws-spot-g4dn-metal", ("wanted", "running", "interruption notice", "NO_CAPACITY")),
        ("demo-training-multi-zone", ("wanted", "running", "PRICE_ABOVE_MAX", "cap 0.918 USD an hour")),
    ],
)
def test_a_picture_of_the_demo_shows_its_steps(name: str, words: tuple[str, ...]) -> None:
    """Each run has other times, so only these words are compared."""
    text = html.unescape((PICTURES / f"{name}.svg").read_text(encoding="utf-8"))
    assert not [word for word in words if word not in text.replace("\xa0", " ")]


def test_every_picture_is_in_a_document() -> None:
    documents = [ROOT / "README.md", *DOCS.rglob("*.md")]
    text = "".join(path.read_text(encoding="utf-8") for path in documents)
    assert not [path.name for path in PICTURES.iterdir() if f"pictures/{path.name})" not in text]


def test_the_package_declares_each_package_that_the_command_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=]", one)[0] for one in project["dependencies"]}
    known = {name: {one.lower().replace("_", "-") for one in found} for name, found in packages_distributions().items()}
    needed = {
        found
        for folder in ("cli", "lambdas")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if (match := re.match(r"(?:from|import) (\w+)", line)) and match[1] in known
        for found in known[match[1]]
    }
    # They come with boto3 and pydantic.
    assert needed - {"spotpools", "botocore", "pydantic-core"} == declared
