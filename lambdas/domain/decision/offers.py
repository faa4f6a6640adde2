"""Which offerings may be tried now, and when the others may: back-off after a refusal, price and cap.

An offering with a recent interruption, or with an instance that EC2 warns of, is avoided while another one can be
tried. An offering that EC2 refused by name is not tried before its back-off ends. An offering that costs more than
``spot_max_price`` is not tried at all. One that EC2 has just refused as too expensive (without our cap, EC2's own
applies) is checked again by the next tick.
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
"""Offerings per CreateFleet. EC2 states this limit for other fleets; instant ones only need a bounded request."""

LAUNCH_LIMIT = 100
"""Instances per CreateFleet: a larger call fails as a whole when throttled (40 to 70 worked in Karpenter's tests)."""


@dataclass(frozen=True)
class Choice:
    """A pool's offerings on one market, sorted by whether they may be tried.

    ``refused`` are those that EC2 refused recently, each with its back-off; ``full`` those whose subnet had no free
    address; ``unpriced`` those whose cap is a share of a price that is not in the price list.
    """

    usable: tuple[Offer, ...] = ()
    refused: tuple[tuple[Offer, Backoff], ...] = ()
    too_expensive: tuple[Offer, ...] = ()
    full: tuple[tuple[Offer, datetime], ...] = ()
    unpriced: tuple[Offer, ...] = ()

    def refused_for(self, reason: Reason) -> tuple[tuple[Offer, Backoff], ...]:
        """The offerings that EC2 refused for this reason."""
        return tuple((offer, backoff) for offer, backoff in self.refused if backoff.reason is reason)

    @property
    def cheapest_too_expensive(self) -> Offer:
        """The cheapest of the offerings that are too expensive."""
        return min(self.too_expensive, key=lambda offer: (offer.spot_price or Decimal(0), offer.offering))

    def prices(self) -> str:
        """The cheapest of the offerings that are too expensive, as a text."""
        cheapest = self.cheapest_too_expensive
        amount = format_price(cheapest.spot_price or Decimal(0))
        return f"cheapest is {cheapest.instance_type} in {cheapest.zone} at {amount} USD/h"


def choose(pool: Pool, market: Market, offers: Iterable[Offer], status: Status, now: datetime) -> Choice:
    """Sort the offers of a pool on a market at the moment ``now``."""
    memory = status.memory
    usable: list[Offer] = []
    refused: list[tuple[Offer, Backoff]] = []
    too_expensive: list[Offer] = []
    full: list[tuple[Offer, datetime]] = []
    unpriced: list[Offer] = []
    for offer in sorted(offer for offer in offers if offer.market is market):
        backoff = memory.backoff.get(offer.offering)
        if market is Market.SPOT and pool.share is not None and offer.on_demand_price is None:
            unpriced.append(offer)
        elif above_cap(pool, offer) or memory.price_refused.get(offer.offering, now) > now:
            too_expensive.append(offer)
        elif backoff is not None and backoff.until > now:
            refused.append((offer, backoff))
        elif memory.full.get(offer.subnet_id, now) > now:
            full.append((offer, memory.full[offer.subnet_id]))
        else:
            usable.append(offer)
    struck = avoided(status, now)
    calm = [offer for offer in usable if offer.offering not in struck]
    return Choice(tuple(calm or usable), tuple(refused), tuple(too_expensive), tuple(full), tuple(unpriced))


def avoided(status: Status, now: datetime) -> set[str]:
    """Offerings where EC2 has just interrupted instances, or warns of it; others are better."""
    announced = {
        notice.offering
        for notice in status.notices.values()
        if notice.kind in OF_CAPACITY and now - notice.at < NOTICE_COUNTS
    }
    return announced | {offering for offering, until in status.memory.recently_interrupted.items() if until > now}


def above_cap(pool: Pool, offer: Offer) -> bool:
    """Whether the offer's price is known and above what the pool pays; equal is not above.

    EC2 accepts no cap of a tenth of a cent per unit or less, so a share that is as low can buy nothing.
    """
    if offer.market is Market.ON_DEMAND or offer.spot_price is None:
        return False
    cap = pool.cap(offer.on_demand_price)
    return cap is not None and (offer.spot_price > cap or cap / offer.units <= LOWEST_PRICE)


@dataclass(frozen=True)
class Ask:
    """How many units to request in one call, and from which offers.

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
    by_unit = tuple(offer for offer in fitting if not _lost_by_rounding(pool, offer))
    return _of_weights(count, headroom, by_unit) if by_unit else _of_one_weight(count, headroom, fitting)


def _of_weights(count: int, headroom: int, offers: tuple[Offer, ...]) -> Ask:
    """The largest request after which whole instances can still fill what is left, whichever types EC2 chooses.

    If necessary, the heaviest types are left out.
    """
    weights = sorted({offer.units for offer in offers})
    for some in (weights[:number] for number in range(len(weights), 0, -1)):
        if safe := _safe_count(count, headroom, some):
            return Ask(safe, tuple(offer for offer in offers if offer.units in some))
    for weight in weights:
        if -(-count // weight) * weight <= headroom:
            of_it = tuple(offer for offer in offers if offer.units == weight)
            return Ask(min(count, LAUNCH_LIMIT * weight), of_it)
    return Ask(min(count, headroom - weights[-1] + 1, LAUNCH_LIMIT * weights[0]), offers)


def _safe_count(count: int, headroom: int, weights: list[int]) -> int:
    """The most units to request in one call of all these weights.

    0 if some choice of EC2 would always leave a number of units that no whole instances fill.

    EC2 stops at the first instance that gives it enough, so it exceeds the request by less than the heaviest weight.
    """
    sums, slack, heaviest = sums_of(weights, headroom), headroom - count, weights[-1]

    def fills(rest: int) -> bool:
        return rest <= 0 or any(total in sums for total in range(rest, rest + slack + 1))

    for asked in range(min(count, headroom - heaviest + 1, LAUNCH_LIMIT * weights[0]), 0, -1):
        if all(fills(count - given) for given in range(asked, asked + heaviest) if given in sums):
            return asked
    return 0


def _lost_by_rounding(pool: Pool, offer: Offer) -> bool:
    """Whether rounding excludes the offer: EC2 gets the cap per unit rounded down, and the price is between the two."""
    by_unit = pool.unit_cap(offer.on_demand_price, offer.units) if offer.spot_price is not None else None
    return by_unit is not None and offer.spot_price is not None and offer.spot_price > by_unit * offer.units


def _of_one_weight(count: int, headroom: int, offers: tuple[Offer, ...]) -> Ask:
    """Instances of one weight, the cheapest per unit. The call counts instances, so their caps need no division."""
    weight = _cheapest(offers).units
    instances = min(-(-count // weight), headroom // weight, LAUNCH_LIMIT)
    return Ask(instances * weight, tuple(offer for offer in offers if offer.units == weight), weight)


def _cheapest(offers: Iterable[Offer]) -> Offer:
    return min(offers, key=lambda offer: (_price_per_unit(offer), offer))


def _price_per_unit(offer: Offer) -> Decimal:
    return (offer.spot_price or offer.on_demand_price or Decimal(0)) / offer.units


def _of_the_emptiest_zone(count: int, offers: tuple[Offer, ...], stock: Stock) -> tuple[int, tuple[Offer, ...]]:
    """The zone that has the fewest units, and as many units as bring it level with the others."""
    have = Counter(dict.fromkeys((offer.zone for offer in offers), 0))
    for instance in stock.members:
        if instance.zone in have:
            have[instance.zone] += instance.units
    level = -(-(sum(have.values()) + count) // len(have))
    zone = min(have, key=lambda name: (have[name], name))
    return max(1, min(count, level - have[zone])), tuple(offer for offer in offers if offer.zone == zone)
