"""Plays a recorded market with one pool, faster than real time, and judges the result.

Recorded hours pass in minutes. The market plays the trace at ``speed``, the stack's waiting times are divided by it,
and the tick is called more often by the same factor. The deployed code is unchanged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from localcloud.cloud import LocalCloud
from localcloud.demo.live import Screen
from localcloud.demo.pools import put_pool
from localcloud.demo.results import PoolChapter, StepResult
from localcloud.demo.timeline import OfferingTimeline, above_cap, highest, moment, share_of_time, since
from localcloud.demo.watch import Watcher
from localcloud.market.model.trace import Trace, TraceError, best_share, read_trace
from localcloud.processes import LocalCloudError

POOL = "recorded-market"
TARGET, MAX_INSTANCES = 3, 5
TICK_SECONDS = 60
"""The schedule's interval, in recorded time."""
FEWEST_TICK_SECONDS = 0.5
"""The shortest interval, in real time. More ticks would overload a small machine."""
ENDED_SHOWN_SECONDS = 3600
PLAYED_MINUTES = 4
"""How long a replay takes if the number of hours is not given."""


@dataclass(frozen=True)
class Recording:
    """A part of a recorded market, and the speed to play it at."""

    path: Path
    trace: Trace
    speed: float
    cap: Decimal
    zones: str

    @property
    def hours(self) -> float:
        """Its length in recorded hours."""
        return (self.trace.end - self.trace.start) / timedelta(hours=1)

    @property
    def types(self) -> list[str]:
        """The instance types in the recording."""
        return sorted({instance_type for instance_type, _ in self.trace.series})


def choose_recording(
    path: Path, *, speed: float, cap: Decimal, zones: str, start_hours: float | None, hours: float | None
) -> Recording:
    """Read the trace and cut out the part to play.

    ``start_hours`` counts from the beginning. Without it, the part is the one in which offerings within the cap open
    and close most often. Raises LocalCloudError if there is no such trace or part.
    """
    try:
        whole = read_trace(path, zones=zones)
        length = timedelta(hours=hours) if hours else timedelta(minutes=PLAYED_MINUTES * speed)
        length = min(length, whole.end - whole.start)
        offset = _busiest(whole, length, cap) if start_hours is None else timedelta(hours=start_hours)
        part = whole.window(whole.start + offset, length / timedelta(hours=1))
    except (OSError, TraceError) as error:
        raise LocalCloudError(f"{path}: {error}") from error
    return Recording(path.resolve(), part, speed, cap, zones)


def _busiest(trace: Trace, length: timedelta, cap: Decimal) -> timedelta:
    """The offset, in whole hours, of the part of this length in which offerings open and close most often."""
    changes: Counter[int] = Counter()
    for points in trace.series.values():
        was_open = False
        for point in points:
            is_open = point.available and point.price <= cap
            changes[int((point.at - trace.start) / timedelta(hours=1))] += is_open != was_open
            was_open = is_open
    span = max(1, round(length / timedelta(hours=1)))
    last = int((trace.end - trace.start - length) / timedelta(hours=1))
    busiest = max(range(last + 1), key=lambda hour: sum(changes[hour + more] for more in range(span)))
    return timedelta(hours=busiest)


