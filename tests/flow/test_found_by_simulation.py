"""Faults that the simulation found, each as the shortest case that shows it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from lambdas.domain.decision.intent import intent_of
from lambdas.domain.decision.snapshot import take_snapshot
from lambdas.domain.model.status import Reason, RolloutState
from lambdas.ports import FleetError
from lambdas.reconcile import reconcile
from localcloud.market.model.settings import Boot
from tests.support.fakes import World, offering


def test_a_pool_shrinks_although_its_new_subnet_does_not_exist() -> None:
    world = World()
    world.edit(target_size=2)
    world.forward(5)
    world.edit(target_size=0, subnet_ids=["subnet-00"])
    assert world.alive() == []
    error = world.status().answer.last_error
    assert error is not None
    assert error.code == "InvalidSubnetID.NotFound"


def test_a_refused_question_explains_why_instances_of_either_market_are_missing() -> None:
    world = World()
    world.edit(target_size=1, on_demand_base=1, subnet_ids=["subnet-00"])
    waiting = world.status().answer.waiting
    assert waiting is not None
    assert waiting.reason is Reason.CONFIG


def test_a_ready_instance_ends_no_backoff_that_began_after_its_launch() -> None:
    world = World(offering("g5.xlarge", "us-east-1a", capacity=1))
    world.edit(target_size=2)
    world.forward(5)
    world.tick()
    assert world.status().answer.ready == 1
    waiting = world.status().answer.waiting
    assert waiting is not None
    assert waiting.reason is Reason.NO_CAPACITY
    assert world.calls["CreateFleet"] == 1


def test_the_end_is_announced_at_once_even_if_a_lost_launch_is_still_open() -> None:
    world = World()
    world.edit(target_size=1)
    world.forward(5)
    world.tick()
    (taken,) = world.alive()
    world.fault(action="CreateFleet", drop_connection=True, times=9)
    world.edit(target_size=2)
    world.interrupt(taken)
    assert [one["instance-id"] for one in world.bus.details] == [taken]


def test_a_fallback_buys_the_only_type_that_fits_even_if_others_are_too_heavy() -> None:
    world = World(offering("g5.xlarge", "us-east-1a", capacity=0), offering("g5.2xlarge", "us-east-1a"))
    weights = {"g5.xlarge": 1, "g5.2xlarge": 2}
    world.edit(
        instance_types=[*weights], weights=weights, target_size=3, max_instances=3, fallback={"after_minutes": 5}
    )
    world.minutes(8)
    assert world.status().answer.waiting is None
    assert world.status().answer.on_demand == 1


def test_a_zone_above_ec2s_own_cap_does_not_stop_other_zones() -> None:
    """Without spot_max_price EC2's own cap applies: the on-demand price, which the pool does not read."""
    world = World(offering("g5.xlarge", "us-east-1a", price="2.5"), offering("g5.xlarge", "us-east-1b"))
    world.edit(target_size=2, spread_zones=True)
    assert [world.market.instances[id_].zone for id_ in world.alive()] == ["us-east-1b", "us-east-1b"]
    assert world.status().answer.waiting is None


def test_without_a_cap_spot_prices_above_on_demand_are_reported_as_the_reason() -> None:
    world = World(offering("g5.xlarge", "us-east-1a", price="2.5"))
    world.edit(target_size=1)
    waiting = world.status().answer.waiting
    assert waiting is not None
    assert waiting.reason is Reason.PRICE_ABOVE_MAX
    world.set_all(spot_price=Decimal("1.9"))
    world.minutes(2)
    assert len(world.alive()) == 1


def test_a_refused_launch_is_reported_before_instances_that_were_not_ready_in_time() -> None:
    world = World(offering("g5.xlarge", "us-east-1a", capacity=1))
    world.edit(target_size=1, ready_tag="never", ready_timeout_minutes=5)
    world.minutes(4)
    world.fault(action="CreateFleet", error="UnauthorizedOperation", times=9)
    world.put(target_size=2, ready_tag="never", ready_timeout_minutes=5)
    for _ in range(3):
        world.minutes(1)
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert waiting.message.startswith("UnauthorizedOperation")
    assert world.alive() == []


