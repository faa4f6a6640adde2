"""Which serving instances to replace, and how carefully: at risk, temporary on-demand, or outdated.

A replacement is launched first, beyond the wanted size (the surge); the old instance is terminated when enough others
are ready. A changed description is tested before it spreads: until one instance made by it is ready, only one is tried.

A swap is planned in whole instances: which ones end, what must replace them, and whether both fit below max_instances.
A swap that does not fit is not started; a rolling update may then swap in place, within max_unavailable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase

from lambdas.domain.decision.stock import Stock, sums_of, units
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.status import Memory, Reason


@dataclass(frozen=True)
class Replacement:
    """Instances to replace, in the order in which they are terminated.

    Meanwhile ``surge`` units may run beyond the wanted size, and ``spare`` units of it may be missing. ``returns``: an
    on-demand instance makes room for a spot instance, if spot has capacity.
    """

    instances: tuple[Instance, ...]
    surge: int
    spare: int
    why: str
    returns: bool = False


@dataclass(frozen=True)
class Swaps:
    """All planned replacements, most urgent first.

    ``surge`` is how many units to launch beyond what is missing. ``stuck`` are instances that should be replaced but
    cannot be, with the reason.
    """

    groups: tuple[Replacement, ...] = ()
    surge: int = 0
    stuck: tuple[tuple[Instance, str], ...] = ()

    @property
    def going(self) -> frozenset[str]:
        """Ids of all instances to be replaced."""
        return frozenset(instance.id for each in self.groups for instance in each.instances)

    @property
    def returning(self) -> bool:
        """Whether an on-demand instance should make room for spot."""
        return any(each.returns for each in self.groups)


NO_ROOM = (
    "{id} counts {units} and is not replaced: a replacement does not fit below max_instances ({limit}, {headroom} "
    "left) while it runs. Raise max_instances{or_else}."
)


ENDING_FIRST = (
    "{id} counts {units} and is not replaced yet: instances that are about to end ({leaving} units) still count "
    "against max_instances ({limit}). It is replaced when they have ended."
)


def plan_swaps(pool: Pool, stock: Stock, memory: Memory, now: datetime, held: int) -> Swaps:
    """Plan which instances to replace, never protected ones. ``held`` is the size below which none is terminated.

    An outdated instance may have another reason too. Then it uses that reason's surge, and ends when either allows it.
    """
    replace_risky = pool.on_rebalance == "replace_first"
    at_risk = [instance for instance in stock.members if replace_risky and instance.id in stock.at_risk]
    temporary = temporary_on_demand(pool, stock) if pool.fallback is not None and pool.fallback.return_to_spot else []
    old = outdated(pool, stock) if pool.update == "rolling" else []
    seen: set[str] = set()

    def first_seen(instances: Iterable[Instance]) -> tuple[Instance, ...]:
        new = tuple(instance for instance in _unprotected(instances, stock) if instance.id not in seen)
        seen.update(instance.id for instance in new)
        return new

    drifted = tuple(_unprotected(old, stock))
    recommended = _unprotected((instance for instance in at_risk if recommended_again(instance, memory, now)), stock)
    others = [instance for instance in at_risk if instance not in recommended]
    # The last try may have launched replacements for some of these already: finish those. What was launched for others
    # is not theirs, or each minute would bring more for those others.
    theirs = stock.serving - max(held, stock.wanted) - units(_unprotected(others, stock))
    claimed = _claimed(_Room(pool, stock), temporary, () if is_refused(memory, now) else drifted)
    come = _up_to(theirs - claimed, recommended)
    again = tuple(instance for instance in recommended if instance not in come)
    risky, on_demand = first_seen([*others, *come]), first_seen(temporary)
    room = _Room(pool, stock)
    fit_risky, fit_temporary = room.admit(risky), room.admit(on_demand)
    groups = [
        Replacement(fit_risky, units(fit_risky), 0, "EC2 announced a risk for it, and its replacement is ready"),
        Replacement(fit_temporary, units(fit_temporary), 0, "a spot instance is ready in its place"),
    ]
    going = {instance.id for instance in (*fit_risky, *fit_temporary)}
    roll, blocked = _rolling(room, memory, now, drifted, going)
    groups.append(roll)
    left = [instance for instance in on_demand if instance not in fit_temporary]
    if left and not any(each.instances for each in groups) and _may_return(stock, memory, now, held):
        why = "EC2 has refused no spot launch for an hour, and a replacement does not fit while it runs"
        groups.append(Replacement((left[0],), 0, left[0].units, why, returns=True))
        left = left[1:]
    or_wait = " or wait: one at a time is terminated when spot has had capacity for an hour"
    stuck = [
        *((instance, room.lacks(instance)) for instance in risky if instance not in fit_risky),
        *((instance, _again_text(instance, memory)) for instance in again),
        *((instance, room.lacks(instance, or_wait)) for instance in left),
        *blocked,
    ]
    return Swaps(tuple(each for each in groups if each.instances), room.surge, tuple(stuck))


def _claimed(room: _Room, temporary: Iterable[Instance], drifted: Iterable[Instance]) -> int:
    """Units that may have been launched in place of on-demand instances, or of outdated ones, that are not at risk."""
    stock, step = room.stock, room.pool.max_unavailable
    on_demand = room.admit(one for one in _unprotected(temporary, stock) if one.id not in stock.at_risk)
    going = stock.at_risk | {one.id for one in on_demand}
    old = [one for one in drifted if one.id not in going and room.fits(one.units)]
    return units(on_demand) + units(_up_to(max(step, old[0].units), old) if old else ())


class _Room:
    """What still fits below max_instances, while swaps are admitted one after the other."""

    def __init__(self, pool: Pool, stock: Stock) -> None:
        self.pool, self.stock = pool, stock
        self._weights = pool.possible_weights
        self._sums = sums_of(self._weights, stock.headroom)
        self._going = 0
        self._extra = 0

    def admit(self, instances: Iterable[Instance]) -> tuple[Instance, ...]:
        """The instances whose replacements fit beside all that was admitted before."""
        admitted = []
        for instance in instances:
            if self.fits(instance.units):
                admitted.append(instance)
                self._going += instance.units
        return tuple(admitted)

    def admit_trial(self) -> bool:
        """Whether one more instance, of whatever type, fits."""
        if not self._fits(self.stock.lacking_without(self._going) + 1):
            return False
        self._extra = 1
        return True

    def fits(self, going: int) -> bool:
        """Whether the replacements fit if so many more units end: in whole instances of the pool's weights."""
        return self._fits(self.stock.lacking_without(self._going + going))

    @property
    def surge(self) -> int:
        """Units to launch beyond what is missing."""
        return self.stock.lacking_without(self._going) + self._extra - self.stock.lacking_without(0)

    @property
    def lightest(self) -> int:
        """The smallest weight of an instance."""
        return min(self._weights)

    def lacks(self, instance: Instance, or_else: str = "") -> str:
        """Why an instance cannot be replaced."""
        limit, headroom = self.stock.limit, self.stock.headroom
        if _Room(self.pool, self.stock.after_endings).fits(instance.units) and self.stock.leaving_soon:
            return self.waits(instance)
        return NO_ROOM.format(id=instance.id, units=instance.units, limit=limit, headroom=headroom, or_else=or_else)

    def waits(self, instance: Instance) -> str:
        """Why an instance is replaced only a little later."""
        leaving = self.stock.leaving_soon
        return ENDING_FIRST.format(id=instance.id, units=instance.units, leaving=leaving, limit=self.stock.limit)

    def _fits(self, need: int) -> bool:
        return need <= max(self._sums)


