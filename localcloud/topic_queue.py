"""A queue that receives every message of a topic, like a user's own subscription."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def subscribed_queue(client: Callable[[str], Any], topic: str, name: str) -> str:
    """Create the queue, in the topic's account and Region, and subscribe it. Returns its URL."""
    _, partition, _, region, account, _ = topic.split(":")
    arn = f"arn:{partition}:sqs:{region}:{account}:{name}"
    may_send = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may_send]})
    url = str(client("sqs").create_queue(QueueName=name, Attributes={"Policy": policy})["QueueUrl"])
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return url