def test_the_base_on_demand_stays_when_a_pool_shrinks() -> None:
    world = World()
    item: dict[str, Any] = {"max_instances": 8, "on_demand_base": 3, "fallback": {"after_minutes": 5}}
    world.edit(target_size=6, **item)
    world.minutes(3)
    world.edit(target_size=1, **item)
    world.minutes(3)
    (left,) = world.alive()
    assert world.market.instances[left].lifecycle == "on-demand"
    assert world.calls["CreateFleet"] == 2


def test_an_instance_seen_dead_is_not_ready_when_an_older_listing_shows_it_alive() -> None:
    world = World(pending_seconds=1.5)
    item: dict[str, Any] = {"target_size": 1, "max_instances": 2, "update": "rolling"}
    world.edit(image_id="ami-1", **item)
    world.minutes(3)
    (old,) = world.alive()
    world.market.boots.append(Boot(image_id="ami-2", outcome="dies", after_seconds=30))
    world.edit(image_id="ami-2", **item)
    world.minutes(1)
    assert world.status().memory.failed_starts == 1
    world.market.settings = world.market.settings.changed({"describe_lag_seconds": 50})
    for _ in range(6):
        world.forward(10)
        reconcile("p", world.plane)
    assert old in world.alive()


def test_an_instance_seen_to_end_does_not_serve_when_an_older_listing_shows_it_running() -> None:
    """EC2's listings may be some seconds old. No other instance may be terminated for one that is gone."""
    world = World()
    world.edit(target_size=3)
    world.minutes(2)
    world.market.settings = world.market.settings.changed({"shutting_down_seconds": 30})
    world.fault(action="TerminateInstances", drop_connection=True, where="after")
    before = world.alive()
    world.edit(target_size=2)
    reconcile("p", world.plane)
    left = world.alive()
    (gone,) = set(before) - set(left)
    world.market.instances[gone].tags["spotpools:protect"] = "true"  # else it might be chosen again by luck
    world.market.settings = world.market.settings.changed({"describe_lag_seconds": 10})
    world.forward(4)
    reconcile("p", world.plane)
    assert world.alive() == left


def test_a_protected_instance_that_never_gets_ready_does_not_block_launches() -> None:
    """It stays. After its timeout another instance is tried."""
    world = World(pending_seconds=1.5)
    item: dict[str, Any] = {"ready_tag": "ready", "ready_timeout_minutes": 5}
    world.market.boots.append(Boot(image_id="ami-1", outcome="dies", after_seconds=20))
    world.edit(target_size=1, image_id="ami-1", **item)
    world.minutes(2)
    world.market.boots.clear()
    world.edit(target_size=2, image_id="ami-2", **item)
    world.minutes(1)
    (late,) = world.alive()
    world.market.instances[late].tags["spotpools:protect"] = "true"
    assert world.status().memory.failed_starts
    world.minutes(20)
    assert len(world.alive()) == 2


def test_an_instance_at_risk_seconds_after_its_launch_is_replaced() -> None:
    """By its launch time it looked like a replacement, and the true replacement was terminated as excess."""
    world = World(offering("g5.xlarge", "us-east-1a"), offering("g5.xlarge", "us-east-1b"), pending_seconds=1.5)
    world.edit(target_size=1, max_instances=3, on_rebalance="replace_first")
    world.forward(15)
    (first,) = world.alive()
    world.recommend_rebalance(first)
    world.forward(1)
    reconcile("p", world.plane)
    assert len(world.alive()) == 2
    world.minutes(5)
    (left,) = world.alive()
    assert left != first
    assert world.calls["CreateFleet"] == 2


