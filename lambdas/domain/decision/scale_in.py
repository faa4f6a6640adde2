"""Which instances to terminate when a pool has too many: one total order, so that a repeat picks the same ones."""

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
    """Ids of up to ``excess`` units to terminate: never protected instances, the base, or ready ones that are wanted.

    Not ready before ready, then outdated ones, then the most expensive (on demand before spot), then the fullest zone,
    then the oldest, then by id; with ``spread_zones`` the fullest zone comes before the price. A chosen instance that
    EC2 does not show yet is terminated when it is shown; no other is terminated in its place.
    """
    unseen = {instance.id for instance in stock.unseen}
    prices = {offer.offering: offer.spot_price or Decimal(0) for offer in offers}
    staying = tuple(among)
    left = [instance for instance in staying if not instance.protected]
    zones: Counter[str] = Counter()
    for instance in staying:
        zones[instance.zone] += instance.units
    on_demand = units(instance for instance in staying if instance.market is Market.ON_DEMAND)
    ready = units(instance for instance in staying if stock.is_ready(instance))
    chosen: list[str] = []

    def rank(instance: Instance) -> tuple[bool, bool, int, Decimal, int, float, str]:
        price = MOST_EXPENSIVE if instance.market is Market.ON_DEMAND else prices.get(instance.offering, Decimal(0))
        id_, full, age = instance.id, -zones[instance.zone], instance.launched_at.timestamp()
        return stock.is_ready(instance), id_ not in outdated, full if spread_zones else 0, -price, full, age, id_

    if units(left) <= excess and not stock.wanted:
        return tuple(sorted(instance.id for instance in left if instance.id not in unseen))

    def may_go(instance: Instance) -> bool:
        of_base = instance.market is Market.ON_DEMAND and on_demand - instance.units < on_demand_base
        needed = stock.is_ready(instance) and ready - instance.units < stock.wanted
        return instance.units <= excess and not of_base and not needed

    while fitting := [instance for instance in left if may_go(instance)]:
        instance = min(fitting, key=rank)
        chosen.append(instance.id)
        left.remove(instance)
        excess -= instance.units
        zones[instance.zone] -= instance.units
        on_demand -= instance.units if instance.market is Market.ON_DEMAND else 0
        ready -= instance.units if stock.is_ready(instance) else 0
    return tuple(id_ for id_ in chosen if id_ not in unseen)
