"""The stack: creates all parts and connects them."""

from __future__ import annotations

from aws_cdk import CfnOutput, CliCredentialsStackSynthesizer, DefaultStackSynthesizer, Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.acknowledged import acknowledge
from infra.alarms import Alarms
from infra.dashboard import Dashboard
from infra.data import Data
from infra.functions import Functions
from infra.launch_template import DefaultLaunchTemplate
from infra.permissions import Permissions
from infra.queues import Queues
from infra.stages import Deployment
from infra.topic import AlarmTopic
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
        functions = Functions(
            self,
            "Functions",
            deployment=deployment,
            data=data,
            queues=queues,
            launch_template=template,
        )
        Permissions(self, "Permissions", deployment=deployment, data=data, queues=queues, functions=functions)
        Triggers(self, "Triggers", data=data, queues=queues, functions=functions)
        topic = AlarmTopic(self, "Alerts", deployment=deployment).topic
        Alarms(self, "Alarms", deployment=deployment, topic=topic, queues=queues, functions=functions)
        dashboard = Dashboard(self, "Dashboard", deployment=deployment, queues=queues, functions=functions)
        acknowledge(self, queues=queues, functions=functions)
        if deployment.permissions_boundary:
            iam.PermissionsBoundary.of(self).apply(
                iam.ManagedPolicy.from_managed_policy_arn(self, "Boundary", deployment.permissions_boundary)
            )

        outputs = {
            "Version": __version__,
            "PoolsTable": data.pools.table_name,
            "StatusTable": data.status.table_name,
            "AlarmTopic": topic.topic_arn,
            "DefaultLaunchTemplate": template.template_name,
            "DueQueueUrl": queues.due.queue_url,
            "EditedQueueUrl": queues.edited.queue_url,
            "NoticesQueueUrl": queues.notices.queue_url,
            "TickFunction": functions.tick.function.function_name,
            "PoolEditFunction": functions.pool_edit.function.function_name,
            "PoolDueFunction": functions.pool_due.function.function_name,
            "Dashboard": dashboard.name,
            "SpotNoticeFunction": functions.spot_notice.function.function_name,
        }
        for name, value in outputs.items():
            CfnOutput(self, f"{name}Output", value=value).override_logical_id(name)
