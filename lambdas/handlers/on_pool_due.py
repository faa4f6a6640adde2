"""Reads the due queue: reconciles each pool."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from lambdas.events import parse_due_pool
from lambdas.reconcile import reconcile
from lambdas.telemetry import logger, tracer
from lambdas.wiring import control_plane

processor = BatchProcessor(event_type=EventType.SQS)


@tracer.capture_lambda_handler(capture_response=False)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> Any:
    """Reconcile. A message that fails comes back, and finally goes to the dead-letter queue."""
    return process_partial_response(event=event, record_handler=_due, processor=processor, context=context)


def _due(record: SQSRecord) -> None:
    try:
        reconcile(parse_due_pool(record.body).pool_name, control_plane())
    except Exception:
        logger.exception("reconcile failed", body=record.body[:300])
        raise