def _rolling(
    room: _Room, memory: Memory, now: datetime, old: tuple[Instance, ...], going: set[str]
) -> tuple[Replacement, list[tuple[Instance, str]]]:
    """``going`` are ids with another reason to end. A ready instance that stays proves the new description."""
    stock, step = room.stock, room.pool.max_unavailable
    roll = Replacement(old, 0, 0, "it was made from an older description")
    remaining = tuple(instance for instance in old if instance.id not in going)
    if not remaining:
        return roll, []
    old_ids = {instance.id for instance in outdated(room.pool, stock)}
    fresh = [instance for instance in stock.members if instance.id not in old_ids | going]
    waits = bool(stock.doubtful) or (
        bool(stock.noticed) and stock.alive > stock.limit
    )  # their end makes the room first
    few = () if waits else _in_place(stock, remaining, step, room.lightest)
    fitting = [instance for instance in remaining if room.fits(instance.units)]
    if any(stock.is_ready(instance) for instance in fresh):
        admitted = room.admit(_up_to(max(step, fitting[0].units), fitting)) if fitting else ()
        if admitted or few:
            return replace(roll, surge=units(admitted), spare=step), []
    elif fresh or stock.in_flight or _is_off_size(stock, going) or room.surge:
        return roll, []  # the next instance is the trial
    elif fitting or few:
        if room.admit_trial():
            return replace(roll, surge=1), []
        return (roll if is_refused(memory, now) else replace(roll, instances=few, spare=step)), []
    if waits and _in_place(stock.after_endings, remaining, step, room.lightest):
        why = room.waits(remaining[0])
    else:
        idle = stock.idle_units
        also = f" {idle} protected units are not ready and count as unavailable." if idle else ""
        why = room.lacks(remaining[0], " or max_unavailable") + also
    return replace(roll, instances=()), [(remaining[0], why)]


