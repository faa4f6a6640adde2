"""What makes each function run: the schedule, the stream of edits, EC2's events, and the queues."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as event_targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as scheduler_targets
from constructs import Construct

from infra.data import Data
from infra.functions import Functions
from infra.queues import Queues
from lambdas.alarm_events import ALARM, CONTRIBUTOR

EVENTS = {
    "InterruptionWarnings": ("aws.ec2", "EC2 Spot Instance Interruption Warning", None),
    "RebalanceRecommendations": ("aws.ec2", "EC2 Instance Rebalance Recommendation", None),
    "StateChanges": (
        "aws.ec2",
        "EC2 Instance State-change Notification",
        {"state": ["running", "stopping", "stopped", "shutting-down", "terminated"]},
    ),
    "Maintenance": (
        "aws.health",
        "AWS Health Event",
        {"service": ["EC2"], "eventTypeCategory": ["scheduledChange"]},
    ),
}
"""The events that we act on: source, detail-type and filter. They cannot be filtered by tag, so events of other
instances in the account arrive too, and the function ignores them."""

CONCURRENT_RECONCILES = 10
"""Limits our calls to EC2: the whole account shares its rate limits in a Region."""


class Triggers(Construct):
    """Each trigger has limited retries and a dead-letter queue. Events and edits only start work sooner."""

    def __init__(
        self, scope: Construct, construct_id: str, *, data: Data, queues: Queues, functions: Functions
    ) -> None:
        super().__init__(scope, construct_id)
        scheduler.Schedule(
            self,
            "Tick",
            description="Finds pools that are due and publishes the gauges",
            schedule=scheduler.ScheduleExpression.rate(Duration.minutes(1)),
            target=scheduler_targets.LambdaInvoke(
                functions.tick.function,
                retry_attempts=2,
                max_event_age=Duration.minutes(1),  # the next tick has started by then
                dead_letter_queue=queues.tick_dead,
            ),
        )
        functions.pool_edit.function.add_event_source(
            sources.DynamoEventSource(
                data.pools,
                starting_position=lambda_.StartingPosition.TRIM_HORIZON,  # LATEST can miss an edit made while deploying
                batch_size=100,
                # Without limits, a record that cannot be handled would block its shard for a day.
                retry_attempts=3,
                max_record_age=Duration.hours(1),
                bisect_batch_on_error=True,
                on_failure=sources.SqsDlq(queues.edits_dead),
            )
        )
        for queue in (queues.due, queues.edited):
            functions.pool_due.function.add_event_source(
                sources.SqsEventSource(
                    queue,
                    batch_size=1,  # a slow pool delays no other pool, and has the whole time limit
                    max_concurrency=CONCURRENT_RECONCILES,
                    report_batch_item_failures=True,
                )
            )
        functions.spot_notice.function.add_event_source(
            sources.SqsEventSource(
                queues.notices,
                batch_size=10,
                max_batching_window=Duration.seconds(1),  # simultaneous notices become one launch
                max_concurrency=CONCURRENT_RECONCILES,
                report_batch_item_failures=True,
            )
        )
        functions.alarm.function.add_event_source(
            sources.SqsEventSource(
                queues.alarms,
                # One cause is one message: the pools of one evaluation arrive within seconds.
                batch_size=100,
                max_batching_window=Duration.seconds(5),
                max_concurrency=2,
                report_batch_item_failures=True,
            )
        )
        events.Rule(
            self,
            "AlarmChanges",
            description="Changes of alarms to the function that explains them; it ignores other stacks' alarms",
            event_pattern=events.EventPattern(source=["aws.cloudwatch"], detail_type=[ALARM, CONTRIBUTOR]),
            targets=[event_targets.SqsQueue(queues.alarms, retry_attempts=10, dead_letter_queue=queues.alarms_dead)],
        )
        for name, (source, detail_type, detail) in EVENTS.items():
            events.Rule(
                self,
                name,
                description=f"{detail_type} to the notices queue",
                event_pattern=events.EventPattern(source=[source], detail_type=[detail_type], detail=detail),
                targets=[
                    event_targets.SqsQueue(
                        queues.notices,
                        # A notice is useful for two minutes. After five the instance has ended, as listings show.
                        max_event_age=Duration.minutes(5),
                        retry_attempts=10,
                        dead_letter_queue=queues.notices_dead,
                    )
                ],
            )
