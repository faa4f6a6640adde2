"""EC2 speaks of our instances (queue of EventBridge events): note what they say, and reconcile their pools now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from lambdas.domain.observed import Instance
from lambdas.domain.status import Notice
from lambdas.events import (
    Ec2Event,
    Ignored,
    InterruptionNotice,
    MalformedEventError,
    RebalanceRecommendation,
    parse_ec2_event,
)
from lambdas.reconcile import ControlPlane, reconcile
from lambdas.telemetry import Metric, logger, publish, tracer
from lambdas.wiring import control_plane

processor = BatchProcessor(event_type=EventType.SQS)


@tracer.capture_lambda_handler(capture_response=False)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> Any:
    """Note each event, then reconcile each pool once: notices that come together become one launch.

    A failing reconcile fails the batch, which then comes again; noting twice changes nothing.
    """
    plane = control_plane()
    ours = _ours(event["Records"], plane)
    touched: dict[str, None] = {}
    note = partial(_note, plane=plane, ours=ours, touched=touched)
    response = process_partial_response(event=event, record_handler=note, processor=processor, context=context)
    for pool_name in touched:
        reconcile(pool_name, plane)
    return response


def _ours(records: Iterable[Mapping[str, Any]], plane: ControlPlane) -> dict[str, Instance]:
    """Whose instances the batch is about: one question to EC2, because the events carry no tags."""
    ids = []
    for record in records:
        try:
            event = parse_ec2_event(record["body"])
        except MalformedEventError:
            continue  # reported when its own turn comes
        if not isinstance(event, Ignored):
            ids.append(event.detail.instance_id)
    return {one.id: one for one in plane.fleet.find(ids) if one.pool_name}


def _note(record: SQSRecord, *, plane: ControlPlane, ours: Mapping[str, Instance], touched: dict[str, None]) -> None:
    try:
        event = parse_ec2_event(record.body)
    except MalformedEventError:
        logger.exception("malformed event", body=record.body[:300])
        raise
    instance = None if isinstance(event, Ignored) else ours.get(event.detail.instance_id)
    if instance is None:
        return
    logger.info("event", kind=event.kind, instance=instance.id, pool=instance.pool_name)
    _keep(event, instance, plane)
    touched[instance.pool_name] = None


def _keep(event: Ec2Event, instance: Instance, plane: ControlPlane) -> None:
    if isinstance(event, InterruptionNotice):
        notice = Notice(at=event.time, offering=instance.offering)
        plane.statuses.note(instance.pool_name, {instance.id: notice})
        publish(plane.stack, {Metric.INTERRUPTION_NOTICES: 1})
    elif isinstance(event, RebalanceRecommendation):
        publish(plane.stack, {Metric.REBALANCE_RECOMMENDATIONS: 1})
