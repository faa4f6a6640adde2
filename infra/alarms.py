"""The alarms. Each describes its meaning, what the system does by itself, what to do, and links to the runbook.

One cause raises one alarm: a pool that waits for its price, a quota or a person raises that alarm, not the one for
pools below target. Only a shortfall of several hours raises a second alarm.
"""

from __future__ import annotations

from collections.abc import Iterator

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from constructs import Construct

from infra.functions import Functions
from infra.queues import Queues
from infra.stages import Deployment
from infra.topic import Topics
from lambdas.domain.alarm.names import EXPLAINER, OWN_ALARM
from lambdas.domain.guide import GUIDE, Trouble
from lambdas.metrics import HEARTBEAT_MINUTES, POOL_DIMENSION, REASON_DIMENSION, Metric, namespace

MINUTE, HOUR = Duration.minutes(1), Duration.hours(1)

KEEP_STATE = cloudwatch.TreatMissingData.IGNORE
"""For gauges: without data nothing shows that the trouble is over. The heartbeat alarm reports missing data."""

QUIET = cloudwatch.TreatMissingData.NOT_BREACHING
"""For queries: a pool without trouble publishes no data, and neither does a deleted pool."""

GAUGES = {
    Trouble.PRICE_ABOVE_MAX: Metric.POOLS_PRICE_ABOVE_MAX,
    Trouble.QUOTA: Metric.POOLS_QUOTA,
    Trouble.CONFIG: Metric.POOLS_LAUNCH_REFUSED,
    Trouble.ITEM_INVALID: Metric.POOLS_INVALID,
    Trouble.THROTTLED: Metric.POOLS_THROTTLED,
}
"""The fleet's gauge of each trouble with an alarm of its own."""


