"""Reads the queue of EC2's events: saves notices about our instances, and reconciles their pools at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from lambdas.control_plane import ControlPlane
from lambdas.events import Ec2Event, HealthEvent, MalformedEventError, parse_ec2_event
from lambdas.notices import NotSeenYetError, comes_back_after, hear, look, seen_later
from lambdas.reconcile import reconcile
from lambdas.telemetry import logger, tracer
from lambdas.wiring import control_plane, notices_queue

Record = dict[str, Any]
Faults = dict[str, Exception]
"""Why a message could not be handled, by its id."""

processor = BatchProcessor(event_type=EventType.SQS, raise_on_entire_batch_failure=False)


@tracer.capture_lambda_handler(capture_response=False)
@logger.inject_lambda_context
def handler(event: dict[str, Any], context: Any) -> Any:
    """Note each event, then reconcile each pool once: notices that come together become one launch.

    Only what fails goes back, and is tried again within seconds: a malformed event, or one event of a pool whose
    reconcile failed. Raises only if every message failed, so that the function's errors show it.
    """
    records: list[Record] = event["Records"]
    events = {record["messageId"]: _parsed(record["body"]) for record in records}
    faults: Faults = {}
    for together in _in_turn(records, events):
        _Turn(together, events, control_plane(), context).take(faults)
    _send_back([record for record in records if record["messageId"] in faults], faults)
    # Errors of the function slow down the queue's readers, so a fault of the message itself does not count.
    failed = [fault for fault in faults.values() if not isinstance(fault, NotSeenYetError | MalformedEventError)]
    if failed and len(failed) == len(records):
        raise BatchProcessingError(f"All {len(records)} messages failed; the first: {failed[0]!r}") from failed[0]
    return {"batchItemFailures": [{"itemIdentifier": id_} for id_ in faults]}


class _Turn:
    """Messages that are handled together: one request for all, then each message, then each pool once."""

    def __init__(
        self,
        records: list[Record],
        events: Mapping[str, Ec2Event | MalformedEventError],
        plane: ControlPlane,
        context: Any,
    ) -> None:
        self._records = records
        self._events = events
        self._plane = plane
        self._context = context
        mine = (events[record["messageId"]] for record in records)
        self._seen = look((event for event in mine if not isinstance(event, MalformedEventError)), plane)
        self._touched: dict[str, list[str]] = {}
        """The pools that a message is the first to name."""

    def take(self, faults: Faults) -> None:
        """Handle the messages, and add each failure to ``faults``."""
        self._each(self._records, self._hear, faults)
        firsts = [record for record in self._records if record["messageId"] in self._touched]
        if firsts:
            self._each(firsts, self._follow, faults)

    def _each(self, records: list[Record], handle: Callable[[SQSRecord], None], faults: Faults) -> None:
        def recorded(record: SQSRecord) -> None:
            with _recording_faults(record, faults):
                handle(record)

        process_partial_response(
            event={"Records": records}, record_handler=recorded, processor=processor, context=self._context
        )

    def _hear(self, record: SQSRecord) -> None:
        event, seen = self._events[record.message_id], self._seen
        if isinstance(event, MalformedEventError):
            raise event
        if isinstance(seen, Exception):
            raise seen
        if seen_later(event, seen, _receives(record.raw_event)):
            raise NotSeenYetError(event.instance_ids)
        pools = hear(event, seen, self._plane)
        if not pools:
            logger.info("ignored", kind=event.kind[:100], why="it concerns no instance of this stack")
            return
        others = {name for names in self._touched.values() for name in names}
        self._touched[record.message_id] = [name for name in pools if name not in others]

    def _follow(self, record: SQSRecord) -> None:
        for pool_name in self._touched[record.message_id]:
            reconcile(pool_name, self._plane)


def _in_turn(records: list[Record], events: Mapping[str, Ec2Event | MalformedEventError]) -> Iterator[list[Record]]:
    """First all urgent events together; then those announced days ahead, each alone, because they may be huge."""
    huge = [record for record in records if isinstance(events[record["messageId"]], HealthEvent)]
    if rest := [record for record in records if record not in huge]:
        yield rest
    yield from ([record] for record in huge)


def _send_back(records: list[Record], faults: Faults) -> None:
    for record in records:
        seconds = comes_back_after(faults[record["messageId"]], _receives(record))
        if seconds is not None and (refusal := notices_queue().come_back(record["receiptHandle"], seconds)):
            logger.warning("comes back late", message=record["messageId"], why=refusal)


def _receives(record: Mapping[str, Any]) -> int:
    """How often the queue delivered a message, this time included."""
    return int(record["attributes"].get("ApproximateReceiveCount", 1))


@contextmanager
def _recording_faults(record: SQSRecord, faults: Faults) -> Iterator[None]:
    try:
        yield
    except NotSeenYetError as fault:
        logger.info("not seen yet", why=str(fault))
        faults[record.message_id] = fault
        raise
    except MalformedEventError as fault:
        logger.error("malformed event", body=record.body[:300], fault=str(fault))
        faults[record.message_id] = fault
        raise
    except Exception as fault:
        logger.exception("event failed", body=record.body[:300])
        faults[record.message_id] = fault
        raise


def _parsed(body: str) -> Ec2Event | MalformedEventError:
    try:
        return parse_ec2_event(body)
    except MalformedEventError as fault:
        return fault
