"""What EC2 says of our instances, taken down: an event carries neither pool nor tags, so EC2 is asked whose it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from random import randint

from lambdas.control_plane import ControlPlane
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.status import Notice, NoticeKind, Reason
from lambdas.domain.record.backoff import BackoffPolicy
from lambdas.events import Ec2Event, HealthEvent, InterruptionNotice, MalformedEventError, RebalanceRecommendation
from lambdas.metrics import Metric
from lambdas.ports import FleetError
from lambdas.telemetry import logger, publish

METRICS = {
    NoticeKind.INTERRUPTION: Metric.INTERRUPTION_NOTICES,
    NoticeKind.REBALANCE: Metric.REBALANCE_RECOMMENDATIONS,
    NoticeKind.MAINTENANCE: Metric.MAINTENANCE_NOTICES,
}

LISTING_TRIES = 4
"""Of one throttled question. It stands for up to ten notices of two minutes each, so it is worth some seconds here."""

BETWEEN_LISTINGS = BackoffPolicy(timedelta(seconds=1), timedelta(seconds=4))

UNKNOWN_TRIES = 5
"""Of a notice for an instance that EC2 does not show: a new one is seen after six seconds, seldom later."""

QUICK_TRIES = 10
"""So often a message comes back within seconds: about as long as a notice is worth anything. Then its queue decides."""


class NotSeenYetError(RuntimeError):
    """EC2 takes an instance that it does not show: it may be too new, so the event is worth another try."""

    def __init__(self, instance_ids: Iterable[str]) -> None:
        super().__init__(f"EC2 does not show {', '.join(instance_ids)}, which may have been launched seconds ago")


@dataclass(frozen=True)
class Whose:
    """Whose instances events speak of. ``unknown`` are ids that EC2 does not show: gone, or too new to be listed."""

    ours: Mapping[str, Instance]
    unknown: frozenset[str] = frozenset()


def whose(events: Iterable[Ec2Event], plane: ControlPlane) -> Whose:
    """Look up the instances of the events that belong to a pool of this stack, all together. Raises FleetError."""
    ids = {id_ for event in events for id_ in event.instance_ids}
    found = _asked(ids, plane)
    return Whose(
        ours={id_: instance for id_, instance in found.items() if instance and instance.pool_name},
        unknown=frozenset(ids - found.keys()),
    )


def look(events: Iterable[Ec2Event], plane: ControlPlane) -> Whose | FleetError:
    """The same, with EC2's refusal as a value, which is then the fate of each of the events by itself."""
    try:
        return whose(events, plane)
    except FleetError as error:
        return error


def seen_later(event: Ec2Event, seen: Whose, tries: int) -> bool:
    """Whether an instance that EC2 is about to take may be ours all the same, and seen at the next try."""
    if not isinstance(event, InterruptionNotice | RebalanceRecommendation) or not seen.unknown.issuperset(
        event.instance_ids
    ):
        return False
    if tries < UNKNOWN_TRIES:
        return True
    logger.warning("dropped", kind=event.kind, instances=event.instance_ids, why=f"unknown to EC2 at {tries} tries")
    return False


def comes_back_after(fault: Exception, tries: int) -> int | None:
    """Seconds until a message that was not handled is tried again; None: as long as its queue hides messages."""
    if isinstance(fault, MalformedEventError):
        return 1  # no try will help: on to the dead letters
    return randint(2, 10) if tries <= QUICK_TRIES else None  # noqa: S311  jitter, no secret


def _asked(ids: Collection[str], plane: ControlPlane) -> Mapping[str, Instance | None]:
    for tries in range(1, LISTING_TRIES):
        try:
            return plane.fleet.find(ids)
        except FleetError as error:
            if error.failure.reason is not Reason.THROTTLED:
                raise
            # Others ask for other ids, so that those who were throttled together do not come back together.
            plane.wait(BETWEEN_LISTINGS.after(tries, salt=",".join(sorted(ids))).total_seconds())
    return plane.fleet.find(ids)


def hear(event: Ec2Event, seen: Whose, plane: ControlPlane) -> list[str]:
    """Note what an event says of our instances; the names of their pools, which are to be reconciled now."""
    concerned = [seen.ours[id_] for id_ in event.instance_ids if id_ in seen.ours]
    for instance in concerned:
        note(event, instance, plane)
    return sorted({instance.pool_name for instance in concerned})


def note(event: Ec2Event, instance: Instance, plane: ControlPlane) -> None:
    """Take an event down. Noting twice changes nothing; a state change needs no note, EC2 itself tells it."""
    notice = _notice(event, instance, plane.clock())
    logger.info("event", kind=event.kind, instance=instance.id, pool=instance.pool_name, notes=notice and notice.kind)
    if notice is None:
        return
    plane.statuses.note(instance.pool_name, instance.id, notice)
    if metric := METRICS.get(notice.kind):
        publish(plane.stack, {metric: 1})
        publish(plane.stack, {metric: 1}, pool=instance.pool_name)


def _notice(event: Ec2Event, instance: Instance, now: datetime) -> Notice | None:
    # An event from the future would hold for ever.
    match event:
        case InterruptionNotice():
            return Notice(at=min(event.time, now), offering=instance.offering)
        case RebalanceRecommendation():
            return Notice(at=min(event.time, now), offering=instance.offering, kind=NoticeKind.REBALANCE)
        case HealthEvent():
            return Notice(
                at=min(event.at, now),
                offering=instance.offering,
                kind=NoticeKind.WITHDRAWN if event.over(instance.id) else NoticeKind.MAINTENANCE,
                event=sha256(event.detail.arn.encode()).hexdigest()[:12],  # an ARN may be of 1,600 characters
            )
        case _:
            return None
