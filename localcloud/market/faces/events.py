"""Delivers the market's events as EventBridge would: to the targets of every deployed rule that the event matches.

AWS's own events cannot be put on a bus by a customer (sources ``aws.*`` are refused), and the local AWS refuses them as
well. So each event is held against each enabled rule of the default bus by TestEventPattern, the service's own matcher,
and sent to the matching rules' targets. docs/market.md lists what this leaves out. A delivery that fails is counted and
logged, never passed over.
"""

import json
import logging
import os
import threading
import time
from collections import Counter
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from localcloud.market.model.market import Event

_RULES_KEPT_SECONDS = 3.0
_SQS_BATCH = 10

_log = logging.getLogger("localcloud.market.faces.events")


class UnplayedTargetError(Exception):
    """A rule's target is of a kind, or asks something, that is not played here."""


class EventBridge:
    """The default event bus of the AWS at an endpoint, as far as events of EC2 go."""

    def __init__(self, endpoint_url: str, region: str) -> None:
        settings = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
        self._endpoint_url = endpoint_url
        self._clients = {
            service: boto3.client(service, endpoint_url=endpoint_url, region_name=region, config=settings)
            for service in ("events", "sqs", "lambda")
        }
        self._rules: list[tuple[str, str, list[dict[str, Any]]]] = []
        self._rules_read_at = float("-inf")
        self._windows: dict[str, int] = {}
        """Queue -> batching window of its consumer in seconds, as read with the rules."""
        self._counts: Counter[str] = Counter()
        self._last_error: str | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, region: str) -> "EventBridge | None":
        """Return the bus of the AWS at ``AWS_ENDPOINT_URL``; None, said in the log, when that is not set."""
        endpoint_url = os.environ.get("AWS_ENDPOINT_URL")
        if not endpoint_url:
            _log.warning("AWS_ENDPOINT_URL is not set: events are delivered to nobody")
            return None
        return cls(endpoint_url, region)

    def counts(self) -> dict[str, Any]:
        """Return how many events were seen, matched by a rule, delivered to a target, and not delivered, and why."""
        with self._lock:
            numbers = {name: self._counts[name] for name in ("seen", "matched", "delivered", "failed")}
            return {"to": self._endpoint_url, **numbers, "last_error": self._last_error}

    def deliver(self, events: list[Event]) -> None:
        """Send the events of one moment to the targets of the rules they match; never raises."""
        self._count("seen", len(events))
        try:
            rules = self._current_rules()
        except (BotoCoreError, ClientError) as error:
            self._failed(f"rules could not be read: {error}", len(events))
            return
        for name, pattern, targets in rules:
            matching = [event for event in events if self._matches(name, pattern, event)]
            self._count("matched", len(matching))
            for target in targets if matching else []:
                self._send(name, target, matching)

    def _current_rules(self) -> list[tuple[str, str, list[dict[str, Any]]]]:
        if time.monotonic() - self._rules_read_at > _RULES_KEPT_SECONDS:
            client = self._clients["events"]
            self._rules = [
                (rule["Name"], rule["EventPattern"], _all(client.list_targets_by_rule, "Targets", Rule=rule["Name"]))
                for rule in _all(client.list_rules, "Rules")
                if rule.get("State") == "ENABLED" and rule.get("EventPattern")
            ]
            self._windows = {}
            self._rules_read_at = time.monotonic()
        return self._rules

    def _matches(self, rule: str, pattern: str, event: Event) -> bool:
        try:
            result = self._clients["events"].test_event_pattern(EventPattern=pattern, Event=json.dumps(event))
        except (BotoCoreError, ClientError) as error:
            self._failed(f"rule {rule} could not be tested: {error}", 1)
            return False
        return bool(result["Result"])

    def _send(self, rule: str, target: dict[str, Any], events: list[Event]) -> None:
        try:
            refuse_unplayed(target)
            service = target["Arn"].split(":")[2]
            failed = self._to_queue(target, events) if service == "sqs" else self._to_function(target, events)
        except (BotoCoreError, ClientError, UnplayedTargetError) as error:
            self._failed(f"rule {rule} to {target['Arn']}: {error}", len(events))
        else:
            if failed:
                self._failed(f"rule {rule} to {target['Arn']}: {failed[0]}", len(failed))
            self._count("delivered", len(events) - len(failed))

    def _to_queue(self, target: dict[str, Any], events: list[Event]) -> list[str]:
        """Send events together, to be seen after the batching window of the queue's consumer; return what failed.

        The local AWS has no batching window, so the messages wait for its length in the queue instead: whatever comes
        together is taken together, as AWS's window would gather it.
        """
        *_, account, name = target["Arn"].split(":")
        sqs = self._clients["sqs"]
        url = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        window = self._window(target["Arn"])
        failed: list[str] = []
        for batch in (events[start : start + _SQS_BATCH] for start in range(0, len(events), _SQS_BATCH)):
            entries = [
                {"Id": str(number), "MessageBody": body_of(target, event), "DelaySeconds": window}
                for number, event in enumerate(batch)
            ]
            answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
            failed.extend(f"{one['Code']}: {one.get('Message', '')}" for one in answer.get("Failed", []))
        return failed

    def _window(self, queue_arn: str) -> int:
        """Return for how many seconds the function that reads a queue gathers messages."""
        if queue_arn not in self._windows:
            mappings = self._clients["lambda"].list_event_source_mappings(EventSourceArn=queue_arn)
            windows = [one.get("MaximumBatchingWindowInSeconds", 0) for one in mappings["EventSourceMappings"]]
            self._windows[queue_arn] = max(windows, default=0)
        return self._windows[queue_arn]

    def _to_function(self, target: dict[str, Any], events: list[Event]) -> list[str]:
        for event in events:
            self._clients["lambda"].invoke(
                FunctionName=target["Arn"], InvocationType="Event", Payload=body_of(target, event).encode()
            )
        return []

    def _count(self, name: str, number: int) -> None:
        with self._lock:
            self._counts[name] += number

    def _failed(self, text: str, number: int) -> None:
        _log.error("%d event(s) not delivered: %s", number, text)
        self._count("failed", number)
        with self._lock:
            self._last_error = text


def refuse_unplayed(target: dict[str, Any]) -> None:
    """Raise when a target asks for something that would have to be passed over in silence."""
    if target["Arn"].split(":")[2] not in ("sqs", "lambda"):
        raise UnplayedTargetError("only queues and functions are played as targets")
    for name in ("InputTransformer", "InputPath", "SqsParameters"):
        if target.get(name):
            raise UnplayedTargetError(f"{name} is not played")


def body_of(target: dict[str, Any], event: Event) -> str:
    """Return what a target receives of an event: its constant input, or else the event."""
    constant = target.get("Input")
    return constant if isinstance(constant, str) else json.dumps(event)


def _all(operation: Any, key: str, **params: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    while True:
        answer = operation(**params)
        items.extend(answer[key])
        if not answer.get("NextToken"):
            return items
        params["NextToken"] = answer["NextToken"]
