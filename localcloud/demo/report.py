"""Makes the report: one HTML page that loads nothing else, with inline SVG charts and styles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from html import escape
from itertools import cycle
from pathlib import Path
from typing import TypeVar

from localcloud.demo.results import AlarmMessage, PoolChapter, Report, StepResult, WaitPeriod
from localcloud.demo.timeline import Series

Value = TypeVar("Value")
Number = TypeVar("Number", int, Decimal)

STYLE = Path(__file__).with_name("report.css")

SVG = "http://www.w3.org/2000/svg"
WIDTH, LEFT, RIGHT = 1000, 52, 16
PICTURE_HEAD = 130
SIZE_HEIGHT, PRICE_HEIGHT, ROW_HEIGHT, AXIS_HEIGHT = 130, 90, 20, 22
SECONDS_BETWEEN_TICKS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
MOST_TICKS = 12
PRICE_COLOURS = ("#0f766e", "#b45309", "#7c3aed", "#0369a1", "#be185d", "#4d7c0f", "#57534e", "#c2410c", "#1d4ed8")


def render(report: Report) -> str:
    """Return the page."""
    passed = all(step.passed for step in report.steps)
    verdict = "All steps passed." if passed else "Not all steps passed."
    chapters = "".join(_chapter(report, pool) for pool in report.pools)
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)}</title>
<style>
{STYLE.read_text()}</style>
</head>
<body>
<header>
<h1>{escape(report.title)}</h1>
<p>{escape(report.summary)}</p>
<p class="{"passed" if passed else "failed"}">{verdict}</p>
</header>
<section><h2>Steps</h2>{_step_table(report.steps)}</section>
{chapters}
<section><h2>Messages to people</h2>{_messages(report)}</section>
<section><h2>Alarms received</h2>{_alarms(report)}</section>
<section><h2>Notes</h2><ul>{notes}</ul></section>
</body>
</html>
"""


def chart(report: Report, pool: PoolChapter) -> str:
    """Return a pool's chart with its legend as an SVG file, for another document."""
    chart = _chart(report, pool)
    height = PICTURE_HEAD + float(re.findall(r'viewBox="0 0 \d+ ([\d.]+)"', chart)[0])
    return f"""<svg xmlns="{SVG}" viewBox="0 0 {WIDTH + 40} {height:g}">
<foreignObject width="100%" height="100%">
<div xmlns="http://www.w3.org/1999/xhtml" class="picture">
<style>
{STYLE.read_text()}</style>
<h2>{escape(pool.name)}</h2>{_legend(pool)}{chart}</div>
</foreignObject>
</svg>
"""


def _step_table(steps: Iterable[StepResult]) -> str:
    rows = "".join(
        f'<tr class="{"passed" if step.passed else "failed"}"><td>{"✓" if step.passed else "✗"}</td>'
        f"<td>{escape(step.name)}</td><td>{escape(step.expected)}</td><td>{escape(step.seen)}</td>"
        f'<td class="number">{_time(step)}</td></tr>'
        for step in steps
    )
    head = "<tr><th></th><th>Step</th><th>Expected</th><th>Seen</th><th>Time</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _time(step: StepResult) -> str:
    if step.seconds is None:
        return ""
    return f"{step.seconds:.1f} s" + ("" if step.bound is None else f" <small>of {step.bound:g}</small>")


def _messages(report: Report) -> str:
    """What the function that explains alarms has sent, as people receive it."""
    axis = _Axis(report)
    return "".join(
        f"<details><summary><small>{escape(axis.label(one.at))}</small> {escape(one.subject)}</summary>"
        f"<pre>{escape(one.body)}</pre></details>"
        for one in report.messages
    )


def _alarms(report: Report) -> str:
    if not report.alarms:
        return "<p>None.</p>"
    axis = _Axis(report)
    rows = "".join(
        f'<tr><td class="number">{escape(axis.label(alarm.at))}</td>'
        f'<td><span class="state {escape(alarm.state.lower())}">{escape(alarm.state)}</span></td>'
        f"<td><strong>{escape(alarm.name)}</strong><br>{escape(alarm.description)}"
        f"<br><small>{escape(alarm.reason)}</small></td></tr>"
        for alarm in report.alarms
        if alarm.state == "ALARM"
    )
    return f"<table><thead><tr><th>At</th><th>State</th><th>Message</th></tr></thead><tbody>{rows}</tbody></table>"


