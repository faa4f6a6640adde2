"""Which instances go first when a pool has too many: one total order, so that a repeat picks the same ones."""

from __future__ import annotations

from lambdas.domain.capacity import Stock
from lambdas.domain.observed import Instance


def victims(stock: Stock) -> tuple[str, ...]:
    """Ids to let go: never protected or noticed ones; starting before running, then the oldest, then by id."""
    starting = sorted((one for one in stock.starting if not one.protected), key=_age)
    running = sorted((one for one in stock.running if not one.protected), key=_age)
    return tuple(one.id for one in [*starting, *running][: stock.excess])


def _age(instance: Instance) -> tuple[float, str]:
    return instance.launched_at.timestamp(), instance.id
