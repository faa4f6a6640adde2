"""EC2's limits on a caller: token buckets per action, launched instances, and vCPU quotas per family group.

Sizes follow the sources named in docs/market.md; AWS states them per account, so they are examples of the real shape.
"""

import re
from dataclasses import dataclass
from datetime import datetime

BUCKETS = {
    "CreateFleet": (50, 5),
    "RunInstances": (5, 2),
    "TerminateInstances": (100, 5),
    "CreateTags": (100, 10),
    "Describe*": (100, 20),
    "*": (50, 5),
}
"""Bucket size and refill per second of the calls of an action; the nearest name counts."""

LAUNCHED_INSTANCES = (1000, 2)
"""Bucket size and refill per second of instances launched, over all launching actions together."""

_STANDARD_FAMILIES = set("acdhimrtz") | {"im", "is"}
_GROUP_OF_FAMILY = {"g": "g", "gr": "g", "vt": "g"}


@dataclass
class TokenBucket:
    """A bucket that holds ``size`` tokens and is refilled by ``refill`` tokens per second."""

    size: float
    refill: float
    tokens: float
    filled_at: datetime

    @classmethod
    def full(cls, size_and_refill: tuple[float, float], now: datetime) -> "TokenBucket":
        """Return a bucket that has not been drawn on yet."""
        size, refill = size_and_refill
        return cls(size=size, refill=refill, tokens=size, filled_at=now)

    def available(self, now: datetime) -> int:
        """Return how many whole tokens there are now."""
        self.tokens = min(self.size, self.tokens + (now - self.filled_at).total_seconds() * self.refill)
        self.filled_at = now
        return int(self.tokens)

    def take(self, wanted: int, now: datetime) -> int:
        """Take up to ``wanted`` whole tokens and return how many there were."""
        taken = min(wanted, self.available(now))
        self.tokens -= taken
        return taken


def bucket_name(action: str) -> str:
    """Return the name in ``BUCKETS`` that an action draws on."""
    if action in BUCKETS:
        return action
    return "Describe*" if action.startswith("Describe") else "*"


def quota_group(instance_type: str) -> str:
    """Return whose vCPU quota a type counts against: ``standard``, ``g``, or the family's own letters."""
    letters = re.match(r"[a-z]+", instance_type)
    family = letters.group() if letters else instance_type
    return "standard" if family in _STANDARD_FAMILIES else _GROUP_OF_FAMILY.get(family, family)
