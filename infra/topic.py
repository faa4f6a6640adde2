"""Where alarms go: an encrypted topic, to which anybody may be subscribed."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.stages import Deployment


class AlarmTopic(Construct):
    """A topic encrypted with a key of its own.

    Under the free key that AWS manages, CloudWatch may not publish and alarms are lost in silence. A key of
    one's own costs a dollar a month.
    """

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment) -> None:
        super().__init__(scope, construct_id)
        from_our_alarms = {"StringEquals": {"aws:SourceAccount": Stack.of(self).account}}
        cloudwatch_service = iam.ServicePrincipal("cloudwatch.amazonaws.com")
        key = kms.Key(
            self,
            "TopicKey",
            description=f"Encrypts the alarm messages of {deployment.stack}",
            enable_key_rotation=True,
            # Messages are gone within minutes, so there is nothing to decrypt after the stack.
            removal_policy=RemovalPolicy.DESTROY,
            pending_window=Duration.days(7),
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsPublishEncrypted",
                principals=[cloudwatch_service],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions=from_our_alarms,
            )
        )
        self.topic = sns.Topic(self, "Topic", master_key=key, enforce_ssl=deployment.stage.tls_only)
        # A topic policy of one's own replaces the default one, which had let the account's alarms publish.
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsPublish",
                principals=[cloudwatch_service],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions=from_our_alarms,
            )
        )
        if deployment.alarm_email:
            self.topic.add_subscription(subscriptions.EmailSubscription(deployment.alarm_email))
