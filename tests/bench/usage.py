"""Measures what pools use of AWS: it runs the functions' handlers and adapters and counts calls and output.

DynamoDB is ministack's and EC2 the market, both in this process, as for hostile inputs. The clock is a manual one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

from lambdas.metrics import Metric
from lambdas.telemetry import tally
from tests.hostile import site as hostile
from tests.hostile.site import Site, due_body

WARM_UP_MINUTES, MINUTES = 30, 120
"""Minutes before the measurement, until all is launched and backoffs have grown, and minutes of it."""

MESSAGES_A_SEND = 10

NAME = "spotpools-FunctionsOnPoolDue0123ABCD-0123456789ab"
AS_ON_AWS = SimpleNamespace(
    function_name=NAME,
    memory_limit_in_mb=512,
    invoked_function_arn=f"arn:aws:lambda:us-east-1:123456789012:function:{NAME}",
    aws_request_id="c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
)
TRACE = {"_X_AMZN_TRACE_ID": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"}
"""These names are in log lines, so they are as long as on AWS."""

AT_SIZE = "at its size"
POOL, CAP, ABOVE_CAP = "measured", "0.60", Decimal("0.75")


@dataclass
class Usage:
    """A usage. ``metrics`` are names with dimensions, as CloudWatch bills them."""

    ticks: int = 0
    others: int = 0
    """Invocations other than ticks."""
    log_bytes: int = 0
    reads: int = 0
    """Read units of single items. Those of the tick's scans depend on the number of pools."""
    writes: int = 0
    messages: int = 0
    sends: int = 0
    """Requests that send messages."""
    metrics: set[tuple[str, ...]] = field(default_factory=set)

    def __sub__(self, other: Usage) -> Usage:
        return Usage(**{name: value - vars(other)[name] for name, value in vars(self).items()})


@dataclass(frozen=True)
class Measured:
    """The usage in ``MINUTES`` without a pool, of an additional pool by its state, and of an interruption."""

    fleet: Usage
    pools: Mapping[str, Usage]
    interruption: Usage
    item_bytes: int
    status_bytes: int


def measure() -> Measured:
    """Measure each, together with the two pools at their size that each site has."""
    with mock.patch.dict(os.environ, TRACE), mock.patch.object(hostile, "CONTEXT", AS_ON_AWS):
        with _meter() as meter:
            meter.minutes(WARM_UP_MINUTES)
            two = meter.minutes(MINUTES)
        with _meter() as meter:
            at_size = meter.extra_pool(two)
            sizes = meter.size(meter.site.pools), meter.size(meter.site.statuses)
            (instance, *_) = meter.site.world.alive(POOL)
            meter.interrupt(instance)
            interruption = meter.minutes(MINUTES) - two - at_size
        with _meter() as meter:
            no_capacity = meter.extra_pool(two, capacity=0)
        with _meter() as meter:
            too_dear = meter.extra_pool(two, spot_price=ABOVE_CAP)
    fleet = two - at_size - at_size
    fleet.metrics = {metric for metric in two.metrics if len(metric) == 1}  # metrics without a pool
    pools = {AT_SIZE: at_size, "NO_CAPACITY": no_capacity, "PRICE_ABOVE_MAX": too_dear}
    return Measured(fleet, pools, interruption, *sizes)


class _Meter:
    """A control plane that counts every invocation."""

    def __init__(self) -> None:
        self.site, self.usage = Site(), Usage()

    def extra_pool(self, two: Usage, **market: Any) -> Usage:
        """The usage of a third pool in this market, once its state is steady."""
        self.site.world.set_all(**market)
        numbers = {name: {"N": value} for name, value in {"target_size": "3", "max_instances": "6"}.items()}
        types = {"instance_types": {"L": [{"S": "g5.xlarge"}]}, "spot_max_price": {"S": CAP}}
        self.site.put(POOL, {**types, **numbers})
        self.minutes(WARM_UP_MINUTES)
        return self.minutes(MINUTES) - two

    def minutes(self, number: int) -> Usage:
        """Let minutes pass, each with a tick and its reconciles. Returns the usage since the last call."""
        for _ in range(number):
            self.site.world.clock.forward(60)
            self.hear()
            self.tick()
        used, self.usage = self.usage, Usage()
        return used

    def interrupt(self, instance_id: str) -> None:
        """Send an instance its notice, like EC2."""
        world = self.site.world
        (instance,) = world.market.live_spot_named([instance_id])
        world.market.notice(instance, world.clock(), cause="capacity")
        self.hear()

    def hear(self) -> None:
        """Deliver EC2's events one by one. On AWS some events of the same second arrive together."""
        for event in self.site.world.market.advance():
            self.usage.messages += 1
            self.usage.sends += 1
            self.usage.others += 1
            self._run(partial(self.site.noticed, [json.dumps(event)]))

    def tick(self) -> None:
        """Run a tick and the reconciles that it requests."""
        tally(Metric.EC2_CALLS)  # as in lambdas/wiring.py, which counts the listing's answer
        self.usage.ticks += 1
        self._run(self.site.tick)
        names, self.site.world.queue.waiting = self.site.world.queue.waiting, []
        self.usage.sends += math.ceil(len(names) / MESSAGES_A_SEND)
        for name in names:
            self.usage.messages += 1
            self.usage.others += 1
            self._run(partial(self.site.due, [due_body(name)]))

    def size(self, table: str) -> int:
        """The size of the pool's item in a table, in bytes."""
        item = self.site.dynamodb.get_item(TableName=table, Key={"pool_name": {"S": POOL}})["Item"]
        return size_of({"M": item})

    def answered(self, model: Any, parsed: Mapping[str, Any], **_: Any) -> None:
        """Count an answer of DynamoDB, with the item's size after it."""
        size = size_of({"M": parsed.get("Item") or parsed.get("Attributes") or {}})
        if model.name == "GetItem":
            self.usage.reads += max(1, math.ceil(size / 4096))  # consistent reads
        elif model.name in ("UpdateItem", "PutItem", "DeleteItem"):
            self.usage.writes += max(1, math.ceil(size / 1024))

    def _run(self, invoke: Callable[[], object]) -> None:
        invoke()
        for line in self.site.lines:
            self.usage.log_bytes += len(json.dumps(line, separators=(",", ":"))) + 1
            self.usage.metrics |= set(_metrics(line))


@contextmanager
def _meter() -> Iterator[_Meter]:
    meter = _Meter()
    events = meter.site.dynamodb.meta.events
    events.register("after-call.dynamodb", meter.answered)
    try:
        yield meter
    finally:
        events.unregister("after-call.dynamodb", meter.answered)
        meter.site.close()


def _metrics(line: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The metrics of a line in embedded metric format."""
    for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
        for names in directive["Dimensions"]:
            for metric in directive["Metrics"]:
                yield (metric["Name"], *(str(line[name]) for name in names))


def size_of(attribute: Mapping[str, Any]) -> int:
    """The size of a value in DynamoDB's notation, in bytes (Developer Guide, item sizes and formats)."""
    ((kind, value),) = attribute.items()
    match kind:
        case "M":
            return 3 + sum(1 + len(name.encode()) + size_of(one) for name, one in value.items())
        case "L":
            return 3 + sum(1 + size_of(one) for one in value)
        case "N":
            return len(value.strip("-0.")) // 2 + 2
        case "S":
            return len(value.encode())
    return 1
