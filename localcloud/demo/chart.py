"""Draws a pool's chart as SVG: its sizes, why it waited, its prices and messages about it, on one time axis."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from html import escape
from itertools import cycle
from pathlib import Path
from typing import TypeVar

from localcloud.demo.results import Explained, PoolChapter, Report, WaitPeriod
from localcloud.demo.timeline import Series

Value = TypeVar("Value")
Number = TypeVar("Number", int, Decimal)

STYLE = Path(__file__).with_name("chart.css")
SVG = "http://www.w3.org/2000/svg"

WIDE, NARROW = 1000, 340
"""Widths: on a desktop and on a phone. Texts have the same size on both."""

LEFT, RIGHT = 52, 16
LABELS, NOTICES = 32, 14
"""Heights above the sizes: two rows of labels, one of notices."""

SIZE_HEIGHT, PRICE_HEIGHT, ROW_HEIGHT, AXIS_HEIGHT, UNIT_HEIGHT = 130, 90, 20, 22, 20
SECONDS_BETWEEN_TICKS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
TICK_WIDTH, LETTER_WIDTH, CAPITAL_WIDTH = 80, 6.8, 8
PRICE_COLOURS = ("#0d9488", "#d97706", "#8b5cf6", "#0284c7", "#db2777", "#65a30d", "#78716c", "#ea580c", "#2563eb")
"""Each differs from the others on white and on black."""

APART = 2
"""Units between price lines with the same price, so that each is seen."""


@dataclass(frozen=True)
class Key:
    """An entry of the legend: what is drawn how."""

    text: str
    kind: str
    colour: str | None = None


def keys(pool: PoolChapter) -> list[Key]:
    """The legend of a pool's chart."""
    found = [Key("wanted", "wanted"), Key("running", "running")]
    if pool.max_instances is not None:
        found += [Key("alive, including instances under notice", "alive"), Key("max_instances", "max")]
    found += [Key("interruption notice", "notice"), Key("waiting, with reason", "waiting"), Key("message", "message")]
    found += [Key(name, "price", colour) for name, colour in _lines(pool)]
    if pool.cap is not None:
        found.append(Key(f"cap {pool.cap} USD an hour", "cap"))
    return found


def swatch(key: Key) -> str:
    """How a key looks, as SVG of 18 by 12 units."""
    match key.kind:
        case "notice":
            return '<path class="notice" d="M5 2 h8 l-4 9 z"/>'
        case "waiting":
            return '<g class="waiting"><rect x="2" y="0" width="14" height="12"/></g>'
        case "running":
            return '<path class="running" d="M2 12 V1 H16 V12 Z"/><path class="running-edge" d="M2 1 H16"/>'
        case _:
            return _path(key.kind, "M0 6 H18", key.colour)


def picture(report: Report, pool: PoolChapter) -> str:
    """Return a pool's chart with its name and legend as an SVG file, for another document."""
    chart, height = _chart(report, pool, WIDE)
    legend, below = _legend(pool)
    style = STYLE.read_text(encoding="utf-8")
    for name, value in re.findall(r"(--[\w-]+): ([^;]+);", style.partition("@media")[0]):
        style = style.replace(f"var({name})", value)  # what draws pictures outside browsers knows no variables
    rules = style[style.index("/* rules */") :]
    return (
        f'<svg xmlns="{SVG}" viewBox="0 0 {WIDE + 40} {below + height + 20}" {_named(pool)}>\n'
        f'<style>\n{rules}</style>\n<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="name" x="20" y="32">{escape(pool.name)}</text>'
        f'<g transform="translate(20 {below})">{chart}</g>{legend}\n</svg>\n'
    )


def drawing(report: Report, pool: PoolChapter, width: int) -> str:
    """Return a pool's chart as SVG in a page."""
    chart, height = _chart(report, pool, width)
    return f'<svg xmlns="{SVG}" viewBox="0 0 {width} {height}" {_named(pool)}>{chart}</svg>'


def _named(pool: PoolChapter) -> str:
    return f'class="chart" role="img" aria-label="{escape(pool.name)}"'


def _legend(pool: PoolChapter) -> tuple[str, float]:
    """The legend as SVG, and where it ends."""
    parts, x, y = [], 20.0, 58.0
    for key in keys(pool):
        width = 24 + LETTER_WIDTH * len(key.text) + 16
        if x + width > WIDE:
            x, y = 20.0, y + 20
        parts.append(f'<g transform="translate({x:g} {y - 10:g})">{swatch(key)}</g>')
        parts.append(f'<text x="{x + 24:g}" y="{y:g}">{escape(key.text)}</text>')
        x += width
    return "".join(parts), y + 12


