"""Everything that one decision is made from: the intent, the stock, the offers, the memory, and the time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from lambdas.domain.decision import replacement as replacing
from lambdas.domain.decision.intent import Intent
from lambdas.domain.decision.replacement import Swaps
from lambdas.domain.decision.stock import MINUTE, Stock, take_stock
from lambdas.domain.model.instances import Instance, Offer
from lambdas.domain.model.results import Failure
from lambdas.domain.model.status import Backoff, Reason, Status, Template

EASED: dict[str, Any] = {
    "holds": {},
    "price_refused": {},
    "full": {},
    "failed_starts": 0,
    "replace_at": None,
    "returns": None,
}
"""What an edit resets: what blocked the old item need not block the new one."""


@dataclass(frozen=True)
class Snapshot:
    """One pool at one moment (UTC).

    ``minute`` is how long a minute of the pool item lasts; ``drains`` are the states of drain commands by instance id;
    ``offers`` are None if EC2 was not asked; ``unanswered`` are refused requests that block no launch; ``unsold`` are
    types of the item that the Region does not sell, None if unknown. Without ``health_known`` a late one may be ready.
    """

    intent: Intent
    stock: Stock
    status: Status
    now: datetime
    minute: timedelta = MINUTE
    offers: tuple[Offer, ...] | None = None
    template: Template | None = None
    drains: Mapping[str, str] = field(default_factory=dict)
    unanswered: tuple[Failure, ...] = ()
    unsold: tuple[str, ...] | None = None
    health_known: bool = True

    @cached_property
    def swaps(self) -> Swaps:
        """Planned replacements of instances that still serve."""
        pool = self.intent.pool
        if pool is None or self.intent.paused:
            return Swaps()
        return replacing.plan_swaps(pool, self.stock, self.status.memory, self.now, self.held)

    @property
    def surge(self) -> int:
        """Units to launch beyond the wanted size, if a try is allowed now."""
        return 0 if self.waits_to_replace or self.stock.doubtful else self.swaps.surge

    @property
    def held(self) -> int:
        """The size below which nothing is terminated: the largest that was wanted within scale_in_after_minutes."""
        pool, wanted = self.intent.pool, self.stock.wanted
        if pool is None:
            return wanted
        calm = pool.scale_in_after_minutes * self.minute
        if not calm:
            return wanted
        recent = [size.wanted for size in self.status.memory.sizes if self.now - size.at < calm]
        return max(wanted, min(max(self.status.answer.wanted, *recent, 0), pool.max_instances))

    @property
    def waits_to_replace(self) -> bool:
        """Whether EC2 had no replacement to give recently."""
        again = self.status.memory.replace_at
        return again is not None and again > self.now

    @property
    def held_until(self) -> datetime:
        """Until when more is held than is wanted."""
        pool = self.intent.pool
        calm = pool.scale_in_after_minutes * self.minute if pool else timedelta(0)
        holding = [size.at + calm for size in self.status.memory.sizes if size.wanted > self.stock.wanted]
        return max(holding, default=self.now)

    @property
    def excess(self) -> int:
        """Units beyond what is held, without those that are replaced anyway.

        While others are replaced, a protected instance that never got ready fills no place: their replacement does.
        """
        idle = self.stock.idle_units if self.swaps.going else 0
        return max(0, self.stock.without(self.swaps.going).serving - idle - self.held)

    @property
    def to_launch(self) -> int:
        """Units to launch now, if EC2 has them: missing ones, and replacements of what still serves.

        Failed starts are recorded before the next launch. While starts keep failing, one instance at a time is
        launched.
        """
        if self.stock.failed_starts:
            return 0
        units = min(self.stock.missing + self.surge, self.stock.headroom)
        if not self.status.memory.failed_starts:
            return units
        return 0 if self.on_trial else min(units, 1)

    @property
    def on_trial(self) -> bool:
        """Whether starts have failed, and instances of the last launch may still become ready."""
        awaited = (self.stock.unready - self.stock.idle) & {instance.id for instance in self.stock.members}
        return self.status.memory.failed_starts > 0 and bool(awaited)

    @property
    def may_launch(self) -> bool:
        """Whether a launch is possible at all, so that asking for offers and prices is useful."""
        pool, held = self.intent.pool, {key for key, hold in self.status.memory.holds.items() if hold.until > self.now}
        return (
            pool is not None
            and not self.intent.paused
            and self.status.memory.attempt is None
            and self.to_launch > 0
            and not held.issuperset(pool.markets)
        )

    @property
    def may_let_go(self) -> bool:
        """Whether instances must be chosen for termination, so that asking for prices is useful."""
        return self.intent.pool is not None and not self.intent.paused and (self.excess > 0 or self.swaps.returning)

    @property
    def not_sold(self) -> tuple[str, ...]:
        """Types of the item that the Region does not sell, as far as is known."""
        return self.unsold if self.unsold is not None else self.status.memory.unsold or ()

    def offered(self, offers: Iterable[Offer]) -> Snapshot:
        """The same snapshot with what EC2 offers."""
        return replace(self, offers=tuple(offers))


def _eased(backoff: Backoff, now: datetime) -> Backoff:
    """The back-off after an edit: a lack of capacity stays. After another refusal, try at once; the count stays."""
    if backoff.reason is Reason.NO_CAPACITY:
        return backoff
    return backoff.model_copy(update={"until": min(backoff.until, now), "reason": Reason.NO_CAPACITY, "message": ""})


def take_snapshot(
    intent: Intent,
    instances: Iterable[Instance],
    status: Status,
    now: datetime,
    *,
    minute: timedelta = MINUTE,
    checked: frozenset[str] = frozenset(),
) -> Snapshot:
    """Count the pool's instances against the intent. A deleted pool wants none; an edit resets what blocked it."""
    corrected = bool(status.answer.spec_errors) and not intent.errors
    if intent.pool is not None and (corrected or intent.spec != status.memory.spec):
        eased = status.memory.model_copy(
            update={**EASED, "backoff": {key: _eased(backoff, now) for key, backoff in status.memory.backoff.items()}}
        )
        status = status.model_copy(update={"memory": eased})
    stock = take_stock(intent.pool, instances, status, now, checked=checked, minute=minute)
    return Snapshot(intent, stock, status, now, minute)
