"""What EC2 says: instances and offerings, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

STACK_TAG = "spotpools:stack"
POOL_TAG = "spotpools:pool"
ATTEMPT_TAG = "spotpools:attempt"
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
    """One of this stack's instances, as DescribeInstances showed it."""

    id: str
    pool_name: str
    state: State
    instance_type: str
    zone: str
    launched_at: datetime
    attempt_id: str = ""
    protected: bool = False

    @property
    def offering(self) -> str:
        """The offering it came from."""
        return offering_key(self.instance_type, self.zone)


@dataclass(frozen=True, order=True)
class Offer:
    """An instance type in a zone, through one subnet, at its present spot price (USD per instance-hour, if known)."""

    instance_type: str
    zone: str
    subnet_id: str
    spot_price: Decimal | None = None

    @property
    def offering(self) -> str:
        """The key under which the offering is remembered."""
        return offering_key(self.instance_type, self.zone)


def offering_key(instance_type: str, zone: str) -> str:
    """Name an offering: where capacity and price are had."""
    return f"{instance_type}/{zone}"
