"""Which serving instances should give way to others, and how carefully: at risk, on demand for a time, or outdated.

Each kind is replaced first and let go after: its surge runs beyond the wanted size until enough others are ready. A
changed description proves itself before it spreads: until one instance made by it is ready, only one is tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lambdas.domain.capacity import Stock, units
from lambdas.domain.observed import Instance
from lambdas.domain.pool import Market, Pool
from lambdas.domain.status import Memory, Reason


@dataclass(frozen=True)
class Replacement:
    """Instances to replace, in the order in which they go.

    ``surge`` units may run beyond the wanted size meanwhile, ``spare`` units of it may be missing.
    """

    instances: tuple[Instance, ...]
    surge: int
    spare: int
    why: str


def replacements(pool: Pool, stock: Stock, memory: Memory) -> tuple[Replacement, ...]:
    """What is to be replaced, most urgent first; protected ones never.

    An outdated instance may have another reason too: it then has that one's surge, and goes as soon as either lets it.
    """
    at_risk = [one for one in stock.members if one.id in stock.at_risk] if pool.on_rebalance == "replace_first" else []
    borrowed = surplus_on_demand(pool, stock) if pool.fallback is not None and pool.fallback.return_to_spot else []
    old = outdated(pool, stock) if pool.update == "rolling" else []
    seen: set[str] = set()

    def first_seen(instances: Iterable[Instance]) -> tuple[Instance, ...]:
        new = tuple(one for one in _in_order(instances, stock) if one.id not in seen and not one.protected)
        seen.update(one.id for one in new)
        return new

    drifted = tuple(one for one in _in_order(old, stock) if not one.protected)
    risky, lent = first_seen(at_risk), first_seen(borrowed)
    found = (
        Replacement(risky, units(risky), 0, "EC2 announced a risk for it, and its replacement is ready"),
        Replacement(lent, units(lent), 0, "spot capacity is back in its place"),
        _rolling(pool, stock, memory, drifted, units(first_seen(drifted))),
    )
    return tuple(one for one in found if one.instances)


def _rolling(pool: Pool, stock: Stock, memory: Memory, old: tuple[Instance, ...], alone: int) -> Replacement:
    """``alone`` are units of the old ones that nothing else replaces."""
    why = "an older description made it"
    if not old:
        return Replacement((), 0, 0, why)
    lightest = min(one.units for one in old)
    old_ids = {one.id for one in outdated(pool, stock)}
    fresh = [one for one in stock.members if one.id not in old_ids]
    if any(stock.is_ready(one) for one in fresh):
        step = max(pool.max_unavailable, lightest)
        return Replacement(old, min(step, alone), step, why)
    if stock.headroom or fresh or stock.in_flight or is_refused(memory):
        return Replacement(old, min(1, alone), 0, why)
    # At its limit a pool can only try the new description in the place of one instance.
    return Replacement(old[:1], 0, old[0].units, why)


def is_refused(memory: Memory) -> bool:
    """Whether what the pool's item describes cannot be launched, or does not live."""
    return memory.stillborn > 0 or any(hold.reason is Reason.CONFIG for hold in memory.holds.values())


def outdated(pool: Pool, stock: Stock) -> list[Instance]:
    """Drift: serving instances that the item as it stands would not have made so."""
    wrong_market = {one.id for one in _of_wrong_market(pool, stock)}
    machine = pool.machine_digest
    return [one for one in stock.members if one.id in wrong_market or _differs(pool, machine, one)]


def _differs(pool: Pool, machine: str, instance: Instance) -> bool:
    types, subnets = pool.instance_types, pool.subnet_ids
    return (
        instance.machine not in ("", machine)
        or (bool(types) and instance.instance_type not in types)
        or (bool(subnets and instance.subnet_id) and instance.subnet_id not in subnets)
    )


def _of_wrong_market(pool: Pool, stock: Stock) -> list[Instance]:
    if not pool.spot:
        return [one for one in stock.members if one.market is Market.SPOT]
    if pool.fallback is None and (surplus := surplus_on_demand(pool, stock)):
        return surplus
    # What is missing is bought on demand first.
    too_few = base(pool, stock) - stock.on_demand - stock.missing
    return _up_to(too_few, (one for one in stock.members if one.market is Market.SPOT))


def surplus_on_demand(pool: Pool, stock: Stock) -> list[Instance]:
    """In a spot pool, what runs on demand beyond its base: first what is to be replaced anyway, not its successor."""
    if not pool.spot:
        return []
    machine = pool.machine_digest
    on_demand = _in_order((one for one in stock.members if one.market is Market.ON_DEMAND), stock)
    on_demand.sort(key=lambda one: not (one.id in stock.at_risk or _differs(pool, machine, one)))
    return _up_to(units(on_demand) - base(pool, stock), on_demand)


def base(pool: Pool, stock: Stock) -> int:
    """Units that a spot pool keeps on demand."""
    return min(pool.on_demand_base, stock.wanted) if pool.spot else 0


def _up_to(limit: int, instances: Iterable[Instance]) -> list[Instance]:
    taken: list[Instance] = []
    for one in instances:
        if units(taken) + one.units <= limit:
            taken.append(one)
    return taken


def _in_order(instances: Iterable[Instance], stock: Stock) -> list[Instance]:
    return sorted(instances, key=lambda one: (stock.is_ready(one), one.launched_at, one.id))


def leaving(replacing: Iterable[Replacement]) -> frozenset[str]:
    """Ids of all that is to be replaced."""
    return frozenset(one.id for each in replacing for one in each.instances)


def surge(stock: Stock, replacing: Iterable[Replacement]) -> int:
    """Units to launch beyond the wanted size, for those that are to be replaced."""
    several = tuple(replacing)
    going = leaving(several)
    old = [one for one in stock.members if one.id in going]
    # What whole instances count for beyond the wanted size replaces none of them.
    rounded = max((one.units for one in old), default=1) - 1
    level = max(stock.wanted, min(units(old), stock.wanted + rounded))
    used = max(0, stock.serving + stock.in_flight - level)
    # Where those that stay are enough, nothing need be launched in the place of those that go.
    lacking = stock.wanted - (stock.serving - units(old)) - stock.in_flight
    return max(0, min(sum(one.surge for one in several) - used, lacking))


def replaced(stock: Stock, replacing: Iterable[Replacement], *, may_miss: bool = True) -> list[tuple[Instance, str]]:
    """Those that can go now, each with the reason: enough others serve, and do their work, without them.

    Without ``may_miss`` no unit of the wanted size may be missing: what EC2 does not give now is no successor.
    """
    serving, ready = stock.serving, units(stock.ready)
    go: dict[str, tuple[Instance, str]] = {}
    for each in replacing:
        # What needs no successor makes the room that a pool at its limit lacks.
        spare = 0 if go and not each.surge else each.spare
        floor = stock.wanted - (spare if may_miss else 0)
        for one in (one for one in each.instances if one.id not in go):
            works = stock.is_ready(one)
            if serving - one.units >= floor and (not works or ready - one.units >= floor):
                go[one.id] = (one, each.why)
                serving -= one.units
                ready -= one.units if works else 0
    return list(go.values())
