"""The fleet on one dashboard, and saved log queries. Graphs find pools by query, so new pools appear by themselves.

The first screen answers what is wrong, how large the pools are, why they wait and what they cost; the rest is below.
"""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.alarms import Alarms, worst
from infra.data import Data
from infra.functions import Functions
from infra.links import dashboard_name, queries_url, table_url
from infra.queues import Queues
from infra.stages import Deployment
from lambdas.metrics import COST_EVERY, REASON_DIMENSION, Metric, namespace

MINUTE = Duration.minutes(1)
THIRD, HEIGHT, WHOLE = 8, 6, 24
"""Units of a dashboard's grid, which is 24 wide."""

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

LAST_DECISIONS = (
    "fields @timestamp, pool, wanted, running, waiting.count, waiting.reason, waiting.message",
    'filter message = "reconciled"',
    "sort @timestamp desc",
    "dedup pool",  # keeps the first of each pool; only limit may follow (CloudWatch Logs, dedup)
    "limit 100",
)


class Dashboard(Construct):
    """One dashboard and the saved queries."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        alarms: Alarms,
        data: Data,
        queues: Queues,
        functions: Functions,
    ) -> None:
        super().__init__(scope, construct_id)
        self._namespace = namespace(deployment.stack)
        reconcilers = (functions.pool_due, functions.spot_notice)
        self._decisions = [each.function.log_group.log_group_name for each in reconcilers]
        dashboard = cloudwatch.Dashboard(
            self, "Fleet", dashboard_name=dashboard_name(deployment.stack), default_interval=Duration.hours(3)
        )
        dashboard.add_widgets(_head(deployment, data))
        dashboard.add_widgets(
            cloudwatch.AlarmStatusWidget(title="Alarms", alarms=list(alarms), width=THIRD, height=HEIGHT),
            *self._sizes(),
        )
        dashboard.add_widgets(self._last_decisions())
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
            _query_graph(
                "Wanted and running, by pool",
                {"wanted": self._worst(Metric.WANTED), "running": self._worst(Metric.RUNNING)},
            ),
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
        in_trouble = self._worst(Metric.SECONDS_IN_TROUBLE, REASON_DIMENSION)
        return [
            self._graph("Instances", {"wanted": Metric.WANTED, "running": Metric.RUNNING}),
            self._graph("Pools in trouble, by reason", REASONS),
            _query_graph("Seconds in trouble, by pool", {"": in_trouble}),
        ]

    def _last_decisions(self) -> cloudwatch.IWidget:
        return cloudwatch.LogQueryWidget(
            title="The last decision for each pool, and why it waits",
            log_group_names=self._decisions,
            query_lines=list(LAST_DECISIONS),
            view=cloudwatch.LogQueryVisualizationType.TABLE,
            width=WHOLE,
            height=HEIGHT,
        )

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

    def _worst(self, metric: Metric, *dimensions: str) -> str:
        return worst("MAX", metric, self._namespace, *dimensions)

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


def _query_graph(title: str, queries: Mapping[str, str]) -> cloudwatch.GraphWidget:
    """Draw all series of the queries, each named by its query's name and its pool."""
    series: list[cloudwatch.IMetric] = [
        cloudwatch.MathExpression(expression=query, using_metrics={}, period=MINUTE, label=label)
        for label, query in queries.items()
    ]
    return cloudwatch.GraphWidget(title=title, left=series, width=THIRD, height=HEIGHT)


def _head(deployment: Deployment, data: Data) -> cloudwatch.IWidget:
    """Say what the dashboard shows, and where to go on."""
    links = {
        "edit the pools": table_url(data.pools.table_name),
        "the pools' statuses": table_url(data.status.table_name),
        "saved log queries": queries_url(),
    }
    if deployment.runbook.startswith("https://"):
        links["runbook"] = deployment.runbook
    listed = " · ".join(f"[{name}]({address})" for name, address in links.items())
    text = f"# {deployment.stack}\n{listed} · one pool: `spotpools explain POOL`"
    return cloudwatch.TextWidget(markdown=text, width=WHOLE, height=2)