class Alarms(Construct):
    """All alarms. Those of pools are queries with one contributor for each pool, so a new pool needs no deployment."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        topics: Topics,
        queues: Queues,
        functions: Functions,
    ) -> None:
        super().__init__(scope, construct_id)
        self._deployment = deployment
        self._topics = topics
        self._made: list[cloudwatch.Alarm] = []
        self._pools()
        self._counters()
        self._heartbeat()
        self._functions(functions)
        self._queues(queues)

    def __iter__(self) -> Iterator[cloudwatch.Alarm]:
        return iter(self._made)

    def _pools(self) -> None:
        stage = self._deployment.stage
        patience = {
            Trouble.PRICE_ABOVE_MAX: self._deployment.price_above_cap_seconds,
            Trouble.THROTTLED: 300,
        }
        for trouble, reason in OWN_ALARM.items():
            where = f""" WHERE "{REASON_DIMENSION}" = '{reason}'"""
            seconds = patience.get(trouble, 1) if stage.alarms_by_query else 1
            self._of_pools(trouble, where, GAUGES[trouble], seconds)
        others = " AND ".join(f""""{REASON_DIMENSION}" != '{reason}'""" for reason in OWN_ALARM.values())
        below = stage.below_target_seconds
        self._of_pools(Trouble.BELOW_TARGET, f" WHERE {others}", Metric.SECONDS_BELOW_TARGET, below)
        self._of_pools(Trouble.WAITING_LONG, "", Metric.SECONDS_WAITING, stage.waiting_long_seconds)
        self._alarm(Trouble.STATUS_UNREADABLE, self._own(Metric.STATUSES_UNREADABLE, "Maximum"), 1, missing=KEEP_STATE)

    def _of_pools(self, trouble: Trouble, where: str, gauge: Metric, threshold: float) -> None:
        """An alarm on how long pools have been in trouble; without queries, on the fleet's gauge."""
        if self._deployment.stage.alarms_by_query:
            query = worst("MAX", Metric.SECONDS_IN_TROUBLE, self._namespace, REASON_DIMENSION, where=where)
            self._alarm(trouble, _query(query, MINUTE), threshold, missing=QUIET)
        else:
            # The highest value of the period: the worst pool counts, and one bad moment is not averaged away.
            self._alarm(trouble, self._own(gauge, "Maximum"), threshold, missing=KEEP_STATE)

    def _counters(self) -> None:
        notices, most = Metric.INTERRUPTION_NOTICES, self._deployment.interruptions_per_hour
        if self._deployment.stage.alarms_by_query:
            query = worst("SUM", notices, self._namespace)
            self._alarm(Trouble.INTERRUPTIONS, _query(query, HOUR), most)
        else:
            # The local cloud ignores dimensions, so it counts each notice for the fleet and for its pool.
            self._alarm(Trouble.INTERRUPTIONS, self._own(notices, "Sum", HOUR), 2 * most)
        self._alarm(Trouble.TERMINATIONS_REFUSED, self._own(Metric.TERMINATIONS_REFUSED, "Sum"), 1)
        self._alarm(Trouble.DRAINS_REFUSED, self._own(Metric.DRAINS_REFUSED, "Sum"), 1)

    def _heartbeat(self) -> None:
        self._alarm(
            Trouble.HEARTBEAT,
            self._own(Metric.HEARTBEAT, "Sum", MINUTE),
            1,
            below=True,
            periods=HEARTBEAT_MINUTES,
            missing=cloudwatch.TreatMissingData.BREACHING,
            direct=True,
        )

    def _functions(self, functions: Functions) -> None:
        for each in functions:
            name = each.handler.replace("_", "-")
            direct = name in EXPLAINER
            errors = each.function.metric_errors(period=MINUTE, statistic="Sum")
            throttles = each.function.metric_throttles(period=MINUTE, statistic="Sum")
            self._alarm(Trouble.FUNCTION_ERRORS, errors, 1, name=f"{name}-errors", about=each.handler, direct=direct)
            self._alarm(
                Trouble.FUNCTION_THROTTLES, throttles, 1, name=f"{name}-throttles", about=each.handler, direct=direct
            )

    def _queues(self, queues: Queues) -> None:
        for kind, queue in queues.dead.items():
            depth = queue.metric_approximate_number_of_messages_visible(period=MINUTE, statistic="Maximum")
            name = kind.replace(" ", "-")
            self._alarm(Trouble.DEAD_LETTERS, depth, 1, name=f"dead-{name}", about=kind, direct=name in EXPLAINER)
        read = {
            "due-pools": queues.due,
            "edited-pools": queues.edited,
            "notices": queues.notices,
            "alarm-events": queues.alarms,
        }
        for kind, queue in read.items():
            age = queue.metric_approximate_age_of_oldest_message(period=MINUTE, statistic="Maximum")
            longest = queues.longest_life_seconds[kind]
            self._alarm(Trouble.QUEUE_AGE, age, longest, name=f"{kind}-waiting", about=kind, direct=kind in EXPLAINER)

    @property
    def _namespace(self) -> str:
        return namespace(self._deployment.stack)

    def _own(self, metric: Metric, statistic: str, period: Duration | None = None) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=self._namespace,
            metric_name=metric.value,
            statistic=statistic,
            period=period or Duration.seconds(self._deployment.stage.alarm_period),
        )

    def _alarm(
        self,
        trouble: Trouble,
        metric: cloudwatch.IMetric,
        threshold: float,
        *,
        name: str | None = None,
        about: str | None = None,
        below: bool = False,
        periods: int = 1,
        missing: cloudwatch.TreatMissingData = cloudwatch.TreatMissingData.NOT_BREACHING,
        direct: bool = False,
    ) -> None:
        """Make an alarm. ``direct``: it informs people itself, because it may mean that nothing is explained."""
        comparisons = cloudwatch.ComparisonOperator
        which = f" ({about})" if about else ""
        alarm = cloudwatch.Alarm(
            self,
            name or trouble.value,
            alarm_name=f"{self._deployment.stack}-{name or trouble.value}",
            alarm_description=f"{GUIDE[trouble].text}{which} Runbook: {self._deployment.runbook}#{trouble.value}",
            metric=metric,
            threshold=threshold,
            comparison_operator=(
                comparisons.LESS_THAN_THRESHOLD if below else comparisons.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
            ),
            evaluation_periods=periods,
            treat_missing_data=missing,
        )
        self._made.append(alarm)
        machines = actions.SnsAction(self._topics.alarms)
        alarm.add_alarm_action(machines)
        alarm.add_ok_action(machines)
        if direct:
            alarm.add_alarm_action(actions.SnsAction(self._topics.messages))


def worst(function: str, metric: Metric, of_namespace: str, *dimensions: str, where: str = "") -> str:
    """A Metrics Insights query of a pool metric with these further dimensions: one series per pool, worst first.

    Every name is quoted. CloudWatch reserves hundreds of words, such as Running: a query with an unquoted one draws
    nothing, and its deployment reports no error.
    """
    named = ", ".join(f'"{name}"' for name in (of_namespace, POOL_DIMENSION, *dimensions))
    by = f'GROUP BY "{POOL_DIMENSION}" ORDER BY {function}() DESC'
    return f'SELECT {function}("{metric}") FROM SCHEMA({named}){where} {by}'  # noqa: S608  our own names


def _query(query: str, period: Duration) -> cloudwatch.MathExpression:
    return cloudwatch.MathExpression(expression=query, using_metrics={}, period=period)
