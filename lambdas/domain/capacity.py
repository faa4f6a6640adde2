"""How many instances a pool has, counted so that a lagging listing can neither launch twice nor overshoot.

Counted are the instances EC2 shows, those we launched minutes ago and EC2 does not show yet, and of an open launch
attempt all that EC2 does not show yet. Not counted are those we terminated minutes ago, whatever state EC2 still
shows. Instances under notice no longer serve the wanted size, but they run until EC2 takes them, so they count against
max_instances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from lambdas.domain.observed import Instance, State
from lambdas.domain.status import NOTICE_COUNTS, RECENT, Attempt, Status

ALIVE = (State.PENDING, State.RUNNING)
STILL = (State.STOPPING, State.STOPPED)


@dataclass(frozen=True)
class Stock:
    """A pool's instances by what they are worth to it."""

    wanted: int
    limit: int
    running: tuple[Instance, ...]
    starting: tuple[Instance, ...]
    unseen: tuple[str, ...]
    noticed: tuple[str, ...]
    stopped: tuple[Instance, ...]
    leaving: tuple[str, ...]
    in_flight: int

    @property
    def serving(self) -> int:
        """Instances that serve the wanted size, now or as soon as they have started."""
        return len(self.running) + len(self.starting) + len(self.unseen)

    @property
    def alive(self) -> int:
        """Everything that may count against max_instances, an attempt with an unknown answer included."""
        return self.serving + len(self.noticed) + self.in_flight

    @property
    def missing(self) -> int:
        """Instances to launch, if nothing hindered it."""
        return max(0, self.wanted - self.serving - self.in_flight)

    @property
    def headroom(self) -> int:
        """Instances that max_instances still allows."""
        return max(0, self.limit - self.alive)

    @property
    def excess(self) -> int:
        """Instances beyond the wanted size."""
        return max(0, self.serving - self.wanted)

    @property
    def empty(self) -> bool:
        """Nothing is left that could run."""
        return not (self.serving or self.noticed or self.stopped or self.leaving or self.in_flight)


def take_stock(*, wanted: int, limit: int, instances: Iterable[Instance], status: Status, now: datetime) -> Stock:
    """Count a pool's instances at the moment ``now`` (UTC)."""
    listed = {instance.id: instance for instance in instances}
    memory = status.memory
    gone = {id_ for id_, at in memory.terminated.items() if now - at < RECENT}
    present = [instance for id_, instance in sorted(listed.items()) if id_ not in gone]
    noticed = {id_ for id_, notice in status.notices.items() if now - notice.at < NOTICE_COUNTS}
    unseen = {id_ for id_, at in memory.launched.items() if now - at < RECENT} - listed.keys() - gone

    def in_state(*states: State) -> tuple[Instance, ...]:
        return tuple(instance for instance in present if instance.state in states and instance.id not in noticed)

    return Stock(
        wanted=wanted,
        limit=limit,
        running=in_state(State.RUNNING),
        starting=in_state(State.PENDING),
        unseen=tuple(sorted(unseen - noticed)),
        noticed=tuple(sorted(noticed & (unseen | {one.id for one in present if one.state in ALIVE}))),
        stopped=in_state(*STILL),
        leaving=tuple(sorted(id_ for id_ in gone & listed.keys() if listed[id_].state in ALIVE + STILL)),
        in_flight=_in_flight(memory.attempt, listed.values()),
    )


def _in_flight(attempt: Attempt | None, listed: Iterable[Instance]) -> int:
    """How many instances an open attempt may still have launched: EC2 shows each with the attempt's tag, some day."""
    if attempt is None:
        return 0
    return max(0, attempt.count - sum(1 for instance in listed if instance.attempt_id == attempt.id))
