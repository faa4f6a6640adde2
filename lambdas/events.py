"""Parses messages from outside: unknown kinds are Ignored, malformed ones raise MalformedEventError.

Shapes: EventBridge's EC2 events as the EC2 User Guide shows them; they carry no pool and no tags.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

KEY_BYTES = 2048
"""DynamoDB's limit for a key. An item with any key gets a status, even if the key is not a valid pool name."""


def _a_key(text: str) -> str:
    if len(text.encode()) > KEY_BYTES:
        raise ValueError(f"longer than {KEY_BYTES} bytes")
    return text


INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
InstanceId = Annotated[str, StringConstraints(pattern=f"^{INSTANCE_ID.pattern}$")]
PoolName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_a_key)]


class MalformedEventError(ValueError):
    """A message that none of our senders sends. Retrying it is useless, so it belongs in the dead-letter queue."""


class Outside(BaseModel):
    """A part of a message from outside: what we do not read may be there."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class _InstanceDetail(Outside):
    instance_id: InstanceId = Field(alias="instance-id")


class _InterruptionDetail(_InstanceDetail):
    instance_action: str = Field(alias="instance-action")


class _StateDetail(_InstanceDetail):
    state: str


Lenient = Annotated[str, BeforeValidator(lambda given: given if isinstance(given, str) else "")]
"""A text that may be missing or of another type: then it is empty, and the rest is still read."""


class _Entity(Outside):
    value: Lenient = Field("", alias="entityValue")
    status: Lenient = ""


class _HealthDetail(Outside):
    service: str
    category: str = Field(alias="eventTypeCategory")
    code: str = Field(alias="eventTypeCode")
    arn: Lenient = Field("", alias="eventArn")
    status: Lenient = Field("", alias="statusCode")
    updated_at: Lenient = Field("", alias="lastUpdatedTime")
    entities: tuple[_Entity, ...] = Field((), alias="affectedEntities")


class _OfOneInstance(Outside):
    time: AwareDatetime
    detail: _InstanceDetail

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """The instance that the event is about."""
        return (self.detail.instance_id,)


class InterruptionNotice(_OfOneInstance):
    """EC2 interrupts the instance, usually two minutes after ``time``."""

    kind: Literal["EC2 Spot Instance Interruption Warning"] = Field(alias="detail-type")
    detail: _InterruptionDetail


class RebalanceRecommendation(_OfOneInstance):
    """The instance has a raised risk of interruption."""

    kind: Literal["EC2 Instance Rebalance Recommendation"] = Field(alias="detail-type")


class StateChange(_OfOneInstance):
    """An instance of the account changed its state."""

    kind: Literal["EC2 Instance State-change Notification"] = Field(alias="detail-type")
    detail: _StateDetail


class HealthEvent(Outside):
    """AWS announces something for resources of the account; scheduled changes of EC2 instances concern us."""

    kind: Literal["AWS Health Event"] = Field(alias="detail-type")
    time: AwareDatetime
    detail: _HealthDetail

    @property
    def at(self) -> datetime:
        """Since when the event is in this state; messages about one event may arrive in any order."""
        try:
            updated_at = parsedate_to_datetime(self.detail.updated_at)
        except (ValueError, OverflowError):
            return self.time
        return updated_at.replace(tzinfo=updated_at.tzinfo or UTC)

    def over(self, instance_id: str) -> bool:
        """Whether the event no longer concerns an instance: the event, or the instance's part of it, is closed."""
        spared = {"RESOLVED"} if self.detail.status == "upcoming" else {"RESOLVED", "UNIMPAIRED"}
        return self.detail.status == "closed" or self._statuses[instance_id] <= spared

    @cached_property
    def _statuses(self) -> dict[str, set[str]]:
        """The statuses of each instance, which may have several; there may be thousands of instances."""
        statuses: dict[str, set[str]] = {}
        for entity in self.detail.entities:
            if INSTANCE_ID.fullmatch(entity.value):
                statuses.setdefault(entity.value, set()).add(entity.status)
        return statuses

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """The instances whose maintenance, stop or retirement is scheduled."""
        if self.detail.service != "EC2" or self.detail.category != "scheduledChange":
            return ()
        return tuple(self._statuses)


class Ignored(Outside):
    """An event that does not concern us."""

    kind: str = Field(alias="detail-type")

    @property
    def instance_ids(self) -> tuple[str, ...]:
        """No instances."""
        return ()


class DuePool(Outside):
    """A pool to reconcile."""

    pool_name: PoolName
    why: str = ""


Ec2Event = InterruptionNotice | RebalanceRecommendation | StateChange | HealthEvent | Ignored

_KINDS: dict[str, type[InterruptionNotice | RebalanceRecommendation | StateChange | HealthEvent]] = {
    "EC2 Spot Instance Interruption Warning": InterruptionNotice,
    "EC2 Instance Rebalance Recommendation": RebalanceRecommendation,
    "EC2 Instance State-change Notification": StateChange,
    "AWS Health Event": HealthEvent,
}


def parse_ec2_event(body: str | bytes) -> Ec2Event:
    """Read one EventBridge event."""
    try:
        any_event = Ignored.model_validate_json(body)
        kind = _KINDS.get(any_event.kind)
        return kind.model_validate_json(body) if kind else any_event
    except ValidationError as error:
        raise MalformedEventError(first_fault("EventBridge event", error)) from error


def parse_due_pool(body: str | bytes) -> DuePool:
    """Read one message of the due queue."""
    try:
        return DuePool.model_validate_json(body)
    except ValidationError as error:
        raise MalformedEventError(first_fault("due-pool message", error)) from error


class _KeyValue(Outside):
    text: PoolName = Field(alias="S")


class _Key(Outside):
    pool_name: _KeyValue


class _StreamData(Outside):
    keys: _Key = Field(alias="Keys")


class _StreamRecord(Outside):
    dynamodb: _StreamData


_STREAM = TypeAdapter(list[_StreamRecord])


def edited_pools(records: object) -> list[str]:
    """Names of the pools that a batch of stream records edited, in order, each once."""
    try:
        parsed = _STREAM.validate_python(records)
    except ValidationError as error:
        raise MalformedEventError(first_fault("stream batch", error)) from error
    return list(dict.fromkeys(record.dynamodb.keys.pool_name.text for record in parsed))


def first_fault(what: str, error: ValidationError) -> str:
    """The first fault of a message, in words: what it is, where, what was expected, and the value."""
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"]) or "body"
    return f"malformed {what}: {where}: {fault['msg']} (got {str(fault['input'])[:80]!r})"
