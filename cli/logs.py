"""The functions' logs: lines of JSON, as Powertools writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

Line = Mapping[str, Any]


def lines(logs: Any, group: str, since: datetime, pattern: str) -> Iterator[tuple[datetime, Line]]:
    """A log group's lines from a moment on that fit a filter pattern; the local cloud lets every line through."""
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int(since.timestamp() * 1000), filterPattern=pattern
    )
    for page in pages:
        for event in page["events"]:
            if (line := parsed(event["message"])) is not None:
                yield datetime.fromtimestamp(event["timestamp"] / 1000, UTC), line


def parsed(text: str) -> Line | None:
    """A line as its fields; None for what Lambda itself writes between."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, Mapping) else None


def raised(line: Line) -> str:
    """What was raised, in one line; empty if nothing was."""
    trace = str(line.get("exception", "")).strip().splitlines()
    return trace[-1] if trace else ""
