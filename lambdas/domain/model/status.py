"""What we answer and what we remember of a pool: one bounded, versioned item of the PoolStatus table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from lambdas.domain.item.faults import SpecError
from lambdas.domain.item.pool import Market

RECENT = timedelta(minutes=10)
"""How long our own launches and terminations outweigh a listing: EC2's answers lag for seconds to minutes."""

NOTICE_COUNTS = timedelta(minutes=10)
"""How long a notice matters. An instance that still runs after this counts again: its interruption did not come."""

RISK_COUNTS = timedelta(days=14)
"""How long a rebalance recommendation or announced maintenance matters; EC2 announces maintenance two weeks ahead."""

FORGET_BACKOFF = timedelta(hours=1)
"""An offering left alone for so long after its back-off starts again with the shortest one."""

CLOSING = timedelta(minutes=3)
"""For how long the metric of an ended trouble says zero: an alarm on one that merely stops stays for minutes."""

Moment = Annotated[AwareDatetime, Field(lt=datetime(2200, 1, 1, tzinfo=UTC))]
"""A time with a time zone, before the year 2200: one written by hand may lack its zone, or be the last there is."""

Offering = Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+(/on-demand)?$")]
"""A key as ``offering_key`` makes it."""

Count = Annotated[int, Field(ge=0, lt=1_000_000)]
"""A number of instances or of tries."""


class Reason(StrEnum):
    """Why instances are missing. The names are part of the contract with users."""

    NO_CAPACITY = "NO_CAPACITY"
    NO_ADDRESSES = "NO_ADDRESSES"
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

    ``count`` is in units; ``request`` is the call's exact JSON, token included; ``terms`` is a digest of the parts of
    the spec that it came from (an earlier version wrote the parts themselves), ``machine`` the digest of what it makes;
    ``weight`` what each instance counts for where the request names no weights. ``most`` is what it can bring at most,
    as EC2 rounds up to whole instances.
    """

    id: str
    count: Count
    at: Moment
    request: str
    terms: str | dict[str, Any]
    market: Market = Market.SPOT
    machine: str = ""
    weight: Count = 1
    most: Count = 0


class Backoff(Frozen):
    """An offering that EC2 refused: not tried again before ``until``. ``message`` is EC2's own, bounded."""

    until: Moment
    failures: Count
    reason: Reason = Reason.NO_CAPACITY
    message: str = ""


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
    """Instances that were terminated together, or are about to be."""

    at: Moment
    ids: tuple[str, ...]


class Size(Frozen):
    """So many units were wanted until ``at``."""

    at: Moment
    wanted: Count


class Shortfall(Frozen):
    """So many units have been missing for want of spot since ``since``."""

    since: Moment
    units: Count


class Series(Frozen):
    """Tries that have not helped yet: since when, how many, and before when the next one is not made.

    ``attempts`` are the newest launches of the series. Whose instances they are is told by them: clocks differ.
    """

    since: Moment
    tries: Count
    until: Moment
    attempts: tuple[str, ...] = ()


class Template(Frozen):
    """The version of the pool's own launch template that holds the description of this digest.

    ``warning`` is what EC2 said of it when it was made. Without an id it is one that EC2 has and does not show yet.
    """

    machine: str
    id: str
    version: Count
    made_at: Moment | None = None
    warning: str = ""


RENAMED = {
    "stillborn": "failed_starts",
    "failed": "failed_attempts",
    "taken": "recently_interrupted",
    "dear": "price_refused",
}
"""Names in stored items of earlier versions, and what they are called since."""


