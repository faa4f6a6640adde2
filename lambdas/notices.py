"""What EC2 says of our instances, taken down: an event carries neither pool nor tags, so EC2 is asked whose it is."""

from __future__ import annotations

from collections.abc import Iterable

from lambdas.domain.observed import Instance
from lambdas.domain.status import Notice
from lambdas.events import Ec2Event, Ignored, InterruptionNotice, RebalanceRecommendation
from lambdas.reconcile import ControlPlane
from lambdas.telemetry import Metric, logger, publish


def ours(events: Iterable[Ec2Event], plane: ControlPlane) -> dict[str, Instance]:
    """Those instances of the events that belong to a pool of this stack, with one question for all of them."""
    ids = [event.detail.instance_id for event in events if not isinstance(event, Ignored)]
    return {one.id: one for one in plane.fleet.find(ids) if one.pool_name}


def note(event: Ec2Event, instance: Instance, plane: ControlPlane) -> None:
    """Take an event down. Noting twice changes nothing; a state change needs no note, EC2 itself tells it."""
    logger.info("event", kind=event.kind, instance=instance.id, pool=instance.pool_name)
    match event:
        case InterruptionNotice():
            # An event from the future would hold for ever.
            notice = Notice(at=min(event.time, plane.clock()), offering=instance.offering)
            plane.statuses.note(instance.pool_name, {instance.id: notice})
            publish(plane.stack, {Metric.INTERRUPTION_NOTICES: 1})
        case RebalanceRecommendation():
            publish(plane.stack, {Metric.REBALANCE_RECOMMENDATIONS: 1})
        case _:
            pass
