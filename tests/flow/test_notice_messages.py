"""The notices function and its queue: messages do not affect each other, and failed ones return within seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError

from lambdas.control_plane import ControlPlane
from lambdas.domain.model.status import NoticeKind
from lambdas.handlers import on_spot_notice
from tests.support.fakes import MemoryPools, World

HIDDEN = timedelta(seconds=60)
"""How long the queue hides a message by default."""

CONTEXT = SimpleNamespace(
    function_name="on_spot_notice",
    memory_limit_in_mb=512,
    invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:on_spot_notice",
    aws_request_id="request",
    get_remaining_time_in_millis=lambda: 60_000,
)


@dataclass
class Message:
    """A message in its queue."""

    body: str
    visible_at: datetime
    receives: int = 0


class NoticesQueue:
    """SQS as the function sees it, on the world's clock."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.plane: ControlPlane = world.plane
        self.messages: dict[str, Message] = {}
        self._ids = count(1)
        self.errors = 0

    def send(self, *events: Mapping[str, Any] | str) -> None:
        """Put events into the queue. A text is sent unchanged."""
        for one in events:
            body = one if isinstance(one, str) else json.dumps(one)
            self.messages[f"message-{next(self._ids)}"] = Message(body, self.world.clock())

    def come_back(self, receipt: str, seconds: int) -> None:
        """Change the time at which a message is visible again."""
        self.messages[receipt].visible_at = self.world.clock() + timedelta(seconds=seconds)

    def deliver(self) -> list[str]:
        """Invoke the function once with the visible messages. Return the bodies of those that stay in the queue."""
        now = self.world.clock()
        batch = [(id_, one) for id_, one in self.messages.items() if one.visible_at <= now][:10]
        for _, one in batch:
            one.receives += 1
            one.visible_at = now + HIDDEN
        records = [
            {
                "messageId": id_,
                "receiptHandle": id_,
                "body": one.body,
                "attributes": {"ApproximateReceiveCount": str(one.receives)},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
            }
            for id_, one in batch
        ]
        made: dict[str, Any] = {"control_plane": lambda: self.plane, "notices_queue": lambda: self}
        if records:
            with mock.patch.multiple(on_spot_notice, **made):
                try:
                    answer = on_spot_notice.handler({"Records": records}, CONTEXT)
                except BatchProcessingError:
                    self.errors += 1
                else:
                    failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
                    for id_ in {id_ for id_, _ in batch} - failed:
                        del self.messages[id_]
        return [one.body for one in self.messages.values()]

    def until_empty(self, *, within: float) -> float:
        """Deliver once a second until the queue is empty. Return the seconds that it took."""
        began = self.world.clock()
        while self.deliver():
            assert (self.world.clock() - began).total_seconds() < within, self.messages
            self.world.clock.forward(1)
        return (self.world.clock() - began).total_seconds()


@pytest.fixture
def world() -> World:
    """A pool of three ready instances."""
    world = World(pending_seconds=10, status_check_seconds=20)
    world.edit(target_size=3, max_instances=9)
    world.minutes(2)
    return world


@pytest.fixture
def queue(world: World) -> NoticesQueue:
    return NoticesQueue(world)


def noticed(world: World, instance_ids: Iterable[str]) -> list[dict[str, Any]]:
    """The market's interruption notices for these instances."""
    for instance in world.market.live_spot_named(list(instance_ids)):
        world.market.notice(instance, world.clock(), cause="capacity")
    return [one for one in world.market.advance() if "Interruption" in one["detail-type"]]


def health(world: World, ids: Iterable[str]) -> dict[str, Any]:
    """One AWS Health event for all of these instances."""
    return {
        "detail-type": "AWS Health Event",
        "time": world.clock().isoformat(),
        "detail": {
            "service": "EC2",
            "eventTypeCategory": "scheduledChange",
            "eventTypeCode": "AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED",
            "statusCode": "upcoming",
            "affectedEntities": [{"entityValue": one} for one in ids],
        },
    }


def test_a_huge_health_event_and_a_malformed_one_delay_no_notice(world: World, queue: NoticesQueue) -> None:
    first, second, _ = world.alive()
    strangers = [f"i-{number:017x}" for number in range(2500)]
    queue.send(health(world, [*strangers, second]), "{", *noticed(world, [first]))
    assert queue.deliver() == ["{"]
    kinds = {id_: notice.kind for id_, notice in world.status().notices.items()}
    assert kinds == {first: NoticeKind.INTERRUPTION, second: NoticeKind.MAINTENANCE}
    assert len(world.alive()) == 4, "its replacement is there"


