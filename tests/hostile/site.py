"""The control plane's real handlers and adapters in one process, with two healthy neighbour pools.

DynamoDB is ministack's service behind boto3's real client, without a network. EC2 is the market's model.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import cache
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest import mock

import boto3
from aws_lambda_powertools.utilities.batch.exceptions import BatchProcessingError
from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from ministack.services import dynamodb

from lambdas.alarms import AlarmDesk
from lambdas.aws.pool_table import PoolTable
from lambdas.aws.status_table import StatusTable
from lambdas.domain.alarm.message import Links, Message
from lambdas.handlers import on_alarm, on_pool_due, on_pool_edit, on_spot_notice, on_tick
from lambdas.telemetry import logger
from tests.support.fakes import STACK, World

Item = Mapping[str, Any]

NEIGHBOURS = ("neighbour-1", "neighbour-2")
LARGEST_STATUS = 100_000
DIMENSION = re.compile(r"[ -~]*[!-~][ -~]*")
"""CloudWatch accepts ASCII without control characters, and not only spaces."""

CONTEXT = SimpleNamespace(
    function_name="hostile", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:::", aws_request_id="1"
)
_numbers = count(1)


@cache
def dynamodb_client() -> Any:
    """boto3's client of ministack's DynamoDB. Both are in this process."""
    client = boto3.client(
        "dynamodb",
        endpoint_url="http://127.0.0.1:9",  # never called: the answer exists before the request is sent
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED),
    )
    client.meta.events.register("before-send.dynamodb", _answered)
    return client


def _answered(request: AWSRequest, **_: Any) -> AWSResponse:
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
    }
    asked = dynamodb.handle_request(request.method, "/", headers, request.body, {})
    try:
        asked.send(None)
    except StopIteration as done:
        status, answer_headers, body = done.value
        return AWSResponse(request.url, status, answer_headers, SimpleNamespace(stream=lambda: iter([body])))
    raise AssertionError("ministack waited for something")


class Site:
    """Tables, market and handlers, with two healthy pools, and the output of the last invocation."""

    def __init__(self) -> None:
        self.world = World()
        self.dynamodb = dynamodb_client()
        number = next(_numbers)
        self.pools, self.statuses = f"hostile-{number}-pools", f"hostile-{number}-status"
        for table in (self.pools, self.statuses):
            self.dynamodb.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": "pool_name", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "pool_name", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        self.plane = replace(
            self.world.plane,
            pools=PoolTable(self.dynamodb, self.pools),
            statuses=StatusTable(
                self.dynamodb,
                self.statuses,
                lease_seconds=75,
                clock=self.world.clock,
                answered_at=lambda _: self.world.clock(),
            ),
        )
        self.lines: list[dict[str, Any]] = []
        self.sent: list[Message] = []
        for name in NEIGHBOURS:
            self.put(name, {"instance_types": {"L": [{"S": "g5.xlarge"}]}, "target_size": {"N": "1"}})
        for _ in range(2):
            for name in NEIGHBOURS:
                self.due([due_body(name)])
            self.world.clock.forward(700)  # their launches are no longer recent, so they do not change any more
        for name in NEIGHBOURS:
            self.due([due_body(name)])
        self.before = self.neighbourhood()

    def close(self) -> None:
        """Delete the tables."""
        for table in (self.pools, self.statuses):
            self.dynamodb.delete_table(TableName=table)

    def put(self, pool_name: str, attributes: Item) -> None:
        """Write a pool item in DynamoDB's own notation."""
        self.dynamodb.put_item(TableName=self.pools, Item={**attributes, "pool_name": {"S": pool_name}})

    def delete(self, pool_name: str) -> None:
        """Delete a pool item."""
        self.dynamodb.delete_item(TableName=self.pools, Key={"pool_name": {"S": pool_name}})

    def clear(self, pool_name: str) -> None:
        """Delete everything of a pool."""
        for table in (self.pools, self.statuses):
            self.dynamodb.delete_item(TableName=table, Key={"pool_name": {"S": pool_name}})
        if instances := self.world.alive(pool_name):
            self.world.client.terminate_instances(InstanceIds=instances)

    def status(self, pool_name: str) -> dict[str, Any] | None:
        """A status item in DynamoDB's own notation."""
        item: dict[str, Any] | None = self.dynamodb.get_item(
            TableName=self.statuses, Key={"pool_name": {"S": pool_name}}, ConsistentRead=True
        ).get("Item")
        return item

    def desk(self) -> AlarmDesk:
        """What the function that explains alarms works with."""
        links = Links(runbook="docs/runbook.md", dashboard="https://console")
        return AlarmDesk(stack=STACK, statuses=self.plane.statuses, messages=self, links=links, clock=self.world.clock)

    def neighbourhood(self) -> dict[str, Any]:
        """The neighbours' statuses, byte for byte, and instances."""
        return {name: {"status": self.status(name), "instances": self.world.alive(name)} for name in NEIGHBOURS}

    def edited(self, records: Sequence[Any]) -> None:
        """Deliver records of the stream."""
        self._invoke(on_pool_edit, {"Records": list(records)})

    def due(self, bodies: Sequence[str]) -> list[str]:
        """Deliver messages of the due queue. Returns the failed ones."""
        return self._batch(on_pool_due, bodies)

    def noticed(self, bodies: Sequence[str], receives: int = 1) -> list[str]:
        """Deliver events of the notices queue, for the given time. Returns the failed ones."""
        return self._batch(on_spot_notice, bodies, receives)

    def alarmed(self, bodies: Sequence[str]) -> list[str]:
        """Deliver alarm events. Returns the failed ones."""
        return self._batch(on_alarm, bodies)

    def send(self, message: Message) -> None:
        """Take a message to people; SNS would refuse a subject that is not plain."""
        assert len(message.subject) < 100
        assert message.subject.isascii()
        assert message.subject.isprintable()
        assert len(message.body.encode()) < 200_000
        self.sent.append(message)

    def come_back(self, _receipt: str, _seconds: int) -> None:
        """Nothing to do: here the sender delivers a message of the notices queue again."""

    def tick(self) -> dict[str, float]:
        """Run a tick. Returns the fleet's gauges."""
        self._invoke(on_tick, {})
        (fleet,) = (line for line in self.measured() if "Heartbeat" in line and "Pool" not in line)
        return {name: value[0] for name, value in fleet.items() if name != "_aws"}

    def drain_queue(self) -> list[str]:
        """Reconcile the requested pools. Returns their names, including those that failed."""
        names, self.world.queue.waiting = self.world.queue.waiting, []
        for name in names:
            self.due([due_body(name)])
        return names

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Log lines with this message, of the last invocation."""
        return [line for line in self.lines if line.get("message") == message]

    def measured(self) -> list[dict[str, Any]]:
        """Metric lines of the last invocation."""
        return [line for line in self.lines if "_aws" in line]

    def _batch(self, module: Any, bodies: Sequence[str], receives: int = 1) -> list[str]:
        records = [
            {
                "messageId": str(number),
                "receiptHandle": f"receipt {number}",
                "body": body,
                "eventSource": "aws:sqs",
                "attributes": {"ApproximateReceiveCount": str(receives)},
                "messageAttributes": {},
            }
            for number, body in enumerate(bodies)
        ]
        try:
            answer = self._invoke(module, {"Records": records})
        except BatchProcessingError:
            return list(bodies)
        return [bodies[int(one["itemIdentifier"])] for one in answer["batchItemFailures"]]

    def _invoke(self, module: Any, event: Any) -> Any:
        """Call a handler like Lambda: the event is converted through JSON, and the output is UTF-8."""
        output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        made: dict[str, Any] = {
            "control_plane": lambda: self.plane,
            "alarm_desk": self.desk,
            "edited_queue": lambda: self.world.queue,
            "notices_queue": lambda: self,
        }
        with (
            mock.patch.multiple(module, **{name: made[name] for name in made.keys() & vars(module).keys()}),
            _logging_to(output),
            redirect_stdout(output),
        ):
            try:
                return module.handler(json.loads(json.dumps(event)), CONTEXT)
            finally:
                output.seek(0)
                self.lines = [json.loads(line) for line in output.read().split("\n") if line]
                _check_metrics(self.measured())


def due_body(pool_name: str) -> str:
    """A message of the due queue."""
    return json.dumps({"pool_name": pool_name, "why": "its item was edited"})


@contextmanager
def _logging_to(stream: io.TextIOWrapper) -> Iterator[None]:
    """The functions' log on a stream. A line that cannot be written is an error."""

    def fail(_: logging.LogRecord) -> None:
        raise  # noqa: PLE0704  logging calls this from its except clause

    handler = logger.registered_handler
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(stream)
    try:
        with mock.patch.object(handler, "handleError", fail):
            yield
    finally:
        if before is not None:
            handler.setStream(before)


def _check_metrics(lines: Sequence[Mapping[str, Any]]) -> None:
    """Check that CloudWatch accepts each line: its dimensions, and values in range."""
    for line in lines:
        for metrics in line["_aws"]["CloudWatchMetrics"]:
            for name in (name for names in metrics["Dimensions"] for name in names):
                assert len(line[name]) <= 255, name
                assert DIMENSION.fullmatch(line[name]), line[name]
            for metric in metrics["Metrics"]:
                assert all(abs(value) < 2**360 for value in line[metric["Name"]]), metric["Name"]
            assert metrics["Dimensions"] != [[]] or not {"Wanted"} & line.keys() or "Heartbeat" in line, (
                "poisons the fleet"
            )