def _lines(pool: PoolChapter) -> dict[tuple[str, str], Series[Decimal]]:
    """The price lines by name and colour. Zones with the same prices of a type share a line."""
    shared: dict[tuple[str, tuple[tuple[datetime, Decimal], ...]], list[str]] = {}
    for name, offering in sorted(pool.offerings.items()):
        instance_type, _, zone = name.partition(" ")
        shared.setdefault((instance_type, tuple(offering.price)), []).append(zone)
    return {
        (f"{instance_type} {zones[0]}{''.join(f', {zone[-1]}' for zone in zones[1:])}", colour): list(series)
        for ((instance_type, series), zones), colour in zip(shared.items(), cycle(PRICE_COLOURS), strict=False)
    }


def _rows(pool: PoolChapter) -> list[tuple[str, str]]:
    return list(zip(sorted(pool.offerings), cycle(PRICE_COLOURS), strict=False)) if pool.show_room else []


def _chart(report: Report, pool: PoolChapter, width: int) -> tuple[str, float]:
    """The chart, and its height."""
    axis = _Axis(report, width)
    most = max([1, pool.max_instances or 0, *(v for _, v in [*pool.wanted, *pool.timeline.alive])])
    sizes = _Band(top=LABELS + NOTICES + UNIT_HEIGHT, height=SIZE_HEIGHT, low=0, high=most)
    parts = [axis.grid(sizes, "instances", round_values(0, most, whole=True))]
    parts += [_waiting(axis, sizes, wait) for wait in pool.waiting]
    running = _stairs(axis, sizes, pool.timeline.running)
    base = sizes.y(0)
    parts.append(f'<path class="running" d="M{LEFT} {base} {running[1:]} V{base} H{LEFT} Z"/>' if running else "")
    parts.append(_path("running-edge", running))
    if pool.max_instances is not None:
        parts.append(_path("alive", _stairs(axis, sizes, pool.timeline.alive)))
        parts.append(_path("max", f"M{LEFT} {sizes.y(pool.max_instances)} H{axis.right}"))
    parts.append(_path("wanted", _stairs(axis, sizes, pool.wanted)))
    parts += [
        f'<path class="notice" d="M{axis.x(at) - 4:.1f} {LABELS + 2} h8 l-4 9 z">'
        f"<title>notice: {escape(offering)}</title></path>"
        for at, offering in pool.timeline.notices
    ]
    bottom = sizes.top + sizes.height
    for name, colour in _rows(pool):
        bottom += ROW_HEIGHT
        parts.append(_room_row(axis, pool, name, colour, y=bottom - ROW_HEIGHT + 6))
    prices = _price_band(pool, bottom + UNIT_HEIGHT + 10)
    if prices is not None:
        parts += _prices(axis, prices, pool)
        bottom = prices.top + prices.height
    parts.append(_messages(axis, [one for one in report.messages if _is_about(one, pool)], bottom))
    parts.append(axis.ticks(bottom))
    return "".join(parts), bottom + AXIS_HEIGHT


def _prices(axis: _Axis, band: _Band, pool: PoolChapter) -> list[str]:
    parts = [axis.grid(band, "USD an hour", round_values(band.low, band.high))]
    lines = _lines(pool)
    for number, ((_, colour), series) in enumerate(lines.items()):
        aside = (number - (len(lines) - 1) / 2) * APART
        path = _path("price", _stairs(axis, band, series), colour)
        parts.append(f'<g transform="translate(0 {aside:g})">{path}</g>')
    if pool.cap is not None:
        parts.append(_path("cap", f"M{LEFT} {band.y(pool.cap)} H{axis.right}"))
    return parts


def _is_about(message: Explained, pool: PoolChapter) -> bool:
    """Whether a message says that something is wrong with this pool."""
    named = re.search(rf"(?<![\w.-]){re.escape(pool.name)}(?![\w-])", f"{message.subject}\n{message.body}")
    return named is not None and not message.subject.startswith("[over]")


def _messages(axis: _Axis, messages: Iterable[Explained], bottom: float) -> str:
    """A line for each message, with its last words. Labels that would overlap are in two rows."""
    parts, ends = [], [0.0, 0.0]
    for message in messages:
        x, label = axis.x(message.at), message.subject.rpartition(": ")[2]
        size = LETTER_WIDTH * len(label)
        left = min(x + 4, axis.right - size)
        row = 0 if left >= ends[0] else 1
        ends[row] = left + size
        title = f"<title>{escape(message.subject)}</title>"
        parts.append(
            f'<path class="message" d="M{x:.1f} {2 + 15 * row} V{bottom}">{title}</path>'
            f'<text class="message-label" x="{left:.1f}" y="{11 + 15 * row}">{escape(label)}</text>'
        )
    return "".join(parts)


