"""Delivers the market's events as EventBridge does: to the targets of every deployed rule that matches.

A customer cannot put AWS's own events on a bus (AWS refuses sources ``aws.*``, and so does the local AWS). So
TestEventPattern, the service's own matcher, compares each event with each enabled rule of the default bus, and this
module sends it to the targets. docs/market.md lists what is missing. A failed delivery is counted and logged.
"""

import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from localcloud.market.model.market import Event

_RULES_KEPT_SECONDS = 3.0
_SQS_BATCH = 10

_log = logging.getLogger("localcloud.market.faces.events")


class UnplayedTargetError(Exception):
    """A rule's target is of a kind, or has an option, that is not supported here."""


class EventBridge:
    """The default event bus of the AWS at an endpoint, for events of AWS's own services.

    ``client`` returns a boto3 client of a service.
    """

    def __init__(self, endpoint_url: str, client: Callable[[str], Any]) -> None:
        self._endpoint_url = endpoint_url
        self._clients = {service: client(service) for service in ("events", "sqs", "lambda")}
        self._rules: list[tuple[str, str, list[dict[str, Any]]]] = []
        self._rules_read_at = float("-inf")
        self._windows: dict[str, int] = {}
        """Queue -> the batching window of its consumer in seconds. Read together with the rules."""
        self._counts: Counter[str] = Counter()
        self._last_error: str | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, region: str) -> "EventBridge | None":
        """Return the bus of the AWS at ``AWS_ENDPOINT_URL``. None, with a warning in the log, if that is not set."""
        endpoint_url = os.environ.get("AWS_ENDPOINT_URL")
        if not endpoint_url:
            _log.warning("AWS_ENDPOINT_URL is not set: events are not delivered")
            return None
        return cls.at(endpoint_url, region)

    @classmethod
    def at(cls, endpoint_url: str, region: str) -> "EventBridge":
        """Return the bus of the AWS at this endpoint, with the environment's credentials."""
        settings = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
        return cls(
            endpoint_url,
            lambda service: boto3.client(service, endpoint_url=endpoint_url, region_name=region, config=settings),
        )

    def counts(self) -> dict[str, Any]:
        """Return how many events were seen, matched, delivered and failed, and the last error."""
        with self._lock:
            numbers = {name: self._counts[name] for name in ("seen", "matched", "delivered", "failed")}
            return {"to": self._endpoint_url, **numbers, "last_error": self._last_error}

    def deliver(self, events: list[Event]) -> None:
        """Send the events of a moment to the targets of matching rules. Never raises."""
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
        """Send events together, with the batching window of the queue's consumer as delay. Return the failures.

        The local AWS has no batching window. Because of the delay, messages that arrive together are received together,
        as with AWS's window.
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
        """Return the batching window, in seconds, of the function that reads a queue."""
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
    """Raise if a target has an option that would otherwise be ignored."""
    if target["Arn"].split(":")[2] not in ("sqs", "lambda"):
        raise UnplayedTargetError("only queues and functions are supported as targets")
    for name in ("InputTransformer", "InputPath", "SqsParameters"):
        if target.get(name):
            raise UnplayedTargetError(f"{name} is not supported")


def body_of(target: dict[str, Any], event: Event) -> str:
    """Return what a target receives for an event: its constant input, or the event."""
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
