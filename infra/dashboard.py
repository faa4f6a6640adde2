"""The fleet on one dashboard, and saved log queries. Graphs find pools by query, so new pools appear by themselves."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.alarms import worst
from infra.functions import Functions
from infra.links import dashboard_name
from infra.queues import Queues
from infra.stages import Deployment
from lambdas.metrics import COST_EVERY, REASON_DIMENSION, Metric, namespace

MINUTE = Duration.minutes(1)
THIRD, HEIGHT = 8, 6

REASONS = {
    "no capacity": Metric.POOLS_NO_CAPACITY,
    "price above cap": Metric.POOLS_PRICE_ABOVE_MAX,
    "quota": Metric.POOLS_QUOTA,
    "throttled": Metric.POOLS_THROTTLED,
    "refused": Metric.POOLS_LAUNCH_REFUSED,
    "item invalid": Metric.POOLS_INVALID,
}

QUESTIONS = {
    "why did a pool do that": (
        ("@timestamp", "steps", "failures", "waiting.reason", "waiting.message", "last_error.code"),
        'message = "reconciled" and pool = "NAME"',
    ),
    "what EC2 refused": (
        ("@timestamp", "pool", "steps", "failures"),
        'message = "reconciled" and ispresent(failures.0)',
    ),
    "errors of the functions": (("@timestamp", "message", "pool", "body", "exception"), 'level = "ERROR"'),
}
"""Saved queries of CloudWatch Logs Insights: fields and filter. Replace NAME with a pool's name."""


class Dashboard(Construct):
    """One dashboard and the saved queries."""

    def __init__(
        self, scope: Construct, construct_id: str, *, deployment: Deployment, queues: Queues, functions: Functions
    ) -> None:
        super().__init__(scope, construct_id)
        self._namespace = namespace(deployment.stack)
        dashboard = cloudwatch.Dashboard(
            self, "Fleet", dashboard_name=dashboard_name(deployment.stack), default_interval=Duration.hours(3)
        )
        dashboard.add_widgets(*self._sizes())
        dashboard.add_widgets(*self._pools())
        dashboard.add_widgets(*self._spot())
        dashboard.add_widgets(*self._machinery(queues, functions))
        if deployment.stage.saved_queries:
            self._save_questions(deployment.stack, functions)

    def _save_questions(self, stack: str, functions: Functions) -> None:
        groups = [each.function.log_group for each in functions]
        for question, (fields, condition) in QUESTIONS.items():
            logs.QueryDefinition(
                self,
                question.title().replace(" ", ""),
                query_definition_name=f"{stack}/{question}",
                query_string=logs.QueryString(
                    fields=list(fields), filter_statements=[condition], sort="@timestamp desc", limit=100
                ),
                log_groups=groups,
            )

    def _sizes(self) -> list[cloudwatch.IWidget]:
        return [
            self._graph("Instances", {"wanted": Metric.WANTED, "running": Metric.RUNNING}),
            self._graph("Pools in trouble, by reason", REASONS),
            self._graph(
                "USD an hour",
                {
                    "cost": Metric.HOURLY_COST,
                    "saved against on demand": Metric.HOURLY_SAVING,
                    "instances without a price": Metric.INSTANCES_UNPRICED,
                },
                period=Duration.minutes(COST_EVERY),
            ),
        ]

    def _pools(self) -> list[cloudwatch.IWidget]:
        def graph(title: str, metric: Metric, *dimensions: str) -> cloudwatch.IWidget:
            return _query_graph(title, worst("MAX", metric, self._namespace, *dimensions))

        return [
            graph("Running, by pool", Metric.RUNNING),
            graph("Wanted, by pool", Metric.WANTED),
            graph("Seconds in trouble, by pool", Metric.SECONDS_IN_TROUBLE, REASON_DIMENSION),
        ]

    def _spot(self) -> list[cloudwatch.IWidget]:
        launches = {"spot": Metric.SPOT_LAUNCHED, "on demand": Metric.ON_DEMAND_LAUNCHED}
        ends = {"terminated by us": Metric.INSTANCES_TERMINATED, "refused": Metric.TERMINATIONS_REFUSED}
        notices = {
            "interruptions": Metric.INTERRUPTION_NOTICES,
            "rebalance recommendations": Metric.REBALANCE_RECOMMENDATIONS,
            "maintenance": Metric.MAINTENANCE_NOTICES,
        }
        return [
            self._graph("Launched, by market", launches, "Sum"),
            self._graph("Ended", ends, "Sum"),
            self._graph("Notices", notices, "Sum"),
        ]

    def _machinery(self, queues: Queues, functions: Functions) -> list[cloudwatch.IWidget]:
        durations = [
            each.function.metric_duration(period=MINUTE, statistic="p99", label=each.handler) for each in functions
        ]
        ages = [
            queue.metric_approximate_age_of_oldest_message(period=MINUTE, statistic="Maximum", label=label)
            for label, queue in {
                "due pools": queues.due,
                "edited pools": queues.edited,
                "notices": queues.notices,
            }.items()
        ]
        calls = {"calls": Metric.EC2_CALLS, "throttled": Metric.EC2_THROTTLES}
        return [
            cloudwatch.GraphWidget(title="Functions, slowest (ms)", left=durations, width=THIRD, height=HEIGHT),
            self._graph("EC2 calls", calls, "Sum"),
            cloudwatch.GraphWidget(title="Oldest message (s)", left=ages, width=THIRD, height=HEIGHT),
        ]

    def _graph(
        self, title: str, metrics: Mapping[str, Metric], statistic: str = "Maximum", *, period: Duration = MINUTE
    ) -> cloudwatch.GraphWidget:
        left = [
            cloudwatch.Metric(
                namespace=self._namespace, metric_name=metric.value, statistic=statistic, period=period, label=label
            )
            for label, metric in metrics.items()
        ]
        return cloudwatch.GraphWidget(title=title, left=left, width=THIRD, height=HEIGHT)


def _query_graph(title: str, query: str) -> cloudwatch.GraphWidget:
    series = cloudwatch.MathExpression(expression=query, using_metrics={}, period=MINUTE, label="")
    return cloudwatch.GraphWidget(title=title, left=[series], width=THIRD, height=HEIGHT)
