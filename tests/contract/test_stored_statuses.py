"""This version reads a status of an earlier version and loses nothing, so an upgrade makes no pool unreadable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lambdas.aws.status_table import StatusTable
from lambdas.aws.tables import to_attribute
from lambdas.domain.model.status import RENAMED, Answer, Memory, Status
from localcloud.market.model.clock import ManualClock
from tests.contract.test_status_store import LEASE

STORED = sorted((Path(__file__).parent / "stored").glob("*.json"))


def read(path: Path) -> dict[str, Any]:
    item: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return item


@pytest.fixture(params=STORED, ids=lambda path: path.stem)
def stored(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def status_of(item: dict[str, Any], dynamodb: Any, table: str) -> Status:
    dynamodb.put_item(TableName=table, Item={name: to_attribute(value) for name, value in item.items()})
    status = StatusTable(dynamodb, table, lease_seconds=LEASE, clock=ManualClock()).get("p")
    assert status is not None
    return status


def test_each_value_is_kept(stored: dict[str, Any], dynamodb: Any, table: str) -> None:
    status = status_of(stored, dynamodb, table)
    kept = {RENAMED.get(name, name): value for name, value in stored["controller"]["memory"].items()}
    assert status.memory == Memory.model_validate(kept)
    assert all(getattr(status.memory, name) for name in RENAMED.values())
    assert status.notices.keys() == stored["controller"]["notices"].keys()
    assert status.answer == Answer.model_validate(
        {name: stored[name] for name in Answer.model_fields if name in stored}
    )


def test_the_stored_status_has_every_name_that_changed_since() -> None:
    names = {name for path in STORED for name in read(path)["controller"]["memory"]}
    assert names >= RENAMED.keys()
    assert all(read(path)["controller"]["memory"][name] for path in STORED for name in RENAMED)