def test_a_rolling_update_continues_beside_an_idle_protected_instance() -> None:
    world = World(pending_seconds=1.5)
    item: dict[str, Any] = {"ready_tag": "ready=true", "ready_timeout_minutes": 5, "max_instances": 4}
    item |= {"target_size": 1, "update": "rolling"}
    world.edit(image_id="ami-1", **item)
    world.forward(5)
    (idle,) = world.alive()
    world.market.instances[idle].tags["spotpools:protect"] = "true"
    for image in ("ami-1", "ami-2"):
        world.edit(image_id=image, **{**item, "target_size": 2 if image == "ami-1" else 1})
        for _ in range(8):
            for id_ in set(world.alive()) - {idle}:
                world.market.instances[id_].tags["ready"] = "true"
            world.minutes(1)
    (made,) = set(world.alive()) - {idle}
    template = world.market.instances[made].template
    assert template is not None
    assert template.image_id == "ami-2"


def test_on_demand_returns_to_spot_beside_an_idle_protected_instance() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"), pending_seconds=1.5)
    item: dict[str, Any] = {"ready_tag": "ready=true", "ready_timeout_minutes": 5, "max_instances": 4}
    world.set_all(capacity=1)
    world.edit(target_size=3, fallback={"after_minutes": 5}, **item)
    world.minutes(1)
    (idle,) = world.alive()
    world.market.instances[idle].tags["spotpools:protect"] = "true"
    for minute in range(60):
        if minute == 10:
            world.set_all(capacity=10)
        for id_ in set(world.alive()) - {idle}:
            world.market.instances[id_].tags["ready"] = "true"
        world.minutes(1)
    assert [world.market.instances[id_].lifecycle for id_ in world.alive()] == ["spot"] * 3


def test_a_late_replacement_of_an_instance_recommended_again_is_completed() -> None:
    """Its replacement was terminated as excess: the launch started the next pause, and the instance at risk stayed."""
    zones = (
        offering("g5.xlarge", f"us-east-1{zone}", price=price)
        for zone, price in (("a", "0.2"), ("b", "0.3"), ("c", "0.9"))
    )
    world = World(*zones, pending_seconds=1.5, status_check_seconds=5)
    world.edit(target_size=1, max_instances=3, on_rebalance="replace_first", allocation="lowest-price")
    world.minutes(2)
    for _ in range(2):
        world.recommend_rebalance(*world.alive())
        world.minutes(2)
    (again,) = world.alive()
    world.market.set_offering("g5.xlarge", "us-east-1a", capacity=0)
    world.recommend_rebalance(again)
    world.minutes(5)
    assert world.alive() == [again], "it is too early to try once more"
    world.minutes(40)
    (left,) = world.alive()
    assert left != again


def test_idle_instances_count_as_missing_before_a_rolling_update_terminates_others() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"), pending_seconds=1.5)
    item: dict[str, Any] = {"ready_tag": "ready=true", "ready_timeout_minutes": 5, "max_instances": 6}
    item |= {"target_size": 6, "update": "rolling"}
    world.edit(image_id="ami-1", **item)
    world.forward(5)
    for number, id_ in enumerate(world.alive()):
        key, value = ("spotpools:protect", "true") if number < 2 else ("ready", "true")
        world.market.instances[id_].tags[key] = value
    world.minutes(8)
    before = world.alive()
    world.edit(image_id="ami-2", **item)
    world.minutes(20)
    assert world.alive() == before, "two of six do not work, and one may be missing"
    rollout = world.status().answer.rollout
    assert rollout is not None
    assert rollout.message.startswith("It cannot continue")
    assert "Raise max_instances or max_unavailable" in rollout.message
    assert "2 protected units are not ready" in rollout.message


def test_a_second_look_only_lists_instances() -> None:
    """A call may take ten seconds, and the function has a minute, so known health is not asked again."""
    world = World(offering("g5.xlarge", "us-east-1a"), pending_seconds=1.5, status_check_seconds=300)
    world.edit(target_size=4, max_instances=8)
    world.forward(10)
    world.put(target_size=2, max_instances=8)
    before = world.calls.copy()
    real = world.client.describe_instances

    def slow(*args: Any, **kwargs: Any) -> Any:
        answer = real(*args, **kwargs)
        world.clock.forward(25)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.client, "describe_instances", slow)
        reconcile("p", world.plane)
    asked = world.calls - before
    assert len(world.alive()) == 2
    assert asked["DescribeInstances"] == 2 * asked["DescribeInstanceStatus"], asked


