"""The life of a pool from its item to its end: production code from ``reconcile`` down, on the market's model."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from lambdas.domain.model.status import Reason, Waiting
from lambdas.reconcile import reconcile
from tests.support.fakes import World, apart_from_costs, offering

INSTANCE_ARN = "arn:aws:ec2:us-east-1:123456789012:instance/"


@pytest.fixture
def world() -> World:
    return World()


def waiting(world: World, pool_name: str = "p") -> Waiting:
    found = world.status(pool_name).answer.waiting
    assert found is not None
    return found


def test_an_item_becomes_instances_with_one_create_fleet(world: World) -> None:
    world.edit(target_size=6, max_instances=10)
    assert len(world.alive()) == 6
    assert world.calls["CreateFleet"] == 1


def test_instances_carry_stack_pool_and_attempt(world: World) -> None:
    world.edit(target_size=1)
    (instance,) = world.market.instances.values()
    assert instance.tags.items() >= {
        ("spotpools:stack", "test"),
        ("spotpools:pool", "p"),
        ("spotpools:attempt", "attempt-1"),
    }


def test_status_says_running_as_soon_as_ec2_does(world: World) -> None:
    world.edit(target_size=2)
    assert (world.status().answer.running, world.status().answer.starting) == (0, 2)
    world.forward(2)
    assert (world.status().answer.running, world.status().answer.starting) == (2, 0)


def test_with_every_event_lost_the_tick_alone_fills_the_pool(world: World) -> None:
    world.put(target_size=3)
    world.tick()
    world.forward(60, deliver=False)
    world.tick()
    assert world.status().answer.running == 3


def test_a_lagging_listing_does_not_launch_twice() -> None:
    world = World(describe_lag_seconds=45)
    world.edit(target_size=4, max_instances=8)
    for _ in range(5):
        world.forward(10)
        reconcile("p", world.plane)
    assert len(world.market.instances) == 4


def test_three_notices_at_once_cause_one_launch_elsewhere(world: World) -> None:
    world.edit(target_size=6, max_instances=10)
    world.forward(2)
    lost = {one.zone for one in world.market.instances.values()}
    assert len(lost) == 1, "one zone could hold all six"
    world.interrupt(*world.alive()[:3])
    assert world.calls["CreateFleet"] == 2
    replacements = list(world.market.instances.values())[6:]
    assert len(replacements) == 3
    assert not lost & {one.zone for one in replacements}


def test_a_noticed_instance_is_never_terminated_by_us(world: World) -> None:
    world.edit(target_size=3, max_instances=6)
    world.forward(2)
    world.interrupt(*world.alive()[:1])
    world.edit(target_size=0, max_instances=6)
    assert world.calls["TerminateInstances"] == 1
    assert len(world.alive()) == 1


def test_replacements_wait_when_noticed_instances_fill_max_instances(world: World) -> None:
    world.edit(target_size=3, max_instances=3)
    world.forward(2)
    world.interrupt(*world.alive()[:2])
    assert len(world.alive()) == 3
    assert waiting(world).reason is Reason.MAX_INSTANCES
    world.forward(121)
    assert len(world.alive()) == 3
    assert world.status().answer.waiting is None


def test_the_offering_just_lost_is_used_when_no_other_has_room() -> None:
    world = World(offering("g5.xlarge", "us-east-1a"), offering("g5.xlarge", "us-east-1b", capacity=0))
    world.edit(target_size=2)
    world.forward(2)
    world.interrupt(world.alive()[0])
    assert world.status().answer.waiting is None
    assert len(world.alive()) == 3


def test_an_instance_counts_again_if_its_interruption_does_not_come(world: World) -> None:
    world.edit(target_size=2)
    world.forward(2)
    world.market.settings = world.market.settings.changed({"notice_seconds": 10_000})
    world.interrupt(world.alive()[0])
    assert len(world.alive()) == 3
    world.minutes(12)
    assert world.status().answer.noticed == 0
    assert len(world.alive()) == 2


class TestWithoutCapacity:
    def test_a_shortfall_waits_and_the_status_says_why(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=2)
        wait = waiting(world)
        assert (wait.count, wait.reason, wait.since) == (2, Reason.NO_CAPACITY, world.clock())
        assert world.clock() < wait.next_attempt_at <= world.clock() + timedelta(seconds=60)
        assert "g5.xlarge/us-east-1a" in wait.message

    def test_the_pool_is_filled_without_an_edit_when_capacity_returns(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=2)
        world.minutes(3)
        world.set_all(capacity=5)
        world.minutes(9)
        assert len(world.alive()) == 2
        assert world.status().answer.waiting is None

    def test_tries_come_at_growing_intervals(self, world: World) -> None:
        world.set_all(capacity=0)
        world.edit(target_size=1)
        world.minutes(60)
        assert world.calls["CreateFleet"] <= 9
        assert waiting(world).attempts == world.calls["CreateFleet"]

    def test_a_question_that_ec2_refuses_is_no_launch_tried(self, world: World) -> None:
        world.fault(action="DescribeSpotPriceHistory", error="UnauthorizedOperation", times=100)
        world.edit(target_size=1)
        world.minutes(40)
        assert (world.calls["CreateFleet"], waiting(world).attempts) == (0, 0)
        assert waiting(world).reason is Reason.CONFIG

    def test_since_is_the_start_of_the_wait(self, world: World) -> None:
        began = world.clock()
        world.set_all(capacity=0)
        world.edit(target_size=1)
        world.minutes(20)
        assert waiting(world).since == began

    def test_a_partial_launch_counts_instances_not_errors(self) -> None:
        world = World(*(offering("g5.xlarge", f"us-east-1{zone}", capacity=2) for zone in "abc"))
        world.edit(target_size=9, max_instances=9)
        assert len(world.alive()) == 6
        assert (waiting(world).count, waiting(world).reason) == (3, Reason.NO_CAPACITY)

    def test_errors_beside_a_complete_launch_cause_no_waiting(self) -> None:
        world = World(offering("g5.xlarge", "us-east-1a", capacity=0), offering("g5.xlarge", "us-east-1b"))
        world.edit(target_size=4)
        assert len(world.alive()) == 4
        assert world.status().answer.waiting is None
        assert world.status().answer.last_error is None
        world.minutes(3)
        assert world.calls["CreateFleet"] == 1


class TestPrice:
    def test_above_the_cap_there_is_no_launch_call(self, world: World) -> None:
        world.set_all(spot_price=Decimal("0.919"))
        world.edit(target_size=2, spot_max_price="0.918")
        world.minutes(5)
        wait = waiting(world)
        assert wait.reason is Reason.PRICE_ABOVE_MAX
        assert "0.918" in wait.message
        assert "0.919" in wait.message
        assert world.calls["CreateFleet"] == 0

    def test_at_exactly_the_cap_it_launches(self, world: World) -> None:
        world.set_all(spot_price=Decimal("0.919"))
        world.edit(target_size=2, spot_max_price="0.918")
        world.set_all(spot_price=Decimal("0.918"))
        world.minutes(1)
        assert len(world.alive()) == 2

    def test_only_offerings_within_the_cap_are_requested(self) -> None:
        world = World(
            offering("g5.xlarge", "us-east-1a", price="0.9"), offering("g5.xlarge", "us-east-1b", price="0.2")
        )
        world.edit(target_size=4, spot_max_price="0.5")
        assert {one.zone for one in world.market.instances.values()} == {"us-east-1b"}

    def test_a_zone_that_does_not_offer_the_type_is_not_requested(self) -> None:
        world = World(offering("g5.xlarge", "us-east-1b", price="0.9"))
        world.edit(target_size=1, spot_max_price="0.5")
        assert waiting(world).reason is Reason.PRICE_ABOVE_MAX
        assert world.calls["CreateFleet"] == 0

    def test_a_price_that_rises_before_the_launch_is_reported_as_price_not_capacity(self, world: World) -> None:
        world.fault(action="CreateFleet", error="SpotMaxPriceTooLow", where="inside")
        world.edit(target_size=1, spot_max_price="0.918")
        assert waiting(world).reason is Reason.PRICE_ABOVE_MAX
        world.minutes(2)
        assert len(world.alive()) == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            ("MaxSpotInstanceCountExceeded", Reason.QUOTA),
            ("RequestLimitExceeded", Reason.THROTTLED),
            ("UnauthorizedOperation", Reason.CONFIG),
            ("InvalidSubnetID.NotFound", Reason.CONFIG),
            ("SomethingNew", Reason.UNKNOWN),
        ],
    )
    @pytest.mark.parametrize("where", ["before", "inside"])
    def test_each_kind_has_its_reason(self, world: World, code: str, reason: Reason, where: str) -> None:
        world.fault(action="CreateFleet", error=code, where=where)
        world.edit(target_size=1)
        assert waiting(world).reason is reason
        assert world.status().answer.last_error is not None
        world.minutes(17)
        assert len(world.alive()) == 1

    def test_the_missing_service_linked_role_is_explained(self, world: World) -> None:
        code = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
        world.fault(action="CreateFleet", error=code)
        world.edit(target_size=1)
        assert "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com" in waiting(world).message

    def test_an_edit_ends_the_wait_after_a_refusal(self, world: World) -> None:
        world.fault(action="CreateFleet", error="UnauthorizedOperation")
        world.edit(target_size=1)
        world.edit(target_size=2)
        assert len(world.alive()) == 2

    def test_three_unknown_errors_in_a_row_become_config(self, world: World) -> None:
        world.fault(action="CreateFleet", error="SomethingNew", times=3)
        world.edit(target_size=1)
        world.minutes(8)
        assert waiting(world).reason is Reason.CONFIG

    def test_throttling_inside_errors_is_not_capacity(self, world: World) -> None:
        world.fault(action="CreateFleet", error="RequestLimitExceeded", where="inside", launches=1)
        world.edit(target_size=3)
        assert waiting(world).reason is Reason.THROTTLED
        assert world.status().memory.backoff == {}

    def test_an_unknown_subnet_is_reported_as_a_refused_launch(self, world: World) -> None:
        world.edit(target_size=1, subnet_ids=["subnet-0000"])
        assert waiting(world).reason is Reason.CONFIG
        assert "subnet-0000" in waiting(world).message

    def test_a_failed_listing_is_never_treated_as_empty(self, world: World) -> None:
        world.edit(target_size=3)
        world.fault(action="DescribeInstances", error="Unavailable")
        with pytest.raises(RuntimeError, match="Unavailable"):
            reconcile("p", world.plane)
        assert len(world.alive()) == 3
        last = world.status().answer.last_error
        assert last is not None
        assert last.code == "Unavailable"
        reconcile("p", world.plane)


class TestBadItem:
    def test_the_last_valid_spec_stays_in_force(self, world: World) -> None:
        world.edit(target_size=3, max_instances=10)
        world.edit(target_size="99", max_instnaces=10, min_instances=-1)
        answer = world.status().answer
        assert {fault.field for fault in answer.spec_errors} == {"target_size", "max_instnaces", "min_instances"}
        assert answer.wanted == 3
        world.forward(2)
        world.interrupt(world.alive()[0])
        assert world.status().answer.starting == 1, "replaced under the last valid spec"

    def test_an_item_that_was_never_valid_launches_nothing(self, world: World) -> None:
        world.edit(target_size=-1)
        world.minutes(3)
        assert world.calls["CreateFleet"] == 0
        assert world.status().answer.spec_errors

    def test_fixing_the_item_clears_the_faults(self, world: World) -> None:
        world.edit(target_size=-1)
        world.edit(target_size=1)
        assert world.status().answer.spec_errors == ()
        assert len(world.alive()) == 1


class TestScaleIn:
    def test_excess_instances_are_terminated_and_the_rest_stays(self, world: World) -> None:
        world.edit(target_size=5)
        world.forward(2)
        world.edit(target_size=2)
        assert len(world.alive()) == 2
        world.minutes(3)
        assert len(world.alive()) == 2
        assert world.calls["TerminateInstances"] == 1

    def test_a_lagging_listing_does_not_terminate_more(self) -> None:
        world = World(describe_lag_seconds=45)
        world.edit(target_size=5)
        world.minutes(2)
        world.edit(target_size=3)
        for _ in range(5):
            world.forward(10)
            reconcile("p", world.plane)
        assert len(world.alive()) == 3

    def test_protected_instances_stay(self, world: World) -> None:
        world.edit(target_size=3)
        world.forward(2)
        keep = world.alive()[:2]
        world.client.create_tags(Resources=keep, Tags=[{"Key": "spotpools:protect", "Value": "true"}])
        world.edit(target_size=0)
        assert world.alive() == keep

    def test_an_unknown_id_does_not_fail_the_batch(self, world: World) -> None:
        world.edit(target_size=3)
        world.forward(2)
        world.fault(action="TerminateInstances", error="InvalidInstanceID.NotFound")
        world.edit(target_size=0)
        world.minutes(2)
        assert world.alive() == []

    def test_once_the_right_to_terminate_is_back_the_excess_ends_within_minutes(self, world: World) -> None:
        world.edit(target_size=3)
        world.forward(2)
        forbid(world, *world.alive())
        world.edit(target_size=0)
        assert len(world.alive()) == 3
        world.minutes(3)
        assert world.alive() == []

    def test_if_a_policy_forbids_the_end_of_one_instance_another_ends(self, world: World) -> None:
        world.edit(target_size=2)
        world.minutes(5)
        world.edit(target_size=3)
        *_, starting = world.alive()
        forbid(world, starting)
        world.edit(target_size=2)
        assert len(world.alive()) == 3
        world.minutes(1)
        assert len(world.alive()) == 2
        assert starting in world.alive()


def forbid(world: World, *instance_ids: str) -> None:
    """IAM refuses the next terminations, one instance after the other, as EC2 says it."""
    for id_ in sorted(instance_ids):
        refusal = f"User: u is not authorized to perform: ec2:TerminateInstances on resource: {INSTANCE_ARN}{id_}"
        world.fault(action="TerminateInstances", error="UnauthorizedOperation", message=refusal)


class TestDeletion:
    def test_instances_are_terminated_after_the_grace(self, world: World) -> None:
        world.edit(target_size=2)
        world.forward(2)
        world.delete()
        assert world.status().answer.draining_since is not None
        world.minutes(4)
        assert len(world.alive()) == 2
        world.minutes(2)
        assert world.alive() == []
        world.minutes(3)
        assert "p" not in world.statuses.statuses

    def test_restoring_the_item_cancels_the_deletion(self, world: World) -> None:
        world.edit(target_size=2)
        world.forward(2)
        world.delete()
        world.minutes(4)
        world.edit(target_size=2)
        world.minutes(5)
        assert len(world.alive()) == 2
        assert world.status().answer.draining_since is None

    def test_other_pools_are_untouched(self, world: World) -> None:
        world.edit("keep", target_size=2)
        world.edit("gone", target_size=2)
        world.delete("gone")
        world.minutes(8)
        assert (len(world.alive("keep")), len(world.alive("gone"))) == (2, 0)


class TestPause:
    def test_a_paused_pool_changes_nothing_and_reports(self, world: World) -> None:
        world.edit(target_size=2)
        world.forward(2)
        world.edit(target_size=4, paused=True)
        world.interrupt(world.alive()[0])
        world.minutes(4)
        assert len(world.alive()) == 1
        assert world.status().answer.running == 1

    def test_on_demand_pools_work_beside_spot_pools(self, world: World) -> None:
        world.edit("spot", target_size=1)
        world.edit("sure", target_size=1, spot=False)
        assert {one.lifecycle for one in world.market.instances.values()} == {"spot", "on-demand"}


def test_steady_pools_cost_one_listing_a_tick_and_no_write(world: World) -> None:
    for number in range(20):
        world.edit(f"pool-{number}", target_size=1)
    world.minutes(12)
    calls, writes = world.calls.copy(), world.statuses.writes.copy()
    for _ in range(10):
        world.tick()
    assert apart_from_costs(world.calls - calls) == {"DescribeInstances": 10}
    assert world.statuses.writes == writes


def test_the_longest_waiting_pool_is_served_first(world: World) -> None:
    world.set_all(capacity=0)
    world.edit("b-first", target_size=1)
    world.forward(1)
    world.edit("a-second", target_size=1)
    world.set_all(capacity=1)
    world.market.set_offering("g5.xlarge", "us-east-1b", capacity=0)
    world.market.set_offering("g5.xlarge", "us-east-1c", capacity=0)
    world.minutes(3)
    assert (len(world.alive("b-first")), len(world.alive("a-second"))) == (1, 0)
