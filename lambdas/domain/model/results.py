"""The results of a plan's steps: launches, terminations, and failures by meaning."""

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
    """One refusal by EC2, with its meaning. ``offering`` is the one that it concerns; None is the whole call.

    ``subnet`` is where the launch should have been. If ``lasting``, trying again soon is useless. Code and message are
    cut here, so that statuses, logs and other texts that quote them stay small.
    """

    reason: Reason
    code: str
    message: str
    offering: str | None = None
    lasting: bool = False
    subnet: str | None = None

    def __post_init__(self) -> None:
        """Cut long texts."""
        object.__setattr__(self, "code", bounded(self.code, CODE_LENGTH))
        object.__setattr__(self, "message", bounded(self.message, MESSAGE_LENGTH))


@dataclass(frozen=True)
class Launched:
    """The answer to a launch attempt. Only instance ids count: errors and instances may come together.

    ``attempt`` is None if EC2 refused the requests before it. If ``answered`` is False, the attempt is open.
    ``accepted``: EC2 accepted the call and answered with what it launched, possibly nothing. ``instances`` are
    offerings by id; ``units`` are their units, if not one each.
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
        """Units requested but not launched."""
        return max(0, self.asked - (len(self.instances) if self.units is None else self.units))


@dataclass(frozen=True)
class Terminated:
    """The answer to a termination.

    ``unknown`` are ids that EC2 does not know: no longer, or not yet. For ``unanswered`` ids it is unknown whether they
    are being terminated; ``refused`` are those that EC2 named in a refusal, ``forbidden`` those of them that the caller
    has no right to terminate.
    """

    instance_ids: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    unknown: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrainResult:
    """The result of announcing the end of instances."""

    drained: tuple[Drained, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Results:
    """The results of a reconcile's steps. ``unfinished``: there was no time for all of them."""

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
        """Ids of the instances that may be ending: the answer to their termination was lost."""
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
    message = f"EC2 does not know {', '.join(ids[:5])}: not yet, or no longer. The next listing shows which."
    return Failure(Reason.UNKNOWN, "InvalidInstanceID.NotFound", message)
