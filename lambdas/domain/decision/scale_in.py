"""Which instances go first when a pool has too many: one total order, so that a repeat picks the same ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from decimal import Decimal

from lambdas.domain.decision.stock import Stock, units
from lambdas.domain.item.pool import Market
from lambdas.domain.model.instances import Instance, Offer

MOST_EXPENSIVE = Decimal("Infinity")


def scale_in_candidates(
    stock: Stock,
    among: Iterable[Instance],
    excess: int,
    *,
    offers: Iterable[Offer] = (),
    outdated: Collection[str] = (),
    on_demand_base: int = 0,
    spread_zones: bool = False,
) -> tuple[str, ...]:
    """Ids of up to ``excess`` units of ``among`` to let go: never protected ones, the base, nor ready ones wanted.

    Not ready before ready, then outdated ones, then the most expensive (on demand before spot), then of the fullest
    zone, then the oldest, then by id; with ``spread_zones`` the fullest zone comes before the price. One that EC2 does
    not show yet goes when it does; no other goes in its place.
    """
    unseen = {one.id for one in stock.unseen}
    prices = {offer.offering: offer.spot_price or Decimal(0) for offer in offers}
    staying = tuple(among)
    left = [one for one in staying if not one.protected]
    zones: Counter[str] = Counter()
    for one in staying:
        zones[one.zone] += one.units
    on_demand = units(one for one in staying if one.market is Market.ON_DEMAND)
    ready = units(one for one in staying if stock.is_ready(one))
    chosen: list[str] = []

    def rank(one: Instance) -> tuple[bool, bool, int, Decimal, int, float, str]:
        price = MOST_EXPENSIVE if one.market is Market.ON_DEMAND else prices.get(one.offering, Decimal(0))
        full, age = -zones[one.zone], one.launched_at.timestamp()
        return stock.is_ready(one), one.id not in outdated, full if spread_zones else 0, -price, full, age, one.id

    if units(left) <= excess and not stock.wanted:
        return tuple(sorted(one.id for one in left if one.id not in unseen))

    def may_go(one: Instance) -> bool:
        of_base = one.market is Market.ON_DEMAND and on_demand - one.units < on_demand_base
        needed = stock.is_ready(one) and ready - one.units < stock.wanted
        return one.units <= excess and not of_base and not needed

    while fitting := [one for one in left if may_go(one)]:
        one = min(fitting, key=rank)
        chosen.append(one.id)
        left.remove(one)
        excess -= one.units
        zones[one.zone] -= one.units
        on_demand -= one.units if one.market is Market.ON_DEMAND else 0
        ready -= one.units if stock.is_ready(one) else 0
    return tuple(id_ for id_ in chosen if id_ not in unseen)
