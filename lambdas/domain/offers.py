"""Which offerings may be tried now, and when the others may: back-off after no capacity, price against the cap.

An offering that just lost an instance to an interruption is avoided while another one can be tried. One that had no
capacity is not tried before its back-off ends. One dearer than ``spot_max_price`` is not tried at all; one that EC2 has
just refused as too dear (without a cap of ours its own holds) is looked at again by the next tick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from lambdas.domain.capacity import Stock
from lambdas.domain.fields import format_price
from lambdas.domain.observed import Offer
from lambdas.domain.pool import Market, Pool
from lambdas.domain.status import NOTICE_COUNTS, NoticeKind, Status

OVERRIDES_LIMIT = 300
"""Offerings per CreateFleet, as EC2 states it for other fleets; of instant ones it bounds only the size of the body."""

LAUNCH_LIMIT = 100
"""Instances per CreateFleet: a larger call fails as one when throttled (40 to 70 came through in Karpenter's tests)."""


@dataclass(frozen=True)
class Choice:
    """A pool's offerings on one market, sorted by whether they may be tried."""

    usable: tuple[Offer, ...]
    backed_off: tuple[Offer, ...]
    too_dear: tuple[Offer, ...]
    retry_at: datetime | None

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
    noticed = {
        notice.offering
        for notice in status.notices.values()
        if notice.kind is NoticeKind.INTERRUPTION and now - notice.at < NOTICE_COUNTS
    }
    taken = noticed | {offering for offering, until in memory.taken.items() if until > now}
    usable: list[Offer] = []
    backed_off: list[Offer] = []
    too_dear: list[Offer] = []
    for offer in sorted(one for one in offers if one.market is market and not _without_cap(pool, one)):
        backoff = memory.backoff.get(offer.offering)
        if above_cap(pool, offer) or memory.dear.get(offer.offering, now) > now:
            too_dear.append(offer)
        elif backoff is not None and backoff.until > now:
            backed_off.append(offer)
        else:
            usable.append(offer)
    calm = [offer for offer in usable if offer.offering not in taken]
    return Choice(
        usable=tuple(calm or usable),
        backed_off=tuple(backed_off),
        too_dear=tuple(too_dear),
        retry_at=min((memory.backoff[offer.offering].until for offer in backed_off), default=None),
    )


def _without_cap(pool: Pool, offer: Offer) -> bool:
    """Whether the cap is a share of an on-demand price that nobody knows: then nothing may be launched."""
    return pool.share is not None and offer.market is Market.SPOT and offer.on_demand_price is None


def above_cap(pool: Pool, offer: Offer) -> bool:
    """Whether the offer's price is known and above what the pool pays; equal is not above."""
    if offer.market is Market.ON_DEMAND or offer.spot_price is None:
        return False
    cap = pool.unit_cap(offer.on_demand_price, offer.units)
    return cap is not None and offer.spot_price > cap * offer.units


@dataclass(frozen=True)
class Ask:
    """How many units to ask for in one call, and of which offers."""

    count: int
    offers: tuple[Offer, ...]


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
    weights = [offer.units for offer in fitting]
    return Ask(min(count, headroom - max(weights) + 1, LAUNCH_LIMIT * min(weights)), fitting)


def _price_per_unit(offer: Offer) -> Decimal:
    return (offer.spot_price or offer.on_demand_price or Decimal(0)) / offer.units


def _of_the_emptiest_zone(count: int, offers: tuple[Offer, ...], stock: Stock) -> tuple[int, tuple[Offer, ...]]:
    """The zone that has the fewest, and as many units as bring it level with the others."""
    have = Counter(dict.fromkeys((offer.zone for offer in offers), 0))
    for one in stock.members:
        if one.zone in have:
            have[one.zone] += one.units
    level = -(-(sum(have.values()) + count) // len(have))
    zone = min(have, key=lambda name: (have[name], name))
    return max(1, min(count, level - have[zone])), tuple(offer for offer in offers if offer.zone == zone)
