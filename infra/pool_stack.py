"""The stack: creates all parts and connects them."""

from __future__ import annotations

import json

from aws_cdk import CfnOutput, CliCredentialsStackSynthesizer, DefaultStackSynthesizer, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.acknowledged import acknowledge
from infra.alarms import Alarms
from infra.choices import RECORD
from infra.dashboard import Dashboard
from infra.data import Data
from infra.functions import Functions
from infra.launch_template import DefaultLaunchTemplate
from infra.links import dashboard_name, dashboard_url
from infra.permissions import Permissions
from infra.queues import Queues
from infra.stages import Deployment
from infra.topic import Topics
from infra.triggers import Triggers
from lambdas import __version__


class PoolStack(Stack):
    """One deployment of Spot Pools. It names no account and no Region: the credentials decide both."""

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        stage = deployment.stage
        super().__init__(
            scope,
            deployment.stack,
            description="Spot Pools: keeps pools of EC2 spot instances at size",
            synthesizer=DefaultStackSynthesizer() if stage.bootstrap_roles else CliCredentialsStackSynthesizer(),
        )
        data = Data(self, "Data", stage=stage)
        queues = Queues(self, "Queues", stage=stage)
        template = DefaultLaunchTemplate(self, "DefaultLaunchTemplate", stack=deployment.stack)
        topics = Topics(self, "Alerts", deployment=deployment)
        functions = Functions(
            self,
            "Functions",
            deployment=deployment,
            data=data,
            queues=queues,
            launch_template=template,
            topics=topics,
        )
        topics.let_explain(functions.alarm.role)
        Permissions(self, "Permissions", deployment=deployment, data=data, queues=queues, functions=functions)
        Triggers(self, "Triggers", data=data, queues=queues, functions=functions)
        alarms = Alarms(self, "Alarms", deployment=deployment, topics=topics, queues=queues, functions=functions)
        Dashboard(
            self, "Dashboard", deployment=deployment, alarms=alarms, data=data, queues=queues, functions=functions
        )
        acknowledge(self, queues=queues, functions=functions)
        if deployment.permissions_boundary:
            iam.PermissionsBoundary.of(self).apply(
                iam.ManagedPolicy.from_managed_policy_arn(self, "Boundary", deployment.permissions_boundary)
            )

        outputs = {
            "Version": (__version__, "The version of Spot Pools that made the stack"),
            RECORD: (json.dumps(deployment.chosen), "The choices of this deployment; make deploy keeps them"),
            "PoolsTable": (data.pools.table_name, "The table that you edit: an item for each pool"),
            "StatusTable": (data.status.table_name, "The table that you read: a status for each pool"),
            "MessagesTopic": (topics.messages.topic_arn, "The SNS topic for people: alarms explained; subscribe to it"),
            "AlarmTopic": (topics.alarms.topic_arn, "The SNS topic for machines: alarms as CloudWatch writes them"),
            "DefaultLaunchTemplate": (template.template_name, "The launch template of pools that describe no machine"),
            "DueQueueUrl": (queues.due.queue_url, "Pools that the tick found due"),
            "EditedQueueUrl": (queues.edited.queue_url, "Pools that were edited"),
            "NoticesQueueUrl": (queues.notices.queue_url, "EC2's events"),
            "TickFunction": (functions.tick.function.function_name, "Finds the pools that are due, each minute"),
            "PoolEditFunction": (functions.pool_edit.function.function_name, "Sends edited pools to their queue"),
            "PoolDueFunction": (functions.pool_due.function.function_name, "Reconciles due and edited pools"),
            "AlarmFunction": (functions.alarm.function.function_name, "Explains alarms to people"),
            "Dashboard": (dashboard_name(deployment.stack), "The name of the CloudWatch dashboard"),
            "DashboardUrl": (dashboard_url(deployment.stack), "The fleet on one screen"),
            "SpotNoticeFunction": (functions.spot_notice.function.function_name, "Acts on EC2's events"),
        }
        for name, (value, meaning) in outputs.items():
            CfnOutput(self, f"{name}Output", value=value, description=meaning).override_logical_id(name)
