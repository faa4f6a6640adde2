"""From launch to ready: what makes an instance ready, instances that never get ready, and failed starts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from lambdas.domain.model.status import Reason, RolloutState, Waiting
from lambdas.reconcile import reconcile
from localcloud.market.model.instances import BY_SPOT_MARKET, ending_by_itself
from localcloud.market.model.settings import Boot
from tests.support.fakes import World, offering

IMAGE = "ami-0bad"
NO_ROOM = "Server.InsufficientInstanceCapacity"


@pytest.fixture
def world() -> World:
    """Machines run after ten seconds and pass their checks twenty seconds later."""
    return World(pending_seconds=10, status_check_seconds=20)


def waiting(world: World) -> Waiting:
    found = world.status().answer.waiting
    assert found is not None
    return found


def tag(world: World, *instance_ids: str, **tags: str) -> None:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    world.client.create_tags(Resources=list(instance_ids), Tags=listed)


def launches(world: World) -> list[int]:
    """The number of instances that each launch call requested."""
    return [one["wanted"] for one in world.market.record if one.get("action") == "CreateFleet"]


class TestReadinessSource:
    def test_status_checks(self, world: World) -> None:
        world.edit(target_size=2)
        world.forward(12)
        world.tick()
        assert (world.status().answer.running, world.status().answer.ready) == (2, 0)
        world.forward(20)
        world.tick()
        assert world.status().answer.ready == 2
        assert world.status().memory.startup == ()

    def test_a_ready_instance_is_not_checked_again(self, world: World) -> None:
        world.edit(target_size=2)
        world.minutes(2)
        asked = world.calls["DescribeInstanceStatus"]
        world.minutes(10)
        assert world.calls["DescribeInstanceStatus"] == asked

    def test_a_hundred_and_fifty_instances_are_checked_in_batches_that_ec2_accepts(self) -> None:
        world = World(offering("g5.xlarge", "us-east-1a", capacity=200))
        world.edit(target_size=150, max_instances=150)
        world.minutes(3)
        assert world.status().answer.ready == 150

    def test_the_tag_that_the_workload_sets(self, world: World) -> None:
        world.edit(target_size=2, ready_tag="state=ready")
        world.minutes(5)
        first, second = world.alive()
        assert world.status().answer.ready == 0
        tag(world, first, state="ready")
        tag(world, second, state="busy")
        world.tick()
        assert world.status().answer.ready == 1
        assert world.calls["DescribeInstanceStatus"] == 0

    def test_a_ready_tag_without_a_value_accepts_any_value(self, world: World) -> None:
        world.edit(target_size=1, ready_tag="up")
        world.minutes(1)
        tag(world, *world.alive(), up="since noon")
        world.tick()
        assert world.status().answer.ready == 1

    def test_an_instance_stays_ready_if_its_tag_is_removed(self, world: World) -> None:
        world.edit(target_size=1, ready_tag="up")
        world.minutes(1)
        tag(world, *world.alive(), up="")
        world.tick()
        world.client.delete_tags(Resources=world.alive(), Tags=[{"Key": "up"}])
        world.minutes(60)
        assert world.status().answer.ready == 1
        assert world.calls["TerminateInstances"] == 0

    def test_checks_that_ec2_does_not_answer_change_nothing_and_are_retried(self, world: World) -> None:
        world.edit(target_size=2, ready_timeout_minutes=2)
        world.fault(action="DescribeInstanceStatus", error="RequestLimitExceeded", times=5)
        world.minutes(4)
        assert len(world.alive()) == 2
        assert world.calls["TerminateInstances"] == 0
        error = world.status().answer.last_error
        assert error is not None
        assert error.code == "RequestLimitExceeded"
        world.minutes(3)
        assert world.status().answer.ready == 2

    def test_a_control_plane_that_missed_the_timeout_checks_before_it_acts(self, world: World) -> None:
        world.edit(target_size=2, ready_timeout_minutes=2)
        world.forward(3600, deliver=False)
        world.tick()
        assert world.status().answer.ready == 2
        assert world.calls["TerminateInstances"] == 0


class TestTooLate:
    @pytest.mark.parametrize("outcome", ["never_ready", "impaired"])
    def test_an_instance_that_is_not_ready_in_time_is_replaced(self, world: World, outcome: Any) -> None:
        world.market.boots.append(Boot(image_id=IMAGE, outcome=outcome))
        world.edit(target_size=1, image_id=IMAGE, ready_timeout_minutes=5)
        (first,) = world.alive()
        world.minutes(4)
        assert world.alive() == [first]
        world.market.boots.clear()
        world.minutes(3)
        assert first not in world.alive()
        world.minutes(2)
        assert len(world.ready()) == 1
        assert world.status().memory.failed_starts == 0

    def test_the_replacement_waits_longer_each_time(self, world: World) -> None:
        world.market.boots.append(Boot(image_id=IMAGE, outcome="never_ready"))
        world.edit(target_size=2, image_id=IMAGE, ready_timeout_minutes=2)
        world.minutes(60)
        assert len(launches(world)) <= 7
        assert waiting(world).reason is Reason.CONFIG
        assert "not ready in time" in waiting(world).message or "one is tried" in waiting(world).message

    def test_an_instance_that_stays_pending_is_replaced(self) -> None:
        world = World(pending_seconds=10_000)
        world.edit(target_size=1, ready_timeout_minutes=3)
        (first,) = world.alive()
        world.minutes(4)
        assert first not in world.alive()

    def test_protected_instances_are_left_alone(self, world: World) -> None:
        world.market.boots.append(Boot(image_id=IMAGE, outcome="never_ready"))
        world.edit(target_size=1, image_id=IMAGE, ready_timeout_minutes=2)
        tag(world, *world.alive(), **{"spotpools:protect": "true"})
        world.minutes(10)
        assert len(world.alive()) == 1
        assert world.calls["TerminateInstances"] == 0

    def test_the_others_of_the_pool_stay(self, world: World) -> None:
        world.edit(target_size=3)
        world.minutes(2)
        good = set(world.ready())
        world.market.boots.append(Boot(image_id=IMAGE, outcome="never_ready"))
        world.edit(target_size=5, image_id=IMAGE, ready_timeout_minutes=2)
        world.minutes(30)
        assert good <= set(world.ready())


class TestLaunchThenDie:
    @pytest.fixture
    def dying(self, world: World) -> World:
        """A pool of ten whose machines end fifteen seconds after their launch."""
        world.market.boots.append(Boot(image_id=IMAGE, outcome="dies", after_seconds=15))
        world.edit(target_size=10, max_instances=20, image_id=IMAGE)
        return world

    def test_the_second_failed_start_in_a_row_becomes_config(self, dying: World) -> None:
        dying.minutes(1)
        assert waiting(dying).reason is Reason.UNKNOWN
        assert "Client.InternalError" in waiting(dying).message
        dying.minutes(3)
        assert waiting(dying).reason is Reason.CONFIG

    def test_ten_failed_starts_at_once_count_as_one_failure(self, dying: World) -> None:
        dying.minutes(1)
        assert dying.status().memory.failed_starts == 1

    def test_ten_failed_starts_one_after_another_count_as_one_failure(self, world: World) -> None:
        world.edit(target_size=10, max_instances=20)
        for one in list(world.market.instances.values()):
            world.market.end(one, ending_by_itself("Client.InternalError"), world.clock())
            world.forward(1)
        assert world.status().memory.failed_starts == 1

    def test_after_failed_starts_launches_are_few_and_of_one_instance(self, dying: World) -> None:
        dying.minutes(60)
        first, *others = launches(dying)
        assert first == 10
        assert set(others) == {1}
        assert len(others) <= 8
        assert waiting(dying).count == 10

    def test_no_launch_follows_a_failed_start_before_its_pause(self, dying: World) -> None:
        began = dying.clock()
        dying.minutes(5)
        second = next(one for one in dying.market.instances.values() if one.launched_at > began)
        assert second.launched_at - began >= timedelta(seconds=15 + 45)

    def test_the_first_instance_that_gets_ready_lets_the_others_launch(self, dying: World) -> None:
        dying.minutes(10)
        dying.market.boots.clear()
        dying.minutes(20)
        assert len(dying.ready()) == 10
        assert dying.status().answer.waiting is None
        assert dying.status().memory.holds == {}

    def test_an_edit_tries_all_at_once(self, dying: World) -> None:
        dying.minutes(10)
        dying.edit(target_size=10, max_instances=20, image_id="ami-0good")
        assert len(dying.alive()) == 10

    def test_one_failed_start_in_a_healthy_launch_is_replaced_soon(self, world: World) -> None:
        world.edit(target_size=10, max_instances=20)
        world.forward(12)
        instance = world.market.instances[world.alive()[0]]
        world.market.end(instance, ending_by_itself("Server.InternalError"), world.clock())
        world.minutes(4)
        assert len(world.ready()) == 10
        assert world.status().memory.failed_starts == 0

    def test_instances_that_end_after_they_were_ready_are_replaced_at_once(self, world: World) -> None:
        world.edit(target_size=3)
        world.minutes(2)
        instance = world.market.instances[world.alive()[0]]
        world.market.end(instance, ending_by_itself("Client.InstanceInitiatedShutdown"), world.clock())
        world.forward(1)
        assert len(world.alive()) == 3

    def test_an_instance_that_a_person_terminates_is_not_a_failed_start(self, world: World) -> None:
        world.edit(target_size=3)
        world.client.terminate_instances(InstanceIds=world.alive()[:2])
        world.forward(1)
        assert world.status().memory.failed_starts == 0
        assert len(world.alive()) == 3


class TestNotTheMachinesFault:
    def test_no_capacity_during_the_start_starts_a_backoff_of_the_offering(self, world: World) -> None:
        world.edit(target_size=2)
        zone = {one.zone for one in world.market.instances.values()}
        for one in list(world.market.instances.values()):
            world.market.end(one, ending_by_itself(NO_ROOM), world.clock())
        world.forward(1)
        elsewhere = {world.market.instances[id_].zone for id_ in world.alive()}
        assert len(world.alive()) == 2
        assert not zone & elsewhere
        assert world.status().memory.failed_starts == 0
        assert [key.split("/")[1] for key in world.status().memory.backoff] == list(zone)

    def test_no_capacity_during_any_start_is_reported_as_no_capacity(self) -> None:
        world = World(offering("g5.xlarge", "us-east-1a"))
        world.market.boots.append(Boot(image_id=IMAGE, outcome="dies", code=NO_ROOM))
        world.edit(target_size=2, image_id=IMAGE)
        world.minutes(60)
        assert waiting(world).reason is Reason.NO_CAPACITY
        assert world.calls["CreateFleet"] <= 9

    def test_an_interruption_during_the_start_only_avoids_the_offering(self, world: World) -> None:
        world.edit(target_size=2)
        zone = {one.zone for one in world.market.instances.values()}
        world.market.end(world.market.instances[world.alive()[0]], BY_SPOT_MARKET, world.clock())
        world.forward(1)
        assert world.status().memory.failed_starts == 0
        assert len(world.alive()) == 2
        assert world.market.instances[world.alive()[-1]].zone not in zone

    def test_a_notice_before_readiness_is_not_a_failed_start(self, world: World) -> None:
        world.edit(target_size=2, max_instances=6)
        world.forward(3)
        world.interrupt(world.alive()[0])
        world.minutes(15)
        assert world.status().memory.failed_starts == 0
        assert world.status().memory.startup == ()
        assert len(world.ready()) == 2


def test_instances_of_a_lost_answer_are_awaited_like_all_others(world: World) -> None:
    world.market.boots.append(Boot(image_id=IMAGE, outcome="dies", after_seconds=15))
    world.fault(action="CreateFleet", drop_connection=True, where="after")
    world.put(target_size=2, image_id=IMAGE)
    reconcile("p", world.plane)
    world.minutes(12)
    assert world.status().memory.failed_starts >= 1


class TestKeys:
    """EC2 accepts a launch whose root volume has an unusable key, and the instance ends seconds later."""

    KEY = "arn:aws:kms:us-east-1:000000000000:key/mine"

    def account(self, world: World, **changes: Any) -> None:
        world.surroundings.account = world.surroundings.account.changed(changes)

    @pytest.mark.parametrize("account", [{"volume_key": KEY}, {"image_keys": {"ami-1": KEY}}], ids=["default", "image"])
    def test_an_unusable_key_is_config_at_once_with_its_remedy(self, world: World, account: dict[str, Any]) -> None:
        self.account(world, **account)
        world.edit(target_size=2)
        world.minutes(1)
        assert world.alive() == []
        assert waiting(world).reason is Reason.CONFIG
        for words in ("Client.InvalidKMSKey.InvalidState", "volume_key_arns", "aws kms create-grant"):
            assert words in waiting(world).message
        assert "instance role" not in waiting(world).message
        assert len(launches(world)) == 1

    def test_with_the_grant_it_launches_after_the_pause(self, world: World) -> None:
        self.account(world, volume_key=self.KEY)
        world.edit(target_size=2)
        world.minutes(1)
        self.account(world, spot_key_grants=(self.KEY,))
        world.minutes(5)
        assert len(world.ready()) == 2
        assert world.status().answer.waiting is None

    def test_a_rolling_update_to_an_image_with_an_unusable_key_stops(self, world: World) -> None:
        attributes: dict[str, Any] = {"target_size": 2, "max_instances": 4, "update": "rolling"}
        world.edit(**attributes, image_id="ami-0")
        world.minutes(3)
        self.account(world, image_keys={"ami-1": self.KEY})
        world.edit(**attributes, image_id="ami-1")
        world.minutes(1)
        rollout = world.status().answer.rollout
        assert rollout is not None
        assert rollout.state is RolloutState.STOPPED
        assert "volume_key_arns" in rollout.message
        assert len(world.ready()) == 2

    def test_a_client_error_may_also_be_the_key(self, world: World) -> None:
        world.market.boots.append(Boot(image_id="ami-1", outcome="dies", code="Client.InternalError"))
        world.edit(target_size=1, image_id="ami-1")
        world.minutes(1)
        assert "Check the image and user_data. Or: EC2 may not use the KMS key" in waiting(world).message
