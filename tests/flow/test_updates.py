"""Updates of a pool: on replacement, rolling, or stopped because new instances fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from lambdas.domain.model.status import Reason, Rollout, RolloutState
from lambdas.metrics import Metric
from lambdas.reconcile import reconcile
from lambdas.report import troubles
from localcloud.market.model.settings import Boot
from tests.flow.test_crashes import killed
from tests.support.fakes import World, offering

ROLLING: dict[str, Any] = {"update": "rolling", "max_unavailable": 4, "target_size": 20}


def roomy(**settings: Any) -> World:
    """A market with room for any update. Its machines are ready after half a minute."""
    zones = (offering("g5.xlarge", f"us-east-1{zone}", capacity=30) for zone in "abc")
    return World(*zones, **{"pending_seconds": 10, "status_check_seconds": 20, **settings})


@pytest.fixture(params=[20, 22, 40], ids=["at its limit", "with little room", "with all room"])
def world(request: pytest.FixtureRequest) -> World:
    """Twenty ready instances of the image ami-1."""
    world = roomy()
    settle(world, image_id="ami-1", max_instances=request.param, **ROLLING)
    assert len(world.ready()) == 20
    return world


def settle(world: World, **attributes: Any) -> None:
    world.edit(**attributes)
    world.minutes(2)


def change(world: World, **attributes: Any) -> None:
    """Edit some attributes and keep the others."""
    world.edit(**{name: value for name, value in world.pools.items["p"].items() if name != "pool_name"} | attributes)


def steps(world: World, minutes: int) -> Iterator[None]:
    """Let time pass in steps of ten seconds, with one tick per minute."""
    yield
    for _ in range(minutes):
        for _ in range(6):
            world.forward(10)
            yield
        world.tick()
        yield


def watched(world: World, minutes: int, *, least: int = 16) -> None:
    """Let minutes pass. Check at each step that enough are ready and not too many run, as the market counts."""
    most = int(world.pools.items["p"]["max_instances"])
    for _ in steps(world, minutes):
        assert len(world.ready()) >= least
        assert len(world.alive()) <= most


def images(world: World, instance_ids: Iterable[str] | None = None) -> set[str]:
    """Images of the given instances, or of all running ones."""
    return {world.market.instances[id_].image_id for id_ in instance_ids or world.alive()}


def rollout(world: World) -> Rollout:
    found = world.status().answer.rollout
    assert found is not None
    return found


class TestRolling:
    def test_all_are_replaced_with_at_most_max_unavailable_missing(self, world: World) -> None:
        change(world, image_id="ami-2")
        watched(world, 12)
        assert images(world) == {"ami-2"}
        assert len(world.ready()) == 20
        assert world.status().answer.rollout is None

    def test_with_room_no_old_instance_is_terminated_before_a_new_one_is_ready(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", max_instances=40, **ROLLING)
        change(world, image_id="ami-2")
        world.forward(25)
        assert len(world.market.instances) == 21, "one is tried"
        assert len(world.ready()) == 20

    def test_at_its_limit_one_instance_is_terminated_before_the_first_new_one(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", max_instances=20, **ROLLING)
        change(world, image_id="ami-2")
        assert len(world.ready()) == 19
        world.forward(20)
        world.tick()
        assert len(world.ready()) == 19

    def test_the_status_shows_the_progress(self, world: World) -> None:
        change(world, image_id="ami-2")
        seen = []
        for _ in steps(world, 15):
            rollout = world.status().answer.rollout
            seen += [(rollout.outdated, rollout.updated)] if rollout else []
        assert rollout_only_goes_forward(seen)
        assert seen[0][0] >= 19

    def test_an_edit_during_the_update_changes_its_target(self, world: World) -> None:
        change(world, image_id="ami-2")
        watched(world, 2)
        change(world, image_id="ami-3")
        watched(world, 15)
        assert images(world) == {"ami-3"}

    def test_a_revert_during_the_update_keeps_the_remaining_old_instances(self, world: World) -> None:
        before = set(world.alive())
        change(world, image_id="ami-2")
        watched(world, 2)
        left = before & set(world.alive())
        change(world, image_id="ami-1")
        watched(world, 15)
        assert left
        assert left <= set(world.alive())
        assert images(world) == {"ami-1"}

    def test_a_change_of_sizes_prices_or_waiting_times_replaces_nothing(self, world: World) -> None:
        before = world.alive()
        change(world, spot_max_price="1.5", ready_timeout_minutes=5, min_instances=1)
        watched(world, 3, least=20)
        assert world.alive() == before

    def test_instances_of_a_removed_type_are_replaced(self) -> None:
        types = (offering(name, "us-east-1a", capacity=30) for name in ("g5.xlarge", "g6.xlarge"))
        world = World(*types)
        both = {"max_instances": 8, "target_size": 6, "update": "rolling"}
        settle(world, instance_types=["g5.xlarge", "g6.xlarge"], **both)
        settle(world, instance_types=["g6.xlarge"], **both)
        watched(world, 15, least=5)
        assert {world.market.instances[id_].instance_type for id_ in world.alive()} == {"g6.xlarge"}

    def test_protected_instances_stay(self, world: World) -> None:
        keep = world.alive()[:2]
        world.client.create_tags(Resources=keep, Tags=[{"Key": "spotpools:protect", "Value": "true"}])
        change(world, image_id="ami-2")
        watched(world, 15)
        assert set(keep) <= set(world.alive())
        assert len(world.ready()) == 20

    def test_lagging_listings_slow_the_update_but_terminate_no_more(self) -> None:
        world = roomy(describe_lag_seconds=45)
        settle(world, image_id="ami-1", max_instances=24, **ROLLING)
        change(world, image_id="ami-2")
        watched(world, 25)
        assert images(world) == {"ami-2"}

    def test_a_pool_of_one_with_room_always_has_an_instance(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", max_instances=2, target_size=1, update="rolling")
        change(world, image_id="ami-2")
        watched(world, 5, least=1)
        assert images(world) == {"ami-2"}

    def test_missing_spot_capacity_stops_the_update_where_it_is(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", max_instances=40, **ROLLING)
        world.set_all(capacity=0)
        change(world, image_id="ami-2")
        watched(world, 10, least=20)
        assert world.calls["CreateFleet"] < 10
        world.set_all(capacity=30)
        watched(world, 30)
        assert images(world) == {"ami-2"}


def rollout_only_goes_forward(seen: list[tuple[int, int]]) -> bool:
    outdated = [old for old, _ in seen]
    return outdated == sorted(outdated, reverse=True)


class TestOnReplace:
    def test_outdated_instances_stay_and_the_status_says_so(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", target_size=3, max_instances=6)
        before = world.alive()
        settle(world, image_id="ami-2", target_size=3, max_instances=6)
        assert world.alive() == before
        assert (rollout(world).state, rollout(world).outdated) == (RolloutState.ON_REPLACE, 3)

    def test_the_replacement_of_an_interrupted_instance_is_new(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", target_size=3, max_instances=6)
        settle(world, image_id="ami-2", target_size=3, max_instances=6)
        world.interrupt(world.alive()[0])
        world.minutes(4)
        assert sorted(world.market.instances[id_].image_id for id_ in world.alive()) == ["ami-1", "ami-1", "ami-2"]
        assert (rollout(world).outdated, rollout(world).updated) == (2, 1)

    def test_scale_in_terminates_outdated_instances_first(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", target_size=2, max_instances=6)
        settle(world, image_id="ami-2", target_size=4, max_instances=6)
        settle(world, image_id="ami-2", target_size=2, max_instances=6)
        assert images(world) == {"ami-2"}


BROKEN = {
    "dies at once": Boot(image_id="ami-2", outcome="dies"),
    "dies when it runs": Boot(image_id="ami-2", outcome="dies", after_seconds=25),
    "is impaired": Boot(image_id="ami-2", outcome="impaired"),
    "never gets ready": Boot(image_id="ami-2", outcome="never_ready"),
}


class TestBroken:
    @pytest.mark.parametrize("boot", BROKEN.values(), ids=BROKEN)
    def test_a_broken_image_costs_at_most_its_trial(self, world: World, boot: Boot) -> None:
        limit = int(world.pools.items["p"]["max_instances"])
        least = 20 if limit > 20 else 19
        world.market.boots.append(boot)
        change(world, image_id="ami-2", ready_timeout_minutes=3)
        watched(world, 12, least=least)
        assert rollout(world).state is RolloutState.STOPPED
        assert rollout(world).outdated == least
        assert "before they were ready" in rollout(world).message

    def test_a_broken_update_raises_one_alarm_until_it_is_fixed(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", max_instances=24, **ROLLING)
        world.market.boots.append(BROKEN["dies at once"])
        change(world, image_id="ami-2")
        for _ in range(20):
            world.minutes(1)
            assert troubles([world.status().answer], zeros=False) == {Metric.POOLS_LAUNCH_REFUSED: 1}
        change(world, image_id="ami-3")
        world.minutes(5)
        assert troubles([world.status().answer], zeros=False) == {}

    def test_broken_user_data_costs_at_most_its_trial(self, world: World) -> None:
        least = 20 if int(world.pools.items["p"]["max_instances"]) > 20 else 19
        world.market.boots.append(Boot(user_data_contains="exit 1", outcome="dies", after_seconds=20))
        change(world, user_data="#!/bin/sh\nexit 1\n")
        watched(world, 12, least=least)
        assert rollout(world).state is RolloutState.STOPPED

    @pytest.mark.parametrize("refusal", ["the image", "the call"])
    def test_a_refused_launch_stops_the_update(self, world: World, refusal: str) -> None:
        least = 20 if int(world.pools.items["p"]["max_instances"]) > 20 else 19
        if refusal == "the image":
            world.surroundings.missing.add("ami-2")
        else:
            world.fault(action="CreateFleet", error="UnauthorizedOperation", times=100)
        change(world, image_id="ami-2")
        watched(world, 30, least=least)
        assert rollout(world).state is RolloutState.STOPPED
        assert world.calls["CreateFleet"] <= 5

    @pytest.mark.parametrize("boot", BROKEN.values(), ids=BROKEN)
    def test_a_fixed_item_completes_the_update(self, boot: Boot) -> None:
        world = roomy()
        settle(world, image_id="ami-1", max_instances=20, **ROLLING)
        world.market.boots.append(boot)
        change(world, image_id="ami-2", ready_timeout_minutes=3)
        watched(world, 10)
        change(world, image_id="ami-3")
        watched(world, 12)
        assert images(world) == {"ami-3"}
        assert world.status().answer.rollout is None
        assert world.status().answer.waiting is None

    def test_tries_come_at_growing_intervals(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", max_instances=24, **ROLLING)
        world.market.boots.append(BROKEN["dies at once"])
        change(world, image_id="ami-2")
        launched = len(world.market.record)
        watched(world, 60)
        tried = [one for one in world.market.record[launched:] if one.get("action") == "CreateFleet"]
        assert len(tried) <= 9
        assert sum(len(one["launched"]) for one in tried) <= 9

    def test_an_instance_that_fails_with_the_second_try_stops_the_update(self) -> None:
        world = roomy()
        settle(world, image_id="ami-1", max_instances=20, **ROLLING)
        world.market.boots.append(BROKEN["dies at once"])
        change(world, image_id="ami-2")
        watched(world, 10)
        waiting = world.status().answer.waiting
        assert waiting is not None
        assert waiting.reason is Reason.CONFIG


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", ["begin", "create_fleet", "save", "terminate_instances"])
@pytest.mark.parametrize("lag", [0, 45])
def test_an_update_continues_after_a_kill(point: str, after: bool, lag: int) -> None:
    world = roomy(describe_lag_seconds=lag)
    settle(world, image_id="ami-1", max_instances=24, **ROLLING)
    target = world.client if point in ("create_fleet", "terminate_instances") else world.statuses
    world.put(image_id="ami-2", max_instances=24, **ROLLING)
    assert any(killed_after_the_trial(world, target, point, after=after) for _ in range(20))
    watched(world, 25)
    assert images(world) == {"ami-2"}
    assert len(world.ready()) == 20


def killed_after_the_trial(world: World, target: Any, point: str, *, after: bool) -> bool:
    """Reconcile half a minute later; kill it if the first new instance is ready. Return whether it was killed."""
    world.forward(30, deliver=False)
    if images(world, world.ready()) == {"ami-1"}:
        reconcile("p", world.plane)
        return False
    try:
        with killed(target, point, after=after):
            reconcile("p", world.plane)
    except pytest.fail.Exception:  # it did not come to that point
        return False
    return True
