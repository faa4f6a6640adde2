"""What is measured, by name: in one namespace a deployment, for the fleet or for one pool.

Each name and combination of dimensions is a billed metric: a pool at size has two, those of its trouble last as long
as it.
"""

from __future__ import annotations

from enum import StrEnum

POOL_DIMENSION, REASON_DIMENSION = "Pool", "Reason"


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


HEARTBEAT_MINUTES = 3
"""After so many without a tick that finished, reconciling has stopped."""

COST_EVERY = 5
"""Minutes from one look at what the fleet costs to the next: one price question, and a few a day for the price list."""


def namespace(stack: str) -> str:
    """The metric namespace of one deployment, so that two in one account stay apart."""
    return f"SpotPools/{stack}"
