"""Instances and offerings as EC2 reports them, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from lambdas.domain.item.pool import Market

STACK_TAG = "spotpools:stack"
POOL_TAG = "spotpools:pool"
ATTEMPT_TAG = "spotpools:attempt"
MACHINE_TAG = "spotpools:machine"
PROTECT_TAG = "spotpools:protect"


class State(StrEnum):
    """EC2's instance states."""

    PENDING = "pending"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    TERMINATED = "terminated"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Instance:
    """One of this stack's instances, as DescribeInstances showed it.

    ``machine`` is the digest of the description that made it; ``units`` what it counts for in its pool; ``ended`` is
    EC2's reason for its end, code and message. ``shielded``: EC2 has just refused to terminate it.
    """

    id: str
    pool_name: str
    state: State
    instance_type: str
    zone: str
    launched_at: datetime
    market: Market = Market.SPOT
    subnet_id: str = ""
    units: int = 1
    ended: str = ""
    shielded: bool = False
    tags: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def offering(self) -> str:
        """The offering it came from."""
        return offering_key(self.instance_type, self.zone, self.market)

    @property
    def attempt_id(self) -> str:
        """The launch attempt that made it."""
        return self.tags.get(ATTEMPT_TAG, "")

    @property
    def machine(self) -> str:
        """The digest of the description that made it; empty if it is not known."""
        return self.tags.get(MACHINE_TAG, "")

    @property
    def protected(self) -> bool:
        """Whether it is protected from termination: by its user's tag, or because EC2 refused."""
        return self.shielded or self.tags.get(PROTECT_TAG, "").lower() == "true"


@dataclass(frozen=True, order=True)
class Offer:
    """An instance type in a zone, through one subnet, on one market; prices in USD per instance-hour, where known."""

    instance_type: str
    zone: str
    subnet_id: str
    spot_price: Decimal | None = None
    market: Market = Market.SPOT
    on_demand_price: Decimal | None = None
    units: int = 1

    @property
    def offering(self) -> str:
        """The key under which the offering is remembered."""
        return offering_key(self.instance_type, self.zone, self.market)


def offering_key(instance_type: str, zone: str, market: Market = Market.SPOT) -> str:
    """The key of an offering, which has its own capacity and price. Spot and on-demand capacity are separate."""
    return f"{instance_type}/{zone}" if market is Market.SPOT else f"{instance_type}/{zone}/{market}"


def remembered(id_: str, offering: str, at: datetime, attempt_id: str, machine: str) -> Instance:
    """An instance from CreateFleet's answer, which a listing does not show yet."""
    instance_type, zone, *market = offering.split("/")
    return Instance(
        id=id_,
        pool_name="",
        state=State.PENDING,
        instance_type=instance_type,
        zone=zone,
        launched_at=at,
        market=Market(market[0]) if market else Market.SPOT,
        tags={ATTEMPT_TAG: attempt_id, MACHINE_TAG: machine},
    )
