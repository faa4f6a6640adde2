"""Pools over hours and days: nothing grows without limit, nothing repeats forever, and a quiet pool stays quiet."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from typing import Any

from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Pool
from lambdas.domain.model.status import Reason
from localcloud.market.model.instances import ending_by_itself
from tests.support.fakes import World, apart_from_costs, offering
from tests.support.seeds import fresh_seed

READY = "ready=true"
BY_ITSELF = ending_by_itself("Client.InstanceInitiatedShutdown")


def launched(world: World) -> int:
    """The number of instances that EC2 has launched so far."""
    return sum(1 for one in world.market.record if one["what"] == "pending")


def lifecycles(world: World) -> Counter[str]:
    return Counter(world.market.instances[id_].lifecycle for id_ in world.alive())


class TestFallback:
    """On-demand instances are launched only for a shortfall that has lasted."""

    ITEM: dict[str, Any] = {"target_size": 10, "max_instances": 10, "fallback": {"after_minutes": 30}}  # noqa: RUF012  constant

    def shortage(self, world: World, minutes: int) -> None:
        """Interrupt one instance, and have no other capacity for the given time."""
        world.set_all(capacity=0)
        world.interrupt(next(id_ for id_ in world.alive() if world.market.instances[id_].lifecycle == "spot"))
        world.minutes(minutes)
        world.set_all(capacity=20)

    def test_after_a_long_shortage_the_pool_still_waits_through_short_ones(self) -> None:
        world = World(status_check_seconds=100)
        world.set_all(capacity=20)
        world.edit(**self.ITEM)
        world.minutes(5)
        self.shortage(world, 34)
        world.minutes(2)
        assert lifecycles(world)["on-demand"] == 1
        most = hours = 0.0
        for _ in range(24):
            self.shortage(world, 3)
            for _ in range(27):
                world.minutes(1)
                temporary = lifecycles(world)["on-demand"]
                most, hours = max(most, temporary), hours + temporary / 60
        assert most == 1, "no short shortage is bought"
        assert hours < 3, "and the one that was is returned to spot"
        assert lifecycles(world) == {"spot": 10}

    def test_each_part_of_a_shortfall_has_its_own_waiting_time(self) -> None:
        world = World()
        world.set_all(capacity=0)
        world.edit(target_size=2, max_instances=10, fallback={"after_minutes": 30})
        world.minutes(20)
        world.edit(target_size=5, max_instances=10, fallback={"after_minutes": 30})
        world.minutes(12)
        assert lifecycles(world) == {"on-demand": 2}
        world.minutes(15)
        assert lifecycles(world) == {"on-demand": 2}
        world.minutes(5)
        assert lifecycles(world) == {"on-demand": 5}

    def test_at_the_limit_all_on_demand_returns_to_spot_one_at_a_time(self) -> None:
        world = World(status_check_seconds=100)
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=4, fallback={"after_minutes": 10})
        world.minutes(13)
        assert lifecycles(world) == {"on-demand": 4}
        world.set_all(capacity=20)
        for _ in range(240):
            world.minutes(1)
            assert len(world.ready()) >= 3
        assert lifecycles(world) == {"spot": 4}

    def test_at_the_limit_missing_spot_is_tried_at_growing_intervals(self) -> None:
        world = World(status_check_seconds=100)
        world.set_all(capacity=0)
        world.edit(target_size=4, max_instances=4, fallback={"after_minutes": 10})
        short = 0
        for _ in range(24 * 60):
            world.minutes(1)
            short += len(world.alive()) < 4
        assert lifecycles(world) == {"on-demand": 4}
        assert short < 13 + 8 * 14, "a few tries a day, each for as long as its patience"


class TestWholeInstances:
    """A heavy instance must be replaced, but its replacement does not fit into the pool."""

    TYPES: dict[str, Any] = {  # noqa: RUF012  constant
        "instance_types": ["c5.large", "c5.2xlarge"],
        "weights": {"c5.large": 1, "c5.2xlarge": 8},
        "target_size": 8,
        "max_instances": 12,
    }

    def world(self, **item: Any) -> World:
        heavy = offering("c5.2xlarge", "us-east-1a", price="0.1")
        world = World(heavy, offering("c5.large", "us-east-1a", price="0.5"))
        world.edit(**self.TYPES | item)
        world.minutes(3)
        assert [world.market.instances[id_].instance_type for id_ in world.alive()] == ["c5.2xlarge"]
        return world

    def test_an_instance_at_risk_without_room_stays_and_the_status_says_so(self) -> None:
        world = self.world(on_rebalance="replace_first")
        before = launched(world)
        world.recommend_rebalance(*world.alive())
        for _ in range(48):
            world.minutes(30)
        assert launched(world) == before
        said = world.status().answer.replacing
        assert said is not None
        assert (said.count, said.reason) == (8, Reason.MAX_INSTANCES)
        assert "8 and is not replaced" in said.message

    def test_with_room_for_a_whole_replacement_it_is_replaced(self) -> None:
        world = self.world(on_rebalance="replace_first", max_instances=16)
        (first,) = world.alive()
        world.recommend_rebalance(first)
        world.minutes(20)
        assert first not in world.alive()
        assert (
            sum({"c5.large": 1, "c5.2xlarge": 8}[world.market.instances[id_].instance_type] for id_ in world.alive())
            == 8
        )

    def test_a_rolling_update_of_heavy_instances_without_room_continues_in_place(self) -> None:
        world = World(offering("g5.xlarge", "us-east-1a"))
        item: dict[str, Any] = {
            "target_size": 16,
            "max_instances": 18,
            "weights": {"g5.xlarge": 8},
            "update": "rolling",
        }
        world.edit(**item, image_id="ami-1", max_unavailable=8)
        world.minutes(3)
        old = set(world.alive())
        world.edit(**item, image_id="ami-2", max_unavailable=8)
        for _ in range(20):
            world.minutes(1)
            assert len(world.ready()) >= 1, "at most one of two is missing"
        assert len(world.alive()) == 2
        assert not old & set(world.alive())

    def test_a_rolling_update_that_max_unavailable_forbids_says_so(self) -> None:
        world = World(offering("g5.xlarge", "us-east-1a"))
        item: dict[str, Any] = {
            "target_size": 16,
            "max_instances": 18,
            "weights": {"g5.xlarge": 8},
            "update": "rolling",
        }
        world.edit(**item, image_id="ami-1")
        world.minutes(3)
        old = world.alive()
        world.edit(**item, image_id="ami-2")
        world.minutes(60)
        rollout = world.status().answer.rollout
        assert world.alive() == old
        assert rollout is not None
        assert "Raise max_instances or max_unavailable" in rollout.message


class TestEphemeralWorkloads:
    """CI runners: each tags itself as ready, does one job, and ends itself."""

    def test_runners_that_were_ready_are_replaced_at_once_for_hours(self) -> None:
        world = World(pending_seconds=5)
        world.set_all(capacity=1000)
        world.edit(target_size=10, max_instances=20, ready_tag=READY)
        seen: dict[str, float] = {}
        for _ in range(2 * 60 * 4):
            world.forward(15)
            now = world.clock().timestamp()
            for id_ in world.alive():
                age = now - seen.setdefault(id_, now)
                if age >= 15:
                    world.client.create_tags(Resources=[id_], Tags=[{"Key": "ready", "Value": "true"}])
                if age >= 45:
                    world.market.end(world.market.instances[id_], BY_ITSELF, world.clock())
            world.hear(world.market.advance())
            if not world.clock().second:
                world.tick()
        assert launched(world) > 900
        assert world.status().memory.failed_starts == 0


class TestRebalanceStorm:
    def test_an_offering_with_constant_rebalance_recommendations_is_not_replaced_all_day(self) -> None:
        world = World(offering("g5.xlarge", "us-east-1a", capacity=50), status_check_seconds=60)
        world.edit(target_size=5, max_instances=10, on_rebalance="replace_first")
        warned: set[str] = set()
        for _ in range(24 * 6):
            world.minutes(10)
            young = [id_ for id_ in world.alive() if id_ not in warned]
            warned.update(young)
            if young:
                world.recommend_rebalance(*young)
        assert launched(world) <= 60
        assert len(world.ready()) >= 5
        said = world.status().answer.replacing
        assert said is not None
        assert "the next try is at" in said.message

    def test_with_another_offering_the_pool_moves_there_and_stays(self) -> None:
        world = World(
            *(offering("g5.xlarge", f"us-east-1{zone}", capacity=50, price=f"0.{n}") for zone, n in ("a3", "b5"))
        )
        world.edit(target_size=5, max_instances=10, on_rebalance="replace_first")
        world.minutes(5)
        for _ in range(24 * 6):
            world.minutes(10)
            risky = [id_ for id_ in world.alive() if world.market.instances[id_].zone == "us-east-1a"]
            if risky:
                world.recommend_rebalance(*risky)
        assert {world.market.instances[id_].zone for id_ in world.alive()} == {"us-east-1b"}
        assert launched(world) <= 20


class TestWhatIsNamed:
    """A refusal affects only what EC2 names."""

    def test_a_quota_of_one_family_leaves_the_other_type_its_own_back_off(self) -> None:
        world = World(
            offering("g5.xlarge", "us-east-1a"), offering("c5.large", "us-east-1a", capacity=0), quotas={"spot:g": 0}
        )
        item: dict[str, Any] = {"instance_types": ["g5.xlarge", "c5.large"], "target_size": 3, "max_instances": 6}
        world.edit(**item)
        world.minutes(3)
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert waiting.reason is Reason.QUOTA
        assert "NO_CAPACITY" in waiting.message
        world.market.set_offering("c5.large", "us-east-1a", capacity=10)
        world.minutes(4)
        assert len(world.alive()) == 3

    def test_the_status_quotes_ec2_beside_our_message(self) -> None:
        world = World(quotas={"spot:g": 0})
        world.edit(target_size=3)
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert "MaxSpotInstanceCountExceeded: Max spot instance count exceeded" in waiting.message
        assert len(waiting.message) < 1000


class TestPrices:
    def test_prices_are_read_each_minute_whenever_the_last_read_was(self) -> None:
        world = World()
        world.set_all(spot_price=Decimal("1.5"))
        world.edit(target_size=1, spot_max_price="0.6")
        looks: list[float] = []
        for second in range(30 * 60):
            before = world.calls["DescribeSpotPriceHistory"]
            world.forward(1)
            if second % 60 == 59:
                world.tick()
            elif second % 67 == 66:  # something else has the pool reconciled in between
                world.edit(target_size=1, spot_max_price="0.6")
            if world.calls["DescribeSpotPriceHistory"] > before:
                looks.append(second)
        assert max(later - earlier for earlier, later in pairwise(looks)) <= 60


def some_item(dice: random.Random) -> dict[str, Any]:
    """A valid item that uses many attributes."""
    types = dice.sample(["g5.xlarge", "g4dn.xlarge", "c6i.large", "p3.2xlarge"], dice.randint(1, 4))
    limit = dice.choice((1, 2, 5, 9, 14, 30))
    item: dict[str, Any] = {
        "pool_name": "p",
        "instance_types": types,
        "max_instances": limit,
        "target_size": dice.choice((0, limit, limit, dice.randint(0, limit))),
        "update": dice.choice(("rolling", "on_replace")),
        "on_rebalance": dice.choice(("ignore", "replace_first")),
        "spread_zones": dice.random() < 0.3,
        "max_unavailable": dice.choice((1, 1, 2, 8)),
        "image_id": dice.choice(("ami-1", "ami-2")),
    }
    if dice.random() < 0.5:
        item["weights"] = {name: dice.choice((1, 2, 3, 8, limit)) for name in types if dice.random() < 0.7}
    if dice.random() < 0.4:
        item["spot_max_price"] = dice.choice(("0.3", "0.7", "60%", "1"))
    if dice.random() < 0.2:
        item["spot"] = False
    elif dice.random() < 0.5:
        item["fallback"] = {"after_minutes": dice.choice((0, 5, 30)), "return_to_spot": dice.random() < 0.7}
    if dice.random() < 0.3:
        item["on_demand_base"] = dice.randint(0, limit)
    if dice.random() < 0.3:
        item["scale_in_after_minutes"] = dice.choice((5, 60))
    return item


def test_an_undisturbed_pool_comes_to_rest() -> None:
    """Whatever happened before: after a quiet day nothing is launched, terminated, written or in excess."""
    seed = fresh_seed()
    dice = random.Random(seed)  # noqa: S311  cases, no secrets
    for case in range(40):
        types = ("g5.xlarge", "g4dn.xlarge", "c6i.large", "p3.2xlarge")
        world = World(
            *(
                offering(name, f"us-east-1{zone}", capacity=dice.choice((0, 3, 40)), price=f"0.{dice.randint(1, 9)}")
                for name in types
                for zone in "ab"
            ),
            status_check_seconds=60,
        )
        for _ in range(dice.randint(1, 4)):
            item = some_item(dice)
            if not isinstance(parse_pool(item), Pool):
                continue
            world.edit(**item)
            world.minutes(dice.randint(1, 25))
            risky = [id_ for id_ in world.alive() if dice.random() < 0.2]
            spot = [id_ for id_ in risky if world.market.instances[id_].lifecycle == "spot"]
            world.recommend_rebalance(*spot[:2])
            world.interrupt(*spot[2:3])
        world.set_all(capacity=1000, on_demand_capacity=1000)
        world.minutes(180)
        for _ in range(80):
            world.forward(900)
            world.tick()
        world.minutes(5)
        calls, writes, began = world.calls.copy(), world.statuses.writes.copy(), launched(world)
        world.minutes(30)
        what = f"SEED={seed}, case {case}: {world.pools.items}"
        assert launched(world) == began, what
        if "p" in world.statuses.statuses:
            answer = world.status().answer
            under_way = answer.rollout is not None and answer.rollout.state == "ROLLING"
            if answer.waiting is None and (answer.replacing is not None or under_way):
                waits_for_price = answer.replacing is not None and answer.replacing.reason is Reason.PRICE_ABOVE_MAX
                looks = 30 if under_way or waits_for_price else 3  # whether spot has room: each quarter of an hour
                assert (world.statuses.writes - writes).total() <= 4 * looks, what
            elif answer.waiting is None:
                assert world.statuses.writes == writes, what
                assert set(apart_from_costs(world.calls - calls)) <= {"DescribeInstances"}, what
            pool = parse_pool(world.pools.items["p"])
            assert isinstance(pool, Pool)
            surplus = sum(
                pool.weight(world.market.instances[id_].instance_type) for id_ in world.alive()
            ) - pool.wanted(world.clock())
            rounded = max(pool.weights.values(), default=1) - 1
            assert surplus <= rounded or answer.replacing or answer.rollout, what
            temporary = lifecycles(world)["on-demand"] if pool.fallback and pool.fallback.return_to_spot else 0
            assert temporary <= pool.on_demand_base or answer.replacing or answer.rollout, what
