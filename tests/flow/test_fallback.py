"""Spot with a floor of on-demand: the base, the fallback after a while, what is given back, and never both for long."""

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
    """Machines run after ten seconds and have passed their checks twenty seconds later."""
    return World(pending_seconds=10, status_check_seconds=20)


def settle(world: World, **attributes: Any) -> None:
    world.edit(**attributes)
    world.minutes(2)


def markets(world: World) -> tuple[int, int]:
    """How many are alive on spot and on demand."""
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

    def test_it_is_no_larger_than_what_is_wanted(self, world: World) -> None:
        settle(world, target_size=1, on_demand_base=4)
        assert markets(world) == (0, 1)

    def test_a_lost_one_of_the_base_is_replaced_on_demand(self, world: World) -> None:
        settle(world, target_size=4, on_demand_base=2)
        lost = next(id_ for id_ in world.alive() if world.market.instances[id_].lifecycle == "on-demand")
        world.client.terminate_instances(InstanceIds=[lost])
        world.minutes(2)
        assert markets(world) == (2, 2)

    def test_an_interrupted_one_is_replaced_on_spot(self, world: World) -> None:
        settle(world, target_size=4, on_demand_base=2, max_instances=8)
        world.interrupt(next(id_ for id_ in world.alive() if world.market.instances[id_].lifecycle == "spot"))
        world.minutes(4)
        assert markets(world) == (2, 2)

    def test_growing_and_shrinking_keep_it(self, world: World) -> None:
        for size, spot in ((6, 4), (3, 1), (8, 6), (2, 0)):
            settle(world, target_size=size, on_demand_base=2, max_instances=10)
            assert markets(world) == (spot, 2)

    def test_without_on_demand_capacity_spot_is_filled_all_the_same(self, world: World) -> None:
        world.set_all(on_demand_capacity=0)
        settle(world, target_size=5, on_demand_base=2)
        assert markets(world) == (3, 0)
        assert (waiting(world).count, waiting(world).reason) == (2, Reason.NO_CAPACITY)
        assert "on-demand" in waiting(world).message
        world.set_all(on_demand_capacity=9)
        world.minutes(12)
        assert markets(world) == (3, 2)

    def test_without_spot_the_base_is_there(self, world: World) -> None:
        world.set_all(capacity=0)
        settle(world, target_size=5, on_demand_base=2)
        assert markets(world) == (0, 2)
        assert waiting(world).count == 3

    @pytest.mark.parametrize("update", ["rolling", "on_replace"])
    def test_a_raised_base_is_rolled_in_if_the_item_says_so(self, world: World, update: str) -> None:
        settle(world, target_size=4, max_instances=8, update=update)
        world.edit(target_size=4, max_instances=8, on_demand_base=2, update=update)
        world.minutes(10)
        assert markets(world) == ((2, 2) if update == "rolling" else (4, 0))

    def test_a_lowered_base_is_rolled_out(self, world: World) -> None:
        settle(world, target_size=4, max_instances=8, on_demand_base=3, update="rolling")
        world.edit(target_size=4, max_instances=8, on_demand_base=1, update="rolling")
        world.minutes(10)
        assert markets(world) == (3, 1)


