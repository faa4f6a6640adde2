"""The alarm topic: encrypted, and open to any subscriber that you add."""

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

    With the free key that AWS manages, CloudWatch may not publish, and alarms are lost without an error. A customer
    managed key costs a dollar a month.
    """

    def __init__(self, scope: Construct, construct_id: str, *, deployment: Deployment) -> None:
        super().__init__(scope, construct_id)
        cloudwatch_service = iam.ServicePrincipal("cloudwatch.amazonaws.com")
        key = kms.Key(
            self,
            "TopicKey",
            description=f"Encrypts the alarm messages of {deployment.stack}",
            enable_key_rotation=True,
            # Messages exist only for minutes, so nothing is left to decrypt after the stack is deleted.
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
                # When an alarm publishes, KMS sees the topic in the encryption context, not the alarm's account.
                conditions={"StringLike": {"kms:EncryptionContext:aws:sns:topicArn": self._made_by_cloudformation()}},
            )
        )
        # An explicit topic policy replaces the default one, which lets the account's alarms publish.
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
        """The topic's ARN up to its random end. The topic refers to the key, so the key cannot refer to the topic."""
        stack, topic = Stack.of(self), cast("CfnElement", self.topic.node.default_child)
        return stack.format_arn(service="sns", resource=f"{stack.stack_name}-{stack.get_logical_id(topic)}-*")
