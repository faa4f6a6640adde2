"""Which offerings may be tried now, and when the others may: back-off after a refusal, price against the cap.

An offering that just lost an instance to an interruption, or has one that EC2 warns of, is avoided while another one
can be tried. One that EC2 refused by name is not tried before its back-off ends. One that costs more than
``spot_max_price`` is not tried at all; one that EC2 has just refused as too expensive (without a cap of ours its own
holds) is looked at again by the next tick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from lambdas.domain.decision.stock import Stock, sums_of
from lambdas.domain.item.fields import LOWEST_PRICE, format_price
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.instances import Offer
from lambdas.domain.model.status import NOTICE_COUNTS, OF_CAPACITY, Backoff, Reason, Status

OVERRIDES_LIMIT = 300
"""Offerings per CreateFleet, as EC2 states it for other fleets; of instant ones it bounds only the size of the body."""

LAUNCH_LIMIT = 100
"""Instances per CreateFleet: a larger call fails as one when throttled (40 to 70 came through in Karpenter's tests)."""


@dataclass(frozen=True)
class Choice:
    """A pool's offerings on one market, sorted by whether they may be tried.

    ``refused`` are those that EC2 refused lately, each with its back-off; ``full`` those whose subnet had no free
    address; ``unpriced`` those whose cap is a share of a price that the price list does not have.
    """

    usable: tuple[Offer, ...] = ()
    refused: tuple[tuple[Offer, Backoff], ...] = ()
    too_dear: tuple[Offer, ...] = ()
    full: tuple[tuple[Offer, datetime], ...] = ()
    unpriced: tuple[Offer, ...] = ()

    def refused_for(self, reason: Reason) -> tuple[tuple[Offer, Backoff], ...]:
        """Those that EC2 refused for this reason."""
        return tuple((offer, backoff) for offer, backoff in self.refused if backoff.reason is reason)

    @property
    def least_dear(self) -> Offer:
        """The cheapest of the offerings that cost too much."""
        return min(self.too_dear, key=lambda offer: (offer.spot_price or Decimal(0), offer.offering))

    def prices(self) -> str:
        """The cheapest of the offerings that cost too much, in words."""
        cheapest = self.least_dear
        amount = format_price(cheapest.spot_price or Decimal(0))
        return f"cheapest is {cheapest.instance_type} in {cheapest.zone} at {amount} USD/h"


def choose(pool: Pool, market: Market, offers: Iterable[Offer], status: Status, now: datetime) -> Choice:
    """Sort the offers of a pool on a market at the moment ``now``."""
    memory = status.memory
    usable: list[Offer] = []
    refused: list[tuple[Offer, Backoff]] = []
    too_dear: list[Offer] = []
    full: list[tuple[Offer, datetime]] = []
    unpriced: list[Offer] = []
    for offer in sorted(offer for offer in offers if offer.market is market):
        backoff = memory.backoff.get(offer.offering)
        if market is Market.SPOT and pool.share is not None and offer.on_demand_price is None:
            unpriced.append(offer)
        elif above_cap(pool, offer) or memory.price_refused.get(offer.offering, now) > now:
            too_dear.append(offer)
        elif backoff is not None and backoff.until > now:
            refused.append((offer, backoff))
        elif memory.full.get(offer.subnet_id, now) > now:
            full.append((offer, memory.full[offer.subnet_id]))
        else:
            usable.append(offer)
    struck = avoided(status, now)
    calm = [offer for offer in usable if offer.offering not in struck]
    return Choice(tuple(calm or usable), tuple(refused), tuple(too_dear), tuple(full), tuple(unpriced))


def avoided(status: Status, now: datetime) -> set[str]:
    """Offerings that EC2 takes instances of just now, or warns of; others are better."""
    announced = {
        notice.offering
        for notice in status.notices.values()
        if notice.kind in OF_CAPACITY and now - notice.at < NOTICE_COUNTS
    }
    return announced | {offering for offering, until in status.memory.recently_interrupted.items() if until > now}


def _without_cap(pool: Pool, offer: Offer) -> bool:
    """Whether the cap is a share of an on-demand price that nobody knows: then nothing may be launched."""
    return pool.share is not None and offer.market is Market.SPOT and offer.on_demand_price is None


def above_cap(pool: Pool, offer: Offer) -> bool:
    """Whether the offer's price is known and above what the pool pays; equal is not above.

    EC2 takes no cap as low as a tenth of a cent for a unit: a share that falls to it can buy nothing.
    """
    if offer.market is Market.ON_DEMAND or offer.spot_price is None:
        return False
    cap = pool.cap(offer.on_demand_price)
    return cap is not None and (offer.spot_price > cap or cap / offer.units <= LOWEST_PRICE)


@dataclass(frozen=True)
class Ask:
    """How many units to ask for in one call, and of which offers.

    ``weight`` is what each instance counts for if the call names no weights and counts instances; else 1.
    """

    count: int
    offers: tuple[Offer, ...]
    weight: int = 1


def ask(pool: Pool, count: int, headroom: int, offers: Iterable[Offer], stock: Stock) -> Ask | None:
    """The next call for ``count`` units; None if every offer is heavier than what ``headroom`` allows.

    EC2 rounds up to whole instances, so the call leaves room for the heaviest.
    """
    fitting = tuple(offer for offer in offers if offer.units <= headroom)
    if not fitting:
        return None
    if pool.spread_zones:
        count, fitting = _of_the_emptiest_zone(count, fitting, stock)
    if len(fitting) > OVERRIDES_LIMIT:
        fitting = tuple(sorted(sorted(fitting, key=_price_per_unit)[:OVERRIDES_LIMIT]))
    by_unit = tuple(offer for offer in fitting if not _cut_off(pool, offer))
    return _of_weights(count, headroom, by_unit) if by_unit else _of_one_weight(count, headroom, fitting)


def _of_weights(count: int, headroom: int, offers: tuple[Offer, ...]) -> Ask:
    """As much as can be asked so that, whichever types EC2 chooses, the rest can still be filled in whole instances.

    Where it takes that, the heaviest types are left out.
    """
    weights = sorted({offer.units for offer in offers})
    for some in (weights[:number] for number in range(len(weights), 0, -1)):
        if sure := _sure(count, headroom, some):
            return Ask(sure, tuple(offer for offer in offers if offer.units in some))
    for weight in weights:
        if -(-count // weight) * weight <= headroom:
            of_it = tuple(offer for offer in offers if offer.units == weight)
            return Ask(min(count, LAUNCH_LIMIT * weight), of_it)
    return Ask(min(count, headroom - weights[-1] + 1, LAUNCH_LIMIT * weights[0]), offers)


def _sure(count: int, headroom: int, weights: list[int]) -> int:
    """The most units to ask for in one call of all these weights; 0 if EC2's choice could always spoil the rest.

    EC2 stops at the first instance with which it has enough, so it gives less than the heaviest weight too much.
    """
    sums, slack, heaviest = sums_of(weights, headroom), headroom - count, weights[-1]

    def fills(rest: int) -> bool:
        return rest <= 0 or any(total in sums for total in range(rest, rest + slack + 1))

    for asked in range(min(count, headroom - heaviest + 1, LAUNCH_LIMIT * weights[0]), 0, -1):
        if all(fills(count - given) for given in range(asked, asked + heaviest) if given in sums):
            return asked
    return 0


def _cut_off(pool: Pool, offer: Offer) -> bool:
    """Whether the offer's price is within the cap, and above what is left of it when it is told to EC2 by the unit."""
    by_unit = pool.unit_cap(offer.on_demand_price, offer.units) if offer.spot_price is not None else None
    return by_unit is not None and offer.spot_price is not None and offer.spot_price > by_unit * offer.units


def _of_one_weight(count: int, headroom: int, offers: tuple[Offer, ...]) -> Ask:
    """Instances of one weight, the cheapest by the unit: counted as instances their caps need no division."""
    weight = _cheapest(offers).units
    instances = min(-(-count // weight), headroom // weight, LAUNCH_LIMIT)
    return Ask(instances * weight, tuple(offer for offer in offers if offer.units == weight), weight)


def _cheapest(offers: Iterable[Offer]) -> Offer:
    return min(offers, key=lambda offer: (_price_per_unit(offer), offer))


def _price_per_unit(offer: Offer) -> Decimal:
    return (offer.spot_price or offer.on_demand_price or Decimal(0)) / offer.units


def _of_the_emptiest_zone(count: int, offers: tuple[Offer, ...], stock: Stock) -> tuple[int, tuple[Offer, ...]]:
    """The zone that has the fewest, and as many units as bring it level with the others."""
    have = Counter(dict.fromkeys((offer.zone for offer in offers), 0))
    for instance in stock.members:
        if instance.zone in have:
            have[instance.zone] += instance.units
    level = -(-(sum(have.values()) + count) // len(have))
    zone = min(have, key=lambda name: (have[name], name))
    return max(1, min(count, level - have[zone])), tuple(offer for offer in offers if offer.zone == zone)
