"""Reconciles that die, repeat or meet another one: no double launch, never above max_instances, never stuck."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, ClassVar

import pytest

from lambdas.domain.model.status import Attempt, Status
from lambdas.ports import Lease, LeaseLostError
from lambdas.reconcile import reconcile
from tests.support.fakes import World


class KilledError(BaseException):
    """The function's process was killed: no later code runs, and no lease is released."""


@contextmanager
def killed(target: Any, method: str, *, after: bool) -> Iterator[None]:
    """Kill the process before or after one call."""
    real = getattr(target, method)

    def call(*args: Any, **kwargs: Any) -> Any:
        if after:
            real(*args, **kwargs)
        raise KilledError

    setattr(target, method, call)
    try:
        with pytest.raises(KilledError):
            yield
    finally:
        setattr(target, method, real)


@contextmanager
def during(target: Any, method: str, happens: Callable[[], None]) -> Iterator[None]:
    """Run something after the first call of a method, before its answer arrives."""
    real, calls = getattr(target, method), count()

    def call(*args: Any, **kwargs: Any) -> Any:
        answer = real(*args, **kwargs)
        if not next(calls):
            happens()
        return answer

    setattr(target, method, call)
    try:
        yield
    finally:
        setattr(target, method, real)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", ["begin", "create_fleet", "save", "release"])
def test_a_kill_at_any_point_leaves_exactly_the_target(world: World, point: str, after: bool) -> None:
    world.put(target_size=4, max_instances=8)
    target = world.client if point == "create_fleet" else world.statuses
    with killed(target, point, after=after):
        reconcile("p", world.plane)
    world.minutes(14)
    assert len(world.market.instances) == 4
    assert len(world.alive()) == 4
    assert world.status().memory.attempt is None


def test_a_message_delivered_twice_launches_once(world: World) -> None:
    world.put(target_size=4)
    reconcile("p", world.plane)
    reconcile("p", world.plane)
    assert len(world.market.instances) == 4


def test_a_tick_killed_before_it_sends_delays_few_pools_and_not_for_long(world: World) -> None:
    world.set_all(capacity=100)
    pools = [f"p{number}" for number in range(35)]
    for name in pools:
        world.edit(name, target_size=0)
        world.put(name, target_size=1)
    with killed(world.queue, "send", after=False):
        world.tick()
    world.minutes(1)
    assert len(world.market.instances) >= 25
    world.minutes(5)
    assert len(world.market.instances) == 35


def test_a_notice_delivered_twice_replaces_once(world: World) -> None:
    world.edit(target_size=4, max_instances=8)
    world.forward(2)
    interrupted = world.alive()[0]
    world.interrupt(interrupted)
    world.interrupt(interrupted)
    assert len(world.market.instances) == 5


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_dropped_connection_is_recovered_with_the_same_token(world: World, where: str) -> None:
    world.fault(action="CreateFleet", drop_connection=True, where=where)
    world.edit(target_size=3)
    world.minutes(2)
    assert len(world.market.instances) == 3


def test_an_error_after_a_repeated_call_does_not_explain_the_lost_call() -> None:
    world = World(describe_lag_seconds=300)
    world.fault(action="CreateFleet", drop_connection=True, where="after")
    world.edit(target_size=3, max_instances=3)
    world.fault(action="CreateFleet", error="RequestLimitExceeded")
    world.minutes(20)
    assert len(world.market.instances) == 3


def test_an_attempt_is_not_sent_again_if_the_item_now_forbids_it(world: World) -> None:
    world.put(target_size=4, max_instances=8)
    with killed(world.client, "create_fleet", after=False):
        reconcile("p", world.plane)
    world.put(target_size=4, max_instances=8, spot_max_price="0.4")
    world.minutes(14)
    assert len(world.market.instances) == 0, "the price is 0.5: nothing may start under the new cap"


def test_an_attempt_counts_in_full_while_its_answer_is_unknown(world: World) -> None:
    world.put(target_size=4, max_instances=4)
    with killed(world.client, "create_fleet", after=True):
        reconcile("p", world.plane)
    world.put(target_size=2, max_instances=3)
    world.minutes(14)
    assert len(world.alive()) == 2
    assert world.calls["CreateFleet"] == 1


def test_a_reconcile_that_finds_the_lease_taken_makes_its_holder_look_again(world: World) -> None:
    world.put(target_size=1)
    real = world.plane.fleet.launch

    def launch_while_edited(attempt: Attempt) -> Any:
        world.plane.fleet.launch = real  # type: ignore[method-assign]  # the second launch is an ordinary one
        world.put(target_size=3)
        reconcile("p", world.plane)
        return real(attempt)

    world.plane.fleet.launch = launch_while_edited  # type: ignore[method-assign]  # an edit in the middle of a launch
    reconcile("p", world.plane)
    assert len(world.alive()) == 3


