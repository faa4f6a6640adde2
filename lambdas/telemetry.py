"""The functions' telemetry: one logger, one tracer, and metrics.

Metrics are lines of CloudWatch's embedded metric format on standard output (Powertools); ``metrics`` has their names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from lambdas.metrics import POOL_DIMENSION, REASON_DIMENSION, Metric, namespace

POSSIBLE_DIMENSION = re.compile(r"[!-~]{1,255}")
"""What CloudWatch certainly accepts: printable ASCII, here without spaces."""

SECONDS = (Metric.SECONDS_IN_TROUBLE, Metric.SECONDS_BELOW_TARGET, Metric.SECONDS_WAITING)
UNITS = dict.fromkeys(SECONDS, MetricUnit.Seconds) | dict.fromkeys(
    (Metric.HOURLY_COST, Metric.HOURLY_SAVING), MetricUnit.NoUnit
)

logger = Logger(service="spotpools", utc=True)
tracer = Tracer(service="spotpools")


_tallies: Counter[Metric] = Counter()


def tally(metric: Metric) -> None:
    """Count something where it happens; the next report publishes it."""
    _tallies[metric] += 1


def tallied() -> dict[Metric, int]:
    """What has been counted since the last call."""
    counts = dict(_tallies)
    _tallies.clear()
    return counts


def publish(stack: str, values: Mapping[Metric, float], *, pool: str | None = None, reason: str | None = None) -> None:
    """Write metric values, of one pool (and reason) if named, as one line of embedded metric format.

    A key that cannot be a dimension is no valid pool name: it has no gauges, and must not count as the fleet's.
    """
    if not values or (pool is not None and not POSSIBLE_DIMENSION.fullmatch(pool)):
        return
    line = EphemeralMetrics(namespace=namespace(stack))
    if pool is not None:
        line.add_dimension(name=POOL_DIMENSION, value=pool)
    if reason is not None:
        line.add_dimension(name=REASON_DIMENSION, value=reason)
    for metric, value in values.items():
        line.add_metric(name=metric, unit=UNITS.get(metric, MetricUnit.Count), value=value)
    line.flush_metrics()
