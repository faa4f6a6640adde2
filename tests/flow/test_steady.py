"""A pool that has what it wants, or can do nothing, costs one listing per tick and writes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fakes import World, apart_from_costs

EACH: dict[str, dict[str, Any]] = {
    "plain": {},
    "described": {"image_id": "ami-1", "user_data": "echo", "tags": {"team": "vision"}},
    "of many": {"instance_types": ["g5.xlarge", "g6.xlarge"], "weights": {"g5.xlarge": 2}, "spread_zones": True},
    "rounded up": {"weights": {"g5.xlarge": 4}, "target_size": 6},
    "by requirements": {"instance_types": [], "requirements": {"vcpus": {"min": 1}}},
    "capped by share": {"spot_max_price": "60%"},
    "with a base": {"on_demand_base": 2},
    "with a fallback": {"fallback": {"after_minutes": 5}},
    "on demand": {"spot": False},
    "rolling": {"image_id": "ami-1", "update": "rolling", "max_unavailable": 2},
    "replacing first": {"on_rebalance": "replace_first", "drain_command": "save"},
    "calm": {"scale_in_after_minutes": 10},
    "scheduled": {"schedule": [{"cron": "0 0 * * *", "timezone": "Europe/Berlin", "target_size": 3}]},
    "of nothing": {"target_size": 0},
}


def steady(world: World, *, minutes: int = 10) -> None:
    """Check that each tick only lists instances, writes nothing and leaves the status unchanged."""
    calls, writes, status = world.calls.copy(), world.statuses.writes.copy(), world.status()
    world.minutes(minutes)
    assert apart_from_costs(world.calls - calls) == {"DescribeInstances": minutes}
    assert world.statuses.writes == writes
    assert world.status() == status


def running(attributes: dict[str, Any], **settings: Any) -> World:
    world = World(**settings)
    world.edit(**{"target_size": 4, "max_instances": 12, **attributes})
    world.minutes(12)
    return world


@pytest.mark.parametrize("attributes", EACH.values(), ids=EACH)
def test_a_pool_at_its_size_makes_no_extra_calls(attributes: dict[str, Any]) -> None:
    world = running(attributes)
    assert world.status().answer.waiting is None
    steady(world)


@pytest.mark.parametrize("attributes", EACH.values(), ids=EACH)
def test_after_an_interruption_was_replaced(attributes: dict[str, Any]) -> None:
    world = running(attributes)
    interrupted = [id_ for id_ in world.alive() if world.market.instances[id_].lifecycle == "spot"][:1]
    world.interrupt(*interrupted)
    world.minutes(15)
    steady(world)


@pytest.mark.parametrize("attributes", EACH.values(), ids=EACH)
def test_after_growing_and_shrinking(attributes: dict[str, Any]) -> None:
    world = running(attributes)
    for size in (8, 3):
        world.edit(**{"max_instances": 12, **attributes, "target_size": size})
        world.minutes(15)
    steady(world)


def test_after_an_update() -> None:
    world = running({"image_id": "ami-1", "update": "rolling"})
    world.edit(target_size=4, max_instances=12, image_id="ami-2", update="rolling")
    world.minutes(20)
    assert world.status().answer.rollout is None
    steady(world)


def test_with_outdated_instances_that_stay() -> None:
    world = running({"image_id": "ami-1"})
    world.edit(target_size=4, max_instances=12, image_id="ami-2")
    world.minutes(2)
    steady(world)


@pytest.mark.parametrize("update", ["rolling", "on_replace"])
def test_with_protected_instances_that_an_update_leaves(update: str) -> None:
    world = running({"image_id": "ami-1", "update": update})
    world.client.create_tags(Resources=world.alive(), Tags=[{"Key": "spotpools:protect", "Value": "true"}])
    world.edit(target_size=4, max_instances=12, image_id="ami-2", update=update)
    world.minutes(5)
    steady(world)


def test_with_a_risk_that_is_ignored() -> None:
    world = running({})
    world.recommend_rebalance(world.alive()[0])
    world.announce_maintenance(world.alive()[1])
    world.minutes(1)
    steady(world)


def test_with_a_risk_that_cannot_be_replaced_for_lack_of_room() -> None:
    world = running({"max_instances": 4, "on_rebalance": "replace_first"})
    world.recommend_rebalance(world.alive()[0])
    world.minutes(1)
    steady(world)


def test_with_instances_that_wait_for_their_ready_tag() -> None:
    world = running({"ready_tag": "up", "ready_timeout_minutes": 60})
    assert world.status().answer.ready == 0
    steady(world)


def test_with_a_refused_update_at_max_instances() -> None:
    world = running({"image_id": "ami-1", "update": "rolling", "max_instances": 4})
    world.surroundings.missing.add("ami-2")
    world.edit(target_size=4, max_instances=4, image_id="ami-2", update="rolling")
    world.minutes(2)
    steady(world, minutes=5)


def test_while_paused() -> None:
    world = running({})
    world.edit(target_size=9, max_instances=12, paused=True)
    world.minutes(2)
    steady(world)


def test_after_the_pool_is_forgotten_although_ec2_lists_its_instances_for_an_hour() -> None:
    world = running({})
    world.delete()
    world.minutes(10)
    assert not world.statuses.scan()
    calls, writes = world.calls.copy(), world.statuses.writes.copy()
    world.minutes(10)
    assert world.client.describe_instances()["Reservations"]
    assert apart_from_costs(world.calls - calls) == {"DescribeInstances": 11}, "the ticks' and the one above"
    assert world.statuses.writes == writes