def _chapter(report: Report, pool: PoolChapter) -> str:
    waits = "".join(f"<li><b>{escape(wait.reason)}</b> {escape(wait.message)}</li>" for wait in _distinct(pool.waiting))
    said = (
        f"<details><summary>Messages of PoolStatus while the pool waited</summary><ul>{waits}</ul></details>"
        if waits
        else ""
    )
    return (
        f"<section><h2>{escape(pool.name)}</h2><p>{escape(pool.about)}</p>"
        f"{_legend(pool)}{_chart(report, pool)}{said}</section>"
    )


def _distinct(waiting: Iterable[WaitPeriod]) -> list[WaitPeriod]:
    """Keep the last of those waits that differ only in numbers."""
    kinds = {(wait.reason, "".join(c for c in wait.message if not c.isdigit())): wait for wait in waiting}
    return list(kinds.values())


def _legend(pool: PoolChapter) -> str:
    keys = ['<i class="line wanted"></i>wanted', '<i class="area running"></i>running']
    if pool.max_instances is not None:
        keys += [
            '<i class="line alive"></i>alive, including instances under notice',
            '<i class="line max"></i>max_instances',
        ]
    keys += ['<i class="mark"></i>interruption notice', '<i class="area waiting"></i>waiting, with reason']
    keys += ['<i class="line alarm"></i>alarm received']
    keys += [f'<i class="line" style="border-color:{colour}"></i>{escape(name)}' for name, colour in _lines(pool)]
    if pool.cap is not None:
        keys.append(f'<i class="line cap"></i>cap {pool.cap} USD/h')
    return f'<p class="legend">{"".join(f"<span>{key}</span>" for key in keys)}</p>'


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


