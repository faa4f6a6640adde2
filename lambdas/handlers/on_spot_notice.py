"""EC2 speaks of our instances (queue of EventBridge events): note what it says, and reconcile their pools now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from lambdas.events import Ec2Event, MalformedEventError, parse_ec2_event
from lambdas.notices import note, ours
from lambdas.reconcile import reconcile
from lambdas.telemetry import logger, tracer
from lambdas.wiring import control_plane

processor = BatchProcessor(event_type=EventType.SQS)


@tracer.capture_lambda_handler(capture_response=False)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> Any:
    """Note each event, then reconcile each pool once: notices that come together become one launch.

    What fails goes back alone: a malformed event, or one event of a pool whose reconcile failed.
    """
    plane = control_plane()
    events = {record["messageId"]: _parsed(record["body"]) for record in event["Records"]}
    instances = ours((one for one in events.values() if not isinstance(one, MalformedEventError)), plane)
    touched: dict[str, list[str]] = {}

    def hear(record: SQSRecord) -> None:
        one = events[record.message_id]
        if isinstance(one, MalformedEventError):
            logger.error("malformed event", body=record.body[:300], fault=str(one))
            raise one
        concerned = [instances[id_] for id_ in one.instance_ids if id_ in instances]
        if not concerned:
            logger.info("ignored", kind=one.kind[:100], why="it is of no instance of this stack")
            return
        with _failures_logged(record):
            for instance in concerned:
                note(one, instance, plane)
        others = {name for names in touched.values() for name in names}
        touched[record.message_id] = sorted({instance.pool_name for instance in concerned} - others)

    def follow(record: SQSRecord) -> None:
        with _failures_logged(record):
            for pool_name in touched[record.message_id]:
                reconcile(pool_name, plane)

    heard = process_partial_response(event=event, record_handler=hear, processor=processor, context=context)
    if not touched:
        return heard
    firsts = {"Records": [record for record in event["Records"] if record["messageId"] in touched]}
    followed = process_partial_response(event=firsts, record_handler=follow, processor=processor, context=context)
    return {"batchItemFailures": [*heard["batchItemFailures"], *followed["batchItemFailures"]]}


@contextmanager
def _failures_logged(record: SQSRecord) -> Iterator[None]:
    try:
        yield
    except Exception:
        logger.exception("event failed", body=record.body[:300])
        raise


def _parsed(body: str) -> Ec2Event | MalformedEventError:
    try:
        return parse_ec2_event(body)
    except MalformedEventError as fault:
        return fault