class TestWaiting:
    def test_without_a_fallback_it_waits(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=3)
        world.minutes(120)
        assert markets(world) == (0, 0)

    def test_until_then_it_says_when_it_buys(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=3, fallback=AFTER_TEN)
        assert waiting(world).reason is Reason.NO_CAPACITY
        assert "00:10:00 UTC is bought on demand" in waiting(world).message

    def test_after_so_many_minutes_the_shortfall_is_bought(self, world: World) -> None:
        world.set_all(capacity=0)
        world.market.set_offering("g5.xlarge", "us-east-1a", capacity=2)
        world.edit(target_size=5, fallback=AFTER_TEN)
        world.minutes(9)
        assert markets(world) == (2, 0)
        world.minutes(2)
        assert markets(world) == (2, 3)
        assert world.status().answer.waiting is None

    def test_zero_minutes_are_at_once(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=3, fallback={"to": "on_demand", "after_minutes": 0})
        assert markets(world) == (0, 3)

    def test_spot_that_comes_in_time_costs_no_on_demand(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=3, fallback=AFTER_TEN)
        world.minutes(5)
        world.set_all(capacity=9)
        world.minutes(15)
        assert markets(world) == (3, 0)
        assert {one.lifecycle for one in world.market.instances.values()} == {"spot"}

    def test_each_drought_is_waited_for_anew(self, world: World) -> None:
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

    def test_a_price_drought_falls_back(self, world: World) -> None:
        world.set_all(spot_price=Decimal("1.5"))
        world.edit(target_size=3, spot_max_price="0.6", fallback=AFTER_TEN)
        assert waiting(world).reason is Reason.PRICE_ABOVE_MAX
        world.minutes(9)
        assert markets(world) == (0, 0)
        world.minutes(2)
        assert markets(world) == (0, 3)

    def test_a_wrong_item_does_not(self, world: World) -> None:
        world.surroundings.missing.add("ami-404")
        world.edit(target_size=3, image_id="ami-404", fallback=AFTER_TEN)
        world.minutes(40)
        assert markets(world) == (0, 0)
        assert waiting(world).reason is Reason.CONFIG

    def test_missing_on_demand_capacity_says_both(self, world: World) -> None:
        world.set_all(capacity=0, on_demand_capacity=0)
        world.edit(target_size=3, fallback=AFTER_TEN)
        world.minutes(11)
        said = waiting(world).message
        assert waiting(world).reason is Reason.NO_CAPACITY
        assert "g5.xlarge/us-east-1a," in said
        assert "On demand: EC2 had no capacity in g5.xlarge/us-east-1a/on-demand" in said

    def test_a_quota_on_demand_says_both(self) -> None:
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
    def lent(self, world: World) -> World:
        """Four on demand in place of spot."""
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=8, fallback=AFTER_TEN)
        world.minutes(13)
        assert markets(world) == (0, 4)
        return world

    def test_spot_is_tried_again_ever_more_rarely(self, lent: World) -> None:
        calls = lent.calls["CreateFleet"]
        lent.minutes(60)
        assert 3 <= lent.calls["CreateFleet"] - calls <= 9
        assert markets(lent) == (0, 4)

    def test_it_is_given_back_when_spot_is_ready_and_not_before(self, lent: World) -> None:
        lent.set_all(capacity=9)
        both = 0
        for _ in range(20 * 12):
            lent.forward(5)
            if not lent.clock().second:
                lent.tick()
            assert len(lent.ready()) >= 4
            assert len(lent.alive()) <= 8
            both += len(lent.alive()) > 4
        assert markets(lent) == (4, 0)
        assert both * 5 <= 120, "seconds for which both ran"

    def test_spot_that_never_gets_ready_is_not_held_beside_it_for_ever(self, lent: World) -> None:
        lent.market.settings = lent.market.settings.changed({"status_check_seconds": 10_000_000})
        lent.set_all(capacity=9)
        both = []
        for _ in range(120):
            lent.minutes(1)
            both.append(len(lent.alive()) > 4)
        assert markets(lent)[1] == 4
        assert longest(both) <= 21, "ready_timeout_minutes and a tick"

    def test_some_spot_gives_back_some(self, lent: World) -> None:
        lent.market.set_offering("g5.xlarge", "us-east-1b", capacity=1)
        lent.minutes(30)
        assert markets(lent) == (1, 3)

    def test_a_price_that_falls_gives_back(self, world: World) -> None:
        world.set_all(spot_price=Decimal("1.5"))
        world.edit(target_size=3, max_instances=6, spot_max_price="0.6", fallback=AFTER_TEN)
        world.minutes(13)
        assert markets(world) == (0, 3)
        world.set_all(spot_price=Decimal("0.5"))
        world.minutes(5)
        assert markets(world) == (3, 0)

    def test_at_its_limit_a_pool_gives_up_nothing_for_a_hope(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=4, fallback=AFTER_TEN)
        world.minutes(13)
        world.set_all(capacity=9)
        world.minutes(60)
        assert markets(world) == (0, 4), "max_instances leaves no room for both"

    def test_return_to_spot_false_keeps_it(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=8, fallback=KEEPS)
        world.minutes(13)
        world.set_all(capacity=9)
        calls = world.calls["CreateFleet"]
        world.minutes(60)
        assert markets(world) == (0, 4)
        assert world.calls["CreateFleet"] == calls, "nothing is tried"

    def test_with_return_to_spot_false_the_next_drought_is_waited_for_anew(self, world: World) -> None:
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

    def test_fewer_wanted_give_back_on_demand_first(self, world: World) -> None:
        world.set_all(capacity=0)
        world.market.set_offering("g5.xlarge", "us-east-1a", capacity=2)
        world.edit(target_size=5, max_instances=8, fallback=AFTER_TEN)
        world.minutes(13)
        assert markets(world) == (2, 3)
        settle(world, target_size=3, max_instances=8, fallback=AFTER_TEN)
        assert markets(world) == (2, 1)

    def test_protected_ones_stay(self, lent: World) -> None:
        kept = lent.alive()[:1]
        lent.client.create_tags(Resources=kept, Tags=[{"Key": "spotpools:protect", "Value": "true"}])
        lent.set_all(capacity=9)
        lent.minutes(20)
        assert markets(lent) == (3, 1)
        assert kept[0] in lent.alive()

    def test_a_base_beside_it_is_kept(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=8, on_demand_base=1, fallback=AFTER_TEN)
        world.minutes(13)
        assert markets(world) == (0, 4)
        world.set_all(capacity=9)
        world.minutes(20)
        assert markets(world) == (3, 1)

    def test_a_pool_that_is_whole_again_costs_nothing(self, lent: World) -> None:
        lent.set_all(capacity=9)
        lent.minutes(40)
        calls, writes = lent.calls.copy(), lent.statuses.writes.copy()
        lent.minutes(10)
        assert apart_from_costs(lent.calls - calls) == {"DescribeInstances": 10}
        assert lent.statuses.writes == writes


def longest(states: list[bool]) -> int:
    """The longest run of yes."""
    most = now = 0
    for state in states:
        now = now + 1 if state else 0
        most = max(most, now)
    return most


def test_an_on_demand_pool_has_its_reason_too() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"))
    world.set_all(on_demand_capacity=0)
    world.edit(target_size=2, spot=False)
    assert waiting(world).reason is Reason.NO_CAPACITY
    world.set_all(on_demand_capacity=2)
    world.minutes(3)
    assert markets(world) == (0, 2)
