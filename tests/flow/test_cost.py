"""What the fleet costs an hour, told every fifth minute, after all else of a tick is done."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fakes import World, offering


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The costs that were published, in order, as CloudWatch reads them."""
    lines = (json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    names = ("HourlyCost", "HourlySaving", "InstancesUnpriced")
    return [{name: line[name][0] for name in names} for line in lines if "HourlyCost" in line]


def test_the_fleet_costs_what_its_instances_do_on_their_markets(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(
        offering("g5.xlarge", "us-east-1a", price="0.5", on_demand="2"),
        offering("c6i.large", "us-east-1b", price="0.0333", on_demand="0.1"),
    )
    world.edit("training", instance_types=["g5.xlarge"], target_size=3, max_instances=9, on_demand_base=1)
    world.edit("ci", instance_types=["c6i.large"], target_size=2)
    world.minutes(10)
    assert told(capsys)[-1] == pytest.approx({"HourlyCost": 3.0666, "HourlySaving": 3.1334, "InstancesUnpriced": 0})


def test_it_is_told_twice_in_ten_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.edit(target_size=1)
    told(capsys)
    world.minutes(10)
    assert len(told(capsys)) == 2


def test_without_instances_nothing_is_asked_and_zero_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.minutes(5)
    assert told(capsys) == [{"HourlyCost": 0, "HourlySaving": 0, "InstancesUnpriced": 0}]
    assert world.calls.keys() == {"DescribeInstances"}


def test_prices_that_nobody_tells_fail_no_tick_and_are_told_once(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.edit(target_size=2)
    world.minutes(1)
    world.put(target_size=4)
    world.fault(action="DescribeSpotPriceHistory", error="UnauthorizedOperation", times=99)
    told(capsys)
    world.minutes(4)
    out = capsys.readouterr().out
    assert '"Heartbeat"' in out
    assert [one.message for one in caplog.records].count("prices unknown") == 1
    assert '"InstancesUnpriced":[2.0]' in out


def test_a_price_list_that_does_not_answer_leaves_the_cost_and_loses_the_saving(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    world.edit(target_size=2)
    world.fault(action="GetProducts", error="AccessDeniedException", times=99)
    told(capsys)
    world.minutes(5)
    assert told(capsys) == [{"HourlyCost": 1, "HourlySaving": 0, "InstancesUnpriced": 0}]
