"""Spreads a fleet's units over its overrides, by a rule of the market.

EC2 does not publish how exactly its strategies work. The market's ``price-capacity-optimized`` prefers overrides with
room for all missing units, and of these the cheapest. If there is none, it takes the cheapest with any room. Ties go to
the offering with more room, then to the order of the request. ``lowest-price`` looks only at the price,
``capacity-optimized`` only at the room, ``prioritized`` only at the priorities. Prices are compared per unit, as EC2
documents: the price is divided by the override's weight, unless every weight is above the target, so that one instance
fills it. The choice ignores free addresses; an override gives no more instances than its subnet has addresses. An
override that gave fewer instances than asked is refused with a reason, even if another one filled the gap. An override
that was not asked is not refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal
from enum import Enum, auto

from localcloud.market.model.offerings import type_and_zone


class Refusal(Enum):
    """Why an override gave fewer instances than asked."""

    CAPACITY = auto()
    QUOTA = auto()
    LAUNCH_RATE = auto()
    ADDRESSES = auto()


@dataclass(frozen=True)
class Candidate:
    """An override that may be launched: its place in the request, offering and price per instance-hour."""

    number: int
    offering: type_and_zone
    price: Decimal
    vcpus: int
    quota_group: str
    subnet: str = ""
    weight: Decimal = Decimal(1)
    """The units of one instance."""
    priority: Decimal = Decimal("Infinity")
    """``prioritized`` launches the lowest first. An override without priority comes last."""

    @property
    def unit_price(self) -> Decimal:
        """Return the price per unit-hour."""
        return self.price / self.weight

    def instances_for(self, units: Decimal) -> int:
        """Return how many instances give this many units, rounded up."""
        return int((units / self.weight).to_integral_value(ROUND_CEILING))


@dataclass
class Room:
    """What can still be launched: room per offering and, where limited, vCPUs, addresses and launches."""

    free: dict[type_and_zone, int]
    vcpus: dict[str, int] = field(default_factory=dict)
    """By quota group."""
    addresses: dict[str, int] = field(default_factory=dict)
    """By subnet."""
    launches: int | None = None

    def take(self, candidate: Candidate, wanted: int) -> tuple[int, Refusal | None]:
        """Take up to ``wanted`` instances. Return their number and, if there are fewer, the limit that was reached."""
        limits = [(self.free[candidate.offering], Refusal.CAPACITY)]
        if candidate.quota_group in self.vcpus:
            limits.append((self.vcpus[candidate.quota_group] // candidate.vcpus, Refusal.QUOTA))
        if candidate.subnet in self.addresses:
            limits.append((self.addresses[candidate.subnet], Refusal.ADDRESSES))
        if self.launches is not None:
            limits.append((self.launches, Refusal.LAUNCH_RATE))
        limit, refusal = min(limits, key=lambda pair: pair[0])
        count = min(wanted, limit)
        self.free[candidate.offering] -= count
        if candidate.quota_group in self.vcpus:
            self.vcpus[candidate.quota_group] -= count * candidate.vcpus
        if candidate.subnet in self.addresses:
            self.addresses[candidate.subnet] -= count
        if self.launches is not None:
            self.launches -= count
        return count, refusal if count < wanted else None


@dataclass
class Allocation:
    """The instances that each candidate gives, in the order taken, and the refusals."""

    taken: list[tuple[Candidate, int]] = field(default_factory=list)
    refused: list[tuple[Candidate, Refusal]] = field(default_factory=list)


Preference = Callable[[Candidate, int, Decimal], tuple[Decimal | int, ...]]
"""(candidate, its room, missing units) -> a sort key. The smallest is next."""

STRATEGIES: dict[str, Preference] = {
    "price-capacity-optimized": lambda candidate, free, wanted: (
        free < candidate.instances_for(wanted),
        candidate.unit_price,
        -free,
        candidate.number,
    ),
    "capacity-optimized": lambda candidate, free, _: (-free, candidate.number),
    "lowest-price": lambda candidate, _, __: (candidate.unit_price, candidate.number),
    "prioritized": lambda candidate, _, __: (candidate.priority, candidate.number),
}


def allocate(units: Decimal | int, candidates: list[Candidate], strategy: str, room: Room) -> Allocation:
    """Spread ``units`` over the candidates in whole instances, and subtract them from ``room``.

    No instance is unnecessary, so the launched units are less than one weight above the target.
    """
    preference = STRATEGIES[strategy]
    wanted = Decimal(units)
    allocation = Allocation()
    by_instance = all(one.weight > wanted for one in candidates)
    waiting = [replace(one, price=one.price * one.weight) if by_instance else one for one in candidates]
    while wanted > 0 and waiting:
        # An offering without room sorts last: it is asked, and refused, only if no other is left.
        free = {candidate.number: room.free[candidate.offering] for candidate in waiting}
        best = min(waiting, key=lambda each: (free[each.number] == 0, *preference(each, free[each.number], wanted)))
        waiting.remove(best)
        count, refusal = room.take(best, best.instances_for(wanted))
        if count:
            allocation.taken.append((best, count))
        if refusal:
            allocation.refused.append((best, refusal))
        wanted -= count * best.weight
    return allocation
