"""What a run of the demo saw, as data: steps, waits, alarm messages and pools. ``report`` makes the page of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from localcloud.demo.timeline import OfferingTimeline, PoolTimeline, Series


@dataclass(frozen=True)
class StepResult:
    """One step: what was expected, what was seen, and its time and time limit (``bound``) in seconds."""

    name: str
    expected: str
    seen: str
    passed: bool
    seconds: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class WaitPeriod:
    """A period in which the pool's status said that it waited, and why."""

    start: datetime
    end: datetime
    reason: str
    message: str


@dataclass(frozen=True)
class AlarmMessage:
    """A message from the alarm topic."""

    at: datetime
    name: str
    state: str
    reason: str
    description: str


@dataclass(frozen=True)
class Explained:
    """A message from the topic for people: an alarm, explained."""

    at: datetime
    subject: str
    body: str


@dataclass
class PoolChapter:
    """A pool's part of the report."""

    name: str
    about: str
    wanted: Series[int]
    timeline: PoolTimeline
    offerings: dict[str, OfferingTimeline]
    cap: Decimal | None = None
    max_instances: int | None = None
    waiting: list[WaitPeriod] = field(default_factory=list)
    show_room: bool = False


@dataclass
class Report:
    """Everything on the page."""

    title: str
    summary: str
    start: datetime
    end: datetime
    steps: list[StepResult]
    pools: list[PoolChapter]
    alarms: list[AlarmMessage]
    notes: list[str]
    messages: list[Explained] = field(default_factory=list)
    clock: Callable[[float], str] = lambda seconds: f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    """Turns a time, in seconds since ``start``, into a label of the time axis."""
    speed: float = 1
    """Seconds on the axis per second of the clock."""

    def seconds(self, at: datetime) -> float:
        """A moment as seconds on the axis."""
        return (at - self.start).total_seconds() * self.speed

    def label(self, at: datetime) -> str:
        """A moment as the axis labels it."""
        return self.clock(self.seconds(at))
