"""What EC2 says of our instances, taken down: an event carries neither pool nor tags, so EC2 is asked whose it is."""

from __future__ import annotations

from collections.abc import Iterable

from lambdas.domain.observed import Instance
from lambdas.domain.status import Notice, NoticeKind
from lambdas.events import Ec2Event, HealthEvent, InterruptionNotice, RebalanceRecommendation
from lambdas.metrics import Metric
from lambdas.reconcile import ControlPlane
from lambdas.telemetry import logger, publish

KINDS = {
    InterruptionNotice: (NoticeKind.INTERRUPTION, Metric.INTERRUPTION_NOTICES),
    RebalanceRecommendation: (NoticeKind.REBALANCE, Metric.REBALANCE_RECOMMENDATIONS),
    HealthEvent: (NoticeKind.MAINTENANCE, Metric.MAINTENANCE_NOTICES),
}


def ours(events: Iterable[Ec2Event], plane: ControlPlane) -> dict[str, Instance]:
    """Those instances of the events that belong to a pool of this stack, with one question for all of them."""
    ids = [id_ for event in events for id_ in event.instance_ids]
    return {one.id: one for one in plane.fleet.find(ids) if one.pool_name}


def note(event: Ec2Event, instance: Instance, plane: ControlPlane) -> None:
    """Take an event down. Noting twice changes nothing; a state change needs no note, EC2 itself tells it."""
    logger.info("event", kind=event.kind, instance=instance.id, pool=instance.pool_name)
    match event:
        case InterruptionNotice() | RebalanceRecommendation() | HealthEvent():
            kind, metric = KINDS[type(event)]
            # An event from the future would hold for ever.
            notice = Notice(at=min(event.time, plane.clock()), offering=instance.offering, kind=kind)
            plane.statuses.note(instance.pool_name, instance.id, notice)
            publish(plane.stack, {metric: 1})
            publish(plane.stack, {metric: 1}, pool=instance.pool_name)
        case _:
            pass
