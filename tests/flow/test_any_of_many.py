"""Pools with many types and zones: sizes in units, types by requirements, caps as shares, level zones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from lambdas.domain.model.status import Reason, Waiting
from localcloud.market.model.offerings import Hardware, Offering
from tests.support.fakes import World, offering

WEIGHTS = {"g5.xlarge": 1, "g5.2xlarge": 2, "g5.4xlarge": 4}


def sized(zones: str = "abc", **prices: str) -> list[Offering]:
    """g5.xlarge, 2xlarge and 4xlarge in zones. By default each costs twice as much as the one before."""
    usual = {"g5.xlarge": "0.4", "g5.2xlarge": "0.8", "g5.4xlarge": "1.6"} | prices
    return [
        offering(name, f"us-east-1{zone}", price=price, on_demand=str(Decimal(price) * 4))
        for name, price in usual.items()
        for zone in zones
    ]


def weighted(*offerings: Offering) -> World:
    return World(*(offerings or sized()))


def waiting(world: World) -> Waiting:
    found = world.status().answer.waiting
    assert found is not None
    return found


def units(world: World) -> int:
    """Units of running instances, counted by the market."""
    return sum(WEIGHTS[world.market.instances[id_].instance_type] for id_ in world.alive())


def types(world: World) -> Counter[str]:
    return Counter(world.market.instances[id_].instance_type for id_ in world.alive())


def zones(world: World) -> dict[str, int]:
    count = Counter(world.market.instances[id_].zone[-1] for id_ in world.alive())
    return dict(sorted(count.items()))


class TestUnits:
    def test_sizes_count_units(self) -> None:
        world = weighted()
        world.edit(target_size=8, max_instances=20, instance_types=[*WEIGHTS], weights=WEIGHTS)
        assert units(world) == 8
        world.minutes(2)
        answer = world.status().answer
        assert (answer.wanted, answer.running, answer.ready) == (8, 8, 8)

    def test_the_cheapest_unit_is_bought_not_the_cheapest_instance(self) -> None:
        world = weighted(*sized(**{"g5.4xlarge": "1.0"}))
        world.edit(target_size=8, max_instances=20, instance_types=[*WEIGHTS], weights=WEIGHTS)
        assert types(world) == {"g5.4xlarge": 2}

    def test_sizes_are_rounded_up_to_whole_instances(self) -> None:
        world = weighted(*sized(**{"g5.4xlarge": "1.0"}))
        world.edit(target_size=6, max_instances=20, instance_types=["g5.4xlarge"], weights={"g5.4xlarge": 4})
        world.minutes(5)
        assert units(world) == 8
        assert world.calls["TerminateInstances"] == 0, "what rounding brought is no excess that can go"
        assert world.calls["CreateFleet"] == 1

    @pytest.mark.parametrize("limit", [4, 5, 6, 7, 8, 9, 11, 15])
    @pytest.mark.parametrize("cheap", WEIGHTS)
    def test_never_more_than_max_instances_units_and_as_close_as_possible(self, limit: int, cheap: str) -> None:
        world = weighted(*sized(**{cheap: "0.1"}))
        world.edit(target_size=limit, max_instances=limit, instance_types=[*WEIGHTS], weights=WEIGHTS)
        for _ in range(6):
            assert units(world) <= limit
            world.minutes(1)
        assert units(world) == limit

    def test_types_too_heavy_for_the_room_left_are_reported(self) -> None:
        world = weighted()
        world.edit(target_size=6, max_instances=6, instance_types=["g5.4xlarge"], weights={"g5.4xlarge": 4})
        world.minutes(3)
        assert units(world) == 4
        assert (waiting(world).reason, waiting(world).count) == (Reason.MAX_INSTANCES, 2)
        assert "each instance type counts for more" in waiting(world).message
        assert world.calls["CreateFleet"] == 1

    def test_scale_in_keeps_at_least_the_wanted_units(self) -> None:
        world = weighted(*sized(**{"g5.4xlarge": "1.0"}))
        world.edit(target_size=12, max_instances=20, instance_types=[*WEIGHTS], weights=WEIGHTS)
        world.minutes(2)
        world.edit(target_size=6, max_instances=20, instance_types=[*WEIGHTS], weights=WEIGHTS)
        world.minutes(5)
        assert 6 <= units(world) <= 8

    def test_an_interrupted_heavy_instance_is_replaced_by_as_many_units(self) -> None:
        world = weighted(*sized(**{"g5.4xlarge": "1.0"}))
        world.edit(target_size=8, max_instances=20, instance_types=[*WEIGHTS], weights=WEIGHTS)
        world.minutes(2)
        world.market.set_offering("g5.4xlarge", "us-east-1a", capacity=0)
        world.interrupt(world.alive()[0])
        world.minutes(4)
        assert units(world) == 8

    def test_a_changed_weight_counts_at_once(self) -> None:
        world = weighted()
        world.edit(target_size=4, max_instances=20, instance_types=["g5.xlarge"])
        world.minutes(2)
        world.edit(target_size=4, max_instances=20, instance_types=["g5.xlarge"], weights={"g5.xlarge": 2})
        world.minutes(2)
        assert len(world.alive()) == 2

    @pytest.mark.parametrize(("price", "launches"), [("0.499999", True), ("0.5", True), ("0.500001", False)])
    def test_a_price_equal_to_a_cap_that_does_not_divide_is_paid_without_a_refused_call(
        self, price: str, launches: bool
    ) -> None:
        world = weighted(offering("g5.xlarge", "us-east-1a", price=price))
        world.edit(target_size=3, instance_types=["g5.xlarge"], weights={"g5.xlarge": 3}, spot_max_price="0.5")
        assert len(world.alive()) == launches
        assert world.calls["CreateFleet"] == launches

    def test_the_cap_is_per_instance_whatever_it_weighs(self) -> None:
        world = weighted(offering("g5.xlarge", "us-east-1a", price="0.6"))
        world.edit(target_size=4, instance_types=["g5.xlarge"], weights={"g5.xlarge": 4}, spot_max_price="0.6")
        (instance,) = world.market.instances.values()
        assert instance.max_price == Decimal("0.6")


FAMILIES = ("c5", "c6i", "c7i", "m5", "m6i", "m7i", "r5", "r6i", "r7i", "i4i")
SIZES = {"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16, "8xlarge": 32, "12xlarge": 48}
MANY = {f"{family}.{size}": units for family in FAMILIES for size, units in SIZES.items()}


class TestFiftyTypesInSixZones:
    @staticmethod
    def fleets(world: World) -> list[dict[str, Any]]:
        return [asked for asked, _ in world.market.answered.values()]

    @staticmethod
    def world(number_of_types: int) -> tuple[World, dict[str, int]]:
        weights = dict(list(MANY.items())[:number_of_types])
        offerings = [
            offering(name, f"us-east-1{zone}", capacity=200, price=str(Decimal("0.02") * weight))
            for name, weight in weights.items()
            for zone in "abcdef"
        ]
        return World(*offerings, zones="abcdef"), weights

    def test_four_hundred_units_are_one_create_fleet_a_batch_within_ec2s_limits(self) -> None:
        world, weights = self.world(50)
        world.edit(target_size=400, max_instances=1000, instance_types=[*weights], weights=weights)
        world.tick()
        alive = [world.market.instances[id_].instance_type for id_ in world.alive()]
        assert 400 <= sum(weights[name] for name in alive) < 400 + max(weights.values())
        batches = -(-400 // (100 * min(weights.values())))
        assert world.calls["CreateFleet"] == batches == 2
        for fleet in self.fleets(world):
            overrides = [one for config in fleet["LaunchTemplateConfigs"] for one in config["Overrides"]]
            assert len(fleet["LaunchTemplateConfigs"]) <= 50
            assert len(overrides) == 300
            assert fleet["TargetCapacitySpecification"]["TotalTargetCapacity"] <= 10_000
            assert len(str(fleet)) < 128 * 1024

    def test_sixty_types_are_cut_to_the_three_hundred_cheapest_units(self) -> None:
        world, weights = self.world(60)
        world.market.set_offering("i4i.12xlarge", "us-east-1f", spot_price=Decimal("0.1"))
        world.edit(target_size=10, max_instances=1000, instance_types=[*weights], weights=weights)
        (fleet,) = self.fleets(world)
        overrides = [one for config in fleet["LaunchTemplateConfigs"] for one in config["Overrides"]]
        assert len(overrides) == 300
        assert ("i4i.12xlarge", "us-east-1f") in [(one["InstanceType"], one["AvailabilityZone"]) for one in overrides]
        assert world.status().answer.waiting is None

    def test_the_memory_of_all_offerings_fits_into_a_status_item(self) -> None:
        world, weights = self.world(50)
        many: dict[str, Any] = {"max_instances": 1000, "instance_types": [*weights]}
        world.edit(target_size=1000, **many)
        world.minutes(1)
        world.set_all(capacity=0)
        world.edit(target_size=1000, **many, on_demand_base=1, fallback={"after_minutes": 500})
        world.interrupt(*world.alive()[:100])
        world.minutes(2)
        assert len(world.status().memory.backoff) == 300
        assert len(world.status().model_dump_json()) < 200_000, "an item of DynamoDB holds 400 KB"

    def test_a_partial_launch_is_completed_from_the_other_offerings(self) -> None:
        world, weights = self.world(50)
        world.set_all(capacity=1)
        world.edit(target_size=400, max_instances=1000, instance_types=[*weights], weights=weights)
        world.minutes(5)
        alive = [world.market.instances[id_].instance_type for id_ in world.alive()]
        assert sum(weights[name] for name in alive) >= 400


class TestRequirements:
    @staticmethod
    def world() -> World:
        small, big = Hardware(memory_mib=16 * 1024), Hardware(memory_mib=64 * 1024)
        arm = Hardware(memory_mib=64 * 1024, architecture="arm64")
        gpu = Hardware(memory_mib=64 * 1024, gpus=1, gpu_name="a10g", gpu_manufacturer="nvidia")
        made = {"m5.xlarge": small, "r5.2xlarge": big, "r6g.2xlarge": arm, "g5.4xlarge": gpu}
        found = []
        for name, machine in made.items():
            one = offering(name, "us-east-1a")
            one.machine = machine
            found.append(one)
        return World(*found)

    @pytest.mark.parametrize(
        ("requirements", "found"),
        [
            ({"memory_gib": {"max": 16}}, {"m5.xlarge"}),
            ({"memory_gib": {"min": 32}, "gpus": {"max": 0}}, {"r5.2xlarge"}),
            ({"architecture": "arm64"}, {"r6g.2xlarge"}),
            ({"gpu_names": ["a10g"]}, {"g5.4xlarge"}),
            ({"gpus": {"min": 1}}, {"g5.4xlarge"}),
            ({"excluded_types": ["m5.*", "g5*"]}, {"r5.2xlarge"}),
        ],
    )
    def test_ec2_finds_the_types(self, requirements: dict[str, Any], found: set[str]) -> None:
        world = self.world()
        world.edit(target_size=1, instance_types=[], requirements=requirements)
        assert set(types(world)) == found
        assert world.status().answer.waiting is None

    def test_requirements_that_no_type_meets_are_reported(self) -> None:
        world = self.world()
        world.edit(target_size=1, instance_types=[], requirements={"vcpus": {"min": 400}})
        assert waiting(world).reason is Reason.CONFIG
        assert "requirements" in waiting(world).message
        assert world.calls["CreateFleet"] == 0

    def test_a_type_that_ec2_offers_later_is_used_without_an_edit(self) -> None:
        world = self.world()
        world.edit(target_size=1, instance_types=[], requirements={"excluded_types": ["*5*", "r6g*"]})
        assert waiting(world).reason is Reason.CONFIG
        newer = offering("m8i.xlarge", "us-east-1a")
        world.market.offerings[newer.key] = newer
        world.market.set_offering("m8i.xlarge", "us-east-1a", spot_price=Decimal("0.3"))
        world.minutes(17)
        assert set(types(world)) == {"m8i.xlarge"}

    def test_more_types_than_fit_into_a_call_are_cut_to_the_cheapest(self) -> None:
        found = [offering(f"m{number}.large", "us-east-1a", price=f"0.{number}") for number in range(100, 190)]
        for one in found:
            one.machine = Hardware(memory_mib=8192)
        world = World(*found)
        world.edit(target_size=1, instance_types=[], requirements={"vcpus": {"min": 1}})
        ((fleet, _),) = world.market.answered.values()
        named = [one["InstanceType"] for one in fleet["LaunchTemplateConfigs"][0]["Overrides"]]
        assert len(named) == 60
        assert {"m100.large", "m159.large"} <= set(named)
        assert "m160.large" not in named

    @staticmethod
    def crowd() -> list[Offering]:
        """Ninety types. The cheapest on demand are the most expensive on spot."""
        return [
            offering(f"m{number}.large", "us-east-1a", price=f"0.{number}", on_demand=str(Decimal(200 - number) / 100))
            for number in range(100, 190)
        ]

    @staticmethod
    def asked(world: World, market: str) -> list[str]:
        """The types of the first launch on a market."""
        fleets = [fleet for fleet, _ in world.market.answered.values()]
        (first, *_) = [
            one for one in fleets if one["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == market
        ]
        return sorted({one["InstanceType"] for one in first["LaunchTemplateConfigs"][0]["Overrides"]})

    def test_the_cheapest_types_are_not_cut_from_a_full_call(self) -> None:
        crowd = [replace(one, zone=f"us-east-1{zone}") for zone in "abcdef" for one in self.crowd()]
        world = World(*crowd, zones="abcdef")
        world.edit(target_size=1, instance_types=[], requirements={"vcpus": {"min": 1}}, spot=False)
        assert self.asked(world, "on-demand")[-1] == "m189.large"
        assert types(world) == {"m189.large": 1}

    @pytest.mark.parametrize("more", [{"spot": False}, {"on_demand_base": 1}])
    def test_on_demand_they_are_cut_to_the_cheapest_by_the_price_list(self, more: dict[str, Any]) -> None:
        world = World(*self.crowd())
        world.edit(target_size=2, instance_types=[], requirements={"vcpus": {"min": 1}}, **more)
        named = self.asked(world, "on-demand")
        assert (len(named), min(named), max(named)) == (60, "m130.large", "m189.large")
        if "on_demand_base" in more:
            assert max(self.asked(world, "spot")) == "m159.large"

    def test_a_price_list_without_an_answer_blocks_no_spot_launch(self) -> None:
        world = World(*self.crowd())
        world.fault(action="GetProducts", error="ThrottlingException", times=9)
        world.edit(target_size=2, instance_types=[], requirements={"vcpus": {"min": 1}}, on_demand_base=1)
        assert len(world.alive()) == 2


class TestShares:
    @staticmethod
    def world() -> World:
        return World(
            offering("g5.xlarge", "us-east-1a", price="0.5", on_demand="1"),
            offering("g6.xlarge", "us-east-1a", price="0.5", on_demand="0.7"),
        )

    def test_the_cap_is_each_types_own(self) -> None:
        world = self.world()
        world.edit(target_size=3, instance_types=["g5.xlarge", "g6.xlarge"], spot_max_price="60%")
        assert types(world) == {"g5.xlarge": 3}
        (instance, *_) = world.market.instances.values()
        assert instance.max_price == Decimal("0.6")

    def test_above_it_the_status_says_the_cap_in_dollars(self) -> None:
        world = self.world()
        world.edit(target_size=3, instance_types=["g5.xlarge", "g6.xlarge"], spot_max_price="40%")
        assert waiting(world).reason is Reason.PRICE_ABOVE_MAX
        assert "40%" in waiting(world).message
        assert "0.4 USD/h" in waiting(world).message
        assert world.calls["CreateFleet"] == 0

    def test_list_prices_are_requested_once(self) -> None:
        world = self.world()
        for size in (1, 2, 3):
            world.edit(target_size=size, instance_types=["g5.xlarge", "g6.xlarge"], spot_max_price="60%")
        assert world.calls["GetProducts"] == 1

    def test_sixty_types_need_few_price_requests(self) -> None:
        names = [f"m{number}.24xlarge-flex" for number in range(100, 160)]
        assert len(",".join(names)) > 1024, "more than one value holds"
        world = World(*(offering(name, "us-east-1a") for name in names))
        for size in (1, 2):
            world.edit(target_size=size, instance_types=names, spot_max_price="60%")
        assert len(world.alive()) == 2
        assert world.calls["GetProducts"] <= 3

    def test_a_type_without_a_list_price_blocks_no_other(self) -> None:
        world = self.world()
        world.market.set_offering("g5.xlarge", "us-east-1a", machine={"listed": False})
        world.edit(target_size=2, instance_types=["g5.xlarge", "g6.xlarge"], spot_max_price="80%")
        assert types(world) == {"g6.xlarge": 2}
        assert world.status().answer.waiting is None

    def test_a_type_found_by_requirements_without_a_list_price_blocks_no_other(self) -> None:
        world = TestRequirements.world()
        world.market.set_offering("m5.xlarge", "us-east-1a", machine={"listed": False})
        world.edit(target_size=2, instance_types=[], requirements={"gpus": {"max": 0}}, spot_max_price="80%")
        assert types(world) == {"r5.2xlarge": 2}

    def test_no_type_with_a_list_price_launches_nothing_and_says_so(self) -> None:
        world = self.world()
        for name in ("g5.xlarge", "g6.xlarge"):
            world.market.set_offering(name, "us-east-1a", machine={"listed": False})
        world.edit(target_size=2, instance_types=["g5.xlarge", "g6.xlarge"], spot_max_price="80%")
        assert world.calls["CreateFleet"] == 0
        assert waiting(world).reason is Reason.CONFIG

    def test_without_a_price_list_nothing_is_launched_uncapped(self) -> None:
        world = self.world()
        world.fault(action="GetProducts", error="ThrottlingException")
        world.edit(target_size=1, instance_types=["g5.xlarge"], spot_max_price="60%")
        assert world.calls["CreateFleet"] == 0
        assert waiting(world).reason is Reason.THROTTLED
        world.minutes(3)
        assert len(world.alive()) == 1


SPREAD: dict[str, Any] = {"max_instances": 30, "spread_zones": True}


class TestZones:
    def test_without_spread_zones_the_cheapest_zone_may_hold_all(self) -> None:
        world = World()
        world.edit(target_size=6, max_instances=30)
        assert len(zones(world)) == 1

    def test_zones_are_kept_level(self) -> None:
        world = World()
        world.edit(target_size=9, **SPREAD)
        world.minutes(1)
        assert zones(world) == {"a": 3, "b": 3, "c": 3}

    def test_growth_goes_to_the_emptiest_zone(self) -> None:
        world = World()
        world.edit(target_size=3, max_instances=30)
        (only,) = zones(world)
        world.minutes(1)
        world.edit(target_size=6, **SPREAD)
        world.minutes(2)
        assert zones(world)[only] == 3
        assert sorted(zones(world).values()) == [1, 2, 3]
        world.edit(target_size=9, **SPREAD)
        world.minutes(2)
        assert zones(world) == {"a": 3, "b": 3, "c": 3}

    def test_a_zone_without_capacity_blocks_nothing(self) -> None:
        world = World()
        world.market.set_offering("g5.xlarge", "us-east-1b", capacity=1)
        world.edit(target_size=9, **SPREAD)
        world.minutes(2)
        assert zones(world) == {"a": 4, "b": 1, "c": 4}
        assert world.status().answer.waiting is None

    def test_no_capacity_in_all_zones_is_reported_as_no_capacity(self) -> None:
        world = World()
        world.set_all(capacity=1)
        world.edit(target_size=9, **SPREAD)
        world.minutes(2)
        assert zones(world) == {"a": 1, "b": 1, "c": 1}
        assert waiting(world).reason is Reason.NO_CAPACITY

    def test_scale_in_keeps_zones_level(self) -> None:
        world = World()
        world.edit(target_size=9, **SPREAD)
        world.minutes(2)
        world.edit(target_size=4, **SPREAD)
        world.minutes(1)
        assert sorted(zones(world).values()) == [1, 1, 2]


class TestAllocation:
    @pytest.mark.parametrize("allocation", ["price-capacity-optimized", "capacity-optimized", "lowest-price"])
    def test_the_allocation_strategy_is_sent(self, allocation: str) -> None:
        world = World()
        world.edit(target_size=1, allocation=allocation)
        ((fleet, _),) = world.market.answered.values()
        assert fleet["SpotOptions"] == {"AllocationStrategy": allocation}

    def test_the_allocation_strategy_decides(self) -> None:
        cheap, roomy = offering("g5.xlarge", "us-east-1a", capacity=5, price="0.1"), offering("g5.xlarge", "us-east-1b")
        for allocation, zone in (("lowest-price", "a"), ("capacity-optimized", "b")):
            world = World(cheap, roomy)
            world.edit(target_size=2, allocation=allocation)
            assert zones(world) == {zone: 2}

    def test_on_demand_always_uses_the_lowest_price(self) -> None:
        world = World()
        world.edit(target_size=1, spot=False, allocation="capacity-optimized")
        ((fleet, _),) = world.market.answered.values()
        assert fleet["OnDemandOptions"] == {"AllocationStrategy": "lowest-price"}
        assert "SpotOptions" not in fleet
