"""The composition root: real adapters, made once per cold start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from lambdas.aws.clients import EC2, LAUNCH, PRICE_LIST_REGION, client
from lambdas.aws.drainer import EventsAndCommands
from lambdas.aws.due_queue import SqsDueQueue
from lambdas.aws.ec2_fleet import Ec2Fleet
from lambdas.aws.offerings import Offerings
from lambdas.aws.pool_table import PoolTable
from lambdas.aws.status_table import StatusTable
from lambdas.domain.pauses import Pauses
from lambdas.reconcile import ControlPlane
from lambdas.settings import Settings


def utc_now() -> datetime:
    """The clock: now, in UTC."""
    return datetime.now(UTC)


@cache
def due_queue() -> SqsDueQueue:
    """The queue alone, for the function that needs nothing else."""
    return SqsDueQueue(client("sqs"), Settings.load().due_queue_url)


@cache
def control_plane() -> ControlPlane:
    """Everything, from the environment."""
    settings = Settings.load()
    dynamodb, ec2 = client("dynamodb"), client("ec2", EC2)
    offerings = Offerings(
        ec2,
        client("pricing", region=PRICE_LIST_REGION),
        default_subnets=settings.subnet_ids,
        region=ec2.meta.region_name,
        clock=utc_now,
    )
    return ControlPlane(
        stack=settings.stack,
        pools=PoolTable(dynamodb, settings.pools_table),
        statuses=StatusTable(dynamodb, settings.status_table, lease_seconds=settings.lease_seconds, clock=utc_now),
        fleet=Ec2Fleet(
            ec2,
            launcher=client("ec2", LAUNCH),
            stack=settings.stack,
            default_launch_template=settings.default_launch_template,
            offerings=offerings,
        ),
        drainer=EventsAndCommands(client("events"), client("ssm"), stack=settings.stack, clock=utc_now),
        queue=due_queue(),
        clock=utc_now,
        pauses=Pauses(
            base=timedelta(seconds=settings.backoff_base_seconds),
            longest=timedelta(seconds=settings.backoff_max_seconds),
        ),
        drain_grace=timedelta(seconds=settings.drain_grace_seconds),
        minute=timedelta(seconds=settings.minute_seconds),
    )