def _is_off_size(stock: Stock, going: set[str]) -> bool:
    """Whether the pool is not at its size: a missing instance will be the trial, and a surplus must end first.

    Rounding up to whole instances is not too many. Idle instances do not count either: they may not be terminated.
    """
    staying = [instance for instance in stock.members if instance.id not in going | stock.idle]
    heaviest = max((instance.units for instance in staying), default=1)
    most = max(stock.wanted, min(units(staying), stock.wanted + heaviest - 1))
    return stock.missing > 0 or stock.serving - stock.idle_units > most


def _in_place(stock: Stock, old: tuple[Instance, ...], step: int, lightest: int) -> tuple[Instance, ...]:
    """The first old instances whose end makes room for a new one, if at most ``step`` units are unavailable then."""
    chosen: list[Instance] = []
    available = stock.serving - stock.idle_units
    for instance in old:
        if stock.wanted - (available - units(chosen) - instance.units) <= step:
            chosen.append(instance)
        if chosen and stock.headroom + units(chosen) >= lightest:
            return tuple(chosen)
    return ()


def _may_return(stock: Stock, memory: Memory, now: datetime, held: int) -> bool:
    """Whether the pool is complete and ready, so that an on-demand instance may make room for spot."""
    hold = memory.holds.get(Market.SPOT)
    calm = hold is None or hold.until <= now
    waits = memory.returns is not None and memory.returns.until > now
    complete = stock.serving == held == stock.wanted and not (stock.in_flight or stock.noticed or stock.doubtful)
    return calm and complete and not waits and all(stock.is_ready(instance) for instance in stock.members)


def recommended_again(instance: Instance, memory: Memory, now: datetime) -> bool:
    """Whether an instance replaced one at risk, is at risk itself, and it is too early to try again."""
    return memory.risks is not None and instance.attempt_id in memory.risks.attempts and memory.risks.until > now


def _again_text(instance: Instance, memory: Memory) -> str:
    assert memory.risks is not None  # noqa: S101  only then is an instance recommended again
    return (
        f"EC2 announced a risk for {instance.id} too, although it replaced others at risk. Replacing it helps little: "
        f"the next try is at {memory.risks.until:%H:%M} UTC."
    )


def is_refused(memory: Memory, now: datetime) -> bool:
    """Whether EC2 refuses what the pool's item describes, or its instances fail to start."""
    held = memory.holds.values()
    return memory.failed_starts > 0 or any(hold.reason is Reason.CONFIG and hold.until > now for hold in held)


def outdated(pool: Pool, stock: Stock) -> list[Instance]:
    """Drift: serving instances that the present item would not have created."""
    wrong_market = {instance.id for instance in _of_wrong_market(pool, stock)}
    machine = pool.machine_digest
    return [instance for instance in stock.members if instance.id in wrong_market or _differs(pool, machine, instance)]


