"""The five functions: one code bundle, one role each, logs with a retention time, and settings from a typed model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping

from aws_cdk import Duration, RemovalPolicy, Stack, Token
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra import bundling
from infra.choices import ContextError
from infra.data import Data
from infra.launch_template import DefaultLaunchTemplate
from infra.links import dashboard_url
from infra.queues import Queues
from infra.stages import Deployment, Stage
from infra.topic import Topics
from lambdas.settings import AlarmSettings, Settings

PYTHON = lambda_.Runtime.PYTHON_3_13

ENVIRONMENT_BYTES = 4096
"""Lambda accepts no larger environment: names and values together, as JSON."""

APP_ID_BYTES = 50
UNKNOWN_BYTES = 255
"""Bytes for a value that is known only at deployment: no table name and no queue URL is longer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Function:
    """A function with the role it runs under."""

    handler: str
    function: lambda_.Function
    role: iam.Role


class Functions(Construct):
    """The functions. ``permissions`` adds their rights, and ``triggers`` adds their triggers."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        data: Data,
        queues: Queues,
        launch_template: DefaultLaunchTemplate,
        topics: Topics,
    ) -> None:
        super().__init__(scope, construct_id)
        self._stage = deployment.stage
        self._stack = deployment.stack
        self._code = code(self, deployment.stage)
        reconciling = settings(deployment, data, queues, launch_template).environment()
        common = {
            "POWERTOOLS_LOG_LEVEL": "INFO",
            "POWERTOOLS_TRACE_DISABLED": str(not deployment.stage.tracing).lower(),
        }
        self._environment = reconciling | common
        self.tick = self._function(
            "OnTick",
            "on_tick",
            "Every minute: publishes the gauges and a heartbeat, and requests a reconcile for each pool that is due",
        )
        # The Scheduler invokes asynchronously, so Lambda itself must store the invocations that it cannot run.
        self.tick.function.configure_async_invoke(
            retry_attempts=0,  # the next tick is a better retry
            max_event_age=Duration.minutes(1),
            on_failure=destinations.SqsDestination(queues.tick_dead),
        )
        self.pool_edit = self._function(
            "OnPoolEdit", "on_pool_edit", "A pool item changed: requests its reconcile at once"
        )
        self.pool_due = self._function(
            "OnPoolDue",
            "on_pool_due",
            "Reconciles one pool with EC2",
            # A pool with more to do sends itself another message. Lambda would treat that as a runaway loop and stop it
            # after 16 turns. The lease, back-off and tick limit it instead.
            recursive_loop=lambda_.RecursiveLoop.ALLOW,
        )
        self.spot_notice = self._function(
            "OnSpotNotice", "on_spot_notice", "Notes interruption notices and state changes, and reconciles their pools"
        )
        self._environment = alarm_settings(deployment, data, topics).environment() | common
        self.alarm = self._function("OnAlarm", "on_alarm", "Explains alarms to people, from what PoolStatus says")

    def __iter__(self) -> Iterator[Function]:
        return iter((self.tick, self.pool_edit, self.pool_due, self.spot_notice, self.alarm))

    def _function(
        self,
        construct_id: str,
        handler: str,
        description: str,
        recursive_loop: lambda_.RecursiveLoop | None = None,
    ) -> Function:
        stage = self._stage
        log_group = logs.LogGroup(
            self,
            f"{construct_id}Logs",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.RETAIN if stage.keep_data else RemovalPolicy.DESTROY,
        )
        role = iam.Role(
            self,
            f"{construct_id}Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"{Stack.of(self).stack_name}: {handler}",
        )
        function = lambda_.Function(
            self,
            construct_id,
            runtime=PYTHON,
            architecture=lambda_.Architecture.ARM_64 if stage.arm64 else lambda_.Architecture.X86_64,
            code=self._code,
            handler=f"lambdas.handlers.{handler}.handler",
            description=description,
            role=role,
            memory_size=512,
            timeout=Duration.seconds(stage.function_timeout),
            # Names the function in the user agent of its AWS calls, which CloudTrail keeps; at most 50 characters.
            environment=_that_fits(
                self._environment | {"AWS_SDK_UA_APP_ID": f"{self._stack[: APP_ID_BYTES - 1 - len(handler)]}-{handler}"}
            ),
            tracing=lambda_.Tracing.ACTIVE if stage.tracing else lambda_.Tracing.DISABLED,
            log_group=log_group,
            # Powertools already writes JSON lines, both log records and embedded metrics. Lambda's own JSON format
            # would parse and filter them again; as text they stay unchanged.
            logging_format=lambda_.LoggingFormat.TEXT,
            recursive_loop=recursive_loop,
        )
        return Function(handler=handler, function=function, role=role)


def alarm_settings(deployment: Deployment, data: Data, topics: Topics) -> AlarmSettings:
    """What the function reads that explains alarms."""
    return AlarmSettings(
        stack=deployment.stack,
        status_table=data.status.table_name,
        messages_topic=topics.messages.topic_arn,
        runbook=deployment.runbook,
        dashboard_url=dashboard_url(deployment.stack),
        below_target_seconds=deployment.stage.below_target_seconds,
        waiting_long_seconds=deployment.stage.waiting_long_seconds,
        price_above_cap_seconds=deployment.price_above_cap_seconds,
    )


def _that_fits(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The same environment. Raises ContextError if it is too large for Lambda, which only many subnets can cause."""
    known = {
        **{name: "x" * UNKNOWN_BYTES if Token.is_unresolved(value) else value for name, value in environment.items()},
        "AWS_SDK_UA_APP_ID": "x" * APP_ID_BYTES,  # so that all functions are measured in the same way
    }
    size, subnets = len(json.dumps(known)), environment.get("SPOTPOOLS_SUBNET_IDS", "").split(",")
    if size > ENVIRONMENT_BYTES:
        each = len(subnets[0]) + 1
        fit = len(subnets) - -(-(size - ENVIRONMENT_BYTES) // each)
        raise ContextError(
            f"subnet_ids={subnets[0]},…: {len(subnets)} subnets do not fit into a function's environment of "
            f"{ENVIRONMENT_BYTES} bytes; give the stack at most {fit}, and list others in the pools' items"
        )
    return environment


def settings(deployment: Deployment, data: Data, queues: Queues, launch_template: DefaultLaunchTemplate) -> Settings:
    """What the functions read at their start, with names from the deployment still as CloudFormation tokens."""
    stage = deployment.stage
    return Settings(
        stack=deployment.stack,
        pools_table=data.pools.table_name,
        status_table=data.status.table_name,
        due_queue_url=queues.due.queue_url,
        edited_queue_url=queues.edited.queue_url,
        notices_queue_url=queues.notices.queue_url,
        default_launch_template=launch_template.template_name,
        default_launch_template_version=launch_template.template_version,
        subnet_ids=deployment.subnet_ids,
        lease_seconds=stage.lease_seconds,
        drain_grace_seconds=stage.drain_grace_seconds,
        backoff_base_seconds=stage.backoff_base_seconds,
        backoff_max_seconds=stage.backoff_max_seconds,
        minute_seconds=stage.minute_seconds,
    )


def code(scope: Construct, stage: Stage) -> lambda_.Code:
    """One asset for all five functions, identified by its content: only a change of code or dependencies deploys it."""
    if not Stack.of(scope).bundling_required:
        return lambda_.Code.from_asset(str(bundling.SOURCES))  # cdk destroy and the template tests need no wheels
    path, content_hash = bundling.bundle(wheels=stage.wheels, python_version=PYTHON.name.removeprefix("python"))
    return lambda_.Code.from_asset(str(path), asset_hash=content_hash)