def test_instances_of_a_lost_answer_count_even_if_noticed_and_missing_in_an_older_listing() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"), offering("g5.xlarge", "us-east-1b"), pending_seconds=1.5)
    world.fault(action="CreateFleet", drop_connection=True, where="after")
    world.edit(target_size=1, max_instances=1)
    world.forward(30, deliver=False)
    world.interrupt(*world.alive())
    assert world.status().answer.noticed == 1
    world.market.settings = world.market.settings.changed({"describe_lag_seconds": 90})
    world.forward(30, deliver=False)
    world.tick()
    assert len(world.alive()) == 1


def test_a_lost_launch_is_not_repeated_if_its_heaviest_instance_is_above_a_lowered_max() -> None:
    weights = {"g5.xlarge": 1, "p3.2xlarge": 6}
    world = World(*(offering(name, "us-east-1a", capacity=10 * (name != "g5.xlarge")) for name in weights))
    world.fault(action="CreateFleet", drop_connection=True, where="before")
    item: dict[str, Any] = {"instance_types": list(weights), "weights": weights}
    world.edit(target_size=6, max_instances=9, **item)
    for _ in range(10):
        world.edit(target_size=5, max_instances=5, **item)
        world.minutes(2)
    assert not world.alive()


def test_the_trial_of_a_new_description_is_not_terminated_with_the_last_old_instance() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"), pending_seconds=1.5, status_check_seconds=5)
    item: dict[str, Any] = {"target_size": 1, "max_instances": 4, "update": "rolling", "on_rebalance": "replace_first"}
    world.edit(image_id="ami-1", **item)
    world.minutes(1)
    (old,) = world.alive()
    world.client.create_tags(Resources=[old], Tags=[{"Key": "spotpools:protect", "Value": "true"}])
    world.edit(image_id="ami-2", **{**item, "target_size": 2})
    world.minutes(2)
    world.client.delete_tags(Resources=[old], Tags=[{"Key": "spotpools:protect"}])
    world.put(image_id="ami-2", **item)
    world.market.recommend_rebalance(*(world.market.instances[id_] for id_ in world.alive() if id_ != old))
    world.hear(world.market.advance())
    assert world.ready(), "one of one works at each moment"


def test_an_instance_seen_terminated_does_not_count_again_when_the_listing_is_older() -> None:
    world = World(pending_seconds=1.5, shutting_down_seconds=1)
    world.edit(target_size=4, max_instances=8)
    world.forward(30)
    world.fault(action="TerminateInstances", drop_connection=True, where="after")
    world.edit(target_size=2, max_instances=8)
    world.forward(20)
    reconcile("p", world.plane)
    world.market.settings = world.market.settings.changed({"describe_lag_seconds": 40})
    asked = world.calls["TerminateInstances"]
    reconcile("p", world.plane)
    assert world.calls["TerminateInstances"] == asked
    assert len(world.alive()) == 2


def test_a_stopped_update_with_only_protected_instances_left_is_not_stopped_after_the_hold() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"), pending_seconds=1.5, status_check_seconds=5)
    item: dict[str, Any] = {"target_size": 2, "max_instances": 4, "update": "rolling"}
    world.edit(image_id="ami-1", **item)
    world.minutes(1)
    world.fault(action="CreateFleet", error="PendingVerification")
    world.edit(image_id="ami-2", **item)
    rollout = world.status().answer.rollout
    assert rollout is not None
    assert rollout.state is RolloutState.STOPPED
    world.client.create_tags(Resources=world.alive(), Tags=[{"Key": "spotpools:protect", "Value": "true"}])
    world.minutes(20)
    rollout = world.status().answer.rollout
    assert rollout is None or rollout.state is not RolloutState.STOPPED
    writes = world.statuses.writes.copy()
    world.minutes(20)
    assert world.statuses.writes == writes


