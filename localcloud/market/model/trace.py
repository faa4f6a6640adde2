"""A recorded market: how to read it, how to play it at some speed, and the best fill that any controller could reach.

For each offering and recorded time, a trace says whether a spot launch would have succeeded, and its price. A row holds
until the offering's next row. The last rows hold until the latest time in the file. docs/market.md has the CSV's
columns.
"""

import csv
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any

from localcloud.market.model.errors import ControlError
from localcloud.market.model.market import Market, iso
from localcloud.market.model.offerings import type_and_zone

CAPACITY_WHEN_AVAILABLE = 20
"""Assumed capacity of an available offering. A probe proves one instance, not how many more."""

_COLUMNS = {
    "time": ("time", "timestamp_utc_approx"),
    "type": ("type", "instance_type"),
    "zone": ("zone", "az", "availability_zone"),
    "available": ("available", "spot_available"),
    "price": ("price", "spot_price_usd_h"),
}


class TraceError(Exception):
    """The file is not a trace. The message names the line and the fault."""


@dataclass(frozen=True)
class Point:
    """The availability and price (USD per instance-hour) of an offering from this time on."""

    at: datetime
    available: bool
    price: Decimal


@dataclass(frozen=True)
class Trace:
    """A recorded market from ``start`` to ``end``: for each offering its changes, oldest first."""

    start: datetime
    end: datetime
    series: dict[type_and_zone, tuple[Point, ...]]

    def window(self, start: datetime | None = None, hours: float | None = None) -> "Trace":
        """Return the part from ``start`` (default: the beginning) for ``hours`` (default: to the end)."""
        begin = start or self.start
        end = self.end if hours is None else begin + timedelta(hours=hours)
        if not self.start <= begin < end <= self.end:
            raise TraceError(
                f"the trace runs from {iso(self.start)} to {iso(self.end)}, not {iso(begin)} to {iso(end)}"
            )
        series = {}
        for key, points in self.series.items():
            before = [Point(begin, point.available, point.price) for point in points if point.at <= begin][-1:]
            series[key] = (*before, *(point for point in points if begin < point.at < end))
        return Trace(begin, end, series)


