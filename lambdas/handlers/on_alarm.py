"""Reads the queue of alarm events: explains each alarm to people on their topic."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError

from lambdas.alarm_events import parse_alarm_event
from lambdas.alarms import explain
from lambdas.domain.alarm.message import Change
from lambdas.events import MalformedEventError
from lambdas.telemetry import logger, tracer
from lambdas.wiring import alarm_desk


@tracer.capture_lambda_handler(capture_response=False)
@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> Any:
    """Send one message for all that came with the same trouble. What fails comes back, and finally is a dead letter."""
    desk, changes, failed, ignored = alarm_desk(), dict[str, Change](), list[str](), Counter[str]()
    for record in event["Records"]:
        try:
            found = parse_alarm_event(record["body"], desk.stack)
        except MalformedEventError as fault:
            logger.error("malformed event", body=record["body"][:300], fault=str(fault))
            failed.append(record["messageId"])
            continue
        if isinstance(found, Change):
            changes[record["messageId"]] = found
        else:
            ignored[found] += 1
    if ignored:
        logger.info("ignored", events=ignored)
    unsent = sorted(explain(changes, desk)) if changes else []
    failed += unsent
    # A fault of the message itself is no error of the function.
    if unsent and len(failed) == len(event["Records"]):
        raise BatchProcessingError(f"all {len(failed)} alarm events failed; the log names each")
    return {"batchItemFailures": [{"itemIdentifier": id_} for id_ in failed]}
