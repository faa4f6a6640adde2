"""Saves what EC2 announces. An event carries neither pool nor tags, so EC2 is asked whose instance it is."""

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
"""Tries of one throttled request. It serves up to ten notices of two minutes each, so some seconds are worth it."""

BETWEEN_LISTINGS = BackoffPolicy(timedelta(seconds=1), timedelta(seconds=4))

UNKNOWN_TRIES = 5
"""Tries of a notice for an instance that EC2 does not show: a new one is shown after six seconds, rarely later."""

QUICK_TRIES = 10
"""Times that a message returns within seconds: about as long as a notice is useful. Then the queue decides."""


class NotSeenYetError(RuntimeError):
    """EC2 interrupts an instance that it does not show: it may be too new, so the event is tried again."""

    def __init__(self, instance_ids: Iterable[str]) -> None:
        super().__init__(f"EC2 does not show {', '.join(instance_ids)}, which may have been launched seconds ago")


@dataclass(frozen=True)
class Whose:
    """Whose instances events are about. ``unknown`` are ids that EC2 does not show: ended, or too new to be listed."""

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
    """The same, but EC2's refusal is returned: then each of the events fails by itself."""
    try:
        return whose(events, plane)
    except FleetError as error:
        return error


def seen_later(event: Ec2Event, seen: Whose, tries: int) -> bool:
    """Whether an instance under notice that EC2 does not show may be ours, and be shown at the next try."""
    if not isinstance(event, InterruptionNotice | RebalanceRecommendation) or not seen.unknown.issuperset(
        event.instance_ids
    ):
        return False
    if tries < UNKNOWN_TRIES:
        return True
    logger.warning("dropped", kind=event.kind, instances=event.instance_ids, why=f"unknown to EC2 after {tries} tries")
    return False


def comes_back_after(fault: Exception, tries: int) -> int | None:
    """Seconds until a message that was not handled is tried again; None: after the queue's own time-out."""
    if isinstance(fault, MalformedEventError):
        return 1  # no retry helps: on to the dead-letter queue
    return randint(2, 10) if tries <= QUICK_TRIES else None  # noqa: S311  jitter, no secret


def _asked(ids: Collection[str], plane: ControlPlane) -> Mapping[str, Instance | None]:
    for tries in range(1, LISTING_TRIES):
        try:
            return plane.fleet.find(ids)
        except FleetError as error:
            if error.failure.reason is not Reason.THROTTLED:
                raise
            # Other functions ask for other ids, so that those throttled together do not try again together.
            plane.wait(BETWEEN_LISTINGS.after(tries, salt=",".join(sorted(ids))).total_seconds())
    return plane.fleet.find(ids)


def hear(event: Ec2Event, seen: Whose, plane: ControlPlane) -> list[str]:
    """Note what an event says about our instances; returns the names of their pools, to be reconciled now."""
    concerned = [seen.ours[id_] for id_ in event.instance_ids if id_ in seen.ours]
    for instance in concerned:
        note(event, instance, plane)
    return sorted({instance.pool_name for instance in concerned})


def note(event: Ec2Event, instance: Instance, plane: ControlPlane) -> None:
    """Save an event. Saving it twice changes nothing. A state change is not saved, because EC2's listings show it."""
    notice = _notice(event, instance, plane.clock())
    logger.info("event", kind=event.kind, instance=instance.id, pool=instance.pool_name, notes=notice and notice.kind)
    if notice is None:
        return
    plane.statuses.note(instance.pool_name, instance.id, notice)
    if metric := METRICS.get(notice.kind):
        publish(plane.stack, {metric: 1})
        publish(plane.stack, {metric: 1}, pool=instance.pool_name)


def _notice(event: Ec2Event, instance: Instance, now: datetime) -> Notice | None:
    # A time in the future would make the notice hold for ever.
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