def test_an_instance_launched_to_fill_the_pool_is_not_a_replacement_at_risk() -> None:
    world = World(*(offering("g5.xlarge", f"us-east-1{zone}") for zone in "abc"), status_check_seconds=5)
    world.edit(target_size=1, max_instances=9, on_rebalance="replace_first")
    world.minutes(2)
    (first,) = world.alive()
    world.put(target_size=3, max_instances=9, on_rebalance="replace_first")
    world.recommend_rebalance(first)
    world.minutes(4)
    second = world.alive()
    assert len(second) == 3
    assert first not in second
    world.recommend_rebalance(*second)
    world.minutes(6)
    assert not set(world.alive()) & set(second)


def test_instances_wanted_again_are_not_terminated_again_even_if_not_seen_ready() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"), pending_seconds=1.5, status_check_seconds=60)
    world.edit(target_size=4, max_instances=4)
    world.forward(10)
    there = world.alive()
    world.fault(action="TerminateInstances", drop_connection=True, where="before")
    world.edit(target_size=0, max_instances=4)
    world.put(target_size=4, max_instances=4)
    world.minutes(20)
    assert world.alive() == there


def test_an_item_that_was_read_is_the_last_valid_one_though_ec2_listed_nothing() -> None:
    world = World()
    world.edit(target_size=2, max_instances=4)
    world.fault(action="DescribeInstances", error="UnauthorizedOperation")
    with pytest.raises(FleetError):
        world.edit(target_size=4, max_instances=4)
    world.edit(target_size=4, max_instances=4, image="ami-1")
    assert len(world.alive()) == 4
    assert [fault.field for fault in world.status().answer.spec_errors] == ["image"]


def test_an_item_that_was_read_while_ec2_listed_nothing_is_acted_on_by_the_next_tick() -> None:
    world = World()
    world.edit(target_size=2, image_id="ami-1")
    world.minutes(4)
    world.fault(action="DescribeInstances", error="UnauthorizedOperation")
    with pytest.raises(FleetError):
        world.edit(target_size=2, image_id="ami-2")
    world.tick()
    (template,) = [one for one in world.surroundings.templates.values() if one.name == "test/p"]
    assert "ami-2" in str(template.versions[max(template.versions)])


def test_faults_of_an_item_are_listed_though_ec2_lists_nothing() -> None:
    world = World()
    world.fault(action="DescribeInstances", error="UnauthorizedOperation")
    with pytest.raises(FleetError):
        world.edit(target_size=4, max_instances=4, image="ami-1")
    assert [fault.field for fault in world.status().answer.spec_errors] == ["image"]


def test_a_size_that_was_read_is_held_though_ec2_listed_nothing() -> None:
    world = World()
    calm: dict[str, Any] = {"scale_in_after_minutes": 15, "max_instances": 4}
    world.edit(target_size=1, **calm)
    world.forward(5)
    world.fault(action="DescribeInstances", error="UnauthorizedOperation")
    with pytest.raises(FleetError):
        world.edit(target_size=4, **calm)
    world.put(target_size=2, **calm)
    snapshot = take_snapshot(
        intent_of(world.pools.get("p"), world.status(), world.clock(), world.plane.drain_grace),
        (),
        world.status(),
        world.clock(),
    )
    assert snapshot.held == 4


def test_a_roll_in_place_waits_while_instances_under_notice_hold_the_room_it_would_make() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"), status_check_seconds=5)
    rolling: dict[str, Any] = {"update": "rolling", "max_unavailable": 4}
    world.edit(target_size=6, max_instances=6, **rolling)
    world.minutes(4)
    noticed, *others = world.alive()
    world.interrupt(noticed)
    world.edit(target_size=5, max_instances=5, image_id="ami-2", **rolling)
    assert set(world.alive()) >= set(others)


