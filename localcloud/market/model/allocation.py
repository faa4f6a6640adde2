"""How a fleet's wanted units are spread over its overrides: the market's own, written-down rule.

EC2 does not publish the exact working of its strategies. The market's ``price-capacity-optimized`` goes through the
overrides that have room: first those that can hold all that is still wanted, cheapest first; when none can, the
cheapest of the rest; ties go to the offering with more room, then to the order of the request. ``lowest-price`` looks
at the price alone, ``capacity-optimized`` at the room alone, ``prioritized`` at the overrides' own priorities. Prices
are compared per unit, as EC2 documents it: an instance counts its override's weight, and its price is divided by that,
unless every weight is above the target, which one instance then fills. Addresses of subnets are not looked at when it
is chosen: what its subnet has no address for an override cannot give. An override that could not give what was asked
of it is refused with a reason, also when another then filled the gap; one that was never asked is not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal
from enum import Enum, auto

from localcloud.market.model.offerings import type_and_zone


class Refusal(Enum):
    """Why an override gave fewer instances than were asked of it."""

    CAPACITY = auto()
    QUOTA = auto()
    LAUNCH_RATE = auto()
    ADDRESSES = auto()


@dataclass(frozen=True)
class Candidate:
    """An override that may be launched: its place in the request, its offering, its price per instance-hour."""

    number: int
    offering: type_and_zone
    price: Decimal
    vcpus: int
    quota_group: str
    subnet: str = ""
    weight: Decimal = Decimal(1)
    """Units that one instance counts."""
    priority: Decimal = Decimal("Infinity")
    """The lowest is launched first by ``prioritized``; without one an override comes last."""

    @property
    def unit_price(self) -> Decimal:
        """Return its price per unit-hour."""
        return self.price / self.weight

    def instances_for(self, units: Decimal) -> int:
        """Return how many instances it takes to have so many units, rounded up."""
        return int((units / self.weight).to_integral_value(ROUND_CEILING))


@dataclass
class Room:
    """What there is to give: free room per offering; where there is a limit, vCPUs, addresses and launches left."""

    free: dict[type_and_zone, int]
    vcpus: dict[str, int] = field(default_factory=dict)
    """By quota group."""
    addresses: dict[str, int] = field(default_factory=dict)
    """By subnet."""
    launches: int | None = None

    def take(self, candidate: Candidate, wanted: int) -> tuple[int, Refusal | None]:
        """Take up to ``wanted`` instances; return how many there were and, when fewer, which limit stopped it."""
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
    """What each candidate gives, in the order taken, and what was refused."""

    taken: list[tuple[Candidate, int]] = field(default_factory=list)
    refused: list[tuple[Candidate, Refusal]] = field(default_factory=list)


Preference = Callable[[Candidate, int, Decimal], tuple[Decimal | int, ...]]
"""(candidate, its free room, units still wanted) -> a sort key: the smallest is asked next."""

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
    """Spread ``units`` over the candidates, whole instances at a time; ``room`` is used up on the way.

    There is never an instance more than is needed, so the units launched are less than one weight above the target.
    """
    preference = STRATEGIES[strategy]
    wanted = Decimal(units)
    allocation = Allocation()
    by_instance = all(one.weight > wanted for one in candidates)
    waiting = [replace(one, price=one.price * one.weight) if by_instance else one for one in candidates]
    while wanted > 0 and waiting:
        # An offering without room sorts last, so that it is asked, and refused, only when nothing else is left.
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
