"""Alarms: an invalid item raises one, its contributor is the pool, and people receive one message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from acceptance.run import Run
from localcloud.topic_queue import subscribed_queue

POOL = "accept-invalid"
ALARM_SECONDS, MESSAGE_SECONDS, AGAIN_SECONDS = 420, 240, 60


def queue_name(stack: str) -> str:
    """The name of the queue that receives what people receive."""
    return f"{stack}-accept-messages"


def listen(run: Run) -> str:
    """Subscribe a queue to the topic for people, and return its URL."""
    return subscribed_queue(run.client, run.deployment.output("MessagesTopic"), queue_name(run.place.stack))


def alarm(run: Run) -> str:
    """Write an invalid item, wait for its alarm and its message, and remove the item."""
    url, name = listen(run), f"{run.place.stack}-pool-item-invalid"
    run.put_pool({"pool_name": POOL, "instance_types": run.state.types, "max_instances": 0, "min_instances": -1})
    try:
        found = run.until(lambda: _in_alarm(run, name), f"the alarm {name}", seconds=ALARM_SECONDS)
        since = found["StateUpdatedTimestamp"].astimezone(UTC)
        text = f"{name} in ALARM: {found['StateReason'][:200]}"
        if not run.local:
            run.seen("query-alarm", text)
            _contributors(run, name)
        return f"{text}; {_message(run, url, since)}"
    finally:
        table = run.deployment.output("PoolsTable")
        run.client("dynamodb").delete_item(TableName=table, Key={"pool_name": {"S": POOL}})


def _in_alarm(run: Run, name: str) -> dict[str, Any] | None:
    found = run.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return next((dict(one) for one in found if one["StateValue"] == "ALARM"), None)


def _contributors(run: Run, name: str) -> None:
    found = run.client("cloudwatch").describe_alarm_contributors(AlarmName=name)["AlarmContributors"]
    attributes = [one["ContributorAttributes"] for one in found]
    run.judge(
        "alarm-contributors", f"contributors: {attributes}", holds=any(POOL in one.values() for one in attributes)
    )


def _message(run: Run, url: str, since: datetime) -> str:
    messages: list[dict[str, Any]] = []

    def received() -> dict[str, Any] | None:
        messages.extend(_received(run, url))
        return next((one for one in messages if POOL in one.get("Subject", "")), None)

    message = run.until(received, f"a message about {POOL}", seconds=MESSAGE_SECONDS)
    subject, sent = message["Subject"], datetime.fromisoformat(message["Timestamp"])
    seconds = (sent - since).total_seconds()
    run.seen("message-time", f"{subject!r} was sent {seconds:.1f} s after the alarm's change of state")
    if not run.local:
        run.seen("message-key", "it arrived through the encrypted topic")
    until = monotonic() + (AGAIN_SECONDS / 6 if run.local else AGAIN_SECONDS)

    def waited() -> bool:
        messages.extend(_received(run, url))
        return monotonic() > until

    run.until(waited, "another message", seconds=2 * AGAIN_SECONDS)
    times = sum(one.get("Subject") == subject for one in messages)
    run.judge("message-once", f"{subject!r} arrived {times} times", holds=times == 1)
    return f"{subject!r} after {seconds:.1f} s, {times} times"


def _received(run: Run, url: str) -> Iterator[dict[str, Any]]:
    """What SNS has sent to the queue; each message is deleted when the next one is asked for."""
    sqs = run.client("sqs")
    for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
        yield json.loads(message["Body"])
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
