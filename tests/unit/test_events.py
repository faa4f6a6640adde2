"""Messages from outside: known forms are read, others ignored, malformed ones refused with a reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from lambdas.events import (
    HealthEvent,
    Ignored,
    InterruptionNotice,
    MalformedEventError,
    RebalanceRecommendation,
    StateChange,
    edited_pools,
    parse_due_pool,
    parse_ec2_event,
)


def event(kind: str, **detail: Any) -> str:
    return json.dumps(
        {
            "version": "0",
            "id": "12345678-1234-1234-1234-123456789012",
            "detail-type": kind,
            "source": "aws.ec2",
            "account": "123456789012",
            "time": "2026-11-23T12:00:00Z",
            "region": "us-east-1",
            "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0"],
            "detail": {"instance-id": "i-0123456789abcdef0", **detail},
        }
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (event("EC2 Spot Instance Interruption Warning", **{"instance-action": "terminate"}), InterruptionNotice),
        (event("EC2 Instance Rebalance Recommendation"), RebalanceRecommendation),
        (event("EC2 Instance State-change Notification", state="running"), StateChange),
        (event("EC2 Fleet Instance Change"), Ignored),
        (event("AWS API Call via CloudTrail"), Ignored),
    ],
)
def test_each_kind_is_recognised(body: str, kind: type) -> None:
    assert isinstance(parse_ec2_event(body), kind)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        "{",
        "{}",
        '{"detail-type": 7}',
        event("EC2 Spot Instance Interruption Warning"),
        event("EC2 Instance State-change Notification", **{"instance-id": "../../etc", "state": "running"}),
        event("EC2 Instance Rebalance Recommendation").replace("2026-11-23T12:00:00Z", "yesterday"),
    ],
)
def test_a_malformed_event_is_refused_with_place_and_reason(body: str) -> None:
    with pytest.raises(MalformedEventError, match=r"malformed EventBridge event: .+got"):
        parse_ec2_event(body)


def health(**detail: Any) -> HealthEvent:
    body = json.loads(event("AWS Health Event"))
    body["detail"] = {"service": "EC2", "eventTypeCategory": "scheduledChange", "eventTypeCode": "X", **detail}
    parsed = parse_ec2_event(json.dumps(body))
    assert isinstance(parsed, HealthEvent)
    return parsed


@pytest.mark.parametrize(
    ("updated_at", "at"),
    [
        ("Mon, 23 Nov 2026 11:00:00 GMT", datetime(2026, 11, 23, 11, tzinfo=UTC)),
        ("Mon, 23 Nov 2026 11:00:00 -0000", datetime(2026, 11, 23, 11, tzinfo=UTC)),
        *((odd, datetime(2026, 11, 23, 12, tzinfo=UTC)) for odd in (None, 7, "", "yesterday", "Mon, 99 Nov 2026")),
    ],
)
def test_the_time_of_a_health_event_is_its_last_update_or_else_when_it_was_sent(
    updated_at: object, at: datetime
) -> None:
    assert health(lastUpdatedTime=updated_at).at == at


def test_an_invalid_entity_does_not_affect_the_others() -> None:
    one, two = "i-0123456789abcdef0", "i-0123456789abcdef1"
    entities = [{"entityValue": one, "status": 7}, {"entityValue": 7}, {}, {"entityValue": two, "status": "RESOLVED"}]
    heard = health(affectedEntities=entities, statusCode=None)
    assert heard.instance_ids == (one, two)
    assert [heard.over(id_) for id_ in heard.instance_ids] == [False, True]


def test_a_due_message_names_its_pool() -> None:
    assert parse_due_pool('{"pool_name": "p", "why": "it is new"}').pool_name == "p"


@pytest.mark.parametrize(
    "body", ["p", "{}", '{"pool_name": ""}', '{"pool_name": 7}', '{"pool_name": "' + "x" * 2049 + '"}']
)
def test_a_due_message_without_a_pool_is_malformed(body: str) -> None:
    with pytest.raises(MalformedEventError):
        parse_due_pool(body)


def record(name: str) -> dict[str, Any]:
    return {"eventName": "MODIFY", "dynamodb": {"Keys": {"pool_name": {"S": name}}}}


def test_edits_of_one_pool_in_a_batch_count_once_and_keep_their_order() -> None:
    assert edited_pools([record("b"), record("a"), record("b")]) == ["b", "a"]


def test_a_malformed_stream_batch_is_refused() -> None:
    with pytest.raises(MalformedEventError, match=r"Keys"):
        edited_pools([{"dynamodb": {}}])
