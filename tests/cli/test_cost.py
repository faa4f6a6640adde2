"""``cost``: the control plane's month for a number of pools, as docs/costs.md has it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from docs.make.costs import COSTS, POOLS

ROUNDING = Decimal("0.02")
"""USD: what one pool more costs is an average, because DynamoDB rounds up what a scan reads."""


def cost(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["cost", *arguments, "-o", "json"], env={"AWS_ACCESS_KEY_ID": ""})
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(("column", "pools"), enumerate(POOLS))
def test_the_command_and_the_page_agree(column: int, pools: int) -> None:
    found = cost("--pools", str(pools))
    table = COSTS.read_text(encoding="utf-8").partition("| --- |")[2].partition("\n\n")[0]
    rows = (line.replace("*", "").strip("| ").split(" | ") for line in table.splitlines()[1:])
    page = {name: Decimal(cells[column]) for name, *cells in rows}
    said = {name: Decimal(usd) for name, usd in found["lines"].items()}
    said |= {"all": Decimal(found["usd"]), "after free tiers": Decimal(found["after_free_tiers"])}
    assert {name: abs(usd - page[name]) <= ROUNDING for name, usd in said.items()} == dict.fromkeys(said, True)


def test_pools_that_wait_cost_more() -> None:
    assert Decimal(cost("--pools", "20", "--waiting", "20")["usd"]) > Decimal(cost("--pools", "20")["usd"]) + 10


def test_more_waiting_pools_than_pools_are_refused() -> None:
    result = CliRunner().invoke(app, ["cost", "--pools", "2", "--waiting", "3"])
    assert result.exit_code == 1
    assert "--waiting 3: of 2 pools at most 2 can wait." in result.output
