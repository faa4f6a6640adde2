"""Two encrypted topics, open to any subscriber that you add: alarms for machines, explained messages for people."""

from __future__ import annotations

from typing import cast

from aws_cdk import CfnElement, Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.stages import Deployment


class Topics(Construct):
    """The topic of the alarms as CloudWatch writes them, and that of the messages that explain them.

    Both are encrypted with a key of the stack's own.

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
        self.alarms = sns.Topic(self, "Topic", master_key=key, enforce_ssl=deployment.stage.tls_only)
        self.messages = sns.Topic(self, "Messages", master_key=key, enforce_ssl=deployment.stage.tls_only)
        self._key = key
        made = [self._made_by_cloudformation(topic) for topic in (self.alarms, self.messages)]
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsPublishEncrypted",
                principals=[cloudwatch_service],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                # When an alarm publishes, KMS sees the topic in the encryption context, not the alarm's account.
                conditions={"StringLike": {"kms:EncryptionContext:aws:sns:topicArn": made}},
            )
        )
        for topic in (self.alarms, self.messages):
            # An explicit topic policy replaces the default one, which lets the account's alarms publish. An alarm that
            # could mean that nothing is explained publishes to both topics.
            topic.add_to_resource_policy(
                iam.PolicyStatement(
                    sid="AlarmsPublish",
                    principals=[cloudwatch_service],
                    actions=["sns:Publish"],
                    resources=[topic.topic_arn],
                    conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
                )
            )
        if deployment.alarm_email:
            self.messages.add_subscription(subscriptions.EmailSubscription(deployment.alarm_email))

    def let_explain(self, role: iam.Role) -> None:
        """Let a function publish messages: with rights on the topic, and on the key in its name."""
        role.add_to_policy(
            iam.PolicyStatement(sid="Explain", actions=["sns:Publish"], resources=[self.messages.topic_arn])
        )
        role.add_to_policy(
            iam.PolicyStatement(
                sid="ExplainEncrypted",
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=[self._key.key_arn],
                conditions={"StringEquals": {"kms:EncryptionContext:aws:sns:topicArn": self.messages.topic_arn}},
            )
        )

    def _made_by_cloudformation(self, topic: sns.Topic) -> str:
        """The topic's ARN up to its random end. The topic refers to the key, so the key cannot refer to the topic."""
        stack, element = Stack.of(self), cast("CfnElement", topic.node.default_child)
        return stack.format_arn(service="sns", resource=f"{stack.stack_name}-{stack.get_logical_id(element)}-*")
