"""Every code block of the documents is valid, and every command in it is tried or listed with a reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from boto3.dynamodb.types import TypeDeserializer
from typer.testing import CliRunner

from cli.main import app
from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Pool
from tests.support.documents import ELSEWHERE, Block, blocks, commands, session

BLOCKS = list(blocks())
KNOWN = (*session(), *ELSEWHERE)
LANGUAGES = ("console", "hcl", "json", "python", "text", "yaml")
LOOKS_LIKE_A_COMMAND = re.compile(r"^(\$ |(aws|curl|make|npm|python3?|source|spotpools) )", re.MULTILINE)


def of(language: str) -> list[Block]:
    return [one for one in BLOCKS if one.language == language]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_each_block_names_its_language_and_commands_are_in_console_blocks(block: Block) -> None:
    assert block.language in LANGUAGES
    assert block.language == "console" or not LOOKS_LIKE_A_COMMAND.search(block.text) or _is_usage(block)


def _is_usage(block: Block) -> bool:
    """Whether it is a usage pattern and not a command."""
    return block.language == "text" and bool(re.search(r"\[[A-Z-]", block.text))


@pytest.mark.parametrize("block", of("console"), ids=str)
def test_a_command_is_tried_on_the_local_cloud_or_named_with_the_reason_why_not(block: Block) -> None:
    unknown = [one for one in commands(block.text) if one not in KNOWN]
    assert not unknown, "say in tests/support/documents.py what becomes of it"


def test_every_known_command_is_in_a_document() -> None:
    assert set(KNOWN) <= {one for block in of("console") for one in commands(block.text)}
    assert not [one for one, times in Counter(KNOWN).items() if times > 1]


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_pools_in_yaml_are_valid(block: Block, tmp_path: Path) -> None:
    assert yaml.safe_load(block.text)
    if "pool_name" in block.text:
        file = tmp_path / "pool.yaml"
        file.write_text(block.text, encoding="utf-8")
        result = CliRunner().invoke(app, ["validate", str(file)])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("block", of("hcl"), ids=str)
def test_pools_in_terraform_are_valid(block: Block) -> None:
    (text,) = re.findall(r"<<ITEM\n(.*?)^ITEM$", block.text, flags=re.MULTILINE | re.DOTALL)
    item = {name: TypeDeserializer().deserialize(value) for name, value in json.loads(text).items()}
    assert isinstance(parse_pool(item), Pool)


def test_terraform_can_tell_the_attributes_of_a_pool_apart() -> None:
    """Its provider keeps only the letters of a name."""
    letters = [re.sub("[^a-zA-Z]", "", name) for name in (*Pool.model_fields, "instance_type")]
    assert len(set(letters)) == len(letters)


PYTHON = of("python")
TRIED_WITH_THE_STACK = "docs/recipes.md"
"""tests/infra/test_docs.py runs its Python, because it needs the CDK."""


@pytest.mark.parametrize("block", [one for one in PYTHON if one.document != TRIED_WITH_THE_STACK], ids=str)
def test_python_blocks_run_and_do_what_they_say(block: Block) -> None:
    names: dict[str, Any] = {}
    exec(block.text, names)  # noqa: S102  what our own documents say
    (instance_id,) = names["fleet"]["Instances"][0]["InstanceIds"]
    assert [one["detail"]["instance-id"] for one in names["events"] if one["detail"]["state"] == "running"] == [
        instance_id
    ]
