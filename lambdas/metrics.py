"""The names of all metrics: in one namespace for each deployment, for the fleet or for one pool.

Each name and combination of dimensions is billed: a pool at its size has two; those of a trouble exist while it lasts.
"""

from __future__ import annotations

from enum import StrEnum

POOL_DIMENSION, REASON_DIMENSION = "Pool", "Reason"


class Metric(StrEnum):
    """All metrics. Gauges are published each tick, zeros too, so that an alarm can return to OK."""

    # Per pool and, as the fleet's total, without a dimension.
    WANTED = "Wanted"
    RUNNING = "Running"

    # Per pool and reason, while it lasts: how long the pool has lacked instances or been in other trouble.
    SECONDS_IN_TROUBLE = "SecondsInTrouble"

    # The highest value of all pools.
    SECONDS_BELOW_TARGET = "SecondsBelowTarget"
    SECONDS_WAITING = "SecondsWaiting"

    # Fleet gauges: how many pools are in this state. A reconcile that finds its pool in it publishes 1 at once.
    POOLS_INVALID = "PoolsInvalid"
    POOLS_NO_CAPACITY = "PoolsNoCapacity"
    POOLS_PRICE_ABOVE_MAX = "PoolsPriceAboveMax"
    POOLS_QUOTA = "PoolsQuota"
    POOLS_LAUNCH_REFUSED = "PoolsLaunchRefused"
    POOLS_THROTTLED = "PoolsThrottled"
    STATUSES_UNREADABLE = "StatusesUnreadable"
    HEARTBEAT = "Heartbeat"

    # The fleet's, every fifth minute: USD per hour, and how many instances are in neither sum for lack of a price.
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
"""After so many minutes without a tick that finished, reconciling has stopped."""

COST_EVERY = 5
"""Minutes between two looks at the fleet's cost: one request for spot prices, and a few a day for the price list."""


def namespace(stack: str) -> str:
    """The metric namespace of one deployment, so that two in one account stay separate."""
    return f"SpotPools/{stack}"
