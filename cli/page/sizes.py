"""Sizes of pools over the last hours, from the metrics that the tick publishes each minute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cli.output import ago
from lambdas.aws.asking import in_parts, pages
from lambdas.metrics import POOL_DIMENSION, Metric, namespace

PERIOD = timedelta(minutes=5)
"""CloudWatch bills each metric that is asked for, not its points. 24 hours of such periods make 288 points."""

QUERIES = 500
"""CloudWatch accepts no more metrics in one request."""

LONGEST_VALUE = 1024
"""Characters that CloudWatch accepts in the value of a dimension."""

STATISTICS = {Metric.WANTED: "Maximum", Metric.RUNNING: "Minimum"}
"""A period shows its worst minute, so that a short gap is not lost."""

Series = tuple[float | None, ...]


@dataclass(frozen=True)
class PoolSizes:
    """A pool's wanted and running sizes, one of each for every time; None: nothing is recorded."""

    wanted: Series
    running: Series


@dataclass(frozen=True)
class Sizes:
    """Sizes by pool. ``times`` are the starts of periods, in seconds since 1970. ``note`` says what is missing."""

    times: tuple[int, ...]
    pools: Mapping[str, PoolSizes]
    note: str = ""


def look(cloudwatch: Any, stack: str, pools: Iterable[str], *, now: datetime, span: timedelta) -> Sizes:
    """Read the sizes of pools over a time span that ends now. Raises FleetError if CloudWatch does not answer."""
    step = int(PERIOD.total_seconds())
    end = int(now.timestamp()) // step * step + step
    times = tuple(range(end - int(span.total_seconds()), end, step))
    names = [name for name in pools if _can_be_a_dimension(name)]
    queries = list(_queries(stack, names, step))
    found: dict[str, dict[int, float]] = {}
    for part in in_parts(queries, QUERIES):
        window = {"StartTime": _moment(times[0]), "EndTime": _moment(end), "ScanBy": "TimestampAscending"}
        for page in pages(cloudwatch.get_metric_data, MetricDataQueries=part, **window):
            for result in page["MetricDataResults"]:
                points = found.setdefault(result["Id"], {})
                points |= {
                    int(at.timestamp()): value for at, value in zip(result["Timestamps"], result["Values"], strict=True)
                }
    sizes = {
        name: PoolSizes(
            *(_series(found.get(_id(metric, number), {}), times) for metric in (Metric.WANTED, Metric.RUNNING))
        )
        for number, name in enumerate(names)
        if any(found.get(_id(metric, number)) for metric in STATISTICS)
    }
    note = "" if sizes or not names else f"CloudWatch has no sizes of the last {ago(now - span, now)} yet."
    return Sizes(times, sizes, note)


def _queries(stack: str, names: Sequence[str], step: int) -> Iterator[dict[str, Any]]:
    for number, name in enumerate(names):
        for metric, statistic in STATISTICS.items():
            of_pool = {
                "Namespace": namespace(stack),
                "MetricName": str(metric),
                "Dimensions": [{"Name": POOL_DIMENSION, "Value": name}],
            }
            yield {
                "Id": _id(metric, number),
                "MetricStat": {"Metric": of_pool, "Period": step, "Stat": statistic},
            }


def _id(metric: Metric, number: int) -> str:
    return f"{metric.lower()}{number}"


def _series(points: Mapping[int, float], times: Sequence[int]) -> Series:
    return tuple(points.get(at) for at in times)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _can_be_a_dimension(name: str) -> bool:
    """Whether CloudWatch accepts the name: it would refuse the whole request because of one that it does not."""
    return name.isascii() and name.isprintable() and bool(name.strip()) and len(name) <= LONGEST_VALUE
