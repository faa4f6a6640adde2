"""The state of a run: one JSON file that is replaced as a whole, so that a killed run can be resumed or removed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from acceptance.claims import Finding, Verdict
from acceptance.costs import Life

FORMAT = 1


class StateError(Exception):
    """The state of an earlier run does not allow this. The message says what to do."""


@dataclass
class Played:
    """A step so far: ``outcome`` is started, done, failed or refused; ``seconds`` is how long it took."""

    outcome: str
    text: str = ""
    seconds: float | None = None


@dataclass
class State:
    """What a run knows. ``save`` after each change that the next run must know; it is written before the effect."""

    path: Path
    stack: str
    place: str
    account: str
    region: str
    started: datetime
    deadline: datetime
    budget: Decimal
    most_instances: int
    types: list[str]
    price: Decimal
    stack_since: datetime | None = None
    extra: Decimal = Decimal()
    steps: dict[str, Played] = field(default_factory=dict)
    findings: dict[str, Finding] = field(default_factory=dict)
    lives: dict[str, Life] = field(default_factory=dict)
    resources: list[list[str]] = field(default_factory=list)
    """The stack's resources that its deletion may leave: type and physical id."""

    def save(self) -> None:
        """Replace the file: after a crash it holds the old state or the new one, never a part."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, **_plain(self)}, indent=1, default=str)
        new = self.path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)

    def find(self, finding: Finding) -> None:
        """Record a verdict."""
        self.findings[finding.claim] = finding

    def forget(self) -> None:
        """Remove the file: nothing is left to resume or to remove."""
        self.path.unlink(missing_ok=True)


def load(path: Path) -> State | None:
    """Read the state of an earlier run; None if there is none. Raises StateError if it is unreadable."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StateError(f"{path} is unreadable ({error}); remove it and run --clean") from error
    if read.pop("format", None) != FORMAT:
        raise StateError(f"{path} was written by another version; use that version's --clean")
    return State(path=path, **_read(read))


def _plain(state: State) -> Mapping[str, Any]:
    return {name: value for name, value in asdict(state).items() if name != "path"}


def _read(read: dict[str, Any]) -> dict[str, Any]:
    def moment(text: str | None) -> datetime | None:
        return datetime.fromisoformat(text) if text else None

    return {
        **read,
        **{name: moment(read[name]) for name in ("started", "deadline", "stack_since")},
        **{name: Decimal(read[name]) for name in ("budget", "price", "extra")},
        "steps": {name: Played(**one) for name, one in read["steps"].items()},
        "findings": {
            name: Finding(one["claim"], Verdict(one["verdict"]), one["text"]) for name, one in read["findings"].items()
        },
        "lives": {
            name: Life(datetime.fromisoformat(one["launched"]), moment(one["ended"]))
            for name, one in read["lives"].items()
        },
    }
