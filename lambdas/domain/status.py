"""What we answer and what we remember of a pool: one bounded, versioned item of the PoolStatus table."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lambdas.domain.pool import Market, SpecError

RECENT = timedelta(minutes=10)
"""How long our own launches and terminations outweigh a listing: EC2's answers lag for seconds to minutes."""

NOTICE_COUNTS = timedelta(minutes=10)
"""How long a notice matters. An instance that still runs after this counts again: its interruption did not come."""

RISK_COUNTS = timedelta(days=14)
"""How long a rebalance recommendation or announced maintenance matters; EC2 announces maintenance two weeks ahead."""


class Reason(StrEnum):
    """Why instances are missing. The names are part of the contract with users."""

    NO_CAPACITY = "NO_CAPACITY"
    PRICE_ABOVE_MAX = "PRICE_ABOVE_MAX"
    QUOTA = "QUOTA"
    THROTTLED = "THROTTLED"
    CONFIG = "CONFIG"
    MAX_INSTANCES = "MAX_INSTANCES"
    UNKNOWN = "UNKNOWN"


class Frozen(BaseModel):
    """Values, compared and never changed in place."""

    model_config = ConfigDict(frozen=True)


class Waiting(Frozen):
    """The queued shortfall of a pool."""

    count: int
    reason: Reason
    since: datetime
    attempts: int
    next_attempt_at: datetime
    message: str


class LastError(Frozen):
    """The last failure of an AWS call for this pool."""

    code: str
    message: str
    at: datetime


class Attempt(Frozen):
    """A launch written down before its call, so that a crash is replayed and not repeated.

    ``count`` is in units; ``request`` is the call's exact JSON, token included; ``terms`` are the parts of the spec
    that it came from, ``machine`` the digest of what it makes.
    """

    id: str
    count: int
    at: datetime
    request: str
    terms: dict[str, Any]
    market: Market = Market.SPOT
    machine: str = ""


class Backoff(Frozen):
    """An offering that had no capacity: not tried again before ``until``."""

    until: datetime
    failures: int


class Hold(Frozen):
    """Why the pool launches nothing on a market before ``until``."""

    reason: Reason
    until: datetime
    failures: int
    message: str


class Batch(Frozen):
    """Instances that one launch brought: ids by offering."""

    at: datetime
    attempt: str
    machine: str
    ids: dict[str, tuple[str, ...]]


class Ended(Frozen):
    """Instances that were terminated together."""

    at: datetime
    ids: tuple[str, ...]


class Template(Frozen):
    """The version of the pool's own launch template that holds the description of this digest."""

    machine: str
    id: str
    version: int


class Memory(Frozen):
    """What the control plane keeps for itself between reconciles.

    ``startup`` are instances not seen ready yet, ``announced`` those under notice whose end was announced, ``stillborn`` how many launches in a row brought none that became
    ready, ``taken`` offerings that an interruption struck, with the time until which they are avoided. Before
    ``replace_at`` no replacement is tried for an instance that still serves.
    """

    version: int = 1
    spec: dict[str, Any] | None = None
    attempt: Attempt | None = None
    launched: tuple[Batch, ...] = ()
    terminated: tuple[Ended, ...] = ()
    startup: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()
    stillborn: int = 0
    backoff: dict[str, Backoff] = Field(default_factory=dict)
    holds: dict[Market, Hold] = Field(default_factory=dict)
    taken: dict[str, datetime] = Field(default_factory=dict)
    template: Template | None = None
    below_since: datetime | None = None
    spot_short_since: datetime | None = None
    excess_since: datetime | None = None
    replace_at: datetime | None = None


class NoticeKind(StrEnum):
    """What EC2 announced: an end that is certain and near, or a risk."""

    INTERRUPTION = "interruption"
    REBALANCE = "rebalance"
    MAINTENANCE = "maintenance"


class Notice(Frozen):
    """What EC2 announced for an instance. An interruption outweighs what came before it."""

    at: datetime
    offering: str
    kind: NoticeKind = NoticeKind.INTERRUPTION


ANNOUNCED = "Announced"
COMMAND_RUNS = ("Pending", "InProgress", "Delayed")


class Drained(Frozen):
    """An instance under interruption notice whose end was announced, and what came of its drain command.

    ``status`` is Systems Manager's, or Announced if the pool has no drain_command.
    """

    instance_id: str
    at: datetime
    status: str
    command_id: str | None = None

    @property
    def runs(self) -> bool:
        """Whether its command may still run."""
        return self.command_id is not None and self.status in COMMAND_RUNS


class RolloutState(StrEnum):
    """What becomes of instances that an older description made."""

    ON_REPLACE = "ON_REPLACE"
    ROLLING = "ROLLING"
    STOPPED = "STOPPED"


class Rollout(Frozen):
    """How far a changed description has reached the pool's instances."""

    state: RolloutState
    outdated: int
    updated: int
    message: str


class Answer(Frozen):
    """The public half of a PoolStatus item."""

    wanted: int = 0
    running: int = 0
    ready: int = 0
    starting: int = 0
    noticed: int = 0
    on_demand: int = 0
    waiting: Waiting | None = None
    rollout: Rollout | None = None
    drains: tuple[Drained, ...] = ()
    spec_errors: tuple[SpecError, ...] = ()
    last_error: LastError | None = None
    draining_since: datetime | None = None


class Status(Frozen):
    """Everything known of a pool."""

    answer: Answer = Answer()
    memory: Memory = Memory()
    notices: dict[str, Notice] = Field(default_factory=dict)


def with_error(status: Status, error: LastError) -> Status:
    """The same status, but for its last error."""
    return status.model_copy(update={"answer": status.answer.model_copy(update={"last_error": error})})