def test_a_reconcile_that_lost_its_lease_writes_nothing(world: World) -> None:
    world.edit(target_size=1)
    lease = world.statuses.acquire("p")
    assert lease is not None
    world.forward(80, deliver=False)
    assert world.statuses.acquire("p") is not None
    with pytest.raises(LeaseLostError):
        world.statuses.save(lease, Status(), Status())
    with pytest.raises(LeaseLostError):
        world.statuses.begin(lease, Attempt(id="a", count=1, at=world.clock(), request="{}", terms={}))


def test_a_failed_reconcile_releases_the_lease(world: World) -> None:
    world.put(target_size=1)
    world.fault(action="DescribeInstances", error="Unavailable")
    with pytest.raises(RuntimeError):
        reconcile("p", world.plane)
    assert isinstance(world.statuses.acquire("p"), Lease)


def test_lost_statuses_terminate_nothing_and_launch_nothing_twice(world: World) -> None:
    world.edit(target_size=3)
    world.forward(2)
    world.statuses.statuses.clear()
    world.statuses.leases.clear()
    world.minutes(8)
    assert len(world.market.instances) == 3
    assert world.status().answer.running == 3


def test_instances_without_item_and_status_are_terminated_after_the_grace(world: World) -> None:
    world.edit(target_size=3)
    world.forward(2)
    world.statuses.statuses.clear()
    world.statuses.leases.clear()
    world.pools.items.clear()
    world.minutes(9)
    assert world.alive() == []


def test_a_due_message_for_an_unknown_pool_leaves_no_trace(world: World) -> None:
    reconcile("nobody", world.plane)
    assert "nobody" not in world.statuses.statuses


class TestTerminations:
    """Terminations are saved before the call, so the next reconcile knows which instances may be gone."""

    ITEM: ClassVar[dict[str, Any]] = {"target_size": 6, "max_instances": 8}

    def shrinking(self, world: World, *, after: bool) -> list[str]:
        """A pool that shrinks from six to four. The process is killed before or after the termination takes effect."""
        world.edit(**self.ITEM)
        world.minutes(2)
        world.put(**self.ITEM | {"target_size": 4})
        with killed(world.client, "terminate_instances", after=after):
            reconcile("p", world.plane)
        ending = world.status().memory.ending
        assert ending is not None
        world.clock.forward(80)
        return list(ending.ids)

    @pytest.mark.parametrize("after", [False, True])
    def test_a_kill_terminates_the_same_two_instances_and_no_others(self, world: World, after: bool) -> None:
        written = self.shrinking(world, after=after)
        before = world.alive()
        world.market.settings = world.market.settings.changed({"describe_lag_seconds": 90})
        world.tick()
        world.market.settings = world.market.settings.changed({"describe_lag_seconds": 0})
        world.minutes(3)
        assert set(before) - set(world.alive()) <= set(written)
        assert len(world.alive()) == 4
        assert world.status().memory.ending is None

    def test_instances_that_may_be_terminated_count_against_the_limit_and_do_not_serve(self, world: World) -> None:
        self.shrinking(world, after=False)
        world.edit(target_size=8, max_instances=8)
        assert len(world.alive()) <= 8
        world.minutes(15)
        assert len(world.alive()) == 8

    def test_an_instance_that_was_protected_meanwhile_stays(self, world: World) -> None:
        first, _ = self.shrinking(world, after=False)
        world.client.create_tags(Resources=[first], Tags=[{"Key": "spotpools:protect", "Value": "true"}])
        world.minutes(15)
        assert first in world.alive()
        assert len(world.alive()) == 4

    def test_without_the_lease_nothing_is_terminated(self, world: World) -> None:
        world.edit(**self.ITEM)
        world.minutes(2)
        world.put(**self.ITEM | {"target_size": 4})

        def overtaken() -> None:
            world.clock.forward(80)
            assert world.statuses.acquire("p") is not None

        with during(world.client, "describe_spot_price_history", overtaken), pytest.raises(LeaseLostError):
            reconcile("p", world.plane)
        assert len(world.alive()) == 6

    def test_nothing_is_terminated_for_an_observation_that_is_a_minute_old(self, world: World) -> None:
        """EC2 answered slowly, and a user protected an instance meanwhile."""
        world.edit(**self.ITEM)
        world.minutes(2)
        world.put(**self.ITEM | {"target_size": 0})

        def slow() -> None:
            world.clock.forward(50)
            tags = [{"Key": "spotpools:protect", "Value": "true"}]
            world.client.create_tags(Resources=world.alive(), Tags=tags)

        with during(world.client, "describe_instances", slow):
            reconcile("p", world.plane)
        assert len(world.alive()) == 6


def test_a_lost_launch_is_not_sent_again_when_nothing_is_missing(world: World) -> None:
    world.fault(action="CreateFleet", drop_connection=True, where="before")
    world.edit(target_size=5)
    assert world.status().memory.attempt is not None
    world.edit(target_size=0)
    world.minutes(15)
    assert not [one for one in world.market.record if one["what"] == "pending"]
    assert world.status().memory.attempt is None
    world.edit(target_size=2)
    assert len(world.alive()) == 2
