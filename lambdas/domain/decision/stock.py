"""Counts a pool's instances, so that a late listing can neither cause a second launch nor exceed max_instances.

Counted are the instances that EC2 shows, those launched minutes ago that EC2 does not show yet, and all of an open
launch attempt that EC2 does not show yet. Not counted are those terminated minutes ago, whatever state EC2 still shows.
Instances under notice, and those whose termination has an unknown answer, no longer serve the wanted size. They may
run, so they count against max_instances. All sizes are in units: an instance counts for the weight of its type, which
is 1 unless the pool sets another one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.instances import Instance, State, remembered
from lambdas.domain.model.status import NOTICE_COUNTS, RECENT, RISK_COUNTS, RISKS, Attempt, Memory, NoticeKind, Status

MINUTE = timedelta(minutes=1)

ALIVE = (State.PENDING, State.RUNNING)
STILL = (State.STOPPING, State.STOPPED)
ENDING = (State.SHUTTING_DOWN, State.TERMINATED)


def units(instances: Iterable[Instance]) -> int:
    """The units of all instances together."""
    return sum(instance.units for instance in instances)


def sums_of(weights: Iterable[int], limit: int) -> frozenset[int]:
    """All sums of whole instances of these weights, up to a limit; 0 is one of them."""
    found = [True] + [False] * limit
    several = set(weights)
    for total in range(1, limit + 1):
        found[total] = any(weight <= total and found[total - weight] for weight in several)
    return frozenset(total for total, possible in enumerate(found) if possible)


def most_given(asked: int, weights: Iterable[int]) -> int:
    """The most that EC2 launches for so many units: it stops at the first instance that gives it enough."""
    several = frozenset(weights)
    return max(sums_of(several, asked - 1)) + max(several)


@dataclass(frozen=True)
class Stock:
    """A pool's instances, grouped by what they count for.

    ``running`` and ``starting`` (pending) are shown by EC2, ``unseen`` not yet; ``unready`` are ids of those that have
    not been seen ready, ``at_risk`` of those that EC2 may interrupt or service; ``failed_starts`` ended before they
    were ready, ``lived`` ended after they had been ready; ``doubtful`` may have been terminated: the answer was lost.
    ``ended`` are ids of instances shown to be ending, which EC2 may show as running again: its listings can go back by
    some seconds; ``idle`` of protected ones that should be ready for long: they stay, and nothing waits for them.
    """

    wanted: int
    limit: int
    running: tuple[Instance, ...]
    starting: tuple[Instance, ...]
    unseen: tuple[Instance, ...]
    noticed: tuple[Instance, ...]
    stopped: tuple[Instance, ...]
    leaving: tuple[str, ...]
    in_flight: int
    unready: frozenset[str] = frozenset()
    at_risk: frozenset[str] = frozenset()
    failed_starts: tuple[Instance, ...] = ()
    lived: tuple[Instance, ...] = ()
    doubtful: tuple[Instance, ...] = ()
    ended: tuple[str, ...] = ()
    idle: frozenset[str] = frozenset()

    @property
    def members(self) -> tuple[Instance, ...]:
        """Instances that serve the wanted size, now or as soon as they have started."""
        return (*self.running, *self.starting, *self.unseen)

    @property
    def serving(self) -> int:
        """Units that serve the wanted size, now or as soon as they have started."""
        return units(self.members)

    @property
    def alive(self) -> int:
        """Everything that may count against max_instances, an attempt with an unknown answer included."""
        return self.serving + self.leaving_soon + self.in_flight

    @property
    def missing(self) -> int:
        """Units to launch, if nothing blocks it. Instances that may still run are not replaced yet."""
        return max(0, self.wanted - self.serving - self.in_flight - units(self.doubtful))

    @property
    def headroom(self) -> int:
        """Units that max_instances still allows."""
        return max(0, self.limit - self.alive)

    @property
    def leaving_soon(self) -> int:
        """Units of instances that are about to end, and still count against max_instances."""
        return units(self.noticed) + units(self.doubtful)

    @property
    def after_endings(self) -> Stock:
        """The same stock when those have ended."""
        return replace(self, noticed=(), doubtful=())

    def lacking_without(self, going: int) -> int:
        """Units to launch so that ``going`` units can end."""
        return max(0, self.wanted - (self.serving + self.in_flight - going))

    @property
    def idle_units(self) -> int:
        """Units that never got ready and must not be terminated."""
        return units(instance for instance in self.members if instance.id in self.idle)

    @property
    def ready(self) -> tuple[Instance, ...]:
        """Instances that run and are ready."""
        return tuple(instance for instance in self.running if self.is_ready(instance))

    @property
    def on_demand(self) -> int:
        """Units bought on demand."""
        return units(instance for instance in self.members if instance.market is Market.ON_DEMAND)

    @property
    def empty(self) -> bool:
        """Whether nothing is left that could run."""
        gone = not (self.members or self.noticed or self.doubtful or self.stopped)
        return gone and not (self.leaving or self.in_flight)

    def without(self, ids: Collection[str]) -> Stock:
        """The same stock after these instances have gone."""

        def kept(instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
            return tuple(instance for instance in instances if instance.id not in ids)

        return replace(
            self,
            running=kept(self.running),
            starting=kept(self.starting),
            unseen=kept(self.unseen),
            stopped=kept(self.stopped),
            doubtful=kept(self.doubtful),
        )

    def is_ready(self, instance: Instance) -> bool:
        """Whether the instance runs and is ready, as far as is known."""
        return instance.state is State.RUNNING and instance.id not in self.unready


def take_stock(
    pool: Pool | None,
    instances: Iterable[Instance],
    status: Status,
    now: datetime,
    *,
    checked: frozenset[str] = frozenset(),
    minute: timedelta = MINUTE,
) -> Stock:
    """Count a pool's instances at the moment ``now`` (UTC). ``checked`` are ids that passed EC2's status checks.

    ``minute`` is how long a minute of the pool item lasts.

    Without a pool (deleted, or never valid) nothing is wanted.
    """
    memory = status.memory
    shielded = {id_ for id_, until in memory.shielded.items() if until > now}
    weighed = (_weighed(instance, pool) for instance in instances)
    listed = {instance.id: replace(instance, shielded=instance.id in shielded) for instance in weighed}
    gone = {id_ for ended in memory.terminated if now - ended.at < RECENT for id_ in ended.ids}
    ending = set(memory.ending.ids) if memory.ending and now - memory.ending.at < RECENT else set()
    present = [instance for id_, instance in sorted(listed.items()) if id_ not in gone]
    noticed = {
        id_
        for id_, notice in status.notices.items()
        if notice.kind is NoticeKind.INTERRUPTION and now - notice.at < NOTICE_COUNTS
    }
    launched = [_weighed(instance, pool) for instance in recently_launched(memory, now)]
    unseen = [instance for instance in launched if instance.id not in listed and instance.id not in gone]
    # Instances of an attempt whose answer is unknown have not been seen ready either.
    opened = memory.attempt.id if memory.attempt else None
    startup = {*memory.startup, *(instance.id for instance in present if opened and instance.attempt_id == opened)}
    apart = noticed | ending

    def in_state(*states: State) -> tuple[Instance, ...]:
        return tuple(instance for instance in present if instance.state in states and instance.id not in apart)

    never_ready = startup - noticed
    ended = [instance for instance in present if instance.state in ENDING and instance.id in never_ready]
    known = (*present, *unseen)
    unready = frozenset(
        instance.id
        for instance in known
        if instance.id in startup and instance.state not in ENDING and not _proves_ready(instance, pool, checked)
    )

    return Stock(
        wanted=pool.wanted(now) if pool else 0,
        limit=pool.max_instances if pool else 0,
        running=in_state(State.RUNNING),
        starting=in_state(State.PENDING),
        unseen=tuple(instance for instance in unseen if instance.id not in apart),
        noticed=tuple(instance for instance in known if instance.id in noticed and instance.state in ALIVE),
        stopped=tuple(instance for instance in present if instance.state in STILL and instance.id not in noticed),
        leaving=tuple(sorted(id_ for id_ in gone & listed.keys() if listed[id_].state in ALIVE + STILL)),
        in_flight=_in_flight(memory.attempt, listed.values()),
        unready=unready,
        at_risk=frozenset(
            id_ for id_, notice in status.notices.items() if notice.kind in RISKS and now - notice.at < RISK_COUNTS
        ),
        failed_starts=tuple(
            instance for instance in ended if instance.id not in ending and not _has_ready_tag(instance, pool)
        ),
        lived=tuple(instance for instance in ended if _has_ready_tag(instance, pool)),
        doubtful=tuple(instance for instance in known if instance.id in ending - noticed and instance.state in ALIVE),
        ended=tuple(
            instance.id
            for instance in present
            if instance.state is State.SHUTTING_DOWN or (instance.id in ending and instance.state is State.TERMINATED)
        ),
        idle=frozenset(
            instance.id
            for instance in present
            if instance.protected and instance.id in unready and is_late(instance, pool, now, minute)
        ),
    )


def is_late(instance: Instance, pool: Pool | None, now: datetime, minute: timedelta) -> bool:
    """Whether an instance was launched so long ago that it should be ready."""
    return pool is not None and instance.launched_at <= now - pool.ready_timeout_minutes * minute


def recently_launched(memory: Memory, now: datetime) -> Iterator[Instance]:
    """Instances launched minutes ago, as EC2's answers named them."""
    for batch in memory.launched:
        if now - batch.at < RECENT:
            for offering, ids in batch.ids.items():
                yield from (remembered(id_, offering, batch.at, batch.attempt, batch.machine) for id_ in ids)


def _weighed(instance: Instance, pool: Pool | None) -> Instance:
    weight = pool.weight(instance.instance_type) if pool else 1
    return instance if weight == instance.units else replace(instance, units=weight)


def _proves_ready(instance: Instance, pool: Pool | None, checked: frozenset[str]) -> bool:
    if instance.state is not State.RUNNING:
        return False
    return instance.id in checked if pool is None or pool.ready_tag is None else _has_ready_tag(instance, pool)


def _has_ready_tag(instance: Instance, pool: Pool | None) -> bool:
    """Whether the workload has set its ready tag; an instance that ended after that is no failed start."""
    if pool is None or pool.ready_tag is None:
        return False
    key, given, value = pool.ready_tag.partition("=")
    return key in instance.tags and (not given or instance.tags[key] == value)


def _in_flight(attempt: Attempt | None, listed: Iterable[Instance]) -> int:
    """Units that an open attempt may have launched and EC2 does not show yet, by the attempt's tag."""
    if attempt is None:
        return 0
    return max(0, attempt.count - units(instance for instance in listed if instance.attempt_id == attempt.id))
