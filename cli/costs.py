"""``cost``: what the control plane costs a month for a number of pools. It asks nothing of AWS."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from cli.exits import RefusedError
from lambdas.domain.wording import counted

FIGURES = Path(__file__).with_name("costs.json")
"""Quantities of a month, by line of ``PRICES``. ``python -m docs.make.costs`` measures them and writes the file."""

LOOKED_UP = "2026-11-23"

GB, MILLION = 10**9, 10**6


class Source(StrEnum):
    """The source of a price."""

    AWS = "AWS's page"
    OTHERS = "others quoting AWS"


@dataclass(frozen=True)
class Price:
    """USD for ``per`` units in us-east-1. ``free`` units a month are free in each account."""

    service: str
    unit: str
    usd: str
    per: int = 1
    free: int = 0
    source: Source = Source.OTHERS
    page: str = "cloudwatch"

    def of(self, quantity: Decimal, *, less_free: bool = False) -> Decimal:
        """The cost of a quantity."""
        billed = max(Decimal(0), quantity - self.free) if less_free else quantity
        return billed * Decimal(self.usd) / self.per


PRICES = {
    "metrics": Price("CloudWatch", "custom metric and month, by the hour", "0.30", free=10),
    "alarms": Price("CloudWatch", "alarm and month", "0.10", free=10),
    "query alarms": Price("CloudWatch", "metric that a query's alarm looks at, and month", "0.10"),
    "dashboard": Price("CloudWatch", "dashboard and month", "3.00", free=3),
    "logs": Price("CloudWatch Logs", "GB written", "0.50", per=GB, free=5 * GB),
    "log storage": Price("CloudWatch Logs", "GB and month kept", "0.03", per=GB),
    "key": Price("KMS", "key and month", "1.00", source=Source.AWS, page="kms"),
    "compute": Price("Lambda", "GB-second, arm64", "0.0000133334", free=400_000, page="lambda"),
    "invocations": Price("Lambda", "million requests", "0.20", per=MILLION, free=MILLION, page="lambda"),
    "reads": Price("DynamoDB", "million read request units", "0.125", per=MILLION, page="dynamodb"),
    "writes": Price("DynamoDB", "million write request units", "0.625", per=MILLION, page="dynamodb"),
    "requests": Price("SQS", "million requests", "0.40", per=MILLION, free=MILLION, page="sqs"),
    "traces": Price("X-Ray", "million traces", "5.00", per=MILLION, free=100_000, source=Source.AWS, page="xray"),
    "schedule": Price("Scheduler", "million invocations", "1.00", per=MILLION, free=14 * MILLION, page="eventbridge"),
}
SHOWN = {
    "custom metrics": ("metrics",),
    "alarms": ("alarms", "query alarms"),
    "dashboard": ("dashboard",),
    "key of the topics": ("key",),
    "Lambda": ("compute", "invocations"),
    "SQS": ("requests",),
    "X-Ray": ("traces",),
    "logs": ("logs", "log storage"),
    "DynamoDB": ("reads", "writes"),
    "Scheduler": ("schedule",),
}
"""The rows of the table. Each is a sum of prices."""

Quantities = dict[str, Decimal]


@dataclass(frozen=True)
class Cost:
    """A month of the control plane in USD: ``lines`` by what is paid for, and what an account pays after free tiers."""

    pools: int
    waiting: int
    lines: dict[str, Decimal]
    usd: Decimal
    after_free_tiers: Decimal


def dollars(quantities: Quantities, lines: Iterable[str] = tuple(PRICES), *, less_free: bool = False) -> Decimal:
    """The cost of these lines of the quantities."""
    return sum((PRICES[line].of(quantities[line], less_free=less_free) for line in lines), Decimal(0))


def cost(pools: int, waiting: int = 0) -> Cost:
    """Calculate a month with pools of which some wait all month. Raises RefusedError if more wait than there are."""
    if waiting > pools:
        raise RefusedError(f"--waiting {waiting}: of {counted(pools, 'pool')} at most {pools} can wait.")
    known = {
        of: {line: Decimal(quantity) for line, quantity in lines.items()}
        for of, lines in json.loads(FIGURES.read_text(encoding="utf-8")).items()
    }
    stack, pool, waits = known["stack"], known["pool"], known["waiting pool"]
    # While no pool is in trouble, a query's alarm is billed as if it looked at one metric.
    quantities = {line: stack[line] + pool[line] * (pools - waiting) + waits[line] * waiting for line in stack}
    lines = {name: _cents(dollars(quantities, prices)) for name, prices in SHOWN.items()}
    return Cost(pools, waiting, lines, _cents(dollars(quantities)), _cents(dollars(quantities, less_free=True)))


def render(found: Cost) -> RenderableType:
    """Render the cost as a table, with what it does not contain below."""
    table = Table(Column("a month of the control plane"), Column("USD", justify="right"), box=None, pad_edge=False)
    for name, usd in found.lines.items():
        table.add_row(name, str(usd))
    waiting = f", {found.waiting} of them waiting all month" if found.waiting else ""
    table.add_row(f"all, for {counted(found.pools, 'pool')}{waiting}", str(found.usd), style="bold")
    table.add_row("after an account's free tiers", str(found.after_free_tiers))
    below = f"Prices of us-east-1, looked up on {LOOKED_UP}. Instances, volumes and traffic come on top: docs/costs.md."
    return Group(table, Text(below, style="dim"))


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"))
