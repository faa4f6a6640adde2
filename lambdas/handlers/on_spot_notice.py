"""EC2 speaks of our instances (queue of EventBridge events): note what it says, and reconcile their pools now."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from lambdas.events import Ec2Event, Ignored, MalformedEventError, parse_ec2_event
from lambdas.notices import note, ours
from lambdas.reconcile import reconcile
from lambdas.telemetry import logger, tracer
from lambdas.wiring import control_plane

processor = BatchProcessor(event_type=EventType.SQS)


@tracer.capture_lambda_handler(capture_response=False)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> Any:
    """Note each event, then reconcile each pool once: notices that come together become one launch.

    A malformed event goes back alone; a failing reconcile fails the batch, which then comes again.
    """
    plane = control_plane()
    events = {record["messageId"]: _parsed(record["body"]) for record in event["Records"]}
    instances = ours((one for one in events.values() if not isinstance(one, MalformedEventError)), plane)
    touched: dict[str, None] = {}

    def take(record: SQSRecord) -> None:
        one = events[record.message_id]
        if isinstance(one, MalformedEventError):
            logger.error("malformed event", body=record.body[:300], fault=str(one))
            raise one
        instance = None if isinstance(one, Ignored) else instances.get(one.detail.instance_id)
        if instance is not None:
            note(one, instance, plane)
            touched[instance.pool_name] = None

    response = process_partial_response(event=event, record_handler=take, processor=processor, context=context)
    for pool_name in touched:
        reconcile(pool_name, plane)
    return response


def _parsed(body: str) -> Ec2Event | MalformedEventError:
    try:
        return parse_ec2_event(body)
    except MalformedEventError as fault:
        return fault
