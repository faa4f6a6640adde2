"""Makes the report: one HTML page that loads nothing else, with inline SVG charts and styles."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from localcloud.demo import chart
from localcloud.demo.results import AlarmMessage, PoolChapter, Report, StepResult, WaitPeriod

STYLES = (chart.STYLE, Path(__file__).with_name("report.css"))


def document(title: str, body: str) -> str:
    """Return a report as one page with its styles. ``body`` is HTML."""
    styles = "".join(each.read_text(encoding="utf-8") for each in STYLES)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{styles}</style>
</head>
<body>
{body}
</body>
</html>
"""


def render(report: Report) -> str:
    """Return the page."""
    passed = all(step.passed for step in report.steps)
    verdict = "All steps passed." if passed else "Not all steps passed."
    chapters = "".join(_chapter(report, pool) for pool in report.pools)
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    body = f"""<header>
<h1>{escape(report.title)}</h1>
<p>{escape(report.summary)}</p>
<p class="{"passed" if passed else "failed"}">{verdict}</p>
</header>
<section><h2>Steps</h2>{_step_table(report.steps)}</section>
{chapters}
<section><h2>Messages to people</h2>{_messages(report)}</section>
<section><h2>Alarms received</h2>{_alarms(report)}</section>
<section><h2>Notes</h2><ul>{notes}</ul></section>"""
    return document(report.title, body)


def _step_table(steps: Iterable[StepResult]) -> str:
    rows = "".join(
        f'<tr class="{"passed" if step.passed else "failed"}"><td>{"✓" if step.passed else "✗"}</td>'
        f'<td>{escape(step.name)}</td><td data-head="Expected">{escape(step.expected)}</td>'
        f'<td data-head="Seen">{escape(step.seen)}</td><td class="number">{_time(step)}</td></tr>'
        for step in steps
    )
    head = "<tr><th></th><th>Step</th><th>Expected</th><th>Seen</th><th>Time</th></tr>"
    return f'<table class="steps"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _time(step: StepResult) -> str:
    if step.seconds is None:
        return ""
    return f"{step.seconds:.1f} s" + ("" if step.bound is None else f" <small>of {step.bound:g}</small>")


def _messages(report: Report) -> str:
    """What the function that explains alarms has sent, as people receive it."""
    found = "".join(
        f"<details><summary><small>{escape(report.label(one.at))}</small> {escape(one.subject)}</summary>"
        f"<pre>{escape(one.body)}</pre></details>"
        for one in report.messages
    )
    return found or "<p>None.</p>"


def _alarms(report: Report) -> str:
    """The alarms; that they ended is folded away."""
    began = [one for one in report.alarms if one.state == "ALARM"]
    ended = [one for one in report.alarms if one.state != "ALARM"]
    shown = _alarm_table(report, began) if began else "<p>None.</p>"
    folded = f"<details><summary>When they ended</summary>{_alarm_table(report, ended)}</details>" if ended else ""
    return shown + folded


def _alarm_table(report: Report, alarms: Iterable[AlarmMessage]) -> str:
    rows = "".join(
        f'<tr><td class="number">{escape(report.label(alarm.at))}</td>'
        f'<td><span class="state {escape(alarm.state.lower())}">{escape(alarm.state)}</span></td>'
        f"<td><strong>{escape(alarm.name)}</strong><br>{escape(alarm.description)}"
        f"<br><small>{escape(alarm.reason)}</small></td></tr>"
        for alarm in alarms
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
        f'{_legend(pool)}<div class="desktop">{chart.drawing(report, pool, chart.WIDE)}</div>'
        f'<div class="phone">{chart.drawing(report, pool, chart.NARROW)}</div>{said}</section>'
    )


def _distinct(waiting: Iterable[WaitPeriod]) -> list[WaitPeriod]:
    """Keep the last of those waits that differ only in numbers."""
    kinds = {(wait.reason, "".join(c for c in wait.message if not c.isdigit())): wait for wait in waiting}
    return list(kinds.values())


def _legend(pool: PoolChapter) -> str:
    found = (f"<svg>{chart.swatch(key)}</svg>{escape(key.text)}" for key in chart.keys(pool))
    return f'<p class="legend">{"".join(f"<span>{key}</span>" for key in found)}</p>'
