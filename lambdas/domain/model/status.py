"""What the control plane shows and remembers of a pool: one bounded, versioned item of the PoolStatus table."""

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
"""How long a notice matters. An instance that still runs after this counts again: it was not interrupted."""

RISK_COUNTS = timedelta(days=14)
"""How long a rebalance recommendation or announced maintenance matters; EC2 announces maintenance two weeks ahead."""

FORGET_BACKOFF = timedelta(hours=1)
"""An offering without a refusal for so long after its back-off starts again with the shortest one."""

CLOSING = timedelta(minutes=3)
"""How long the metric of an ended trouble stays zero: an alarm on a metric that just stops stays on for minutes."""

Moment = Annotated[AwareDatetime, Field(lt=datetime(2200, 1, 1, tzinfo=UTC))]
"""Timezone-aware, before the year 2200: a time written by hand may have no zone, or be too large to calculate with."""

Offering = Annotated[str, StringConstraints(pattern=r"^[^/]+/[^/]+(/on-demand)?$")]
"""An offering's key, as ``offering_key`` makes it."""

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
    """Values that are compared and never changed. All can be saved again, even bytes from a hand edit."""

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
    """A launch, saved before its call, so that after a crash the same request is sent again.

    ``count`` is in units; ``request`` is the call's exact JSON, token included; ``terms`` is a digest of the parts of
    the spec that it came from (an earlier version saved the parts themselves), ``machine`` the digest of the machines
    that it launches; ``weight`` what each instance counts for if the request names no weights. ``most`` is the most
    units that it can launch, because EC2 rounds up to whole instances.
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
    """Instances of one launch: ids by offering."""

    at: Moment
    attempt: str
    machine: str
    ids: dict[Offering, tuple[str, ...]]


class Ended(Frozen):
    """Instances that were terminated together, or are about to be."""

    at: Moment
    ids: tuple[str, ...]


class Size(Frozen):
    """An earlier size: the pool wanted ``wanted`` units until ``at``."""

    at: Moment
    wanted: Count


class Shortfall(Frozen):
    """``units`` have been missing since ``since``, because spot is missing."""

    since: Moment
    units: Count


class Series(Frozen):
    """Tries that have not helped yet: since when, how many, and the time before which no other is made.

    ``attempts`` are the newest launches of the series. They identify its instances, because clocks differ.
    """

    since: Moment
    tries: Count
    until: Moment
    attempts: tuple[str, ...] = ()


class Template(Frozen):
    """The version of the pool's own launch template that holds the description with this digest.

    ``warning`` is what EC2 said when it was created. Without an id, EC2 has the template and does not show it yet.
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
"""Names in stored items of earlier versions, and the names of today."""


class Memory(Frozen):
    """What the control plane keeps for itself between reconciles.

    ``ending`` are instances whose termination was saved and has no answer: they may be ending. ``shielded`` are those
    that EC2 refused to terminate, with the time of the next try. ``startup`` are instances not seen ready yet,
    ``announced`` those under notice whose end was announced, ``failed_starts`` how many launches in a row had only
    failed starts, ``failed_attempts`` the last of those attempts. ``recently_interrupted`` are offerings with an
    interruption or a recommendation, with the time until which they are avoided, ``price_refused`` those that EC2
    refused for their price, ``full`` subnets without a free address. ``sizes`` are larger sizes that were wanted
    recently, ``shortfalls`` what spot lacks, the oldest first. Before ``replace_at`` no replacement is tried for an
    instance that still serves. ``risks`` are replacements for recommended instances that were recommended again,
    ``returns`` tries to replace on-demand instances by spot. ``unsold`` are types of the item that the Region does not
    sell, None if unknown. Before ``forget_at`` no new try is made to delete a deleted pool's launch template. ``over``
    are troubles that ended just now, by their names in the metrics; ``begun`` says when these and the present ones
    began. ``unlisted``: the item was last read while EC2 listed no instances.
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
    begun: dict[str, Moment] = Field(default_factory=dict)
    unlisted: bool = False

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, stored: Any) -> Any:
        """Read a status that an earlier version saved."""
        if not isinstance(stored, dict):
            return stored
        return {RENAMED.get(name, name): value for name, value in stored.items()}


class NoticeKind(StrEnum):
    """What EC2 announced: an end that is near, a risk, or that a risk is over. The most severe comes first."""

    INTERRUPTION = "interruption"
    REBALANCE = "rebalance"
    MAINTENANCE = "maintenance"
    WITHDRAWN = "withdrawn"


OF_CAPACITY = (NoticeKind.INTERRUPTION, NoticeKind.REBALANCE)
"""Notices that show that EC2 needs an offering's capacity for others."""