def _waiting(axis: _Axis, band: _Band, wait: WaitPeriod) -> str:
    x, end = axis.x(wait.start), axis.x(wait.end)
    words = f"<title>{escape(wait.reason)}: {escape(wait.message)}</title>"
    label = escape(wait.reason) if end - x > len(wait.reason) * CAPITAL_WIDTH else ""
    return (
        f'<g class="waiting {escape(wait.reason)}"><rect x="{x:.1f}" y="{band.top}" width="{max(1.0, end - x):.1f}" '
        f'height="{band.height}">{words}</rect><text x="{x + 4:.1f}" y="{band.top + 13}">{label}</text></g>'
    )


def _room_row(axis: _Axis, pool: PoolChapter, name: str, colour: str, *, y: float) -> str:
    """A zone's row: coloured where it had capacity at a price up to the cap, pale where the price was higher."""
    offering, cap = pool.offerings[name], pool.cap
    moments = sorted({at for at, _ in [*offering.capacity, *offering.price]})
    spans = []
    for at, until in zip(moments, [*moments[1:], None], strict=True):
        if _value_at(offering.capacity, at, 0) > 0:
            affordable = cap is None or _value_at(offering.price, at, Decimal(0)) <= cap
            x, end = axis.x(at), axis.right if until is None else axis.x(until)
            opacity = "0.8" if affordable else "0.18"
            spans.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, end - x):.1f}" height="{ROW_HEIGHT - 8}" '
                f'fill="{colour}" opacity="{opacity}"/>'
            )
    zone = name.rpartition(" ")[2]
    return f'<text class="label" x="{LEFT - 6}" y="{y + 10:.1f}">{escape(zone[-2:])}</text>{"".join(spans)}'


def _value_at(series: Series[Value], at: datetime, before: Value) -> Value:
    return next((value for since, value in reversed(series) if since <= at), before)


def _price_band(pool: PoolChapter, top: float) -> _Band | None:
    prices = [float(value) for offering in pool.offerings.values() for _, value in offering.price]
    if not prices:
        return None
    if pool.cap is not None:
        prices.append(float(pool.cap))
    low, high = min(prices), max(prices)
    margin = (high - low) * 0.1 or high * 0.05
    return _Band(top=top, height=PRICE_HEIGHT, low=max(0.0, low - margin), high=high + margin)


def round_values(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return two to five round numbers between two bounds, for an axis: 0, 2, 4, or 0.45, 0.5, 0.55."""
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 5, 10) if factor * size >= rough)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Band:
    """A horizontal strip of a chart with its own vertical scale."""

    top: float
    height: float
    low: float
    high: float

    def y(self, value: float | Decimal) -> float:
        return round(self.top + self.height * (1 - (float(value) - self.low) / (self.high - self.low)), 1)


class _Axis:
    """The time axis of a chart of this width."""

    def __init__(self, report: Report, width: int) -> None:
        self._report, self.right = report, width - RIGHT
        self._seconds = max(1.0, (report.end - report.start).total_seconds() * report.speed)

    def x(self, at: datetime) -> float:
        share = min(1.0, max(0.0, self._report.seconds(at) / self._seconds))
        return LEFT + share * (self.right - LEFT)

    def ticks(self, bottom: float) -> str:
        most = (self.right - LEFT) / TICK_WIDTH
        apart = next((one for one in SECONDS_BETWEEN_TICKS if self._seconds / one <= most), 86400)
        marks = []
        for number in range(int(self._seconds / apart) + 1):
            x = LEFT + number * apart / self._seconds * (self.right - LEFT)
            label = self._report.clock(number * apart)
            marks.append(
                f'<path class="tick" d="M{x:.1f} {bottom} v4"/>'
                f'<text class="time" x="{x:.1f}" y="{bottom + 17}">{escape(label)}</text>'
            )
        return "".join(marks)

    def grid(self, band: _Band, unit: str, values: Sequence[float]) -> str:
        title = f'<text x="{LEFT}" y="{band.top - 8}">{unit}</text>'
        return title + "".join(
            f'<path class="grid" d="M{LEFT} {band.y(value)} H{self.right}"/>'
            f'<text class="label" x="{LEFT - 6}" y="{band.y(value) + 4}">{value:.6g}</text>'
            for value in values
        )


def _stairs(axis: _Axis, band: _Band, series: Series[Number]) -> str:
    """The path of a series in which each value holds until the next. It ends at the right edge."""
    if not series:
        return ""
    (first, value), *rest = series
    corners = " ".join(f"H{axis.x(at):.1f} V{band.y(later)}" for at, later in rest)
    return f"M{axis.x(first):.1f} {band.y(value)} {corners} H{axis.right}"


def _path(kind: str, path: str, colour: str | None = None) -> str:
    stroke = f' stroke="{colour}"' if colour else ""
    return f'<path class="{kind}"{stroke} d="{path}"/>' if path else ""
