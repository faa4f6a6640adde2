"""Everything a decision is made from: what holds, what there is, what is offered, what is remembered, and when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from lambdas.domain import replace as replacing
from lambdas.domain.capacity import Stock, take_stock
from lambdas.domain.intent import Intent
from lambdas.domain.observed import Instance, Offer
from lambdas.domain.replace import Replacement
from lambdas.domain.results import Failure
from lambdas.domain.status import Status, Template

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Picture:
    """One pool at one moment (UTC).

    ``minute`` is how long a minute of the pool item lasts; ``drains`` are the states of drain commands by instance id;
    ``offers`` are None if EC2 was not asked; ``untold`` is what it refused to tell, which hinders no launch.
    """

    intent: Intent
    stock: Stock
    status: Status
    now: datetime
    minute: timedelta = MINUTE
    offers: tuple[Offer, ...] | None = None
    template: Template | None = None
    drains: Mapping[str, str] = field(default_factory=dict)
    untold: tuple[Failure, ...] = ()

    @cached_property
    def replacing(self) -> tuple[Replacement, ...]:
        """What is to be replaced while it still serves."""
        pool = self.intent.pool
        if pool is None or self.intent.paused:
            return ()
        return replacing.replacements(pool, self.stock, self.status.memory)

    @property
    def surge(self) -> int:
        """Units to launch beyond the wanted size, if one may try now."""
        return 0 if self.waits_to_replace else replacing.surge(self.stock, self.replacing)

    @property
    def waits_to_replace(self) -> bool:
        """Whether EC2 had no replacement to give just now."""
        again = self.status.memory.replace_at
        return again is not None and again > self.now

    @property
    def excess(self) -> int:
        """Units beyond the wanted size, apart from those that are to be replaced anyway."""
        going = replacing.leaving(self.replacing)
        return max(0, sum(one.units for one in self.stock.members if one.id not in going) - self.stock.wanted)

    @property
    def calm_until(self) -> datetime:
        """When excess instances may go: fewer must have been wanted for a while."""
        pool, since = self.intent.pool, self.status.memory.excess_since
        return (since or self.now) + (pool.scale_in_after_minutes if pool else 0) * self.minute

    @property
    def wish(self) -> int:
        """Units to launch now, if EC2 has them: what is missing, and replacements of what still serves.

        Deaths are taken in before the next launch. While launches bring nothing that lives, one instance is tried.
        """
        if self.stock.stillborn:
            return 0
        units = min(self.stock.missing + self.surge, self.stock.headroom)
        if not self.status.memory.stillborn:
            return units
        return 0 if self.on_trial else min(units, 1)

    @property
    def on_trial(self) -> bool:
        """Whether launches have brought nothing that lived, and instances of the last one may yet."""
        return self.status.memory.stillborn > 0 and any(one.id in self.stock.unready for one in self.stock.members)

    @property
    def may_launch(self) -> bool:
        """Whether a launch is possible at all, so that it is worth asking for offers and prices."""
        pool, held = self.intent.pool, {key for key, one in self.status.memory.holds.items() if one.until > self.now}
        return (
            pool is not None
            and not self.intent.paused
            and self.status.memory.attempt is None
            and self.wish > 0
            and not held.issuperset(pool.markets)
        )

    @property
    def may_let_go(self) -> bool:
        """Whether instances have to be chosen to go, so that it is worth asking what they cost."""
        return (
            self.intent.pool is not None and not self.intent.paused and self.excess > 0 and self.calm_until <= self.now
        )

    def offered(self, offers: Iterable[Offer], template: Template | None = None) -> Picture:
        """The same picture with what EC2 offers."""
        return replace(self, offers=tuple(offers), template=template)


def take_picture(
    intent: Intent,
    instances: Iterable[Instance],
    status: Status,
    now: datetime,
    *,
    minute: timedelta = MINUTE,
    checked: frozenset[str] = frozenset(),
) -> Picture:
    """Count the pool's instances against what holds now. A deleted pool wants none; an edit ends what holds it up."""
    if intent.pool is not None and intent.spec != status.memory.spec:
        eased = status.memory.model_copy(update={"holds": {}, "dear": {}, "stillborn": 0, "replace_at": None})
        status = status.model_copy(update={"memory": eased})
    return Picture(intent, take_stock(intent.pool, instances, status, now, checked), status, now, minute)