def test_an_entity_that_is_not_an_instance_affects_no_other(world: World, queue: NoticesQueue) -> None:
    first = world.alive()[0]
    event = health(world, ["i-*", "vol-0123456789abcdef0", "", first])
    event["detail"]["affectedEntities"].append({"entityUrl": "no value"})
    queue.send(event)
    assert queue.deliver() == []
    assert list(world.status().notices) == [first]


def test_a_throttled_listing_is_retried_and_no_message_returns(world: World, queue: NoticesQueue) -> None:
    queue.send(*noticed(world, world.alive()))
    world.fault(action="DescribeInstances", error="RequestLimitExceeded", times=3)
    began = world.clock()
    assert queue.deliver() == []
    assert len(world.alive()) == 6
    assert world.clock() - began < timedelta(seconds=10)


def test_after_a_refused_listing_the_notices_return_within_seconds(world: World, queue: NoticesQueue) -> None:
    queue.send(*noticed(world, world.alive()[:2]))
    world.fault(action="DescribeInstances", error="UnauthorizedOperation")
    assert len(queue.deliver()) == 2
    assert queue.errors == 1, "an invocation that could do nothing is an error of the function"
    assert queue.until_empty(within=12) >= 2
    assert len(world.alive()) == 5


def test_a_pool_whose_reconcile_fails_delays_no_other(world: World, queue: NoticesQueue) -> None:
    world.edit("q", target_size=1, max_instances=3)
    world.minutes(2)
    events = noticed(world, [world.alive("p")[0], *world.alive("q")])

    class Broken(MemoryPools):
        def get(self, pool_name: str) -> Mapping[str, Any] | None:
            if pool_name == "q":
                raise OSError("the table does not answer")
            return world.pools.get(pool_name)

    queue.plane = replace(world.plane, pools=Broken())
    queue.send(*events)
    assert len(queue.deliver()) == 1
    assert (len(world.alive("p")), len(world.alive("q"))) == (4, 1)
    queue.plane = world.plane
    queue.until_empty(within=12)
    assert len(world.alive("q")) == 2


def test_a_message_that_keeps_failing_is_finally_left_to_its_queue(world: World, queue: NoticesQueue) -> None:
    queue.send(*noticed(world, world.alive()[:1]))
    world.fault(action="DescribeInstances", error="UnauthorizedOperation", times=100)
    (message,) = queue.messages.values()
    while message.receives < 12:
        queue.deliver()
        hidden = message.visible_at - world.clock()
        assert timedelta(seconds=2) <= hidden <= timedelta(seconds=10) or message.receives > 10
        world.clock.forward(hidden.total_seconds())
    assert hidden == HIDDEN


def test_a_malformed_message_goes_to_the_dead_letters_at_once(queue: NoticesQueue) -> None:
    queue.send("{")
    for _ in range(15):
        assert queue.deliver() == ["{"]
        queue.world.clock.forward(1)
    assert queue.messages["message-1"].receives == 15
    assert queue.errors == 0


@pytest.mark.parametrize("announce", ["interruption", "rebalance"])
def test_an_instance_too_new_for_ec2s_listings_is_looked_up_again(
    world: World, queue: NoticesQueue, announce: str
) -> None:
    world.market.settings = world.market.settings.changed({"describe_lag_seconds": 6})
    before = set(world.alive())
    world.edit(target_size=4, max_instances=9)
    (new,) = set(world.alive()) - before
    world.clock.forward(1)
    if announce == "interruption":
        queue.send(*noticed(world, [new]))
    else:
        world.market.recommend_rebalance(world.market.instances[new])
        queue.send(*(one for one in world.market.advance() if "Rebalance" in one["detail-type"]))
    assert len(queue.deliver()) == 1
    assert queue.until_empty(within=20) >= 2
    assert [one.kind for one in world.status().notices.values()] == [announce]
    assert queue.errors == 0, "nothing failed"


def test_an_instance_that_ec2_never_shows_is_dropped_after_some_tries(world: World, queue: NoticesQueue) -> None:
    (event,) = noticed(world, world.alive()[:1])
    event["detail"]["instance-id"] = "i-0000000000000dead"
    queue.send(event)
    (message,) = queue.messages.values()
    assert queue.until_empty(within=60) >= 8
    assert message.receives == 5


def test_a_notice_for_an_instance_of_another_stack_is_dropped_at_once(world: World, queue: NoticesQueue) -> None:
    stranger = world.market.instances[world.alive()[0]]
    stranger.tags["spotpools:stack"] = "other"
    queue.send(*noticed(world, [stranger.id]))
    assert queue.deliver() == []
    assert world.status().notices == {}
