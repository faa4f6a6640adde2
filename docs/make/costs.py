"""``python -m docs.make.costs``: writes docs/costs.md, the monthly cost of the control plane.

Quantities come from the stack's template and from the measured usage of the functions (``usage``), and the few
assumptions from this module. The same quantities become cli/costs.json, with which ``spotpools cost`` calculates.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from cli.costs import FIGURES, GB, LOOKED_UP, MILLION, PRICES, SHOWN, Price, Quantities, dollars
from infra.synthesis import template
from lambdas.metrics import POOL_DIMENSION, REASON_DIMENSION
from tests.bench.usage import AT_SIZE, MINUTES, Measured, Usage, measure
from tests.infra.insights import parse

COSTS = Path(__file__).parents[1] / "costs.md"
POOLS = (1, 10, 50, 200)
WAITING = "NO_CAPACITY"

HOURS_A_MONTH = 730
TICKS_A_MONTH = 60 * HOURS_A_MONTH

TICK_SECONDS, TICK_SECONDS_A_POOL, OTHER_SECONDS = Decimal("0.5"), Decimal("0.005"), Decimal("1.5")
LOG_BYTES_BY_LAMBDA = 400
POLLS_A_MINUTE = 15
"""Assumptions. The page has the reasons."""


@dataclass(frozen=True)
class Stack:
    """The template's quantities."""

    alarms: int
    queries: tuple[str, ...]
    dashboards: int
    keys: int
    polled_queues: int
    memory_gb: Decimal

    @classmethod
    def of(cls, made: Mapping[str, Any]) -> Stack:
        """Count the resources of a synthesized template."""

        def properties(kind: str) -> list[Mapping[str, Any]]:
            found = (one for one in made["Resources"].values() if one["Type"] == kind)
            return [one.get("Properties", {}) for one in found]

        (schedule,) = properties("AWS::Scheduler::Schedule")
        (memory,) = {one["MemorySize"] for one in properties("AWS::Lambda::Function")}
        if schedule["ScheduleExpression"] != "rate(1 minute)":
            raise ValueError(f"a month has no {TICKS_A_MONTH} ticks: {schedule['ScheduleExpression']}")
        alarms = properties("AWS::CloudWatch::Alarm")
        queries = tuple(metric["Expression"] for one in alarms for metric in one.get("Metrics", ()))
        return cls(
            alarms=len(alarms) - len(queries),
            queries=queries,
            dashboards=len(properties("AWS::CloudWatch::Dashboard")),
            keys=len(properties("AWS::KMS::Key")),
            polled_queues=sum("ScalingConfig" in one for one in properties("AWS::Lambda::EventSourceMapping")),
            memory_gb=Decimal(memory) / 1024,
        )


def looks_at(query: str, metric: tuple[str, ...]) -> bool:
    """Whether one of our Metrics Insights queries matches a metric (its name, its pool and, if any, its reason)."""
    name, *values = metric
    return parse(query).matches(name, dict(zip((POOL_DIMENSION, REASON_DIMENSION), values, strict=False)))


def month(stack: Stack, measured: Measured, pools: Mapping[str, int]) -> Quantities:
    """The quantities of a month with this many pools in each state, all month."""
    number = sum(pools.values())
    used = [(Usage(), 0), (measured.fleet, 1), *((measured.pools[state], some) for state, some in pools.items())]

    def total(name: str) -> Decimal:
        return Decimal(sum(getattr(one, name) * some for one, some in used)) * TICKS_A_MONTH / MINUTES

    ticks, others = total("ticks"), total("others")
    scanned = sum(max(1, math.ceil(number * size / 4096)) for size in (measured.item_bytes, measured.status_bytes))
    looked_at = (
        max(1, sum(looks_at(query, metric) * some for one, some in used for metric in one.metrics))
        for query in stack.queries
    )
    log = total("log_bytes") + (ticks + others) * LOG_BYTES_BY_LAMBDA
    seconds = ticks * (TICK_SECONDS + TICK_SECONDS_A_POOL * number) + others * OTHER_SECONDS
    return {
        "metrics": Decimal(sum(len(one.metrics) * some for one, some in used)),
        "alarms": Decimal(stack.alarms),
        "query alarms": Decimal(sum(looked_at)),
        "dashboard": Decimal(stack.dashboards),
        "logs": log,
        "log storage": log,
        "key": Decimal(stack.keys),
        "compute": seconds * stack.memory_gb,
        "invocations": ticks + others,
        "reads": ticks * scanned + total("reads"),
        "writes": total("writes"),
        "requests": TICKS_A_MONTH * POLLS_A_MINUTE * stack.polled_queues + total("sends") + 2 * total("messages"),
        "traces": ticks + others,
        "schedule": ticks,
    }