def read_trace(path: Path, *, zones: str = "") -> Trace:
    """Read a trace from a CSV file, gzipped or not. Only zones whose names begin with ``zones`` count."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    return parse_trace(text.splitlines(), zones=zones)


def parse_trace(lines: Iterable[str], *, zones: str = "") -> Trace:
    """Read a trace from the lines of a CSV."""
    reader = csv.DictReader(lines)
    column = {meaning: _column(meaning, names, reader.fieldnames or ()) for meaning, names in _COLUMNS.items()}
    rows: dict[type_and_zone, list[Point]] = {}
    for row in reader:
        if not row[column["zone"]].startswith(zones):
            continue
        try:
            point = Point(
                _time(row[column["time"]]), _available(row[column["available"]]), Decimal(row[column["price"]])
            )
        except (ValueError, InvalidOperation) as error:
            raise TraceError(f"line {reader.line_num}: {error or 'the price is not a decimal number'}") from error
        rows.setdefault((row[column["type"]], row[column["zone"]]), []).append(point)
    if not rows:
        raise TraceError(f"no row has a zone whose name begins with '{zones}'")
    times = [point.at for points in rows.values() for point in points]
    return Trace(min(times), max(times), {key: _changes(points) for key, points in rows.items()})


def _column(meaning: str, names: tuple[str, ...], header: Iterable[str]) -> str:
    for name in names:
        if name in header:
            return name
    raise TraceError(f"there is no column for the {meaning}: name it {' or '.join(names)}")


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _available(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"available must be 0 or 1, not '{text}'")
    return text == "1"


def _changes(points: list[Point]) -> tuple[Point, ...]:
    points.sort(key=lambda point: point.at)
    changed = points[:1]
    for point in points[1:]:
        if (point.available, point.price) != (changed[-1].available, changed[-1].price):
            changed.append(point)
    return tuple(changed)


def best_share(
    trace: Trace, cap: Decimal, *, wanted: int = 1, capacity_when_available: int = CAPACITY_WHEN_AVAILABLE
) -> Decimal:
    """Return the share (0 to 1) of the trace's time in which ``wanted`` instances could run at up to ``cap``.

    No policy can do better: at all other times there is too little capacity at that price. A real policy reaches less,
    because launches take time.
    """
    changes = sorted((point.at, key, point) for key, points in trace.series.items() for point in points)
    is_open = dict.fromkeys(trace.series, False)
    good = timedelta()
    since = trace.start
    for at, key, point in changes:
        if sum(is_open.values()) * capacity_when_available >= wanted:
            good += at - since
        since = at
        is_open[key] = point.available and point.price <= cap
    if sum(is_open.values()) * capacity_when_available >= wanted:
        good += trace.end - since
    return Decimal(good // timedelta(milliseconds=1)) / Decimal((trace.end - trace.start) // timedelta(milliseconds=1))


@dataclass(frozen=True)
class Replay:
    """A trace that is played. From ``began_at`` on, market time runs ``speed`` times as fast as the clock."""

    trace: Trace
    speed: float
    began_at: datetime
    capacity_when_available: int
    on_demand_price: Decimal | None = None
    """None: keep the market's."""

    def on_clock(self, recorded: datetime) -> datetime:
        """Return the time on the market's clock at which a recorded moment is played."""
        return self.began_at + (recorded - self.trace.start) / self.speed

    def describe(self, now: datetime) -> dict[str, Any]:
        """Return the replay as the control interface shows it."""
        return {
            "speed": self.speed,
            "began_at": iso(self.began_at),
            "ends_at": iso(self.on_clock(self.trace.end)),
            "ended": now >= self.on_clock(self.trace.end),
            "trace_start": iso(self.trace.start),
            "trace_end": iso(self.trace.end),
            "trace_time": iso(min(self.trace.end, self.trace.start + (now - self.began_at) * self.speed)),
            "offerings": [f"{instance_type} {zone}" for instance_type, zone in sorted(self.trace.series)],
            "capacity_when_available": self.capacity_when_available,
        }


def play(
    market: Market,
    trace: Trace,
    *,
    speed: float,
    capacity_when_available: int = CAPACITY_WHEN_AVAILABLE,
    on_demand_price: Decimal | None = None,
) -> Replay:
    """Let a market follow a trace from now on. All durations in the market follow its speed.

    An offering that is not available has capacity 0, and every spot instance there gets a notice. Zones of the trace's
    types that the trace does not cover are closed. After the end the last state stays.
    """
    for instance_type, zone in trace.series:
        if on_demand_price is None and all(known != instance_type for known, _ in market.offerings):
            raise ControlError(400, f"{instance_type} ({zone}) is new to the market: give its on_demand_price")
    now = market.catch_up()
    replay = Replay(trace, speed, now, capacity_when_available, on_demand_price)
    market.settings = market.settings.changed({"pace": speed})
    types = {instance_type for instance_type, _ in trace.series}
    for key in [key for key in market.offerings if key[0] in types and key not in trace.series]:
        market.set_offering(*key, capacity=0)
    for key, points in trace.series.items():
        for point in points:
            act = partial(_apply, market, replay, key, point)
            if point.at <= trace.start:
                act(now)
            else:
                market.schedule(replay.on_clock(point.at), act)
    return replay


def _apply(market: Market, replay: Replay, key: type_and_zone, point: Point, at: datetime) -> None:
    market.set_offering(
        *key,
        capacity=replay.capacity_when_available if point.available else 0,
        spot_price=point.price,
        on_demand_price=replay.on_demand_price,
        at=at,
    )
    if not point.available:
        market.interrupt_all(key, at, cause="capacity")
