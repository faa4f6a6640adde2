"""Where alarms go: an encrypted topic, to which anybody may be subscribed."""

from __future__ import annotations

from typing import cast

from aws_cdk import CfnElement, Duration, RemovalPolicy, Stack
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
        self.topic = sns.Topic(self, "Topic", master_key=key, enforce_ssl=deployment.stage.tls_only)
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsPublishEncrypted",
                principals=[cloudwatch_service],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                # What KMS is seen to be told when an alarm publishes is the topic, not the alarm's account.
                conditions={"StringLike": {"kms:EncryptionContext:aws:sns:topicArn": self._made_by_cloudformation()}},
            )
        )
        # A topic policy of one's own replaces the default one, which had let the account's alarms publish.
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsPublish",
                principals=[cloudwatch_service],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            )
        )
        if deployment.alarm_email:
            self.topic.add_subscription(subscriptions.EmailSubscription(deployment.alarm_email))

    def _made_by_cloudformation(self) -> str:
        """The topic's ARN up to the random end of its name. The key cannot refer to the topic, which refers to it."""
        stack, topic = Stack.of(self), cast("CfnElement", self.topic.node.default_child)
        return stack.format_arn(service="sns", resource=f"{stack.stack_name}-{stack.get_logical_id(topic)}-*")