def test_a_replacement_too_light_to_let_the_instance_at_risk_end_is_not_launched_again_and_again() -> None:
    heavy, light = offering("g4dn.xlarge", "us-east-1a"), offering("p3.2xlarge", "us-east-1a")
    world = World(heavy, light, status_check_seconds=5)
    weights = {"g4dn.xlarge": 6, "p3.2xlarge": 4}
    pool: dict[str, Any] = {"target_size": 6, "max_instances": 12, "on_rebalance": "replace_first"}
    world.edit(**pool, instance_types=["g4dn.xlarge"], weights={"g4dn.xlarge": 6})
    world.minutes(4)
    there = world.alive()
    world.market.offerings["g4dn.xlarge", "us-east-1a"].capacity = 0
    world.put(**pool, instance_types=["g4dn.xlarge", "p3.2xlarge"], weights=weights)
    world.recommend_rebalance(*there)
    world.minutes(10)
    assert {one.id for one in world.market.instances.values()} == set(there)
    replacing = world.status().answer.replacing
    assert replacing is not None
    assert "needs at least 6 units" in replacing.message
    assert "at most 4 units fit below max_instances (12, 6 left)" in replacing.message


def test_the_trial_of_a_roll_is_no_surplus_beside_an_idle_protected_instance() -> None:
    world = World(pending_seconds=1.5)
    item: dict[str, Any] = {"ready_tag": "ready=true", "ready_timeout_minutes": 5, "max_instances": 4}
    item |= {"update": "rolling"}
    world.edit(target_size=1, image_id="ami-1", **item)
    world.forward(5)
    (idle,) = world.alive()
    world.market.instances[idle].tags["spotpools:protect"] = "true"
    world.edit(target_size=2, image_id="ami-1", **item)
    world.minutes(1)
    (working,) = set(world.alive()) - {idle}
    world.market.instances[working].tags["ready"] = "true"
    world.minutes(7)
    world.edit(target_size=1, image_id="ami-2", **item)
    world.minutes(3)
    assert len(world.market.instances) == 3


def test_replacing_at_risk_in_a_row_becomes_rare_though_the_answers_to_the_launches_are_lost() -> None:
    world = World(*(offering("g5.xlarge", f"us-east-1{zone}") for zone in "abc"), status_check_seconds=5)
    world.edit(target_size=1, max_instances=9, on_rebalance="replace_first")
    world.minutes(3)
    for _ in range(15):
        world.market.faults.clear()
        world.fault(action="CreateFleet", drop_connection=True, where="after")
        world.recommend_rebalance(*world.alive())
        world.minutes(4)
    assert len(world.market.instances) <= 5


def test_a_roll_in_place_goes_on_beside_a_protected_instance_of_which_rounding_made_the_pool_larger() -> None:
    world = World(offering("c5.xlarge", "us-east-1a"))
    item: dict[str, Any] = {"instance_types": ["c5.xlarge"], "weights": {"c5.xlarge": 4}, "update": "rolling"}
    item |= {"target_size": 5, "max_instances": 8}
    world.edit(image_id="ami-1", **item)
    world.minutes(5)
    kept, old = world.alive()
    world.market.instances[kept].tags["spotpools:protect"] = "true"
    world.edit(image_id="ami-2", **item)
    world.minutes(10)
    assert old not in world.alive(), "one unit of five may be unavailable meanwhile"
    assert len(world.alive()) == 2


def test_what_spot_brings_in_place_of_on_demand_does_not_go_to_instances_at_risk_again_and_again() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"), offering("g5.xlarge", "us-east-1b"), status_check_seconds=5)
    item: dict[str, Any] = {"target_size": 3, "max_instances": 8, "on_rebalance": "replace_first"}
    item |= {"fallback": {"after_minutes": 0, "return_to_spot": True}}
    world.edit(**item)
    world.minutes(3)
    world.recommend_rebalance(*world.alive())
    world.minutes(5)
    world.set_all(capacity=0)
    world.edit(**item | {"target_size": 4})
    world.minutes(20)
    assert world.status().answer.on_demand == 1
    world.set_all(capacity=20)
    known = len(world.market.instances)
    for _ in range(15):
        world.recommend_rebalance(*(one for one in world.alive() if world.market.instances[one].lifecycle == "spot"))
        world.minutes(1)
    assert world.status().answer.on_demand == 0
    assert len(world.market.instances) - known <= 5
