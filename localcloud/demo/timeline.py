"""Makes time series from the market's record: pools' instances, notices, prices and capacity. Pure functions.

A series is a list of (moment, value), one for each change. A value holds until the next one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeVar

Entry = Mapping[str, Any]
"""An entry of ``GET /market/record``."""

Value = TypeVar("Value")
Series = list[tuple[datetime, Value]]

GONE = ("shutting-down", "terminated")


@dataclass
class PoolTimeline:
    """The history of a pool, as the market recorded it."""

    running: Series[int] = field(default_factory=list)
    """Running instances without notice: they count as the pool's size."""
    alive: Series[int] = field(default_factory=list)
    """Pending and running instances, with or without notice: max_instances limits them."""
    notices: list[tuple[datetime, str]] = field(default_factory=list)
    """When an instance got its notice, and in which offering."""
    launches: list[Entry] = field(default_factory=list)


@dataclass
class OfferingTimeline:
    """The history of an offering's spot price and capacity."""

    price: Series[Decimal] = field(default_factory=list)
    capacity: Series[int] = field(default_factory=list)


def moment(text: str) -> datetime:
    """Read a moment in the format of the market and PoolStatus."""
    return datetime.fromisoformat(text)


def offering_name(entry: Entry) -> str:
    """The type and the zone of an entry, as one name."""
    return f"{entry['instance_type']} {entry['availability_zone']}"


def pool_timeline(record: Iterable[Entry], pool: str) -> PoolTimeline:
    """Follow a pool's instances through the record."""
    timeline = PoolTimeline()
    state: dict[str, str] = {}
    noticed: set[str] = set()
    for entry in record:
        if entry.get("pool") != pool or "instance_id" not in entry:
            continue
        at, what, instance = moment(entry["at"]), entry["what"], entry["instance_id"]
        if what == "notice":
            if instance not in noticed:
                timeline.notices.append((at, offering_name(entry)))
            noticed.add(instance)
        elif what == "pending":
            timeline.launches.append(entry)
            state[instance] = what
        elif what == "running":
            state[instance] = what
        elif what in GONE:
            state.pop(instance, None)
        running = sum(one == "running" and name not in noticed for name, one in state.items())
        _follow(timeline.running, at, running)
        _follow(timeline.alive, at, len(state))
    return timeline


def offering_timelines(record: Iterable[Entry]) -> dict[str, OfferingTimeline]:
    """Follow the price and the capacity of each offering through the record."""
    timelines: defaultdict[str, OfferingTimeline] = defaultdict(OfferingTimeline)
    for entry in record:
        if "spot_price" in entry and "availability_zone" in entry:
            at, timeline = moment(entry["at"]), timelines[offering_name(entry)]
            _follow(timeline.price, at, Decimal(entry["spot_price"]))
            _follow(timeline.capacity, at, int(entry["capacity"]))
    return dict(timelines)


def share_of_time(series: Series[int], at_least: int, start: datetime, end: datetime) -> float:
    """The share of the time from start to end in which the series was ``at_least`` this high."""
    good = timedelta()
    for (since, value), (until, _) in pairwise([(start, 0), *series, (end, 0)]):
        if value >= at_least:
            good += max(timedelta(), min(until, end) - max(since, start))
    return good / (end - start)


def since(series: Series[Value], start: datetime) -> Series[Value]:
    """The part of a series from a moment on. It begins with the value at that moment."""
    before = [(start, value) for at, value in series if at <= start][-1:]
    return before + [(at, value) for at, value in series if at > start]


def highest(series: Series[int]) -> int:
    """The highest value. 0 for an empty series."""
    return max((value for _, value in series), default=0)


def above_cap(launches: Sequence[Entry], cap: Decimal) -> list[Entry]:
    """Launches at a spot price above the cap."""
    return [entry for entry in launches if Decimal(entry["spot_price"]) > cap]


def _follow(series: Series[Value], at: datetime, value: Value) -> None:
    if series and series[-1][0] == at:
        series.pop()
    if not series or series[-1][1] != value:
        series.append((at, value))
