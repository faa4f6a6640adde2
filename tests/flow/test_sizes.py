"""Wanted sizes and scale-in: schedules, the scale-in delay, the order of termination, protection."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.support.fakes import World, apart_from_costs, offering

PROTECT = [{"Key": "spotpools:protect", "Value": "true"}]
OFFICE = [
    {"cron": "0 8 * * *", "timezone": "Europe/Berlin", "target_size": 4},
    {"cron": "0 18 * * *", "timezone": "Europe/Berlin", "target_size": 1},
]


@pytest.fixture
def world() -> World:
    return World()


def settle(world: World, **attributes: Any) -> None:
    world.edit(**attributes)
    world.minutes(2)


class TestScaleInDelay:
    def test_excess_instances_are_terminated_after_the_scale_in_delay(self, world: World) -> None:
        settle(world, target_size=5, scale_in_after_minutes=10)
        world.edit(target_size=2, scale_in_after_minutes=10)
        world.minutes(9)
        assert len(world.alive()) == 5
        world.minutes(2)
        assert len(world.alive()) == 2
        assert world.calls["TerminateInstances"] == 1

    def test_demand_that_returns_in_time_terminates_nothing(self, world: World) -> None:
        settle(world, target_size=5, scale_in_after_minutes=10)
        before = world.alive()
        for _ in range(4):
            world.edit(target_size=2, scale_in_after_minutes=10)
            world.minutes(8)
            world.edit(target_size=5, scale_in_after_minutes=10)
            world.minutes(2)
        assert world.alive() == before
        assert world.calls["CreateFleet"] == 1

    def test_a_schedule_that_lowers_the_size_has_the_same_delay(self, world: World) -> None:
        entries = [{"cron": "0 0 * * *", "target_size": 3}, {"cron": "10 0 * * *", "target_size": 1}]
        settle(world, schedule=entries, scale_in_after_minutes=5)
        world.minutes(12)
        assert (world.status().answer.wanted, len(world.alive())) == (1, 3)
        world.minutes(3)
        assert len(world.alive()) == 1

    def test_a_deleted_pool_keeps_its_own_grace(self, world: World) -> None:
        settle(world, target_size=2, scale_in_after_minutes=1000)
        world.delete()
        world.minutes(7)
        assert world.alive() == []

    def test_the_delay_passes_while_a_pool_is_paused(self, world: World) -> None:
        settle(world, target_size=3)
        world.edit(target_size=1, scale_in_after_minutes=5, paused=True)
        world.minutes(3)
        world.edit(target_size=1, scale_in_after_minutes=5)
        world.minutes(1)
        assert len(world.alive()) == 3
        world.minutes(2)
        assert len(world.alive()) == 1

    def test_the_largest_size_within_the_delay_is_kept_even_if_there_were_more_before(self, world: World) -> None:
        """A pool with excess instances for long must still keep those that were wanted until just now."""
        settle(world, target_size=6, scale_in_after_minutes=10)
        settle(world, target_size=5, scale_in_after_minutes=10)
        world.minutes(7)
        world.edit(target_size=2, scale_in_after_minutes=10)
        world.minutes(4)
        assert len(world.alive()) == 5, "the sixth went, and no more"
        world.minutes(7)
        assert len(world.alive()) == 2

    @pytest.mark.parametrize(
        "change",
        [{"on_demand_base": 1}, {"image_id": "ami-2"}, {"update": "rolling", "image_id": "ami-2"}],
        ids=["a base is raised", "another description", "another description, rolling"],
    )
    def test_no_other_change_shortens_the_delay(self, world: World, change: dict[str, Any]) -> None:
        settle(world, target_size=6, image_id="ami-1", update="rolling", scale_in_after_minutes=10, max_instances=8)
        item: dict[str, Any] = {
            "image_id": "ami-1",
            "update": "rolling",
            "scale_in_after_minutes": 10,
            "max_instances": 8,
        }
        world.edit(**item | {"target_size": 2})
        world.edit(**item | {"target_size": 2} | change)
        world.minutes(8)
        assert len(world.alive()) >= 6
        world.minutes(15)
        assert len(world.alive()) == 2

    def test_temporary_on_demand_is_kept_for_the_same_delay(self, world: World) -> None:
        lends = {"fallback": {"after_minutes": 1}, "scale_in_after_minutes": 10, "max_instances": 6}
        world.set_all(capacity=3)
        settle(world, target_size=3, **lends)
        world.set_all(capacity=1)
        settle(world, target_size=6, **lends)
        world.minutes(5)
        assert len(world.alive()) == 6
        settle(world, target_size=3, **lends)
        world.minutes(6)
        assert len(world.alive()) == 6
        world.minutes(5)
        assert len(world.alive()) == 3

    def test_a_lowered_limit_does_not_wait(self, world: World) -> None:
        settle(world, target_size=6, max_instances=6, scale_in_after_minutes=60)
        settle(world, target_size=3, max_instances=4, scale_in_after_minutes=60)
        assert len(world.alive()) == 4


class TestScaleInOrder:
    def test_instances_that_are_not_ready_are_terminated_first(self) -> None:
        world = World(pending_seconds=10, status_check_seconds=200)
        world.edit(target_size=2)
        world.minutes(5)
        ready = world.ready()
        world.edit(target_size=4)
        world.minutes(1)
        world.edit(target_size=2)
        assert world.alive() == ready

    def test_then_the_most_expensive(self) -> None:
        cheap, expensive = (
            offering("g5.xlarge", "us-east-1a", capacity=2),
            offering("g5.xlarge", "us-east-1b", price="0.4"),
        )
        world = World(cheap, expensive)
        settle(world, target_size=4)
        world.set_all(spot_price=Decimal("0.4"))
        world.market.set_offering("g5.xlarge", "us-east-1a", spot_price=Decimal("0.9"))
        settle(world, target_size=2)
        assert {world.market.instances[id_].zone for id_ in world.alive()} == {"us-east-1b"}

    def test_a_pool_spread_over_zones_stays_level_whatever_the_prices(self) -> None:
        zones = [
            offering("g5.xlarge", f"us-east-1{zone}", price=f"0.{price}")
            for zone, price in zip("abc", "579", strict=True)
        ]
        world = World(*zones)
        settle(world, target_size=9, max_instances=9, spread_zones=True)
        settle(world, target_size=3, max_instances=9, spread_zones=True)
        assert sorted(world.market.instances[id_].zone[-1] for id_ in world.alive()) == ["a", "b", "c"]

    def test_then_instances_of_the_fullest_zone(self) -> None:
        world = World(
            *(
                offering("g5.xlarge", f"us-east-1{zone}", capacity=size)
                for zone, size in zip("abc", (4, 1, 1), strict=True)
            )
        )
        settle(world, target_size=6, max_instances=6)
        settle(world, target_size=3, max_instances=6)
        assert sorted(world.market.instances[id_].zone[-1] for id_ in world.alive()) == ["a", "b", "c"]

    def test_then_the_oldest(self) -> None:
        world = World(offering("g5.xlarge", "us-east-1a"))
        settle(world, target_size=2)
        settle(world, target_size=4)
        settle(world, target_size=2)
        launched = [one.number for one in world.market.instances.values() if one.live]
        assert launched == [3, 4]

    def test_on_demand_beyond_the_base_is_terminated_before_spot(self, world: World) -> None:
        settle(world, target_size=4, on_demand_base=3)
        settle(world, target_size=2, on_demand_base=1)
        left = [world.market.instances[id_].lifecycle for id_ in world.alive()]
        assert sorted(left) == ["on-demand", "spot"]

    def test_protected_instances_stay_and_cause_no_calls(self, world: World) -> None:
        settle(world, target_size=3)
        kept = world.alive()[:2]
        world.client.create_tags(Resources=kept, Tags=PROTECT)
        settle(world, target_size=0)
        assert world.alive() == kept
        calls, writes = world.calls.copy(), world.statuses.writes.copy()
        world.minutes(5)
        assert apart_from_costs(world.calls - calls) == {"DescribeInstances": 5}, (
            "a pool that can do nothing costs nothing"
        )
        assert world.statuses.writes == writes

    def test_an_instance_whose_protection_tag_is_removed_is_terminated(self, world: World) -> None:
        settle(world, target_size=3)
        world.client.create_tags(Resources=world.alive(), Tags=PROTECT)
        settle(world, target_size=0)
        world.client.delete_tags(Resources=world.alive(), Tags=[{"Key": "spotpools:protect"}])
        world.minutes(1)
        assert world.alive() == []

    def test_unknown_prices_block_no_scale_in(self, world: World) -> None:
        settle(world, target_size=3)
        world.fault(action="DescribeSpotPriceHistory", error="RequestLimitExceeded", times=5)
        world.edit(target_size=1)
        world.minutes(1)
        assert len(world.alive()) == 1


class TestSchedule:
    @staticmethod
    def starting(local: datetime) -> World:
        """A world that starts at a given time."""
        world = World()
        world.clock.forward((local.astimezone(UTC) - world.clock()).total_seconds())
        return world

    @pytest.mark.parametrize(
        ("day", "utc_hour"),
        [
            (datetime(2026, 3, 28, tzinfo=UTC), 7),  # winter: Berlin is an hour ahead
            (datetime(2026, 3, 29, tzinfo=UTC), 6),  # the night in which it goes two hours ahead
            (datetime(2026, 10, 24, tzinfo=UTC), 6),
            (datetime(2026, 10, 25, tzinfo=UTC), 7),  # and back
        ],
    )
    def test_eight_in_berlin_is_eight_in_berlin_all_year(self, day: datetime, utc_hour: int) -> None:
        world = self.starting(day + timedelta(hours=utc_hour, minutes=-3))
        world.edit(schedule=OFFICE, max_instances=6)
        world.minutes(2)
        assert len(world.alive()) == 1
        world.minutes(2)
        assert len(world.alive()) == 4

    def test_a_time_that_daylight_saving_skips_still_takes_effect(self) -> None:
        skipped = [{"cron": "30 2 * * *", "timezone": "Europe/Berlin", "target_size": 3}]
        world = self.starting(datetime(2026, 3, 29, 0, 50, tzinfo=UTC))
        world.edit(schedule=[*OFFICE, *skipped], max_instances=6)
        world.minutes(5)
        assert len(world.alive()) == 1
        world.minutes(10)
        assert len(world.alive()) == 3

    def test_a_time_that_comes_twice_takes_effect_once(self) -> None:
        twice = [{"cron": "30 2 * * *", "timezone": "Europe/Berlin", "target_size": 3}]
        world = self.starting(datetime(2026, 10, 25, 0, 25, tzinfo=UTC))
        world.edit(schedule=twice, max_instances=6)
        world.minutes(90)
        assert len(world.alive()) == 3
        assert world.calls["CreateFleet"] == 1

    def test_days_of_ticks_follow_local_time(self) -> None:
        world = self.starting(datetime(2026, 3, 27, 12, tzinfo=UTC))
        world.edit(schedule=OFFICE, max_instances=6)
        for _ in range(4 * 24 * 4):
            world.forward(900)
            world.tick()
            berlin = (
                world.clock() + timedelta(hours=1 if world.clock() < datetime(2026, 3, 29, 1, tzinfo=UTC) else 2)
            ).time()
            open_ = 8 <= berlin.hour < 18
            assert len(world.alive()) == (4 if open_ else 1), berlin

    def test_the_latest_entry_holds_with_its_min_instances(self) -> None:
        entries = [{"cron": "0 0 * * *", "target_size": 0, "min_instances": 2}]
        world = self.starting(datetime(2026, 1, 1, 10, tzinfo=UTC))
        world.edit(schedule=entries, target_size=5, min_instances=3)
        assert len(world.alive()) == 2

    def test_between_schedule_times_a_tick_makes_no_extra_calls(self) -> None:
        world = self.starting(datetime(2026, 1, 1, 10, tzinfo=UTC))
        world.edit(schedule=OFFICE, max_instances=6)
        world.minutes(12)
        calls, writes = world.calls.copy(), world.statuses.writes.copy()
        world.minutes(30)
        assert apart_from_costs(world.calls - calls) == {"DescribeInstances": 30}
        assert world.statuses.writes == writes