RISKS = (NoticeKind.REBALANCE, NoticeKind.MAINTENANCE)
OF_HEALTH = (NoticeKind.MAINTENANCE, NoticeKind.WITHDRAWN)
"""Notices of AWS Health, which sends the state of each event several times, and not always in order."""

_MOST_SEVERE_FIRST = tuple(NoticeKind)


class Notice(Frozen):
    """What EC2 announced for an instance. One notice is kept: the most severe, else the first.

    ``event`` identifies an event of AWS Health; its newest message counts.
    """

    at: Moment
    offering: str
    kind: NoticeKind = NoticeKind.INTERRUPTION
    event: str | None = None

    def outweighs(self, known: Notice | None) -> bool:
        """Whether this notice replaces the one that is known of the instance."""
        if known is None:
            return True
        if self.event == known.event and {self.kind, known.kind} <= set(OF_HEALTH):
            # Within the same second, the end of an event counts as the later message.
            return (self.at, self.kind is NoticeKind.WITHDRAWN) > (known.at, known.kind is NoticeKind.WITHDRAWN)
        return _MOST_SEVERE_FIRST.index(self.kind) < _MOST_SEVERE_FIRST.index(known.kind)


ANNOUNCED = "Announced"
COMMAND_RUNS = ("Pending", "InProgress", "Delayed")


class Drained(Frozen):
    """An instance under interruption notice whose end was announced, and the result of its drain command.

    ``status`` is Systems Manager's, or Announced if the pool has no drain_command.
    """

    instance_id: str
    at: Moment
    status: str
    command_id: str | None = None

    def runs(self, now: datetime) -> bool:
        """Whether its command may still run: it ends with its instance, whatever Systems Manager says."""
        return self.command_id is not None and self.status in COMMAND_RUNS and now - self.at < NOTICE_COUNTS


class RolloutState(StrEnum):
    """What happens to instances that an older description made."""

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
    """Serving instances that should be replaced, and why they have not been.

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
    """Everything that is known about a pool."""

    answer: Answer = Answer()
    memory: Memory = Memory()
    notices: dict[str, Notice] = Field(default_factory=dict)

    @property
    def reason_since(self) -> datetime | None:
        """Since when the pool has waited for its present reason; the shortfall may be older."""
        waiting = self.answer.waiting
        return max(waiting.since, self.memory.begun.get(waiting.reason, waiting.since)) if waiting else None


STARTING, INVALID_ITEM = "STARTING", "INVALID_ITEM"
"""Troubles that are no reason for waiting: all is launched but does not run yet; the item breaks a rule."""


def reason_of_trouble(answer: Answer) -> Reason | None:
    """Why a pool is in trouble. A stopped rolling update counts as a refused launch, even if all instances run."""
    if answer.rollout is not None and answer.rollout.state is RolloutState.STOPPED:
        return Reason.CONFIG
    return answer.waiting.reason if answer.waiting else None


def troubles_of(answer: Answer, memory: Memory) -> tuple[str, ...]:
    """All troubles of a pool, by the names in the metrics."""
    reason = reason_of_trouble(answer) or (STARTING if memory.below_since else None)
    return (*([str(reason)] if reason else []), *([INVALID_ITEM] if answer.spec_errors else []))
