"""What is in force for a pool: its item if that is valid, else its last valid spec; and what a deletion means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lambdas.domain.item.faults import SpecError, parse_pool, recalled
from lambdas.domain.item.pool import Pool
from lambdas.domain.model.status import Status


@dataclass(frozen=True)
class Intent:
    """A pool's spec in force, if it has one, and the faults of its present item."""

    pool: Pool | None
    errors: tuple[SpecError, ...] = ()
    deleted: bool = False
    draining_since: datetime | None = None
    drain_at: datetime | None = None
    drain_command: str | None = None

    @property
    def spec(self) -> dict[str, Any] | None:
        """The spec in force, in the form in which it is saved."""
        return self.pool.remembered if self.pool else None

    @property
    def paused(self) -> bool:
        """Whether to observe and report only: the item says so, or it was never valid."""
        return not self.deleted and (self.pool is None or self.pool.paused)


def intent_of(item: Mapping[str, Any] | None, status: Status | None, now: datetime, drain_grace: timedelta) -> Intent:
    """Read the item, with what is remembered. A faulty item leaves the last valid spec in force."""
    answer = status.answer if status else None
    if item is None:
        since = (answer.draining_since if answer else None) or now
        last = recalled(status.memory.spec if status else None)
        return Intent(
            pool=None,
            deleted=True,
            draining_since=since,
            drain_at=since + drain_grace,
            drain_command=last.drain_command if last else None,
        )
    parsed = parse_pool(item)
    pool = parsed if isinstance(parsed, Pool) else recalled(status.memory.spec if status else None)
    errors = () if isinstance(parsed, Pool) else parsed
    return Intent(pool=pool, errors=errors, drain_command=pool.drain_command if pool else None)