class ReplayDemo:
    """Plays a recording to its end. ``steps`` has the results, from the market's own record."""

    def __init__(self, recording: Recording, cloud: LocalCloud, watcher: Watcher, screen: Screen) -> None:
        self.steps: list[StepResult] = []
        self.began_at = self.ended_at = datetime.now(UTC)
        self._recording, self._cloud, self._watcher, self._screen = recording, cloud, watcher, screen

    def play(self) -> None:
        """Create the pool, play the trace and evaluate what the market recorded."""
        recording = self._recording
        interval = max(TICK_SECONDS / recording.speed, FEWEST_TICK_SECONDS)
        order = {
            "trace": str(recording.path),
            "speed": recording.speed,
            "start": recording.trace.start.isoformat(),
            "hours": recording.hours,
            "zones": recording.zones,
        }
        item = {
            "pool_name": POOL,
            "instance_types": recording.types,
            "spot_max_price": str(recording.cap),
            "max_instances": MAX_INSTANCES,
        }
        put_pool(self._cloud, item)  # empty at first: a function's slow first call is not part of the recording
        self._watcher.until(lambda: self._watcher.status(POOL), f"PoolStatus of {POOL}", seconds=60)
        self._cloud.tick_every(interval)
        self._screen.say(
            f"The tick runs every {interval:g} s instead of every minute: {recording.speed:g} times faster."
        )
        # The deployed code remembers launches for minutes of real time. EC2 shows ended instances for longer.
        shown = {"terminated_visible_seconds": ENDED_SHOWN_SECONDS * recording.speed}
        self._cloud.market.ask("PUT", "/market/settings", shown)
        started = self._cloud.market.ask("POST", "/market/replay", order)
        self.began_at, self.ended_at = moment(started["began_at"]), moment(started["ends_at"])
        put_pool(self._cloud, {**item, "target_size": TARGET})
        self._screen.doing(f"playing {recording.hours:.1f} h from {recording.trace.start:%Y-%m-%d %H:%M} UTC")
        length = (self.ended_at - self.began_at).total_seconds()
        self._watcher.until(self._has_ended, "the end of the recording", seconds=length + 30)
        self._judge()

    def chapter(self) -> PoolChapter:
        """The pool's part of the report."""
        recording = self._recording
        about = (
            f"{TARGET} of {', '.join(recording.types)} wanted, at most {MAX_INSTANCES} alive. Each row is a zone. "
            "Strong colour: capacity within the cap. Pale: capacity at a higher price. White: no capacity."
        )
        chapter = self._watcher.chapter(POOL, about, types=recording.types, cap=recording.cap)
        played = {f"{instance_type} {zone}" for instance_type, zone in recording.trace.series}
        chapter.offerings = {
            name: OfferingTimeline(since(offering.price, self.began_at), since(offering.capacity, self.began_at))
            for name, offering in chapter.offerings.items()
            if name in played
        }
        chapter.max_instances, chapter.show_room = MAX_INSTANCES, True
        return chapter

    def clock(self, seconds: float) -> str:
        """The time of day of a moment of the recording, given in seconds from its start."""
        return f"{self._recording.trace.start + timedelta(seconds=seconds):%H:%M}"

    def _has_ended(self) -> bool:
        replay = self._watcher.view.market.get("replay")
        if not replay:
            return False
        status = self._watcher.status(POOL)
        waiting = status.get("waiting", {})
        reason = f", waiting: {waiting['reason']}" if waiting else ""
        when = f"{moment(replay['trace_time']):%H:%M} in the recording:"
        self._screen.show(when, f"{status.get('running', 0)} of {TARGET} running{reason}")
        return bool(replay["ended"])

    def _judge(self) -> None:
        recording, timeline = self._recording, self.chapter().timeline
        most = highest(timeline.alive)
        self._note(
            "Never above max_instances",
            f"never more than {MAX_INSTANCES} alive",
            f"at most {most} alive, {len(timeline.launches)} launched, {len(timeline.notices)} interrupted",
            passed=most <= MAX_INSTANCES,
        )
        expensive = above_cap(timeline.launches, recording.cap)
        prices = sorted(Decimal(one["spot_price"]) for one in timeline.launches)
        self._note(
            "Never above the cap",
            f"no instance started above {recording.cap} USD/h",
            f"{len(expensive)} started above; prices paid at start {prices[0]} to {prices[-1]}"
            if prices
            else "none started",
            passed=not expensive,
        )
        share = share_of_time(timeline.running, TARGET, self.began_at, self.ended_at)
        best = float(best_share(recording.trace, recording.cap, wanted=TARGET))
        self._note(
            "Time at size",
            "above 0 %, if any policy could reach the size",
            f"{TARGET} ran without notice for {share:.1%} of the time; the best possible policy with this cap reaches "
            f"{best:.1%}",
            passed=share > 0 or best == 0,
        )
        ticks = self._cloud.ticks.measured_seconds if self._cloud.ticks else None
        if ticks is not None:
            said = (
                f"a tick every {ticks:.2f} s: {ticks * recording.speed:.0f} s of recorded time, {TICK_SECONDS} on AWS"
            )
            self._note("Interval of ticks", "for information", said)

    def _note(self, name: str, expected: str, seen: str, *, passed: bool = True) -> None:
        step = StepResult(name, expected, seen, passed)
        self.steps.append(step)
        self._screen.done(step)
