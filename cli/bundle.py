"""``doctor --bundle``: one file to send to someone whom you ask for help, without secrets."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from cli.aws_errors import expected_errors
from cli.deployment import FUNCTIONS, Deployment
from cli.exits import ExpectedError, RefusedError
from cli.logs import lines
from cli.output import clock
from lambdas import __version__

SECRET = ("user_data", "drain_command")
"""Attributes of an item that may hold a password or a token."""

LAST = timedelta(hours=1)
MOST_LINES = 1000
"""The newest lines of each function's log."""

SHORTEST_SECRET = 8
"""A shorter text than this is not looked for elsewhere: it may be a common word."""

QUOTED = 40
"""An error quotes only the beginning of a value."""

HIDDEN = {
    re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"): "<e-mail>",
    re.compile(r"\b(A3T[A-Z0-9]|AKIA|ASIA)[A-Z0-9]{12,}\b"): "<access key>",
    re.compile(r"(?<!\d)\d{12}(?!\d)"): "<account>",
}


@dataclass(frozen=True)
class Bundle:
    """A written bundle: the file, and what is in it."""

    file: str
    parts: tuple[str, ...]


def write(deployment: Deployment, checks: Iterable[object], file: Path) -> Bundle:
    """Write the bundle. A part that AWS refuses says so in its place. Raises RefusedError for a file that exists."""
    items = _read(lambda: [stored.item for stored in deployment.pools.all().values()])
    hide = _Hider(items if isinstance(items, list) else [])
    parts: dict[str, Callable[[], Any]] = {
        "checks.json": lambda: checks,
        "stack.json": lambda: deployment.description,
        "functions.json": lambda: {name: deployment.function(name) for name in FUNCTIONS},
        "items.json": lambda: items,
        "statuses.json": lambda: {name: _status(one) for name, one in deployment.statuses.scan().items()},
        "alarms.json": lambda: _alarms(deployment),
        **{f"logs/{name}.json": partial(_log, deployment, name) for name in FUNCTIONS},
    }
    try:
        with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README.txt", _about(deployment))
            for name, read in parts.items():
                archive.writestr(name, json.dumps(hide(_read(read)), indent=1, ensure_ascii=False))
    except FileExistsError:
        raise RefusedError(f"{file} exists. Name another file, or remove it.") from None
    except OSError as error:
        raise RefusedError(f"{file} cannot be written: {error.strerror}.") from None
    return Bundle(str(file), ("README.txt", *parts))


def _read(read: Callable[[], Any]) -> Any:
    try:
        with expected_errors():
            return to_jsonable_python(read(), fallback=str)
    except ExpectedError as error:
        return {"unknown": str(error)}


def _about(deployment: Deployment) -> str:
    return (
        f"Spot Pools {__version__}, stack {deployment.stack}, {clock(deployment.now())}.\n"
        f"Values of {' and '.join(SECRET)}, e-mail addresses, access keys and account numbers are left out.\n"
        "Read the files before you send them: names of pools, tags and texts of AWS are as they are.\n"
    )


def _status(found: object) -> Any:
    return {"unreadable": str(found)} if isinstance(found, Exception) else found


def _alarms(deployment: Deployment) -> list[dict[str, Any]]:
    pages = deployment.client("cloudwatch").get_paginator("describe_alarms")
    asked = ("AlarmName", "StateValue", "StateReason", "StateUpdatedTimestamp")
    found = [one for page in pages.paginate(AlarmNamePrefix=f"{deployment.stack}-") for one in page["MetricAlarms"]]
    return [{name: one.get(name) for name in asked} for one in found]


def _log(deployment: Deployment, function: str) -> list[Mapping[str, Any]]:
    since = deployment.now() - LAST
    found = list(lines(deployment.client("logs"), deployment.log_group(function), since, ""))
    return [line for _, line in islice(reversed(found), MOST_LINES)][::-1]


class _Hider:
    """Leaves out what may be secret: values of some attributes, wherever they are quoted, and some patterns."""

    def __init__(self, items: Iterable[Mapping[str, Any]]) -> None:
        values = {str(item[name]) for item in items for name in SECRET if name in item}
        found = {part for value in values for part in (value, value[:QUOTED], json.dumps(value)[1:-1])}
        self._secrets = sorted((one for one in found if len(one) >= SHORTEST_SECRET), key=len, reverse=True)

    def __call__(self, value: Any, name: str = "") -> Any:
        if name in SECRET and value is not None:
            return f"<{len(str(value))} characters>"
        if isinstance(value, Mapping):
            # A fault of an item names the field, and quotes its value.
            field = str(value.get("field", ""))
            return {
                self._text(str(key)): self(one, field if key == "value" else str(key)) for key, one in value.items()
            }
        if isinstance(value, list):
            return [self(one) for one in value]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "<left out>")
        for pattern, instead in HIDDEN.items():
            text = pattern.sub(instead, text)
        return text
