"""The composition root: real adapters, created once per cold start."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from lambdas.alarms import AlarmDesk
from lambdas.aws.clients import EC2, LAUNCH, PRICES, client, price_list_region
from lambdas.aws.drainer import EventsAndCommands
from lambdas.aws.due_queue import SqsDueQueue
from lambdas.aws.ec2_fleet import Ec2Fleet
from lambdas.aws.message_topic import MessageTopic
from lambdas.aws.notices_queue import SqsNoticesQueue
from lambdas.aws.offerings import Offerings
from lambdas.aws.pool_table import PoolTable
from lambdas.aws.status_table import StatusTable
from lambdas.control_plane import ControlPlane
from lambdas.domain.alarm.message import Links
from lambdas.domain.guide import Trouble
from lambdas.domain.model.errors import reason_of
from lambdas.domain.model.status import Reason
from lambdas.domain.record.backoff import BackoffPolicy
from lambdas.metrics import Metric
from lambdas.settings import AlarmSettings, Settings
from lambdas.telemetry import tally


def utc_now() -> datetime:
    """The clock: now, in UTC."""
    return datetime.now(UTC)


@cache
def edited_queue() -> SqsDueQueue:
    """The queue of edited pools, for the function that needs nothing else."""
    return SqsDueQueue(client("sqs"), Settings.load().edited_queue_url)


@cache
def notices_queue() -> SqsNoticesQueue:
    """The queue of EC2's events."""
    return SqsNoticesQueue(client("sqs"), Settings.load().notices_queue_url)


@cache
def alarm_desk() -> AlarmDesk:
    """What the function that explains alarms needs."""
    settings = AlarmSettings.load()
    return AlarmDesk(
        stack=settings.stack,
        statuses=StatusTable(client("dynamodb"), settings.status_table, lease_seconds=1, clock=utc_now),
        messages=MessageTopic(client("sns"), settings.messages_topic),
        links=Links(runbook=settings.runbook, dashboard=settings.dashboard_url),
        clock=utc_now,
        patience={
            Trouble.BELOW_TARGET: timedelta(seconds=settings.below_target_seconds),
            Trouble.WAITING_LONG: timedelta(seconds=settings.waiting_long_seconds),
            Trouble.PRICE_ABOVE_MAX: timedelta(seconds=settings.price_above_cap_seconds),
        },
    )


def _count(parsed_response: Mapping[str, Any] | None = None, **_: Any) -> None:
    """Count every answer of EC2, those to botocore's own retries too."""
    tally(Metric.EC2_CALLS)
    code = (parsed_response or {}).get("Error", {}).get("Code", "")
    if reason_of(code) is Reason.THROTTLED:
        tally(Metric.EC2_THROTTLES)


@cache
def control_plane() -> ControlPlane:
    """The control plane, configured from the environment."""
    settings = Settings.load()
    dynamodb, ec2, launcher = client("dynamodb"), client("ec2", EC2), client("ec2", LAUNCH)
    for ec2_client in (ec2, launcher):
        ec2_client.meta.events.register("response-received.ec2", _count)
    region = ec2.meta.region_name
    prices_from = price_list_region(region)
    offerings = Offerings(
        ec2,
        client("pricing", PRICES, prices_from) if prices_from else None,
        default_subnets=settings.subnet_ids,
        region=region,
        clock=utc_now,
    )
    return ControlPlane(
        stack=settings.stack,
        pools=PoolTable(dynamodb, settings.pools_table),
        statuses=StatusTable(dynamodb, settings.status_table, lease_seconds=settings.lease_seconds, clock=utc_now),
        fleet=Ec2Fleet(
            ec2,
            launcher=launcher,
            stack=settings.stack,
            default_launch_template=settings.default_launch_template,
            default_launch_template_version=settings.default_launch_template_version,
            offerings=offerings,
        ),
        drainer=EventsAndCommands(client("events"), client("ssm"), stack=settings.stack, clock=utc_now),
        queue=SqsDueQueue(client("sqs"), settings.due_queue_url),
        clock=utc_now,
        backoff_policy=BackoffPolicy(
            base=timedelta(seconds=settings.backoff_base_seconds),
            longest=timedelta(seconds=settings.backoff_max_seconds),
        ),
        drain_grace=timedelta(seconds=settings.drain_grace_seconds),
        minute=timedelta(seconds=settings.minute_seconds),
    )
