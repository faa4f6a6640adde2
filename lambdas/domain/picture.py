"""Everything a decision is made from: what holds, what there is, what is offered, what is remembered, and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from lambdas.domain.capacity import Stock, take_stock
from lambdas.domain.intent import Intent
from lambdas.domain.observed import Instance, Offer
from lambdas.domain.status import Status


@dataclass(frozen=True)
class Picture:
    """One pool at one moment (UTC)."""

    intent: Intent
    stock: Stock
    status: Status
    now: datetime
    offers: tuple[Offer, ...] = ()

    @property
    def may_launch(self) -> bool:
        """Whether a launch is possible at all, so that it is worth asking for offers and prices."""
        hold = self.status.memory.hold
        return (
            self.intent.pool is not None
            and not self.intent.paused
            and self.status.memory.attempt is None
            and min(self.stock.missing, self.stock.headroom) > 0
            and (hold is None or hold.until <= self.now)
        )

    def offered(self, offers: Iterable[Offer]) -> Picture:
        """The same picture with what EC2 offers."""
        return replace(self, offers=tuple(offers))


def take_picture(intent: Intent, instances: Iterable[Instance], status: Status, now: datetime) -> Picture:
    """Count the pool's instances against what holds now. A deleted pool wants none; an edit ends a hold."""
    if intent.pool is not None and intent.spec != status.memory.spec:
        status = status.model_copy(update={"memory": status.memory.model_copy(update={"hold": None})})
    stock = take_stock(
        wanted=intent.pool.wanted if intent.pool else 0,
        limit=intent.pool.max_instances if intent.pool else 0,
        instances=instances,
        status=status,
        now=now,
    )
    return Picture(intent, stock, status, now)
