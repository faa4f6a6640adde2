"""Poison messages on the deployed stack: they become dead letters, harm only their pool, and can be fixed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.demo.pools import delete_pool, resize_pool
from tests.e2e.conftest import Site

pytestmark = pytest.mark.long

TRY_SECONDS = 20
"""Seconds between tries of a message in these tests: a function's time limit. The stack waits six times as long."""

LARGEST_STATUS = 100_000


def test_poison_in_both_queues_delays_no_other_pool_and_sets_off_alarms(site: Site) -> None:
    """Other pools are served while it is still tried. Then it is in the dead-letter queue."""
    sqs, since = site.cloud.client("sqs"), datetime.now(UTC)
    site.put("beside", target_size=2, max_instances=9)
    site.until_running("beside", 2, seconds=120)
    poison = [f"poison {number}" for number in range(5)]
    with fast_tries(site, "DueQueueUrl") as (due, due_dead), fast_tries(site, "NoticesQueueUrl") as (notices, dead):
        for url, body in product((due, notices), poison):
            sqs.send_message(QueueUrl=url, MessageBody=body)
        resize_pool(site.cloud, "beside", 3)
        site.until_running("beside", 3, seconds=60)
        site.market.interrupt(site.instances("beside")[0]["instance_id"], notice_seconds=60)
        site.watcher.until(lambda: len(site.instances("beside", "running")) == 4, "the replacement", seconds=60)
        assert depth(site, due_dead) == 0, "served before the poison was given up"
        for url, alarm in ((due_dead, "dead-due-pools"), (dead, "dead-spot-notices")):
            site.watcher.until(partial(has, site, url, len(poison)), "the dead letters", seconds=180)
            site.watcher.until(partial(site.watcher.alarm, alarm, since=since), "the alarm's message", seconds=60)
            assert sorted(taken(site, url)) == poison


def test_a_dead_letter_is_redriven_once_its_cause_is_fixed(site: Site) -> None:
    """The status is of a later version. Its pool is left alone, with an alarm, until the status is fixed."""
    since = datetime.now(UTC)
    site.put("later", target_size=1)
    site.put("same", target_size=1)
    site.until_running("later", 1, seconds=60)
    site.until_running("same", 1, seconds=60)
    with fast_tries(site, "EditedQueueUrl") as (url, dead_url):
        set_version(site, "later", 2)
        resize_pool(site.cloud, "later", 2)
        site.watcher.until(lambda: depth(site, dead_url), "the dead letter", seconds=120)
        site.watcher.until(lambda: site.watcher.alarm("status-unreadable", since=since), "the alarm", seconds=60)
        resize_pool(site.cloud, "same", 2)
        site.until_running("same", 2, seconds=60)
        assert len(site.instances("later")) == 1
        site.watcher.until(lambda: not depth(site, url), "all that names the pool is dead", seconds=60)
        set_version(site, "later", 1)
        redrive(site, dead_url, url)
        site.until_running("later", 2, seconds=60)
        site.watcher.until(lambda: not depth(site, url), "the message is done with", seconds=60)
        assert depth(site, dead_url) == 0


ODD_ITEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "almost 400 KB": ("huge", {"description": "x" * 390_000}),
    "10,000 unknown attributes": ("many", {f"unknown-{number}": "x" for number in range(10_000)}),
    "unicode": ("🦄 pool", {"größe": 3}),
    "all pools to a filter": ("*", {}),
    "the longest key": ("k" * 2048, {}),
}


@pytest.mark.parametrize("odd", ODD_ITEMS)
def test_an_invalid_item_gets_an_answer_and_others_are_unaffected(site: Site, odd: str) -> None:
    """Also after its deletion: only its own instances are terminated."""
    name, attributes = ODD_ITEMS[odd]
    even = f"even-{list(ODD_ITEMS).index(odd)}"
    site.put(even, target_size=1)
    site.until_running(even, 1, seconds=60)
    before = site.instances(even)
    site.put(name, **attributes)
    faults = site.watcher.until(lambda: site.status(name).get("spec_errors"), "spec_errors", seconds=60)
    assert all(fault[part] for fault in faults for part in ("field", "rule", "remedy"))
    assert len(json.dumps(site.status(name), default=str).encode()) < LARGEST_STATUS
    delete_pool(site.cloud, name)
    site.watcher.until(lambda: not site.status(name), "it is forgotten", seconds=60)
    assert site.instances(even) == before
    assert site.ever_launched(even) == [one["instance_id"] for one in before]
    assert site.status(even)["spec_errors"] == []


@contextmanager
def fast_tries(site: Site, queue: str) -> Iterator[tuple[str, str]]:
    """Retry failed messages soon. Yields the queue and its dead-letter queue, which is emptied afterwards."""
    sqs, url = site.cloud.client("sqs"), site.cloud.outputs[queue]
    asked = ["VisibilityTimeout", "RedrivePolicy"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=asked)["Attributes"]
    dead_name = json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
    dead_url = sqs.get_queue_url(QueueName=dead_name)["QueueUrl"]
    sqs.purge_queue(QueueUrl=dead_url)
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(TRY_SECONDS)})
    try:
        yield url, dead_url
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": attributes["VisibilityTimeout"]})
        sqs.purge_queue(QueueUrl=dead_url)


def depth(site: Site, url: str) -> int:
    """The messages in a queue, including those in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = site.cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)


def has(site: Site, url: str, messages: int) -> bool:
    """Whether a queue has this number of messages."""
    return depth(site, url) == messages


def taken(site: Site, url: str) -> Iterator[str]:
    """Remove all messages from a queue. Returns their bodies."""
    sqs = site.cloud.client("sqs")
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            yield message["Body"]


def redrive(site: Site, dead_url: str, url: str) -> None:
    """Redrive dead letters like the console, or by hand where that call is missing."""
    sqs = site.cloud.client("sqs")
    arn = sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    try:
        sqs.start_message_move_task(SourceArn=arn)
    except ClientError:  # ministack has no message move tasks
        for body in taken(site, dead_url):
            sqs.send_message(QueueUrl=url, MessageBody=body)


def set_version(site: Site, pool: str, version: int) -> None:
    """Change the version of a pool's remembered state."""
    site.cloud.client("dynamodb").update_item(
        TableName=site.cloud.outputs["StatusTable"],
        Key={"pool_name": {"S": pool}},
        UpdateExpression="SET controller.memory.version = :version",
        ExpressionAttributeValues={":version": {"N": str(version)}},
    )
