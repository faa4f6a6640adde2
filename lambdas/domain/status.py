"""What we answer and what we remember of a pool: one bounded, versioned item of the PoolStatus table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from lambdas.domain.pool import SpecError

RECENT = timedelta(minutes=10)
"""How long our own launches and terminations outweigh a listing: EC2's answers lag for seconds to minutes."""

NOTICE_COUNTS = timedelta(minutes=10)
"""How long a notice matters. An instance that still runs after this counts again: its interruption did not come."""


Moment = Annotated[AwareDatetime, Field(lt=datetime(2200, 1, 1, tzinfo=UTC))]
"""A time that can be reckoned with: one that a hand wrote may lack its zone, or be the last there is."""

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

    ``request`` is the call's exact JSON, token included; ``terms`` are the parts of the spec that it came from.
    """

    id: str
    count: Count
    at: Moment
    request: str
    terms: dict[str, Any]


class Backoff(Frozen):
    """An offering that had no capacity: not tried again before ``until``."""

    until: Moment
    failures: Count


class Hold(Frozen):
    """Why the whole pool launches nothing before ``until``."""

    reason: Reason
    until: Moment
    failures: Count
    message: str


class Memory(Frozen):
    """What the control plane keeps for itself between reconciles."""

    version: Literal[1] = 1
    spec: dict[str, Any] | None = None
    attempt: Attempt | None = None
    launched: dict[str, Moment] = Field(default_factory=dict)
    terminated: dict[str, Moment] = Field(default_factory=dict)
    backoff: dict[str, Backoff] = Field(default_factory=dict)
    hold: Hold | None = None
    below_since: Moment | None = None


class Notice(Frozen):
    """An interruption notice: the instance is about to be taken, so its offering is avoided for a while."""

    at: Moment
    offering: str


class Answer(Frozen):
    """The public half of a PoolStatus item."""

    wanted: Count = 0
    running: Count = 0
    starting: Count = 0
    noticed: Count = 0
    waiting: Waiting | None = None
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
