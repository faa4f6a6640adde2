"""EC2's limits on a caller: token buckets per action, launched instances, and vCPU quotas per family group.

Sizes come from the sources that docs/market.md names. AWS sets them per account, so these are realistic examples.
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
"""Bucket size and refill per second for calls of an action. The most specific name counts."""

LAUNCHED_INSTANCES = (1000, 2)
"""Bucket size and refill per second for launched instances, over all actions that launch."""

_STANDARD_FAMILIES = set("acdhimrtz") | {"im", "is"}
_GROUP_OF_FAMILY = {"g": "g", "gr": "g", "vt": "g"}


@dataclass
class TokenBucket:
    """A bucket that holds ``size`` tokens and gets ``refill`` tokens per second."""

    size: float
    refill: float
    tokens: float
    filled_at: datetime

    @classmethod
    def full(cls, size_and_refill: tuple[float, float], now: datetime) -> "TokenBucket":
        """Return a full bucket."""
        size, refill = size_and_refill
        return cls(size=size, refill=refill, tokens=size, filled_at=now)

    def available(self, now: datetime) -> int:
        """Return the number of whole tokens now."""
        self.tokens = min(self.size, self.tokens + (now - self.filled_at).total_seconds() * self.refill)
        self.filled_at = now
        return int(self.tokens)

    def take(self, wanted: int, now: datetime) -> int:
        """Take up to ``wanted`` whole tokens and return how many were taken."""
        taken = min(wanted, self.available(now))
        self.tokens -= taken
        return taken


def bucket_name(action: str) -> str:
    """Return the name in ``BUCKETS`` for an action."""
    if action in BUCKETS:
        return action
    return "Describe*" if action.startswith("Describe") else "*"


def quota_group(instance_type: str) -> str:
    """Return the vCPU quota that a type counts against: ``standard``, ``g``, or the family's own letters."""
    letters = re.match(r"[a-z]+", instance_type)
    family = letters.group() if letters else instance_type
    return "standard" if family in _STANDARD_FAMILIES else _GROUP_OF_FAMILY.get(family, family)
