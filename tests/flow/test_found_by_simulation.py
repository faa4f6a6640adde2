"""What the simulation found, each as the shortest story that shows it."""

from __future__ import annotations

from lambdas.domain.status import Reason
from tests.fakes import World, offering


def test_a_pool_shrinks_although_its_new_subnet_does_not_exist() -> None:
    world = World()
    world.edit(target_size=2)
    world.forward(5)
    world.edit(target_size=0, subnet_ids=["subnet-00"])
    assert world.alive() == []
    error = world.status().answer.last_error
    assert error is not None
    assert error.code == "InvalidSubnetID.NotFound"


def test_a_refused_question_tells_why_instances_of_either_market_are_missing() -> None:
    world = World()
    world.edit(target_size=1, on_demand_base=1, subnet_ids=["subnet-00"])
    waiting = world.status().answer.waiting
    assert waiting is not None
    assert waiting.reason is Reason.CONFIG


def test_an_instance_that_becomes_ready_lifts_no_back_off_that_began_after_its_launch() -> None:
    world = World(offering("g5.xlarge", "us-east-1a", capacity=1))
    world.edit(target_size=2)
    world.forward(5)
    world.tick()
    assert world.status().answer.ready == 1
    waiting = world.status().answer.waiting
    assert waiting is not None
    assert waiting.reason is Reason.NO_CAPACITY
    assert world.calls["CreateFleet"] == 1


def test_the_end_is_announced_at_once_although_a_lost_launch_is_to_be_settled_first() -> None:
    world = World()
    world.edit(target_size=1)
    world.forward(5)
    world.tick()
    (taken,) = world.alive()
    world.fault(action="CreateFleet", drop_connection=True, times=9)
    world.edit(target_size=2)
    world.interrupt(taken)
    assert [one["instance-id"] for one in world.bus.details] == [taken]


def test_what_spot_lacks_of_the_only_fitting_type_is_bought_on_demand_although_others_are_too_heavy() -> None:
    world = World(offering("g5.xlarge", "us-east-1a", capacity=0), offering("g5.2xlarge", "us-east-1a"))
    weights = {"g5.xlarge": 1, "g5.2xlarge": 2}
    world.edit(
        instance_types=[*weights], weights=weights, target_size=3, max_instances=3, fallback={"after_minutes": 5}
    )
    world.minutes(8)
    assert world.status().answer.waiting is None
    assert world.status().answer.on_demand == 1