def _chart(report: Report, pool: PoolChapter) -> str:
    axis = _Axis(report)
    top_size = max([1, pool.max_instances or 0, *(v for _, v in [*pool.wanted, *pool.timeline.alive])])
    sizes = _Band(top=18, height=SIZE_HEIGHT, low=0, high=top_size)
    parts = [axis.grid(sizes, [0, top_size // 2, top_size] if top_size > 1 else [0, 1], "{:g}")]
    parts += [_waiting(axis, sizes, wait) for wait in pool.waiting]
    running = _stairs(axis, sizes, pool.timeline.running)
    base = sizes.y(0)
    parts.append(f'<path class="running" d="M{LEFT} {base} {running[1:]} V{base} H{LEFT} Z"/>' if running else "")
    parts.append(_path("running-edge", running))
    if pool.max_instances is not None:
        parts.append(_path("alive", _stairs(axis, sizes, pool.timeline.alive)))
        parts.append(_path("max", f"M{LEFT} {sizes.y(pool.max_instances)} H{WIDTH - RIGHT}"))
    parts.append(_path("wanted", _stairs(axis, sizes, pool.wanted)))
    parts += [
        f'<path class="notice" d="M{axis.x(at) - 4:.1f} 4 h8 l-4 9 z"><title>notice: {escape(offering)}</title></path>'
        for at, offering in pool.timeline.notices
    ]
    bottom = sizes.top + sizes.height
    for name, colour in _rows(pool):
        bottom += ROW_HEIGHT
        parts.append(_room_row(axis, pool, name, colour, y=bottom - ROW_HEIGHT + 6))
    prices = _price_band(pool, bottom + 18)
    if prices is not None:
        parts.append(axis.grid(prices, [prices.low, prices.high], "${:.3f}"))
        parts += [_path("price", _stairs(axis, prices, series), colour) for (_, colour), series in _lines(pool).items()]
        if pool.cap is not None:
            parts.append(_path("cap", f"M{LEFT} {prices.y(pool.cap)} H{WIDTH - RIGHT}"))
        bottom = prices.top + prices.height
    parts += [_bell(axis, alarm, bottom) for alarm in report.alarms if alarm.state == "ALARM"]
    parts.append(axis.ticks(bottom))
    height = bottom + AXIS_HEIGHT
    named = f'role="img" aria-label="{escape(pool.name)}"'
    return f'<svg xmlns="{SVG}" viewBox="0 0 {WIDTH} {height}" {named}>{"".join(parts)}</svg>'


def _bell(axis: _Axis, alarm: AlarmMessage, bottom: float) -> str:
    x = axis.x(alarm.at)
    return f'<path class="alarm" d="M{x:.1f} 0 V{bottom}"><title>alarm: {escape(alarm.name)}</title></path>'


def _waiting(axis: _Axis, band: _Band, wait: WaitPeriod) -> str:
    x, end = axis.x(wait.start), axis.x(wait.end)
    words = f"<title>{escape(wait.reason)}: {escape(wait.message)}</title>"
    label = escape(wait.reason) if end - x > len(wait.reason) * 6 else ""
    return (
        f'<g class="waiting {escape(wait.reason)}"><rect x="{x:.1f}" y="{band.top}" width="{max(1.0, end - x):.1f}" '
        f'height="{band.height}">{words}</rect><text x="{x + 4:.1f}" y="{band.top + 12}">{label}</text></g>'
    )


def _room_row(axis: _Axis, pool: PoolChapter, name: str, colour: str, *, y: float) -> str:
    """A zone's row: coloured where it had capacity at a price up to the cap, pale where the price was higher."""
    offering, cap = pool.offerings[name], pool.cap
    moments = sorted({at for at, _ in [*offering.capacity, *offering.price]})
    spans = []
    for at, until in zip(moments, [*moments[1:], None], strict=True):
        if _value_at(offering.capacity, at, 0) > 0:
            affordable = cap is None or _value_at(offering.price, at, Decimal(0)) <= cap
            x, end = axis.x(at), WIDTH - RIGHT if until is None else axis.x(until)
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
    """The time axis of all charts of a page."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._seconds = max(1.0, (report.end - report.start).total_seconds() * report.speed)

    def seconds(self, at: datetime) -> float:
        return (at - self._report.start).total_seconds() * self._report.speed

    def x(self, at: datetime) -> float:
        share = min(1.0, max(0.0, self.seconds(at) / self._seconds))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def label(self, at: datetime) -> str:
        return self._report.clock(self.seconds(at))

    def ticks(self, bottom: float) -> str:
        apart = next((one for one in SECONDS_BETWEEN_TICKS if self._seconds / one <= MOST_TICKS), 86400)
        marks = []
        for number in range(int(self._seconds / apart) + 1):
            x = LEFT + number * apart / self._seconds * (WIDTH - LEFT - RIGHT)
            label = self._report.clock(number * apart)
            marks.append(
                f'<path class="tick" d="M{x:.1f} {bottom} v4"/>'
                f'<text class="time" x="{x:.1f}" y="{bottom + 16}">{escape(label)}</text>'
            )
        return "".join(marks)

    def grid(self, band: _Band, values: Sequence[float], form: str) -> str:
        return "".join(
            f'<path class="grid" d="M{LEFT} {band.y(value)} H{WIDTH - RIGHT}"/>'
            f'<text class="label" x="{LEFT - 6}" y="{band.y(value) + 4}">{form.format(value)}</text>'
            for value in values
        )


def _stairs(axis: _Axis, band: _Band, series: Series[Number]) -> str:
    """The path of a series in which each value holds until the next. It ends at the right edge."""
    if not series:
        return ""
    (first, value), *rest = series
    corners = " ".join(f"H{axis.x(at):.1f} V{band.y(later)}" for at, later in rest)
    return f"M{axis.x(first):.1f} {band.y(value)} {corners} H{WIDTH - RIGHT}"


def _path(kind: str, path: str, colour: str | None = None) -> str:
    stroke = f' stroke="{colour}"' if colour else ""
    return f'<path class="{kind}"{stroke} d="{path}"/>' if path else ""
