"""What a reconcile, a tick and a notice work with: the ports, the clock and the stage's settings."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from lambdas.domain.decision.stock import MINUTE
from lambdas.domain.record.backoff import BackoffPolicy
from lambdas.ports import Clock, Drainer, DueQueue, Fleet, PoolStore, StatusStore


@dataclass(frozen=True)
class ControlPlane:
    """Everything that a reconcile works with; ``wait`` sleeps for so many seconds."""

    stack: str
    pools: PoolStore
    statuses: StatusStore
    fleet: Fleet
    drainer: Drainer
    queue: DueQueue
    clock: Clock
    backoff_policy: BackoffPolicy
    drain_grace: timedelta
    minute: timedelta = MINUTE
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    wait: Callable[[float], None] = time.sleep
