"""What we answer and what we remember of a pool: one bounded, versioned item of the PoolStatus table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from lambdas.domain.pool import Market, SpecError

RECENT = timedelta(minutes=10)
"""How long our own launches and terminations outweigh a listing: EC2's answers lag for seconds to minutes."""

NOTICE_COUNTS = timedelta(minutes=10)
"""How long a notice matters. An instance that still runs after this counts again: its interruption did not come."""

RISK_COUNTS = timedelta(days=14)
"""How long a rebalance recommendation or announced maintenance matters; EC2 announces maintenance two weeks ahead."""

Moment = Annotated[AwareDatetime, Field(lt=datetime(2200, 1, 1, tzinfo=UTC))]
"""A time that can be reckoned with: one that a hand wrote may lack its zone, or be the last there is."""

Offering = Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+(/on-demand)?$")]
"""A key as ``offering_key`` makes it."""

Count = Annotated[int, Field(ge=0, lt=1_000_000)]
"""A number of instances or of tries."""


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
    """Values, compared and never changed in place; all can be written again, bytes that a hand left there too."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64")


class Waiting(Frozen):
    """The queued shortfall of a pool."""

    count: Count
    reason: Reason
    since: Moment
    attempts: Count
    next_attempt_at: Moment
    message: str


class LastError(Frozen):
    """The last failure of an AWS call for this pool."""

    code: str
    message: str
    at: Moment


class Attempt(Frozen):
    """A launch written down before its call, so that a crash is replayed and not repeated.

    ``count`` is in units; ``request`` is the call's exact JSON, token included; ``terms`` are the parts of the spec
    that it came from, ``machine`` the digest of what it makes.
    """

    id: str
    count: Count
    at: Moment
    request: str
    terms: dict[str, Any]
    market: Market = Market.SPOT
    machine: str = ""


class Backoff(Frozen):
    """An offering that had no capacity: not tried again before ``until``."""

    until: Moment
    failures: Count


class Hold(Frozen):
    """Why the pool launches nothing on a market before ``until``."""

    reason: Reason
    until: Moment
    failures: Count
    message: str


class Batch(Frozen):
    """Instances that one launch brought: ids by offering."""

    at: Moment
    attempt: str
    machine: str
    ids: dict[Offering, tuple[str, ...]]


class Ended(Frozen):
    """Instances that were terminated together."""

    at: Moment
    ids: tuple[str, ...]


class Template(Frozen):
    """The version of the pool's own launch template that holds the description of this digest."""

    machine: str
    id: str
    version: Count


class Memory(Frozen):
    """What the control plane keeps for itself between reconciles.

    ``startup`` are instances not seen ready yet, ``announced`` those under notice whose end was announced,
    ``stillborn`` how many launches in a row brought none that became ready, ``taken`` offerings that an interruption
    struck, with the time until which they are avoided, ``dear`` those that EC2 refused for their price. Before
    ``replace_at`` no replacement is tried for an instance that still serves.
    """

    version: Literal[1] = 1
    spec: dict[str, Any] | None = None
    attempt: Attempt | None = None
    launched: tuple[Batch, ...] = ()
    terminated: tuple[Ended, ...] = ()
    startup: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()
    stillborn: Count = 0
    backoff: dict[str, Backoff] = Field(default_factory=dict)
    holds: dict[Market, Hold] = Field(default_factory=dict)
    taken: dict[str, Moment] = Field(default_factory=dict)
    dear: dict[str, Moment] = Field(default_factory=dict)
    template: Template | None = None
    below_since: Moment | None = None
    spot_short_since: Moment | None = None
    excess_since: Moment | None = None
    replace_at: Moment | None = None


class NoticeKind(StrEnum):
    """What EC2 announced: an end that is certain and near, or a risk; or that a risk is over. The gravest is first."""

    INTERRUPTION = "interruption"
    REBALANCE = "rebalance"
    MAINTENANCE = "maintenance"
    WITHDRAWN = "withdrawn"


RISKS = (NoticeKind.REBALANCE, NoticeKind.MAINTENANCE)
OF_HEALTH = (NoticeKind.MAINTENANCE, NoticeKind.WITHDRAWN)
"""What AWS Health tells: of each event how it stands, again and again, and not always in order."""

_GRAVEST_FIRST = tuple(NoticeKind)


class Notice(Frozen):
    """What EC2 announced for an instance, of which one notice is kept: the gravest, else the first.

    ``event`` tells AWS Health's events apart; the newest word on one of them counts.
    """

    at: Moment
    offering: str
    kind: NoticeKind = NoticeKind.INTERRUPTION
    event: str | None = None

    def outweighs(self, known: Notice | None) -> bool:
        """Whether this one takes the place of what is known of the instance."""
        if known is None:
            return True
        if self.event == known.event and {self.kind, known.kind} <= set(OF_HEALTH):
            # Of the same second, the end of an event is the later word.
            return (self.at, self.kind is NoticeKind.WITHDRAWN) > (known.at, known.kind is NoticeKind.WITHDRAWN)
        return _GRAVEST_FIRST.index(self.kind) < _GRAVEST_FIRST.index(known.kind)


ANNOUNCED = "Announced"
COMMAND_RUNS = ("Pending", "InProgress", "Delayed")


class Drained(Frozen):
    """An instance under interruption notice whose end was announced, and what came of its drain command.

    ``status`` is Systems Manager's, or Announced if the pool has no drain_command.
    """

    instance_id: str
    at: Moment
    status: str
    command_id: str | None = None

    def runs(self, now: datetime) -> bool:
        """Whether its command may still run: it cannot outlive its instance, whatever Systems Manager says."""
        return self.command_id is not None and self.status in COMMAND_RUNS and now - self.at < NOTICE_COUNTS


class RolloutState(StrEnum):
    """What becomes of instances that an older description made."""

    ON_REPLACE = "ON_REPLACE"
    ROLLING = "ROLLING"
    STOPPED = "STOPPED"


class Rollout(Frozen):
    """How far a changed description has reached the pool's instances."""

    state: RolloutState
    outdated: Count
    updated: Count
    message: str


class Answer(Frozen):
    """The public half of a PoolStatus item."""

    wanted: Count = 0
    running: Count = 0
    ready: Count = 0
    starting: Count = 0
    noticed: Count = 0
    on_demand: Count = 0
    waiting: Waiting | None = None
    rollout: Rollout | None = None
    drains: tuple[Drained, ...] = ()
    spec_errors: tuple[SpecError, ...] = ()
    last_error: LastError | None = None
    draining_since: Moment | None = None


class Status(Frozen):
    """Everything known of a pool."""

    answer: Answer = Answer()
    memory: Memory = Memory()
    notices: dict[str, Notice] = Field(default_factory=dict)


def with_error(status: Status, error: LastError) -> Status:
    """The same status, but for its last error."""
    return status.model_copy(update={"answer": status.answer.model_copy(update={"last_error": error})})