def _differs(pool: Pool, machine: str, instance: Instance) -> bool:
    types, subnets = pool.instance_types, pool.subnet_ids
    excluded = pool.requirements.excluded_types if pool.requirements else ()
    return (
        instance.machine not in ("", machine)
        or (bool(types) and instance.instance_type not in types)
        or any(fnmatchcase(instance.instance_type, pattern) for pattern in excluded)
        or (bool(subnets and instance.subnet_id) and instance.subnet_id not in subnets)
    )


def _of_wrong_market(pool: Pool, stock: Stock) -> list[Instance]:
    if not pool.spot:
        return [instance for instance in stock.members if instance.market is Market.SPOT]
    if pool.fallback is None and (temporary := temporary_on_demand(pool, stock)):
        return temporary
    # What is missing is bought on demand first.
    too_few = base(pool, stock) - stock.on_demand - stock.missing
    on_spot = (instance for instance in stock.members if instance.market is Market.SPOT and not instance.protected)
    return _up_to(too_few, on_spot)


def temporary_on_demand(pool: Pool, stock: Stock) -> list[Instance]:
    """On-demand instances of a spot pool beyond its base: first those that are replaced anyway, not their replacements.

    Those do not keep the base, even if one of them is too heavy to be beyond it. Protected instances stay, so they
    count as the base first.
    """
    if not pool.spot:
        return []
    machine = pool.machine_digest
    on_demand = _in_order((instance for instance in stock.members if instance.market is Market.ON_DEMAND), stock)
    drifted = {instance.id for instance in on_demand if _differs(pool, machine, instance)}
    first = stock.at_risk | drifted
    on_demand.sort(key=lambda instance: (instance.protected, instance.id not in first))
    replaces_risks, rolls = pool.on_rebalance == "replace_first", pool.update == "rolling"
    replaced = (stock.at_risk if replaces_risks else frozenset()) | (drifted if rolls else frozenset())
    going = [instance for instance in on_demand if instance.id in replaced and not instance.protected]
    others = [instance for instance in on_demand if instance.id not in replaced or instance.protected]
    beyond = units(on_demand) - base(pool, stock)
    return [*_up_to(beyond, going), *_up_to(beyond - units(going), others)]


def base(pool: Pool, stock: Stock) -> int:
    """Units that a spot pool keeps on demand."""
    return min(pool.on_demand_base, stock.wanted) if pool.spot else 0


def _up_to(limit: int, instances: Iterable[Instance]) -> list[Instance]:
    chosen: list[Instance] = []
    for instance in instances:
        if units(chosen) + instance.units <= limit:
            chosen.append(instance)
    return chosen


def _unprotected(instances: Iterable[Instance], stock: Stock) -> list[Instance]:
    return [instance for instance in _in_order(instances, stock) if not instance.protected]


def _in_order(instances: Iterable[Instance], stock: Stock) -> list[Instance]:
    return sorted(instances, key=lambda instance: (stock.is_ready(instance), instance.launched_at, instance.id))


def replaced(stock: Stock, swaps: Swaps, held: int, *, may_miss: bool = True) -> list[tuple[Instance, str]]:
    """Instances that can be terminated now, each with the reason: enough others serve and are ready.

    Without ``may_miss`` no unit of the wanted size may be missing, because EC2 has no replacement now. While more is
    ``held`` than is wanted, none ends without a replacement. An idle instance counts as missing permanently, but it
    replaces none.
    """
    serving, ready = stock.serving, units(stock.ready)
    needed = max(held, stock.wanted)
    going = {instance.id for each in swaps.groups for instance in each.instances}
    idle = min(stock.idle_units, max(0, needed - units(instance for instance in stock.ready if instance.id in going)))
    go: dict[str, tuple[Instance, str]] = {}
    for each in swaps.groups:
        # Ending what needs no replacement makes the room that a pool at its limit lacks.
        spare = 0 if (go and not each.surge) or held > stock.wanted or not may_miss else each.spare
        for instance in (instance for instance in each.instances if instance.id not in go):
            works, size = stock.is_ready(instance), instance.units
            if serving - size >= needed - spare and (not works or ready - size >= needed - max(spare, idle)):
                go[instance.id] = (instance, each.why)
                serving -= size
                ready -= size if works else 0
    return list(go.values())
