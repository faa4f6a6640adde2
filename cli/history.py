"""``history``: the decisions of the control plane about one pool, read from the functions' logs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from cli.deployment import Deployment
from cli.exits import RefusedError
from cli.logs import Line, lines, raised
from cli.output import clock, plain, step_text

RECONCILERS = ("PoolDueFunction", "SpotNoticeFunction")
"""Outputs that name the functions which decide."""

DECIDED, FORGOTTEN, FAILED = "reconciled", "forgotten", "reconcile failed"
SPAN = re.compile(r"(\d{1,6})(s|m|min|h|d)")
UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days"}
SHOWN_IDS = 3


@dataclass(frozen=True)
class Decision:
    """One decision, or equal decisions in a row. ``until`` is the time of the last one."""

    at: datetime
    until: datetime
    times: int
    wanted: int | None
    running: int | None
    waiting: int
    reason: str | None
    message: str | None
    steps: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def likeness(self) -> tuple[object, ...]:
        """The values that equal decisions share: all except the time and the message, whose numbers change."""
        return (self.wanted, self.running, self.waiting, self.reason, self.steps, self.failures)


@dataclass(frozen=True)
class History:
    """A pool's decisions, oldest first."""

    pool: str
    since: datetime
    decisions: tuple[Decision, ...]


def span(text: str) -> timedelta:
    """Parse a time span such as 90m, 6h or 2d. Raises RefusedError."""
    found = SPAN.fullmatch(text.strip())
    if not found:
        raise RefusedError(f"--since {text[:40]}: write a number and a unit, such as 90m, 6h or 2d")
    return timedelta(**{UNITS[found.group(2)]: int(found.group(1))})


def look(deployment: Deployment, pool_name: str, *, since: datetime, most: int) -> History:
    """Read the newest ``most`` decisions since a moment. Raises NoSuchPoolError."""
    logs = deployment.client("logs")
    with ThreadPoolExecutor(len(RECONCILERS)) as threads:
        groups = [deployment.log_group(name) for name in RECONCILERS]
        found = [
            pair for some in threads.map(lambda group: _lines(logs, group, pool_name, since), groups) for pair in some
        ]
    in_order = sorted(found, key=itemgetter(0))
    decisions = merged(made for at, line in in_order if (made := decision_of(line, pool_name, at)))
    if not decisions and deployment.pools.find(pool_name) is None and pool_name not in deployment.statuses.scan():
        raise deployment.pools.no_such(pool_name)
    return History(pool_name, since, tuple(decisions[-most:]))


def _lines(logs: Any, group: str, pool_name: str, since: datetime) -> list[tuple[datetime, Line]]:
    """Return a log group's lines about a pool: its decisions, and failed reconciles whose message names it."""
    named = json.dumps(pool_name)
    pattern = f'{{ ($.pool = {named}) || ($.level = "ERROR" && $.body = "*{pool_name}*") }}'
    return list(lines(logs, group, since, pattern))


def decision_of(line: Line, pool_name: str, at: datetime) -> Decision | None:
    """Read a log line as a decision about a pool, or return None."""
    if line.get("message") == FAILED and json.dumps({"pool_name": pool_name})[1:-1] in str(line.get("body", "")):
        return Decision(at, at, 1, None, None, 0, None, None, (), (raised(line) or FAILED,))
    if line.get("pool") != pool_name or line.get("message") not in (DECIDED, FORGOTTEN):
        return None
    if line["message"] == FORGOTTEN:
        return Decision(at, at, 1, 0, 0, 0, None, None, ("forget the pool: item and instances no longer exist",), ())
    waiting = line.get("waiting") or {}
    return Decision(
        at=at,
        until=at,
        times=1,
        wanted=line.get("wanted"),
        running=line.get("running"),
        waiting=int(waiting.get("count", 0)),
        reason=waiting.get("reason"),
        message=waiting.get("message"),
        steps=tuple(_in_words(step) for step in line.get("steps", [])),
        failures=tuple(map(str, line.get("failures", []))),
    )


def merged(decisions: Iterable[Decision]) -> list[Decision]:
    """Merge equal decisions in a row: a waiting pool logs the same decision every minute."""
    found: list[Decision] = []
    for decision in decisions:
        if found and found[-1].likeness == decision.likeness:
            found[-1] = replace(found[-1], until=decision.at, times=found[-1].times + 1, message=decision.message)
        else:
            found.append(decision)
    return found


def _in_words(step: Mapping[str, Any]) -> str:
    why = str(step.get("why", ""))
    match step:
        case {"launch": count, "market": market}:
            return step_text(f"launch {count} ({market}) from", step.get("offerings", []), why, most=SHOWN_IDS)
        case {"resend": attempt}:
            return step_text("repeat the launch", [attempt], why)
        case {"terminate": ids}:
            return step_text("terminate", ids, why, most=SHOWN_IDS)
        case {"drain": ids}:
            return step_text("announce the end of", ids, why, most=SHOWN_IDS)
    return json.dumps(step)


def render(history: History) -> RenderableType:
    """Render the history as a table."""
    if not history.decisions:
        return Text(f"{plain(nothing(history))} Look further back with --since 2d.")
    table = Table(
        Column("time (UTC)", no_wrap=True),
        Column("running", justify="right", no_wrap=True),
        Column("decision and reason", overflow="fold"),
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for decision in history.decisions:
        sizes = "" if decision.wanted is None else f"{decision.running}/{decision.wanted}"
        table.add_row(
            when(decision), sizes, Group(*(Text(plain(text), style=style) for text, style in details(decision)))
        )
    return table


def nothing(history: History) -> str:
    """Say that there was no decision."""
    return f"No decision about {history.pool} since {clock(history.since)}: nothing changed."


def when(decision: Decision) -> str:
    """Write the time of a decision in UTC, or the first and last times of equal ones on two lines."""
    first = f"{decision.at:%m-%d %H:%M:%S}"
    return first if decision.times == 1 else f"{first}\nto {decision.until:%H:%M:%S}, {decision.times} times"


def details(decision: Decision) -> Iterator[tuple[str, str]]:
    """Yield what was decided and why, each with its style: a colour of the terminal, or dim."""
    for step in decision.steps:
        yield step, ""
    # EC2 answers for each offering, often with the same words.
    for failure, times in Counter(decision.failures).items():
        yield failure + (f" ({times} times)" if times > 1 else ""), "red"
    if decision.reason:
        yield f"{decision.waiting} wait, {decision.reason}: {decision.message}", "yellow"
    if not (decision.steps or decision.failures or decision.reason):
        yield "nothing to do", "dim"
