"""The decision, case by case: what it launches, terminates and reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lambdas.domain.decision.decide import decide
from lambdas.domain.decision.due import why_due
from lambdas.domain.decision.intent import Intent
from lambdas.domain.decision.snapshot import Snapshot, take_snapshot
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.instances import Instance, Offer, State
from lambdas.domain.model.plan import Drain, Launch, Resend, Terminate
from lambdas.domain.model.status import Answer, Attempt, Backoff, Batch, Ended, Hold, Memory, Notice, Reason, Status

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
OFFERS = tuple(Offer("g5.xlarge", f"us-east-1{zone}", f"subnet-{zone}", Decimal("0.4")) for zone in "abc")


def pool(**attributes: Any) -> Pool:
    return Pool(**{"pool_name": "p", "instance_types": ("g5.xlarge",), "max_instances": 10, **attributes})


def instance(number: int, state: State = State.RUNNING, **attributes: Any) -> Instance:
    return Instance(
        **{
            "id": f"i-{number:08x}",
            "pool_name": "p",
            "state": state,
            "instance_type": "g5.xlarge",
            "zone": "us-east-1a",
            "launched_at": NOW - timedelta(hours=1, minutes=-number),
            **attributes,
        }
    )


def batch(at: datetime) -> Batch:
    return Batch(at=at, attempt="a", machine="", ids={"g5.xlarge/us-east-1a": ("i-00000001",)})


def snapshot(item: Pool, *instances: Instance, status: Status | None = None) -> Snapshot:
    before = status or Status()
    remembered = before.memory.model_copy(update={"spec": Intent(pool=item).spec})
    known = before.model_copy(update={"memory": remembered})
    return take_snapshot(Intent(pool=item), instances, known, NOW).offered(OFFERS)


def test_missing_instances_are_launched_over_all_offerings_in_one_step() -> None:
    plan = decide(snapshot(pool(target_size=3), instance(1)))
    assert plan.steps == (Launch(2, OFFERS, why="3 wanted, 1 there"),)


def test_pending_instances_count() -> None:
    assert decide(snapshot(pool(target_size=1), instance(1, State.PENDING))).steps == ()


def test_instances_just_launched_count_before_ec2_shows_them() -> None:
    status = Status(memory=Memory(launched=(batch(NOW - timedelta(minutes=9)),)))
    assert decide(snapshot(pool(target_size=1), status=status)).steps == ()


def test_instances_launched_long_ago_and_never_seen_do_not() -> None:
    status = Status(memory=Memory(launched=(batch(NOW - timedelta(minutes=10)),)))
    assert isinstance(decide(snapshot(pool(target_size=1), status=status)).steps[0], Launch)


def test_instances_just_terminated_do_not_count_though_ec2_still_shows_them() -> None:
    status = Status(memory=Memory(terminated=(Ended(at=NOW, ids=("i-00000001",)),)))
    plan = decide(snapshot(pool(target_size=1), instance(1), instance(2), status=status))
    assert plan.steps == ()


@pytest.mark.parametrize("state", [State.SHUTTING_DOWN, State.TERMINATED])
def test_instances_on_their_way_out_do_not_count(state: State) -> None:
    assert isinstance(decide(snapshot(pool(target_size=1), instance(1, state))).steps[0], Launch)


def test_stopped_instances_are_replaced_and_terminated() -> None:
    plan = decide(snapshot(pool(target_size=1), instance(1, State.STOPPED)))
    assert plan.steps == (
        Launch(1, OFFERS, why="1 wanted, 0 there"),
        Terminate(("i-00000001",), why="stopped instances serve no pool"),
    )


class TestNotices:
    STATUS = Status(notices={"i-00000001": Notice(at=NOW, offering="g5.xlarge/us-east-1a")})

    def test_a_noticed_instance_is_replaced_at_once_from_another_offering(self) -> None:
        step, drain = decide(snapshot(pool(target_size=1), instance(1), status=self.STATUS)).steps
        assert isinstance(drain, Drain)
        assert isinstance(step, Launch)
        assert [offer.zone for offer in step.offers] == ["us-east-1b", "us-east-1c"]

    def test_it_counts_against_max_instances(self) -> None:
        plan = decide(snapshot(pool(target_size=1, max_instances=1), instance(1), status=self.STATUS))
        assert not [step for step in plan.steps if isinstance(step, Launch)]
        assert plan.blocker is not None
        assert plan.blocker.reason is Reason.MAX_INSTANCES

    def test_it_is_never_terminated_to_scale_in(self) -> None:
        plan = decide(snapshot(pool(target_size=0), instance(1), instance(2), status=self.STATUS))
        assert [step.instance_ids for step in plan.steps if isinstance(step, Terminate)] == [("i-00000002",)]


class TestVictims:
    def test_starting_instances_go_before_running_ones_and_old_before_new(self) -> None:
        several = (instance(1), instance(2), instance(3, State.PENDING))
        (step,) = decide(snapshot(pool(target_size=1), *several)).steps
        assert isinstance(step, Terminate)
        assert step.instance_ids == ("i-00000003", "i-00000001")

    def test_protected_instances_are_never_terminated(self) -> None:
        (step,) = decide(
            snapshot(pool(target_size=0), instance(1, tags={"spotpools:protect": "true"}), instance(2))
        ).steps
        assert isinstance(step, Terminate)
        assert step.instance_ids == ("i-00000002",)


class TestPauses:
    def test_an_offering_in_backoff_is_left_out(self) -> None:
        memory = Memory(backoff={"g5.xlarge/us-east-1a": Backoff(until=LATER, failures=1)})
        (step,) = decide(snapshot(pool(target_size=1), status=Status(memory=memory))).steps
        assert isinstance(step, Launch)
        assert step.offers == OFFERS[1:]

    def test_with_all_offerings_in_backoff_the_pool_waits_for_the_first(self) -> None:
        until = {offer.offering: LATER + timedelta(minutes=n) for n, offer in enumerate(OFFERS)}
        memory = Memory(backoff={key: Backoff(until=at, failures=1) for key, at in until.items()})
        plan = decide(snapshot(pool(target_size=1), status=Status(memory=memory)))
        assert plan.blocker is not None
        assert (plan.blocker.reason, plan.blocker.until) == (Reason.NO_CAPACITY, LATER)

    def test_a_hold_keeps_the_whole_pool_waiting(self) -> None:
        hold = Hold(reason=Reason.QUOTA, until=LATER, failures=1, message="quota")
        plan = decide(snapshot(pool(target_size=1), status=Status(memory=Memory(holds={Market.SPOT: hold}))))
        assert plan.steps == ()
        assert plan.blocker is not None
        assert plan.blocker.reason is Reason.QUOTA


class TestPrice:
    @pytest.mark.parametrize(("cap", "launches"), [("0.4", True), ("0.400", True), ("0.399999", False)])
    def test_a_cap_equal_to_the_price_is_enough_and_any_lower_cap_is_not(self, cap: str, launches: bool) -> None:
        plan = decide(snapshot(pool(target_size=1, spot_max_price=Decimal(cap))))
        assert bool(plan.steps) is launches

    def test_on_demand_pools_have_no_spot_price(self) -> None:
        on_demand = [replace(one, market=Market.ON_DEMAND) for one in OFFERS]
        plan = decide(snapshot(pool(target_size=1, spot=False, spot_max_price=Decimal("0.1"))).offered(on_demand))
        assert plan.steps


class TestOpenAttempt:
    @staticmethod
    def attempt(item: Pool, count: int = 2, minutes: int = 1) -> Attempt:
        at = NOW - timedelta(minutes=minutes)
        return Attempt(id="a", count=count, at=at, request="{}", terms=item.launch_terms)

    def test_it_is_sent_again_unchanged(self) -> None:
        item = pool(target_size=2)
        attempt = self.attempt(item)
        (step,) = decide(snapshot(item, status=Status(memory=Memory(attempt=attempt)))).steps
        assert isinstance(step, Resend)
        assert step.attempt == attempt

    def test_not_if_it_could_overshoot_a_lowered_max(self) -> None:
        item = pool(target_size=2, max_instances=2)
        status = Status(memory=Memory(attempt=self.attempt(item)))
        assert decide(snapshot(item, instance(1), status=status)).steps == ()

    def test_not_if_the_terms_changed(self) -> None:
        status = Status(memory=Memory(attempt=self.attempt(pool(target_size=2))))
        plan = decide(snapshot(pool(target_size=2, spot_max_price=Decimal("0.3")), status=status))
        assert (plan.steps, plan.drop_attempt) == ((), False)

    def test_it_is_dropped_once_ec2_shows_all_that_it_asked_for(self) -> None:
        item = pool(target_size=2)
        there = (
            instance(1, tags={"spotpools:attempt": "a"}),
            instance(2, State.TERMINATED, tags={"spotpools:attempt": "a"}),
        )
        plan = decide(snapshot(item, *there, status=Status(memory=Memory(attempt=self.attempt(item)))))
        assert plan.drop_attempt

    def test_what_ec2_shows_of_it_is_not_counted_twice(self) -> None:
        item = pool(target_size=4, max_instances=4)
        status = Status(memory=Memory(attempt=self.attempt(item, count=4)))
        plan = decide(snapshot(item, instance(1, tags={"spotpools:attempt": "a"}), status=status))
        assert isinstance(plan.steps[0], Resend)

    def test_it_is_dropped_once_ec2_must_show_all_that_it_launched(self) -> None:
        item = pool(target_size=2)
        plan = decide(snapshot(item, status=Status(memory=Memory(attempt=self.attempt(item, minutes=10)))))
        assert (plan.steps, plan.drop_attempt) == ((), True)


def test_a_launch_is_bounded() -> None:
    (step,) = decide(snapshot(pool(target_size=250, max_instances=300))).steps
    assert isinstance(step, Launch)
    assert step.count == 100


def test_without_spot_offers_it_waits_and_can_fall_back() -> None:
    item = pool(target_size=1, fallback={"after_minutes": 0})
    plan = decide(snapshot(item).offered(()))
    assert plan.blocker is not None
    assert plan.blocker.reason is Reason.NO_CAPACITY
    assert "EC2 sells no on-demand capacity" in plan.blocker.message
    (step,) = decide(snapshot(item).offered([replace(OFFERS[0], market=Market.ON_DEMAND)])).steps
    assert isinstance(step, Launch)
    assert step.market is Market.ON_DEMAND


def test_types_that_are_sold_nowhere_are_named() -> None:
    seen = replace(snapshot(pool(target_size=1, instance_types=("g5.xlagre",))).offered(()), unsold=("g5.xlagre",))
    plan = decide(seen)
    assert plan.blocker is not None
    assert plan.blocker.reason is Reason.CONFIG
    assert "g5.xlagre" in plan.blocker.message


def test_a_steady_pool_is_not_due() -> None:
    item = pool(target_size=1)
    status = Status(answer=Answer(wanted=1, running=1, ready=1))
    assert why_due(snapshot(item, instance(1), status=status)) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": Answer(wanted=1, running=0)}, "its instances changed"),
        ({"answer": Answer(wanted=1, running=1, draining_since=NOW)}, "its item changed"),
    ],
)
def test_any_difference_makes_it_due(change: dict[str, Any], why: str) -> None:
    assert why_due(snapshot(pool(target_size=1), instance(1), status=Status(**change))) == why
