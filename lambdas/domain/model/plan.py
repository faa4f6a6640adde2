"""Decisions as data: what to do, each step with its reason, and why nothing more is done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lambdas.domain.item.pool import Market
from lambdas.domain.model.instances import Instance, Offer
from lambdas.domain.model.status import Attempt, Reason


@dataclass(frozen=True)
class Launch:
    """Ask EC2 for ``count`` units from any of ``offers``, all of one market, in one call.

    With a ``weight`` other than 1 all offers have it, and the call counts instances, not units.
    """

    count: int
    offers: tuple[Offer, ...]
    why: str
    market: Market = Market.SPOT
    weight: int = 1


@dataclass(frozen=True)
class Resend:
    """Send an open attempt's request again, unchanged: its answer was lost."""

    attempt: Attempt
    why: str


@dataclass(frozen=True)
class Terminate:
    """Terminate these instances."""

    instance_ids: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Drain:
    """Announce that EC2 interrupts these instances, and run the pool's drain command on them, if it has one."""

    instances: tuple[Instance, ...]
    command: str | None
    why: str


Step = Launch | Resend | Terminate | Drain


@dataclass(frozen=True)
class Blocker:
    """Why instances are not requested now, and when that may change.

    Of several causes the reason is the most severe; ``waits``: another cause passes by itself.
    """

    reason: Reason
    message: str
    until: datetime
    market: Market = Market.SPOT
    waits: bool = False


@dataclass(frozen=True)
class Plan:
    """What one reconcile does.

    ``blocker`` says why missing instances are not requested, ``blocked_replacement`` why replacements are not.
    """

    steps: tuple[Step, ...] = ()
    blocker: Blocker | None = None
    blocked_replacement: Blocker | None = None
    drop_attempt: bool = False
