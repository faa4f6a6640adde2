"""The alarms and the topic they go to. Each says what it means, what the system does by itself, and what to do."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.functions import Functions
from infra.queues import Queues
from infra.stages import Deployment
from lambdas import telemetry
from lambdas.telemetry import Metric

SERVICE_ROLE_REMEDY = "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"

MINUTE = Duration.minutes(1)
HEARTBEAT_PERIODS = 3

KEEP_STATE = cloudwatch.TreatMissingData.IGNORE
"""For gauges: while nobody measures, nothing is known to be well again. The heartbeat alarm tells of the silence."""


class Alarms(Construct):
    """Alarms on the whole fleet, not per pool: pools come and go without a deployment.

    PoolStatus and the metrics with the dimension Pool tell which pool it is.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, deployment: Deployment, queues: Queues, functions: Functions
    ) -> None:
        super().__init__(scope, construct_id)
        self._deployment = deployment
        self.topic = self._topic()
        self._pools(deployment.stage.below_target_seconds)
        self._terminations()
        self._drains()
        self._heartbeat()
        self._functions(functions)
        self._queues(queues)

    def _pools(self, below_target_seconds: int) -> None:
        self._gauge(
            "pool-below-target",
            Metric.SECONDS_BELOW_TARGET,
            below_target_seconds,
            f"A pool has had fewer instances than wanted for {below_target_seconds} seconds. The control plane keeps "
            "trying and says why and when next under `waiting` in PoolStatus. To help: add instance types or "
            "subnets to the pool, raise spot_max_price, or lower target_size.",
        )
        self._gauge(
            "price-above-cap",
            Metric.POOLS_PRICE_ABOVE_MAX,
            1,
            "A pool waits because every offering it allows costs more than its spot_max_price. Nothing is launched "
            "above the cap; prices are watched and the pool is filled when one falls to it. PoolStatus shows the "
            "lowest price. To fill it sooner: raise spot_max_price, or allow more instance types or zones.",
        )
        self._gauge(
            "pool-item-invalid",
            Metric.POOLS_INVALID,
            1,
            "A pool item breaks a rule. The pool goes on under its last valid item; other pools are not affected. "
            "PoolStatus names each field, value and rule under `spec_errors`, with the remedy. Correct the item.",
        )
        self._gauge(
            "status-unreadable",
            Metric.STATUSES_UNREADABLE,
            1,
            "An item of the PoolStatus table is not as the control plane writes it: edited by hand, or written by "
            "another version. Its pool is left alone until it is mended; other pools are not affected. The tick's log "
            "names the pool and what is wrong. Restore the attribute; one beside `controller` may be removed. Or wait "
            "ten minutes from this alarm on, so that EC2 shows all that was launched, and delete the item: it is made "
            "anew from EC2 and the pool item.",
        )
        self._gauge(
            "quota-reached",
            Metric.POOLS_QUOTA,
            1,
            "EC2 refused a launch because a quota of the account is used up (for spot: vCPUs per instance family "
            "and Region). The control plane tries again at long intervals. Ask for more under Service Quotas > "
            "Amazon EC2 > All ... Spot Instance Requests, or lower the target sizes.",
        )
        self._gauge(
            "launches-refused",
            Metric.POOLS_LAUNCH_REFUSED,
            1,
            "EC2 refused a launch for its configuration or for a missing permission; PoolStatus quotes it under "
            "`last_error`. The control plane tries again at long intervals; a person must act. Check the pool's "
            f"launch template (tagged {self._deployment.stack}?), subnets and instance role. If it says "
            "AuthFailure.ServiceLinkedRoleCreationNotPermitted, the account has no role for spot instances yet; "
            f"create it once with: {SERVICE_ROLE_REMEDY}",
        )

    def _terminations(self) -> None:
        period = Duration.seconds(self._deployment.stage.alarm_period)
        self._alarm(
            "terminations-refused",
            self._own_metric(Metric.TERMINATIONS_REFUSED, "Sum", period),
            1,
            "EC2 refused to terminate instances that a pool has too many of, so they go on costing money; PoolStatus "
            "quotes it under `last_error`. It is tried again every minute. Check the functions' rights (only "
            f"instances tagged {self._deployment.stack} may be terminated) and the instances' termination protection.",
        )

    def _drains(self) -> None:
        period = Duration.seconds(self._deployment.stage.alarm_period)
        self._alarm(
            "drains-refused",
            self._own_metric(Metric.DRAINS_REFUSED, "Sum", period),
            1,
            "EventBridge or Systems Manager refused to tell an instance under interruption notice, so its workload "
            "was not drained; it is replaced all the same. PoolStatus quotes it under `last_error` and `drains`. Check "
            "that the image runs the Systems Manager agent and that the instance profile allows it "
            "(AmazonSSMManagedInstanceCore).",
        )

    def _gauge(self, name: str, metric: Metric, threshold: float, description: str) -> None:
        self._alarm(
            name,
            # The highest value of the period: the worst pool counts, and one bad moment is not averaged away.
            self._own_metric(metric, "Maximum", Duration.seconds(self._deployment.stage.alarm_period)),
            threshold,
            description,
            missing=KEEP_STATE,
        )

    def _heartbeat(self) -> None:
        self._alarm(
            "heartbeat-missing",
            self._own_metric(Metric.HEARTBEAT, "Sum", MINUTE),
            1,
            f"Reconciling has stopped: the tick that runs every minute has not finished for {HEARTBEAT_PERIODS} "
            "minutes. Pools are not being kept at size and the other gauges are stale. Instances keep running. Look "
            "at the log and the errors of the tick function, at its dead-letter queue, and whether the schedule is "
            "enabled.",
            below=True,
            periods=HEARTBEAT_PERIODS,
            missing=cloudwatch.TreatMissingData.BREACHING,
        )

    def _functions(self, functions: Functions) -> None:
        for each in functions:
            name = each.handler.replace("_", "-")
            self._alarm(
                f"{name}-errors",
                each.function.metric_errors(period=MINUTE, statistic="Sum"),
                1,
                f"The function {each.handler} failed. Its trigger retries it, and each pool is looked at again every "
                "minute, so a single error heals by itself. If it stays, read the function's log: the error and the "
                "pool are in it.",
            )
            self._alarm(
                f"{name}-throttles",
                each.function.metric_throttles(period=MINUTE, statistic="Sum"),
                1,
                f"Lambda throttled the function {each.handler}: the account's concurrency is used up. Its trigger "
                "retries it, so work is late and not lost. Raise the account's concurrency quota, or find the "
                "function that uses it up.",
            )

    def _queues(self, queues: Queues) -> None:
        for kind, queue in queues.dead.items():
            self._alarm(
                f"dead-{kind.replace(' ', '-')}",
                queue.metric_approximate_number_of_messages_visible(period=MINUTE, statistic="Maximum"),
                1,
                f"A dead-letter queue holds {kind} that failed on every try. The pools concerned are still looked at "
                "every minute. Read a message and the function's log for the cause; then redrive the queue or "
                "purge it, which ends the alarm.",
            )
        for kind, queue in {"due-pools": queues.due, "notices": queues.notices}.items():
            self._alarm(
                f"{kind}-waiting",
                queue.metric_approximate_age_of_oldest_message(period=MINUTE, statistic="Maximum"),
                queues.longest_life_seconds,
                f"A message has waited in the queue of {kind} for {queues.longest_life_seconds} seconds, longer than "
                "all its tries can take: nobody reads the queue, so reconciles are late or have stopped although the "
                "tick runs. Look at the errors and throttles of the function that reads it, and whether its event "
                "source mapping is enabled.",
            )

    def _own_metric(self, metric: Metric, statistic: str, period: Duration) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=telemetry.namespace(self._deployment.stack),
            metric_name=metric.value,
            statistic=statistic,
            period=period,
        )

    def _alarm(
        self,
        name: str,
        metric: cloudwatch.Metric,
        threshold: float,
        description: str,
        *,
        below: bool = False,
        periods: int = 1,
        missing: cloudwatch.TreatMissingData = cloudwatch.TreatMissingData.NOT_BREACHING,
    ) -> None:
        comparisons = cloudwatch.ComparisonOperator
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._deployment.stack}-{name}",
            alarm_description=description,
            metric=metric,
            threshold=threshold,
            comparison_operator=(
                comparisons.LESS_THAN_THRESHOLD if below else comparisons.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
            ),
            evaluation_periods=periods,
            treat_missing_data=missing,
        )
        action = actions.SnsAction(self.topic)
        alarm.add_alarm_action(action)
        alarm.add_ok_action(action)

    def _topic(self) -> sns.Topic:
        """A topic encrypted with a key of its own.

        Under the free key that AWS manages, CloudWatch may not publish and alarms are lost in silence. A key of
        one's own costs a dollar a month.
        """
        from_our_alarms = {"StringEquals": {"aws:SourceAccount": Stack.of(self).account}}
        cloudwatch_service = iam.ServicePrincipal("cloudwatch.amazonaws.com")
        key = kms.Key(
            self,
            "TopicKey",
            description=f"Encrypts the alarm messages of {self._deployment.stack}",
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
        topic = sns.Topic(self, "Topic", master_key=key, enforce_ssl=self._deployment.stage.tls_only)
        # A topic policy of one's own replaces the default one, which had let the account's alarms publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsPublish",
                principals=[cloudwatch_service],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions=from_our_alarms,
            )
        )
        if self._deployment.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(self._deployment.alarm_email))
        return topic