class Memory(Frozen):
    """What the control plane keeps for itself between reconciles.

    ``ending`` are instances whose termination was written down and not answered: they may be gone. ``shielded`` are
    those that EC2 refused to terminate, with the time until which it is not asked again. ``startup`` are instances not
    seen ready yet, ``announced`` those under notice whose end was announced, ``failed_starts`` how many launches in a
    row brought none that became ready, ``failed_attempts`` the last attempts of those. ``recently_interrupted`` are
    offerings that an interruption struck or a recommendation warned of, with the time until which they are avoided,
    ``price_refused`` those that EC2 refused for their price, ``full`` subnets that had no free address. ``sizes`` are
    larger ones that were wanted until lately, ``shortfalls`` what spot lacks, the oldest first. Before ``replace_at``
    no replacement is tried for an instance that still serves. ``risks`` are replacements for recommended instances that
    were recommended again, ``returns`` those of on-demand instances in their place. ``unsold`` are types of the item
    that EC2 sells nowhere in the Region, None if EC2 has not said. Before ``forget_at`` a deleted pool's launch
    template is not tried to be deleted again. ``over`` are troubles that ended just now, by their names in the metrics.
    """

    version: Literal[1] = 1
    spec: dict[str, Any] | None = None
    attempt: Attempt | None = None
    launched: tuple[Batch, ...] = ()
    terminated: tuple[Ended, ...] = ()
    ending: Ended | None = None
    shielded: dict[str, Moment] = Field(default_factory=dict)
    startup: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()
    failed_starts: Count = 0
    failed_attempts: tuple[str, ...] = ()
    backoff: dict[str, Backoff] = Field(default_factory=dict)
    holds: dict[Market, Hold] = Field(default_factory=dict)
    recently_interrupted: dict[str, Moment] = Field(default_factory=dict)
    price_refused: dict[str, Moment] = Field(default_factory=dict)
    full: dict[str, Moment] = Field(default_factory=dict)
    template: Template | None = None
    below_since: Moment | None = None
    sizes: tuple[Size, ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    replace_at: Moment | None = None
    risks: Series | None = None
    returns: Series | None = None
    unsold: tuple[str, ...] | None = None
    forget_at: Moment | None = None
    over: dict[str, Moment] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, stored: Any) -> Any:
        """Read a status that an earlier version wrote."""
        if not isinstance(stored, dict):
            return stored
        return {RENAMED.get(name, name): value for name, value in stored.items()}


class NoticeKind(StrEnum):
    """What EC2 announced: an end that is near, a risk, or that a risk is over. The most severe stands first."""

    INTERRUPTION = "interruption"
    REBALANCE = "rebalance"
    MAINTENANCE = "maintenance"
    WITHDRAWN = "withdrawn"


OF_CAPACITY = (NoticeKind.INTERRUPTION, NoticeKind.REBALANCE)
"""What says of an offering that EC2 needs it for others."""

RISKS = (NoticeKind.REBALANCE, NoticeKind.MAINTENANCE)
OF_HEALTH = (NoticeKind.MAINTENANCE, NoticeKind.WITHDRAWN)
"""What AWS Health tells: of each event how it stands, again and again, and not always in order."""

_MOST_SEVERE_FIRST = tuple(NoticeKind)


class Notice(Frozen):
    """What EC2 announced for an instance, of which one notice is kept: the most severe, else the first.

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
        return _MOST_SEVERE_FIRST.index(self.kind) < _MOST_SEVERE_FIRST.index(known.kind)


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


class Replacing(Frozen):
    """What still serves and should give way to others, and why it has not.

    ``count`` is in units. Without ``reason`` replacements are under way.
    """

    count: Count
    reason: Reason | None = None
    message: str
    next_attempt_at: Moment | None = None


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
    replacing: Replacing | None = None
    drains: tuple[Drained, ...] = ()
    warnings: tuple[str, ...] = ()
    spec_errors: tuple[SpecError, ...] = ()
    last_error: LastError | None = None
    draining_since: Moment | None = None


class Status(Frozen):
    """Everything known of a pool."""

    answer: Answer = Answer()
    memory: Memory = Memory()
    notices: dict[str, Notice] = Field(default_factory=dict)


STARTING, INVALID_ITEM = "STARTING", "INVALID_ITEM"
"""Names of trouble beside reasons for waiting: all is launched and does not run yet; the item breaks a rule."""


def reason_of_trouble(answer: Answer) -> Reason | None:
    """Why a pool is not as it should be. A rolling update that has stopped is a launch refused, though all may run."""
    if answer.rollout is not None and answer.rollout.state is RolloutState.STOPPED:
        return Reason.CONFIG
    return answer.waiting.reason if answer.waiting else None


def troubles_of(answer: Answer, memory: Memory) -> tuple[str, ...]:
    """All that is wrong with a pool, by the names in the metrics."""
    reason = reason_of_trouble(answer) or (STARTING if memory.below_since else None)
    return (*([str(reason)] if reason else []), *([INVALID_ITEM] if answer.spec_errors else []))


def with_error(status: Status, error: LastError) -> Status:
    """The same status, but for its last error."""
    return status.model_copy(update={"answer": status.answer.model_copy(update={"last_error": error})})
