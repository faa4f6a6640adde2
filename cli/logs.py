"""The functions' logs: JSON lines that Powertools writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

Line = Mapping[str, Any]


def lines(logs: Any, group: str, since: datetime, pattern: str) -> Iterator[tuple[datetime, Line]]:
    """Yield a log group's lines since a moment that match a filter pattern. The local cloud does not filter."""
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int(since.timestamp() * 1000), filterPattern=pattern
    )
    for page in pages:
        for event in page["events"]:
            if (line := parsed(event["message"])) is not None:
                yield datetime.fromtimestamp(event["timestamp"] / 1000, UTC), line


def parsed(text: str) -> Line | None:
    """Parse a line into its fields. Returns None for a line that Lambda itself writes."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, Mapping) else None


def raised(line: Line) -> str:
    """Return the last line of the traceback, or an empty text."""
    trace = str(line.get("exception", "")).strip().splitlines()
    return trace[-1] if trace else ""
