"""What the functions tell the outside: one logger, one tracer, and every metric by name.

Metrics are CloudWatch's embedded metric format on standard output (Powertools), in one namespace a deployment. Each
name and combination of dimensions is a billed metric: a pool at size has two, those of its trouble last as long as it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

POOL_DIMENSION, REASON_DIMENSION = "Pool", "Reason"
POSSIBLE_DIMENSION = re.compile(r"[!-~]{1,255}")
"""What CloudWatch takes for sure: printable ASCII, here without spaces."""


class Metric(StrEnum):
    """Every metric there is. Gauges are published each tick, zeros too, so that an alarm can return to OK."""

    # Per pool and, as the fleet's total, without a dimension.
    WANTED = "Wanted"
    RUNNING = "Running"

    # Per pool and reason, only while it lasts: since when the pool has been short, or otherwise in trouble.
    SECONDS_IN_TROUBLE = "SecondsInTrouble"

    # The fleet's worst.
    SECONDS_BELOW_TARGET = "SecondsBelowTarget"
    SECONDS_WAITING = "SecondsWaiting"

    # Fleet gauges: how many pools are in this state. A reconcile that finds its pool so also publishes 1 at once.
    POOLS_INVALID = "PoolsInvalid"
    POOLS_NO_CAPACITY = "PoolsNoCapacity"
    POOLS_PRICE_ABOVE_MAX = "PoolsPriceAboveMax"
    POOLS_QUOTA = "PoolsQuota"
    POOLS_LAUNCH_REFUSED = "PoolsLaunchRefused"
    POOLS_THROTTLED = "PoolsThrottled"
    STATUSES_UNREADABLE = "StatusesUnreadable"
    HEARTBEAT = "Heartbeat"

    # The fleet's, every fifth minute: USD an hour, and how many instances are in neither sum for lack of a price.
    HOURLY_COST = "HourlyCost"
    HOURLY_SAVING = "HourlySaving"
    INSTANCES_UNPRICED = "InstancesUnpriced"

    # Counters: summed over a period.
    SPOT_LAUNCHED = "SpotInstancesLaunched"
    ON_DEMAND_LAUNCHED = "OnDemandInstancesLaunched"
    INSTANCES_TERMINATED = "InstancesTerminated"
    TERMINATIONS_REFUSED = "TerminationsRefused"
    DRAINS_REFUSED = "DrainsRefused"
    EC2_CALLS = "Ec2Calls"
    EC2_THROTTLES = "Ec2Throttles"
    INTERRUPTION_NOTICES = "InterruptionNotices"
    MAINTENANCE_NOTICES = "MaintenanceNotices"
    REBALANCE_RECOMMENDATIONS = "RebalanceRecommendations"


POOL_GAUGES = (Metric.WANTED, Metric.RUNNING)
"""What every pool publishes each minute."""

COST_EVERY = 5
"""Minutes from one look at what the fleet costs to the next: one price question, and one a type and day."""

SECONDS = (Metric.SECONDS_IN_TROUBLE, Metric.SECONDS_BELOW_TARGET, Metric.SECONDS_WAITING)
UNITS = dict.fromkeys(SECONDS, MetricUnit.Seconds) | dict.fromkeys(
    (Metric.HOURLY_COST, Metric.HOURLY_SAVING), MetricUnit.NoUnit
)

logger = Logger(service="spotpools", utc=True)
tracer = Tracer(service="spotpools")


_tallies: Counter[Metric] = Counter()


def tally(metric: Metric) -> None:
    """Count something where it happens; it is published with what is told next."""
    _tallies[metric] += 1


def tallied() -> dict[Metric, int]:
    """What has been counted since this was asked last."""
    counts = dict(_tallies)
    _tallies.clear()
    return counts


def namespace(stack: str) -> str:
    """The metric namespace of one deployment, so that two in one account stay apart."""
    return f"SpotPools/{stack}"


def publish(stack: str, values: Mapping[Metric, float], *, pool: str | None = None, reason: str | None = None) -> None:
    """Write metric values, of one pool (and reason) if named, as one line of embedded metric format.

    A key that is no possible dimension is no pool's name either: it has no gauges, and must not pass for the fleet's.
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
