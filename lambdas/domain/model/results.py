"""What came of a plan's steps: launches, terminations, and failures by meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lambdas.domain.item.fields import bounded
from lambdas.domain.item.pool import Market
from lambdas.domain.model.status import Attempt, Drained, Reason

MESSAGE_LENGTH = 1000
CODE_LENGTH = 100


@dataclass(frozen=True)
class Failure:
    """One refusal by EC2, with its meaning. ``offering`` names whom it concerns; None is the whole call.

    ``subnet`` is where it should have been launched. If ``lasting``, trying again soon is useless. Code and message are
    cut where it is made, so that statuses, logs and what quotes them stay small.
    """

    reason: Reason
    code: str
    message: str
    offering: str | None = None
    lasting: bool = False
    subnet: str | None = None

    def __post_init__(self) -> None:
        """Cut what was given too long."""
        object.__setattr__(self, "code", bounded(self.code, CODE_LENGTH))
        object.__setattr__(self, "message", bounded(self.message, MESSAGE_LENGTH))


@dataclass(frozen=True)
class Launched:
    """The answer to a launch attempt. Only instance ids count: errors and instances may come together.

    ``attempt`` is None if EC2 refused even the questions before it. If ``answered`` is False, the attempt is open.
    ``accepted``: EC2 took the call and answered with what it launched, possibly nothing. ``instances`` are offerings by
    id; ``units`` what they count for, if that is not one each.
    """

    attempt: Attempt | None
    asked: int
    offerings: frozenset[str] = frozenset()
    instances: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    answered: bool = True
    accepted: bool = False
    units: int | None = None
    market: Market = Market.SPOT

    @property
    def short(self) -> int:
        """Units asked for and not given."""
        return max(0, self.asked - (len(self.instances) if self.units is None else self.units))


@dataclass(frozen=True)
class Terminated:
    """The answer to a termination.

    ``unknown`` are ids that EC2 does not know: no more, or, just launched, not yet. Of the ``unanswered`` nobody knows
    whether they are being terminated; the ``refused`` are those that EC2 named in a refusal.
    """

    instance_ids: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    unknown: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrainResult:
    """What came of announcing the end of instances."""

    drained: tuple[Drained, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Results:
    """What a reconcile's steps brought about. ``unfinished``: there was no time for all of them."""

    launched: Launched | None = None
    terminated: tuple[Terminated, ...] = ()
    drains: tuple[DrainResult, ...] = ()
    unfinished: bool = False

    @property
    def ended(self) -> frozenset[str]:
        """Ids of the instances that EC2 agreed to terminate."""
        return frozenset(id_ for answer in self.terminated for id_ in answer.instance_ids)

    @property
    def unanswered(self) -> frozenset[str]:
        """Ids of the instances that may be being terminated."""
        return frozenset(id_ for answer in self.terminated for id_ in answer.unanswered)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """All refusals, the launch's first."""
        return (
            *(self.launched.failures if self.launched else ()),
            *(f for answer in self.terminated for f in answer.failures),
            *(_not_known(answer.unknown) for answer in self.terminated if answer.unknown),
            *(f for drain in self.drains for f in drain.failures),
        )


def _not_known(ids: tuple[str, ...]) -> Failure:
    message = f"EC2 does not know {', '.join(ids[:5])}: not yet, or no more. The next listing tells."
    return Failure(Reason.UNKNOWN, "InvalidInstanceID.NotFound", message)