def page(stack: Stack, measured: Measured) -> str:
    """The whole page as Markdown."""
    months = [month(stack, measured, {AT_SIZE: number}) for number in POOLS]
    rows = [(name, *(f"{dollars(one, lines):.2f}" for one in months)) for name, lines in SHOWN.items()]
    rows.append(("**all**", *(f"**{dollars(one):.2f}**" for one in months)))
    rows.append(("after free tiers", *(f"{dollars(one, less_free=True):.2f}" for one in months)))
    metrics = sorted(name for (name,) in measured.fleet.metrics)
    return PAGE.format(
        month=_table(("USD a month", *(f"{number} pools" if number > 1 else "1 pool" for number in POOLS)), rows),
        trouble=_table(("one pool more, all month", *measured.pools), _extra(stack, measured)),
        pool_metrics=len(measured.pools[AT_SIZE].metrics),
        pool_dollars=PRICES["metrics"].of(Decimal(len(measured.pools[AT_SIZE].metrics))),
        fleet_metrics=len(metrics),
        fleet_dollars=PRICES["metrics"].of(Decimal(len(metrics))),
        fleet_names=", ".join(f"`{name}`" for name in metrics),
        interruption=_interruption(stack, measured),
        prices=_table(("service", "unit", "USD", "free a month", "who says so", "page"), map(_row, PRICES.values())),
        looked_up=LOOKED_UP,
        hours=HOURS_A_MONTH,
        ticks=f"{TICKS_A_MONTH:,}",
        minutes=MINUTES,
        alarms=stack.alarms,
        queries=len(stack.queries),
        memory=int(stack.memory_gb * 1024),
        item=_kilobytes(measured.item_bytes),
        status=_kilobytes(measured.status_bytes),
        fleet_log=_kilobytes(measured.fleet.log_bytes // MINUTES),
        pool_log=_kilobytes(measured.pools[AT_SIZE].log_bytes // MINUTES),
        by_lambda=LOG_BYTES_BY_LAMBDA,
        tick_seconds=TICK_SECONDS,
        pool_seconds=TICK_SECONDS_A_POOL,
        other_seconds=OTHER_SECONDS,
        polls=POLLS_A_MINUTE,
        polled=stack.polled_queues,
        polls_a_month=f"{TICKS_A_MONTH * POLLS_A_MINUTE * stack.polled_queues:,}",
    )


def _extra(stack: Stack, measured: Measured) -> list[tuple[str, ...]]:
    """The additional usage and cost of one more pool, by its state."""
    more = []
    for state in measured.pools:
        # The first metric that an alarm looks at is billed without trouble, too.
        pools = Counter({AT_SIZE: 10}) + Counter({state: 1})
        before, after = (month(stack, measured, some) for some in (pools, pools + Counter({state: 1})))
        more.append({line: after[line] - before[line] for line in after})
    lines = {
        "custom metrics": "metrics",
        "metrics that alarms look at": "query alarms",
        "invocations": "invocations",
        "read units, scans included": "reads",
        "write units": "writes",
        "requests of queues": "requests",
    }
    return [
        *((name, *(f"{one[line]:,.0f}" for one in more)) for name, line in lines.items()),
        ("MB of log", *(f"{one['logs'] / MILLION:.0f}" for one in more)),
        ("**USD a month**", *(f"**{dollars(one):.2f}**" for one in more)),
    ]


def _interruption(stack: Stack, measured: Measured) -> str:
    used = measured.interruption
    quantities = dict.fromkeys(PRICES, Decimal(0)) | {
        "metrics": Decimal(len(used.metrics)) / HOURS_A_MONTH,
        "compute": used.others * OTHER_SECONDS * stack.memory_gb,
        "invocations": Decimal(used.others),
        "traces": Decimal(used.others),
        "logs": Decimal(used.log_bytes + used.others * LOG_BYTES_BY_LAMBDA),
        "reads": Decimal(used.reads),
        "writes": Decimal(used.writes),
        "requests": Decimal(used.sends + 2 * used.messages),
    }
    counted = f"{used.others} invocations, {used.reads} read and {used.writes} write units"
    return f"{counted}, {len(used.metrics)} metrics for an hour: {100 * dollars(quantities):.1f} cents"


def _row(price: Price) -> tuple[str, ...]:
    free = f"{price.free // GB} GB" if price.per == GB else f"{price.free:,}"
    link = f"[{price.page}](https://aws.amazon.com/{price.page}/pricing/)"
    return price.service, price.unit, price.usd, free if price.free else "none", price.source, link


def _kilobytes(number: int) -> str:
    return f"{number / 1000:.1f} KB"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PAGE = """# What the control plane costs

Made by `python -m docs.make.costs`: quantities from the stack's template and from the functions' own code at work,
prices of us-east-1 as of {looked_up}. Instances, their volumes and their traffic come on top. No bill has been seen
([not-yet-on-aws.md](not-yet-on-aws.md)): take it for the order of magnitude, and set an AWS Budget.

## A month, all pools at their size

{month}

Free tiers are an account's, and count here as if nothing else used them. Nearly all is CloudWatch: what a pool costs
is its metrics. For your number of pools, without an account:

```console
spotpools cost --pools 20
```

## A pool in trouble

A pool at its size is not reconciled: the tick's one listing and two scans serve all. One that waits is reconciled when
its next try is due: for capacity after a pause of up to 15 minutes, for its price each minute.

{trouble}

That is for trouble that lasts all month; metrics are billed by the hour, so a bad day costs a thirtieth.

One interruption and its replacement: {interruption}.

## Custom metrics

- **A pool: {pool_metrics}** (`Wanted`, `Running`), {pool_dollars:.2f} USD a month. One more, `SecondsInTrouble`, for
  each reason of trouble, as long as it lasts; `InterruptionNotices` and its like in hours that have any.
- **The stack: {fleet_metrics}**, {fleet_dollars:.2f} USD a month: {fleet_names}.
  Counters (launched, terminated, refused, throttled, notices) in hours that have any.

## Prices

{prices}

"AWS's page" was read in a stored copy; "others" are recent texts that quote it. That an account's free alarms are not
for queries is on AWS's page. A key that is rotated yearly costs a dollar a month more after its first rotation, and
another one after its second.

## How it is calculated

- A month has {hours} hours, so {ticks} ticks. X-Ray's default sampling traces one request a second: all of them.
- Alarms: {alarms} on metrics and {queries} on queries, counted in the template. A query's alarm is billed for each
  metric that it matches; while it matches none, one is assumed.
- Usage: the handlers run for {minutes} minutes on a clock that is moved, DynamoDB and EC2 played in the same process;
  every request, log line and metric is counted (`tests/bench/usage.py`). A pool's item has {item}, its status {status}
  (3 instances). A tick writes {fleet_log} of log, and {pool_log} a pool; Lambda's own lines are assumed to be
  {by_lambda} bytes an invocation.
- Lambda: {memory} MB, from the template. Durations are assumed: a tick {tick_seconds} s and {pool_seconds} s a pool,
  all else {other_seconds} s.
- SQS: Lambda asks each of {polled} queues {polls} times a minute though nothing is in it, from five places that wait
  20 seconds each ([AWS](https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html)). That is
  {polls_a_month} requests a month, more than are free.
- Every state change, notice and recommendation of the account's EC2, whoever owns the instance, is a message, three
  requests of SQS, and at most an invocation. They are not in the tables.
- Less than a cent and not in the tables: DynamoDB's storage and backups, SNS, KMS's requests, the events that announce
  draining. A stream that Lambda reads and events of AWS's own cost nothing.
"""


def figures(stack: Stack, measured: Measured) -> str:
    """What ``spotpools cost`` calculates with, as JSON: the month's quantities of the stack, and of one pool more."""
    without = month(stack, measured, {})
    many = 1000  # DynamoDB rounds up what a scan reads, so one pool more costs nothing or a lot
    of_pools = {state: month(stack, measured, {state: many}) for state in (AT_SIZE, WAITING)}
    more = {state: {line: (one[line] - without[line]) / many for line in one} for state, one in of_pools.items()}
    known = {"stack": without, "pool": more[AT_SIZE], "waiting pool": more[WAITING]}
    rounded = {
        of: {line: f"{round(one, 4).normalize():f}" for line, one in lines.items()} for of, lines in known.items()
    }
    return json.dumps(rounded, indent=2) + "\n"


def main() -> None:
    """Write the page and the figures."""
    stack, measured = Stack.of(template()), measure()
    COSTS.write_text(page(stack, measured), encoding="utf-8")
    FIGURES.write_text(figures(stack, measured), encoding="utf-8")


if __name__ == "__main__":
    main()
