"""An upgrade keeps what an earlier version made: nothing is replaced, no name is taken twice, no attribute is gone."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.infra.conftest import Synthesized
from tests.infra.earlier import FOLDER, essence

EARLIER = sorted(FOLDER.glob("*.json"))
CHANGES_FREELY = ("AWS::Lambda::Permission",)
"""Types whose resources hold nothing: CloudFormation may replace them."""


def faults(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What an upgrade would lose, or why CloudFormation would refuse it."""
    old, new = before["resources"], now["resources"]
    named = {(one["type"], json.dumps(one["fixed"])): name for name, one in old.items() if one["fixed"]}
    gone = [f"{name} is kept, but nothing manages it" for name, one in old.items() if one["kept"] and name not in new]
    both = [name for name in old if name in new and old[name]["type"] not in CHANGES_FREELY]
    replaced = [f"{name} is replaced" for name in both if old[name] != {**new[name], "kept": old[name]["kept"]}]
    taken = [
        f"{name} has the name of {named[one['type'], json.dumps(one['fixed'])]}"
        for name, one in new.items()
        if name not in old and (one["type"], json.dumps(one["fixed"])) in named
    ]
    lost = [
        f"{part} {one} is gone" for part in ("outputs", "attributes") for one in before[part] if one not in now[part]
    ]
    return [*gone, *replaced, *taken, *lost]


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_an_upgrade_replaces_and_loses_nothing(file: Path, synthesize: Any) -> None:
    before = json.loads(file.read_text(encoding="utf-8"))
    assert any(one["kept"] for one in before["resources"].values())
    assert faults(before, essence(synthesize().template)) == []


def renamed_table(now: dict[str, Any]) -> None:
    table = next(name for name in now["resources"] if name.startswith("DataPools"))
    now["resources"]["DataOther"] = now["resources"].pop(table)


def moved_alarm(now: dict[str, Any]) -> None:
    alarm = next(name for name, one in now["resources"].items() if one["type"] == "AWS::CloudWatch::Alarm")
    now["resources"]["AlarmElsewhere"] = now["resources"].pop(alarm)


def other_name(now: dict[str, Any]) -> None:
    alarm = next(one for one in now["resources"].values() if one["type"] == "AWS::CloudWatch::Alarm")
    alarm["fixed"]["AlarmName"] = "another"


def lost_output(now: dict[str, Any]) -> None:
    now["outputs"].remove("PoolsTable")


def lost_attribute(now: dict[str, Any]) -> None:
    now["attributes"].remove("weights")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (renamed_table, "is kept, but nothing manages it"),
        (moved_alarm, "has the name of"),
        (other_name, "is replaced"),
        (lost_output, "outputs PoolsTable is gone"),
        (lost_attribute, "attributes weights is gone"),
    ],
)
def test_what_an_upgrade_would_lose_is_found(aws: Synthesized, change: Any, fault: str) -> None:
    now = essence(aws.template)
    changed = deepcopy(now)
    change(changed)
    assert any(fault in one for one in faults(now, changed))
