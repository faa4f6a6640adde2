"""The hourly cost of the fleet, published every fifth minute at the end of a tick."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.fakes import World, offering


def published(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The published costs, in order, as CloudWatch reads them."""
    lines = (json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{"))
    names = ("HourlyCost", "HourlySaving", "InstancesUnpriced")
    return [{name: line[name][0] for name in names} for line in lines if "HourlyCost" in line]


def test_the_cost_is_the_sum_of_all_instances_on_their_markets(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(
        offering("g5.xlarge", "us-east-1a", price="0.5", on_demand="2"),
        offering("c6i.large", "us-east-1b", price="0.0333", on_demand="0.1"),
    )
    world.edit("training", instance_types=["g5.xlarge"], target_size=3, max_instances=9, on_demand_base=1)
    world.edit("ci", instance_types=["c6i.large"], target_size=2)
    world.minutes(10)
    assert published(capsys)[-1] == pytest.approx(
        {"HourlyCost": 3.0666, "HourlySaving": 3.1334, "InstancesUnpriced": 0}
    )


def test_the_cost_is_published_twice_in_ten_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.edit(target_size=1)
    published(capsys)
    world.minutes(10)
    assert len(published(capsys)) == 2


def test_without_instances_no_price_is_asked_and_zero_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.minutes(5)
    assert published(capsys) == [{"HourlyCost": 0, "HourlySaving": 0, "InstancesUnpriced": 0}]
    assert world.calls.keys() == {"DescribeInstances"}


def test_a_refused_price_question_fails_no_tick_and_is_logged_once(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.edit(target_size=2)
    world.minutes(1)
    world.put(target_size=4)
    world.fault(action="DescribeSpotPriceHistory", error="UnauthorizedOperation", times=99)
    published(capsys)
    world.minutes(4)
    out = capsys.readouterr().out
    assert '"Heartbeat"' in out
    assert [one.message for one in caplog.records].count("prices unknown") == 1
    assert '"InstancesUnpriced":[2.0]' in out


def test_without_a_price_list_the_cost_is_known_and_the_saving_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    world.edit(target_size=2)
    world.fault(action="GetProducts", error="AccessDeniedException", times=99)
    published(capsys)
    world.minutes(5)
    assert published(capsys) == [{"HourlyCost": 1, "HourlySaving": 0, "InstancesUnpriced": 0}]
