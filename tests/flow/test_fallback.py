"""Spot with an on-demand base, and the fallback: it starts after a wait, and ends when spot is back."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from lambdas.domain.model.status import Reason, Waiting
from tests.support.fakes import World, apart_from_costs, offering

AFTER_TEN = {"to": "on_demand", "after_minutes": 10}
KEEPS = {"to": "on_demand", "after_minutes": 10, "return_to_spot": False}


@pytest.fixture
def world() -> World:
    """Machines run after ten seconds and pass their checks twenty seconds later."""
    return World(pending_seconds=10, status_check_seconds=20)


def settle(world: World, **attributes: Any) -> None:
    world.edit(**attributes)
    world.minutes(2)


def markets(world: World) -> tuple[int, int]:
    """The number of instances on spot and on demand."""
    count = Counter(world.market.instances[id_].lifecycle for id_ in world.alive())
    return count["spot"], count["on-demand"]


def waiting(world: World) -> Waiting:
    found = world.status().answer.waiting
    assert found is not None
    return found


class TestBase:
    def test_the_base_is_on_demand_and_the_rest_on_spot(self, world: World) -> None:
        settle(world, target_size=5, on_demand_base=2)
        assert markets(world) == (3, 2)
        assert world.status().answer.on_demand == 2
        assert world.calls["CreateFleet"] == 2, "one a market"

    def test_the_base_is_not_larger_than_the_wanted_size(self, world: World) -> None:
        settle(world, target_size=1, on_demand_base=4)
        assert markets(world) == (0, 1)

    def test_a_lost_base_instance_is_replaced_on_demand(self, world: World) -> None:
        settle(world, target_size=4, on_demand_base=2)
        lost = next(id_ for id_ in world.alive() if world.market.instances[id_].lifecycle == "on-demand")
        world.client.terminate_instances(InstanceIds=[lost])
        world.minutes(2)
        assert markets(world) == (2, 2)

    def test_an_interrupted_instance_is_replaced_on_spot(self, world: World) -> None:
        settle(world, target_size=4, on_demand_base=2, max_instances=8)
        world.interrupt(next(id_ for id_ in world.alive() if world.market.instances[id_].lifecycle == "spot"))
        world.minutes(4)
        assert markets(world) == (2, 2)

    def test_growing_and_shrinking_keep_the_base(self, world: World) -> None:
        for size, spot in ((6, 4), (3, 1), (8, 6), (2, 0)):
            settle(world, target_size=size, on_demand_base=2, max_instances=10)
            assert markets(world) == (spot, 2)

    def test_without_on_demand_capacity_spot_is_still_filled(self, world: World) -> None:
        world.set_all(on_demand_capacity=0)
        settle(world, target_size=5, on_demand_base=2)
        assert markets(world) == (3, 0)
        assert (waiting(world).count, waiting(world).reason) == (2, Reason.NO_CAPACITY)
        assert "on-demand" in waiting(world).message
        world.set_all(on_demand_capacity=9)
        world.minutes(12)
        assert markets(world) == (3, 2)

    def test_without_spot_capacity_the_base_is_launched(self, world: World) -> None:
        world.set_all(capacity=0)
        settle(world, target_size=5, on_demand_base=2)
        assert markets(world) == (0, 2)
        assert waiting(world).count == 3

    @pytest.mark.parametrize("update", ["rolling", "on_replace"])
    def test_a_raised_base_replaces_spot_if_the_item_is_rolling(self, world: World, update: str) -> None:
        settle(world, target_size=4, max_instances=8, update=update)
        world.edit(target_size=4, max_instances=8, on_demand_base=2, update=update)
        world.minutes(10)
        assert markets(world) == ((2, 2) if update == "rolling" else (4, 0))

    def test_a_lowered_base_replaces_on_demand(self, world: World) -> None:
        settle(world, target_size=4, max_instances=8, on_demand_base=3, update="rolling")
        world.edit(target_size=4, max_instances=8, on_demand_base=1, update="rolling")
        world.minutes(10)
        assert markets(world) == (3, 1)


class TestWaiting:
    def test_without_a_fallback_the_pool_waits(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=3)
        world.minutes(120)
        assert markets(world) == (0, 0)

    def test_before_the_fallback_the_status_says_when_it_comes(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=3, fallback=AFTER_TEN)
        assert waiting(world).reason is Reason.NO_CAPACITY
        assert "00:10:00 UTC is bought on demand" in waiting(world).message

    def test_after_the_given_minutes_the_shortfall_is_bought_on_demand(self, world: World) -> None:
        world.set_all(capacity=0)
        world.market.set_offering("g5.xlarge", "us-east-1a", capacity=2)
        world.edit(target_size=5, fallback=AFTER_TEN)
        world.minutes(9)
        assert markets(world) == (2, 0)
        world.minutes(2)
        assert markets(world) == (2, 3)
        assert world.status().answer.waiting is None

    def test_zero_minutes_mean_at_once(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=3, fallback={"to": "on_demand", "after_minutes": 0})
        assert markets(world) == (0, 3)

    def test_spot_that_returns_in_time_avoids_on_demand(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=3, fallback=AFTER_TEN)
        world.minutes(5)
        world.set_all(capacity=9)
        world.minutes(15)
        assert markets(world) == (3, 0)
        assert {one.lifecycle for one in world.market.instances.values()} == {"spot"}

    def test_each_shortage_starts_a_new_wait(self, world: World) -> None:
        settle(world, target_size=3, max_instances=6, fallback=AFTER_TEN)
        for _ in range(2):
            world.set_all(capacity=0)
            world.interrupt(next(iter(world.alive())))
            world.minutes(6)
            assert markets(world) == (2, 0)
            world.set_all(capacity=9)
            world.minutes(20)
            assert markets(world) == (3, 0)
        assert {one.lifecycle for one in world.market.instances.values()} == {"spot"}


class TestWhy:
    def test_a_quota_on_spot_falls_back(self) -> None:
        world = World(quotas={"spot:g": 0})
        world.edit(target_size=3, fallback=AFTER_TEN)
        assert waiting(world).reason is Reason.QUOTA
        world.minutes(12)
        assert markets(world) == (0, 3)

    def test_a_price_above_the_cap_falls_back(self, world: World) -> None:
        world.set_all(spot_price=Decimal("1.5"))
        world.edit(target_size=3, spot_max_price="0.6", fallback=AFTER_TEN)
        assert waiting(world).reason is Reason.PRICE_ABOVE_MAX
        world.minutes(9)
        assert markets(world) == (0, 0)
        world.minutes(2)
        assert markets(world) == (0, 3)

    def test_a_launch_refused_by_configuration_does_not_fall_back(self, world: World) -> None:
        world.surroundings.missing.add("ami-404")
        world.edit(target_size=3, image_id="ami-404", fallback=AFTER_TEN)
        world.minutes(40)
        assert markets(world) == (0, 0)
        assert waiting(world).reason is Reason.CONFIG

    def test_missing_on_demand_capacity_is_reported_with_the_spot_reason(self, world: World) -> None:
        world.set_all(capacity=0, on_demand_capacity=0)
        world.edit(target_size=3, fallback=AFTER_TEN)
        world.minutes(11)
        said = waiting(world).message
        assert waiting(world).reason is Reason.NO_CAPACITY
        assert "g5.xlarge/us-east-1a," in said
        assert "On demand: EC2 had no capacity in g5.xlarge/us-east-1a/on-demand" in said

    def test_an_on_demand_quota_is_reported_with_the_spot_reason(self) -> None:
        world = World(quotas={"on-demand:g": 4})
        world.set_all(capacity=0)
        world.edit(target_size=3, fallback=AFTER_TEN)
        world.minutes(12)
        assert markets(world) == (0, 1), "as many as the quota allows"
        assert waiting(world).reason is Reason.QUOTA
        assert "no capacity" in waiting(world).message
        assert "VcpuLimitExceeded" in waiting(world).message


class TestReturn:
    @pytest.fixture
    def fallen_back(self, world: World) -> World:
        """A pool with four temporary on-demand instances."""
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=8, fallback=AFTER_TEN)
        world.minutes(13)
        assert markets(world) == (0, 4)
        return world

    def test_spot_is_tried_again_at_growing_intervals(self, fallen_back: World) -> None:
        calls = fallen_back.calls["CreateFleet"]
        fallen_back.minutes(60)
        assert 3 <= fallen_back.calls["CreateFleet"] - calls <= 9
        assert markets(fallen_back) == (0, 4)

    def test_on_demand_is_terminated_when_spot_is_ready_and_not_before(self, fallen_back: World) -> None:
        fallen_back.set_all(capacity=9)
        both = 0
        for _ in range(20 * 12):
            fallen_back.forward(5)
            if not fallen_back.clock().second:
                fallen_back.tick()
            assert len(fallen_back.ready()) >= 4
            assert len(fallen_back.alive()) <= 8
            both += len(fallen_back.alive()) > 4
        assert markets(fallen_back) == (4, 0)
        assert both * 5 <= 120, "seconds for which both ran"

    def test_spot_that_never_gets_ready_does_not_stay_beside_on_demand(self, fallen_back: World) -> None:
        fallen_back.market.settings = fallen_back.market.settings.changed({"status_check_seconds": 10_000_000})
        fallen_back.set_all(capacity=9)
        both = []
        for _ in range(120):
            fallen_back.minutes(1)
            both.append(len(fallen_back.alive()) > 4)
        assert markets(fallen_back)[1] == 4
        assert longest(both) <= 21, "ready_timeout_minutes and a tick"

    def test_some_spot_replaces_some_on_demand(self, fallen_back: World) -> None:
        fallen_back.market.set_offering("g5.xlarge", "us-east-1b", capacity=1)
        fallen_back.minutes(30)
        assert markets(fallen_back) == (1, 3)

    def test_a_falling_price_returns_the_pool_to_spot(self, world: World) -> None:
        world.set_all(spot_price=Decimal("1.5"))
        world.edit(target_size=3, max_instances=6, spot_max_price="0.6", fallback=AFTER_TEN)
        world.minutes(13)
        assert markets(world) == (0, 3)
        world.set_all(spot_price=Decimal("0.5"))
        world.minutes(5)
        assert markets(world) == (3, 0)

    def test_at_its_limit_a_pool_terminates_nothing_before_spot_is_available(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=4, fallback=AFTER_TEN)
        world.minutes(13)
        world.set_all(capacity=9)
        world.minutes(60)
        assert markets(world) == (0, 4), "max_instances leaves no room for both"

    def test_return_to_spot_false_keeps_on_demand(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=8, fallback=KEEPS)
        world.minutes(13)
        world.set_all(capacity=9)
        calls = world.calls["CreateFleet"]
        world.minutes(60)
        assert markets(world) == (0, 4)
        assert world.calls["CreateFleet"] == calls, "nothing is tried"

    def test_with_return_to_spot_false_the_next_shortage_starts_a_new_wait(self, world: World) -> None:
        world.market.set_offering("g5.xlarge", "us-east-1a", capacity=2)
        world.market.set_offering("g5.xlarge", "us-east-1b", capacity=0)
        world.market.set_offering("g5.xlarge", "us-east-1c", capacity=0)
        world.edit(target_size=4, max_instances=8, fallback=KEEPS)
        world.minutes(30)
        assert markets(world) == (2, 2)
        world.set_all(capacity=0)
        world.interrupt(next(id_ for id_ in world.alive() if world.market.instances[id_].lifecycle == "spot"))
        world.minutes(8)
        assert markets(world) == (1, 2)
        world.minutes(4)
        assert markets(world) == (1, 3)

    def test_a_smaller_size_terminates_on_demand_first(self, world: World) -> None:
        world.set_all(capacity=0)
        world.market.set_offering("g5.xlarge", "us-east-1a", capacity=2)
        world.edit(target_size=5, max_instances=8, fallback=AFTER_TEN)
        world.minutes(13)
        assert markets(world) == (2, 3)
        settle(world, target_size=3, max_instances=8, fallback=AFTER_TEN)
        assert markets(world) == (2, 1)

    def test_protected_instances_stay(self, fallen_back: World) -> None:
        kept = fallen_back.alive()[:1]
        fallen_back.client.create_tags(Resources=kept, Tags=[{"Key": "spotpools:protect", "Value": "true"}])
        fallen_back.set_all(capacity=9)
        fallen_back.minutes(20)
        assert markets(fallen_back) == (3, 1)
        assert kept[0] in fallen_back.alive()

    def test_the_base_is_kept_beside_temporary_on_demand(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=8, on_demand_base=1, fallback=AFTER_TEN)
        world.minutes(13)
        assert markets(world) == (0, 4)
        world.set_all(capacity=9)
        world.minutes(20)
        assert markets(world) == (3, 1)

    def test_a_pool_back_on_spot_makes_no_more_calls(self, fallen_back: World) -> None:
        fallen_back.set_all(capacity=9)
        fallen_back.minutes(40)
        calls, writes = fallen_back.calls.copy(), fallen_back.statuses.writes.copy()
        fallen_back.minutes(10)
        assert apart_from_costs(fallen_back.calls - calls) == {"DescribeInstances": 10}
        assert fallen_back.statuses.writes == writes


def longest(states: list[bool]) -> int:
    """The length of the longest run of true values."""
    most = now = 0
    for state in states:
        now = now + 1 if state else 0
        most = max(most, now)
    return most


def test_a_shortfall_of_an_on_demand_pool_has_a_reason() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"))
    world.set_all(on_demand_capacity=0)
    world.edit(target_size=2, spot=False)
    assert waiting(world).reason is Reason.NO_CAPACITY
    world.set_all(on_demand_capacity=2)
    world.minutes(3)
    assert markets(world) == (0, 2)
