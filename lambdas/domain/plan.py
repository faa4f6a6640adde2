"""Decisions as data: what to do, each step with its reason, and why nothing more is done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lambdas.domain.observed import Offer
from lambdas.domain.status import Attempt, Reason


@dataclass(frozen=True)
class Launch:
    """Ask EC2 for ``count`` instances from any of ``offers``, in one call."""

    count: int
    offers: tuple[Offer, ...]
    why: str


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


Step = Launch | Resend | Terminate


@dataclass(frozen=True)
class Hindrance:
    """Why missing instances are not asked for now, and when that may change."""

    reason: Reason
    message: str
    until: datetime


@dataclass(frozen=True)
class Plan:
    """What one reconcile does."""

    steps: tuple[Step, ...] = ()
    hindrance: Hindrance | None = None
    drop_attempt: bool = False
