"""Announcements of EC2: risks replaced first or ignored, ends announced once, interrupted offerings avoided."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from lambdas.aws.drainer import EventsAndCommands
from lambdas.domain.model.status import ANNOUNCED, Reason
from localcloud.market.faces.client import MarketClient
from localcloud.market.model.commands import CommandResult
from tests.support.fakes import World, offering

SAVE = "/usr/local/bin/save-checkpoint"


@pytest.fixture
def world() -> World:
    """Machines run after ten seconds and pass their checks twenty seconds later."""
    return World(pending_seconds=10, status_check_seconds=20)


def settled(world: World, **attributes: Any) -> list[str]:
    """Put an item, wait until its instances are ready, and return their ids."""
    world.edit(**attributes)
    world.minutes(2)
    return world.ready()


def drains(world: World) -> list[tuple[str, str]]:
    return [(one.instance_id, one.status) for one in world.status().answer.drains]


class TestRisk:
    @pytest.fixture(params=["rebalance", "maintenance"])
    def risk(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @staticmethod
    def announce(world: World, risk: str, *instance_ids: str) -> None:
        if risk == "rebalance":
            world.recommend_rebalance(*instance_ids)
        else:
            world.announce_maintenance(*instance_ids)

    def test_ignore_records_it_and_does_nothing(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=6)
        self.announce(world, risk, before[0])
        world.minutes(20)
        assert world.alive() == before
        assert world.status().notices[before[0]].kind == risk
        assert world.calls["CreateFleet"] == 1

    def test_replace_first_terminates_the_old_one_after_its_replacement_is_ready(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        self.announce(world, risk, before[0])
        assert len(world.alive()) == 4
        while before[0] in world.alive():
            assert len(world.ready()) >= 3
            world.forward(5)
            world.tick()
        assert len(world.ready()) == 3
        world.minutes(5)
        assert set(before[1:]) < set(world.alive())
        assert len(world.alive()) == 3

    def test_without_room_it_stays_until_ec2_interrupts_it(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=3, on_rebalance="replace_first")
        self.announce(world, risk, before[0])
        world.minutes(10)
        assert world.alive() == before
        assert world.status().answer.waiting is None
        world.interrupt(before[0])
        world.minutes(4)
        assert len(world.ready()) == 3

    def test_without_capacity_it_stays(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        world.set_all(capacity=0)
        self.announce(world, risk, before[0])
        world.minutes(30)
        assert world.alive() == before
        assert world.calls["CreateFleet"] <= 16
        answer = world.status().answer
        assert answer.waiting is None, "nothing is missing"
        assert answer.replacing is not None
        assert (answer.replacing.count, answer.replacing.reason) == (1, Reason.NO_CAPACITY)

    def test_an_outdated_one_that_no_update_replaces_counts_among_those_to_replace(
        self, world: World, risk: str
    ) -> None:
        before = settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        world.set_all(capacity=0)
        world.edit(target_size=3, max_instances=6, on_rebalance="replace_first", image_id="ami-2")
        self.announce(world, risk, before[0])
        world.minutes(2)
        replacing = world.status().answer.replacing
        assert replacing is not None
        assert replacing.count == 1

    def test_protected_instances_stay(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        world.client.create_tags(Resources=before[:1], Tags=[{"Key": "spotpools:protect", "Value": "true"}])
        self.announce(world, risk, before[0])
        world.minutes(5)
        assert world.alive() == before

    def test_announced_twice_it_is_replaced_once(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        for _ in range(3):
            self.announce(world, risk, before[0])
            world.forward(5)
        world.minutes(5)
        assert len(world.market.instances) == 4

    def test_an_interruption_while_the_replacement_starts_launches_nothing_more(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        self.announce(world, risk, before[0])
        world.forward(5)
        world.interrupt(before[0])
        world.minutes(5)
        assert len(world.market.instances) == 4
        assert len(world.ready()) == 3

    def test_an_interruption_is_more_severe(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=6)
        self.announce(world, risk, before[0])
        world.interrupt(before[0])
        assert world.status().answer.noticed == 1
        assert len(world.alive()) == 4

    def test_a_pool_edited_to_replace_first_replaces_it(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=6)
        self.announce(world, risk, before[0])
        settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        assert before[0] not in world.alive()
        assert len(world.ready()) == 3

    def test_the_notice_is_forgotten_with_its_instance(self, world: World, risk: str) -> None:
        before = settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        self.announce(world, risk, before[0])
        world.minutes(75)
        world.edit(target_size=2, max_instances=6)
        assert world.status().notices == {}

    def test_all_at_risk_at_once_are_replaced_within_max_instances(self, world: World, risk: str) -> None:
        before = settled(world, target_size=4, max_instances=6, on_rebalance="replace_first")
        self.announce(world, risk, *before)
        for _ in range(60):
            world.forward(10)
            world.tick()
            assert len(world.ready()) >= 4
            assert len(world.alive()) <= 6
        assert not set(before) & set(world.alive())


class TestMaintenanceWithdrawn:
    """An AWS Health event is upcoming, open or closed, and each instance has its own status in it."""

    GOING: ClassVar[list[dict[str, str]]] = [
        {"status": "open"},
        {"entity_status": "IMPAIRED"},
        {"entity_status": "UNKNOWN"},
        {"entity_status": "UNIMPAIRED"},  # before it begins nothing is impaired
    ]
    OVER: ClassVar[list[dict[str, str]]] = [
        {"status": "closed"},
        {"entity_status": "RESOLVED"},
        {"status": "open", "entity_status": "UNIMPAIRED"},
    ]

    @pytest.fixture
    def before(self, world: World) -> list[str]:
        return settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")

    @pytest.mark.parametrize("over", OVER)
    def test_maintenance_that_is_over_replaces_nothing(
        self, world: World, before: list[str], over: dict[str, str]
    ) -> None:
        world.announce_maintenance(before[0], **over)
        world.minutes(20)
        assert world.alive() == before
        assert world.calls["CreateFleet"] == 1

    @pytest.mark.parametrize("going", GOING)
    def test_maintenance_that_is_open_replaces(self, world: World, before: list[str], going: dict[str, str]) -> None:
        world.announce_maintenance(before[0], **going)
        world.minutes(10)
        assert before[0] not in world.alive()

    @pytest.mark.parametrize("over", OVER)
    def test_the_end_of_an_event_withdraws_its_announcement(self, world: World, over: dict[str, str]) -> None:
        before = settled(world, target_size=3, max_instances=3, on_rebalance="replace_first")
        (arn,) = world.announce_maintenance(before[0])
        world.forward(60)
        world.announce_maintenance(before[0], event_arn=arn, **over)
        world.minutes(1)
        settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        world.minutes(20)
        assert world.alive() == before
        assert world.calls["CreateFleet"] == 1

    def test_an_older_announcement_that_comes_late_changes_nothing(self, world: World, before: list[str]) -> None:
        instance = world.market.instances[before[0]]
        code, then = "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED", world.clock()
        arn = world.market.announce_maintenance(instance, code, "scheduledChange", then)
        late = world.market.advance()
        world.forward(3600)
        world.announce_maintenance(before[0], event_arn=arn, status="closed")
        world.hear(late)
        world.minutes(20)
        assert world.alive() == before

    def test_an_announcement_after_the_end_counts_again(self, world: World, before: list[str]) -> None:
        (arn,) = world.announce_maintenance(before[0], status="closed")
        world.forward(3600)
        world.announce_maintenance(before[0], event_arn=arn, status="open")
        world.minutes(10)
        assert before[0] not in world.alive()

    def test_an_older_end_does_not_withdraw_a_newer_announcement(self, world: World) -> None:
        before = settled(world, target_size=3, max_instances=3, on_rebalance="replace_first")
        code, then = "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED", world.clock()
        instance = world.market.instances[before[0]]
        arn = world.market.announce_maintenance(instance, code, "scheduledChange", then, status="closed")
        late = world.market.advance()
        world.forward(3600)
        world.announce_maintenance(before[0], event_arn=arn)
        world.hear(late)
        settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        world.minutes(10)
        assert before[0] not in world.alive()

    def test_the_end_of_one_event_does_not_end_another(self, world: World) -> None:
        before = settled(world, target_size=3, max_instances=3, on_rebalance="replace_first")
        world.announce_maintenance(before[0])
        world.announce_maintenance(before[0], status="closed")
        settled(world, target_size=3, max_instances=6, on_rebalance="replace_first")
        world.minutes(10)
        assert before[0] not in world.alive()

    @pytest.mark.parametrize("severe", ["rebalance", "interruption"])
    def test_the_end_of_an_event_keeps_more_severe_notices(self, world: World, severe: str) -> None:
        first, *_ = settled(world, target_size=3, max_instances=3)
        (arn,) = world.announce_maintenance(first)
        world.recommend_rebalance(first) if severe == "rebalance" else world.interrupt(first)
        world.forward(60)
        world.announce_maintenance(first, event_arn=arn, status="closed")
        assert world.status().notices[first].kind == severe


class TestDrains:
    def test_the_end_is_announced_once(self, world: World) -> None:
        first, *_ = settled(world, target_size=2, max_instances=4)
        world.interrupt(first)
        world.interrupt(first)
        world.minutes(4)
        events = world.bus.details
        assert [one["instance-id"] for one in events] == [first]
        assert events[0].items() >= {("pool", "p"), ("stack", "test"), ("instance-type", "g5.xlarge")}
        assert drains(world) == [(first, ANNOUNCED)]

    def test_the_command_runs_on_the_instance_and_its_result_is_recorded(self, world: World) -> None:
        first, *_ = settled(world, target_size=2, max_instances=4, drain_command=SAVE)
        world.interrupt(first)
        (command,) = world.market.commands.values()
        assert (command.lines, list(command.results)) == ([SAVE], [first])
        world.minutes(1)
        assert drains(world) == [(first, "Success")]

    def test_a_failed_command_is_recorded_as_failed(self, world: World) -> None:
        world.market.command_results.append(CommandResult(contains="save", status="Failed"))
        first, *_ = settled(world, target_size=2, max_instances=4, drain_command=SAVE)
        world.interrupt(first)
        world.minutes(1)
        assert drains(world) == [(first, "Failed")]

    def test_a_command_that_outlasts_its_instance_is_given_up(self, world: World) -> None:
        world.market.command_results.append(CommandResult(contains="save", after_seconds=4000))
        first, *_ = settled(world, target_size=2, max_instances=4, drain_command=SAVE)
        world.interrupt(first)
        world.minutes(12)
        assert drains(world) == [(first, "TimedOut")]

    def test_an_unknown_command_is_not_polled_forever(self, world: World) -> None:
        first, *_ = settled(world, target_size=2, max_instances=4, drain_command=SAVE)
        world.interrupt(first)
        world.market.commands.clear()
        world.minutes(15)
        asked = world.calls["GetCommandInvocation"]
        world.minutes(10)
        assert world.calls["GetCommandInvocation"] == asked

    def test_several_instances_of_a_pool_are_announced_together_and_run_their_own_commands(self, world: World) -> None:
        several = settled(world, target_size=12, max_instances=30, drain_command=SAVE)
        world.interrupt(*several[:5])
        assert sorted(one["instance-id"] for one in world.bus.details) == sorted(several[:5])
        assert len(world.market.commands) == 5

    def test_an_instance_without_an_agent_does_not_block_others(self, world: World) -> None:
        first, second = settled(world, target_size=2, max_instances=6, drain_command=SAVE)
        world.fault(action="SendCommand", error="InvalidInstanceId")
        world.interrupt(first, second)
        assert sorted(status for _, status in drains(world)) == ["NotSent: InvalidInstanceId", "Pending"]
        assert len(world.alive()) == 4

    def test_a_refusing_event_bus_blocks_no_replacement_and_is_retried(self, world: World) -> None:
        first, *_ = settled(world, target_size=2, max_instances=4)
        world.bus.refusing = True
        world.interrupt(first)
        assert len(world.alive()) == 3, "its replacement is there"
        assert drains(world) == []
        error = world.status().answer.last_error
        assert error is not None
        assert error.code == "InternalFailure"
        world.bus.refusing = False
        world.minutes(1)
        assert drains(world) == [(first, ANNOUNCED)]

    def test_a_systems_manager_without_an_answer_blocks_nothing(self, world: World) -> None:
        first, second = settled(world, target_size=2, max_instances=6, drain_command=SAVE)
        world.interrupt(first)
        world.fault(action="GetCommandInvocation", error="ThrottlingException", times=3)
        world.interrupt(second)
        assert len(world.alive()) == 4
        world.minutes(4)
        assert [status for _, status in drains(world)] == ["Success", "Success"]

    def test_the_longest_stack_name_fits_into_what_systems_manager_takes(self, world: World) -> None:
        first, *_ = settled(world, target_size=2, max_instances=4)
        (instance,) = [one for one in world.plane.fleet.instances() if one.id == first]
        ssm = MarketClient(world.market, service="ssm")
        result = EventsAndCommands(world.bus, ssm, stack="s" * 63, clock=world.clock).tell("p", [instance], SAVE)
        assert result.failures == ()

    def test_the_list_is_bounded(self) -> None:
        world = World(*(offering("g5.xlarge", f"us-east-1{zone}", capacity=100) for zone in "ab"))
        several = settled(world, target_size=30, max_instances=60)
        world.interrupt(*several)
        assert len(drains(world)) == 20
        assert len({one["instance-id"] for one in world.bus.details}) == 30

    def test_the_end_is_announced_in_a_paused_pool(self, world: World) -> None:
        first, *_ = settled(world, target_size=2, max_instances=4, drain_command="/opt/drain")
        world.edit(target_size=2, max_instances=4, drain_command="/opt/drain", paused=True)
        world.interrupt(first)
        assert [one["instance-id"] for one in world.bus.details] == [first]
        assert len(drains(world)) == 1

    def test_the_end_is_announced_in_a_deleted_pool_and_its_drain_command_runs(self, world: World) -> None:
        first, *_ = settled(world, target_size=2, max_instances=4, drain_command="/opt/drain")
        world.delete()
        world.interrupt(first)
        assert [one["instance-id"] for one in world.bus.details] == [first]
        assert len(drains(world)) == 1
        assert world.calls["SendCommand"] == 1


class TestInterruptedOfferings:
    def test_an_offering_that_was_interrupted_is_avoided_long_after_the_notice(self, world: World) -> None:
        first, *_ = settled(world, target_size=2, max_instances=6)
        zone = world.market.instances[first].zone
        world.interrupt(first)
        world.minutes(20)
        world.edit(target_size=2, max_instances=6, min_instances=2)
        assert world.status().notices == {}
        world.edit(target_size=4, max_instances=6)
        assert zone not in {world.market.instances[id_].zone for id_ in world.alive()[-2:]}

    def test_an_avoided_offering_is_used_if_there_is_no_other(self) -> None:
        world = World(offering("g5.xlarge", "us-east-1a"))
        first, *_ = settled(world, target_size=2, max_instances=6)
        world.interrupt(first)
        world.minutes(5)
        assert len(world.ready()) == 2

    def test_after_a_while_the_offering_is_used_again(self, world: World) -> None:
        world.market.set_offering("g5.xlarge", "us-east-1b", capacity=2)
        world.market.set_offering("g5.xlarge", "us-east-1c", capacity=2)
        first, *_ = settled(world, target_size=2, max_instances=8)
        zone = world.market.instances[first].zone
        world.interrupt(first)
        world.minutes(31)
        world.edit(target_size=6, max_instances=8)
        assert zone in {world.market.instances[id_].zone for id_ in world.alive()[2:]}
        assert world.status().memory.recently_interrupted == {}

    def test_the_replacement_of_a_whole_offering_is_one_launch_elsewhere(self, world: World) -> None:
        several = settled(world, target_size=6, max_instances=12)
        world.interrupt(*several)
        assert world.calls["CreateFleet"] == 2
        before = {world.market.instances[id_].zone for id_ in several}
        after = {world.market.instances[id_].zone for id_ in world.alive()[6:]}
        assert not before & after
