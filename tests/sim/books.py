"""What a pool has and ought to have by the market's own books, calculated apart from the code under test.

Nothing here asks the control plane what it believes; of its code only the reading of an item is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from fnmatch import fnmatch
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Pool
from lambdas.domain.item.user_data import digest_of
from lambdas.domain.model.instances import STACK_TAG
from lambdas.domain.model.status import Reason
from localcloud.market.api.health import health
from localcloud.market.model.instances import BY_USER, Instance
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import Offering
from tests.sim.scenario import BROKEN, SUBNETS, TYPES, ZONES
from tests.support.fakes import STACK, TEMPLATE

MOST_LAG, LOOK = 240.0, 60.0
"""Seconds by which a listing may be late, and for which a reconcile may hold what it saw."""

GOES_ON = timedelta(seconds=MOST_LAG + LOOK)
SMALLEST = Decimal("0.000001")
LEAST_PRICE = Decimal("0.001001")
"""USD: EC2 takes no maximum price of a unit at or below a thousandth."""
BROKEN_WORDS = tuple(
    word for one in BROKEN for said in one.values() for word in ([said] if isinstance(said, str) else said)
)


class Books:
    """The market, read as a pool's owner would who sees everything."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.stopped: set[str] = set()
        self.extras: set[str] = set()
        self.at_risk: set[str] = set()
        self.newest: set[str] = set()
        """Instances that the invocation under judgement launched: it acts on what there was before."""
        self.shielded: set[str] = set()
        """Instances that EC2 itself protects from termination."""
        self.safe_again: set[str] = set()
        """Instances whose maintenance was called off, whether or not that was heard."""
        self.generation: dict[str, int] = {}
        """Of instances that replace others at risk, how many such replacements in a row they are."""
        self._texts: dict[str, str] = {}
        """The user data of each description that was ever valid, by its digest."""
        self._worked: set[str] = set()
        """Instances that were once ready, by what their pool's item then asked for."""

    def alive(self, pool: str) -> list[Instance]:
        """Instances of ours that run or start."""
        return [one for one in self.of(pool) if one.live and one.id not in self.stopped]

    def of(self, pool: str) -> list[Instance]:
        """All of ours that EC2 still knows."""
        tags = {"spotpools:pool": pool, STACK_TAG: STACK}
        return [one for one in self.market.instances.values() if tags.items() <= one.tags.items()]

    def stays(self, one: Instance) -> bool:
        """Whether we or EC2 may not end an instance."""
        return protected(one) or one.id in self.shielded

    def put(self, item: Mapping[str, Any]) -> None:
        """Remember what a valid item describes: whoever works by it later knows its user data by a digest."""
        if isinstance(spec := parse_pool(item), Pool) and spec.user_data is not None:
            self._texts[spec.machine_digest] = spec.user_data

    def user_data(self, spec: Pool) -> str:
        """The user data that a spec stands for."""
        return self._texts.get(spec.machine_digest, "") if spec.user_data is not None else ""

    # Readiness

    def look(self, pool: str, spec: Pool) -> None:
        """Remember who is ready now, before an edit changes what ready means."""
        self._worked |= {one.id for one in self.alive(pool) if self._passes(one, spec)}

    def ready(self, one: Instance, spec: Pool, *, once: bool = True) -> bool:
        """Whether an instance does its work, or did when it was last alive; ``once``: by an earlier item will do."""
        return (once and one.id in self._worked) or self._passes(one, spec)

    def _passes(self, one: Instance, spec: Pool) -> bool:
        if one.running_at() is None:
            return False
        if spec.ready_tag:
            key, given, value = spec.ready_tag.partition("=")
            return key in one.tags and (not given or one.tags[key] == value)
        until = self.market.clock() if one.live else _ended_at(one)
        return health(self.market, one, "running", until) == ("ok", "ok")

    def just_lost(self, pool: str) -> list[Instance]:
        """Instances that ended or stopped by themselves just now, so that a lagging listing may still show them."""
        since = self.market.clock() - GOES_ON
        return [
            one
            for one in self.of(pool)
            if one.id in self.stopped
            or (not one.live and (one.ending is None or one.ending.code != BY_USER.code) and _ended_at(one) > since)
        ]

    def failed_starts(self, pool: str, spec: Pool, *, once: bool = True) -> bool:
        """Whether an instance of the pool ended lately without having been ready; ``once``: by any item so far."""
        since = self.market.clock() - timedelta(minutes=40)
        return any(
            not one.live and _ended_at(one) > since and not self.ready(one, spec, once=once) for one in self.of(pool)
        )

    # Drift

    def outdated(self, one: Instance, spec: Pool) -> bool:
        """Whether the item as it stands would have made the instance otherwise; markets apart."""
        subnets = spec.subnet_ids
        excluded = spec.requirements.excluded_types if spec.requirements else ()
        return (
            one.tags.get("spotpools:machine", "") not in ("", spec.machine_digest)
            or bool(spec.instance_types and one.instance_type not in spec.instance_types)
            or any(fnmatch(one.instance_type, name) for name in excluded)
            or bool(subnets and one.subnet_id not in subnets)
            or (not spec.spot and one.lifecycle == "spot")
        )

    def as_described(self, one: Instance, spec: Pool) -> bool:
        """Whether the launch template's version says what the item says."""
        if spec.launch_template is not None or one.template is None:
            return one.template is not None
        image = one.template.image_id.removeprefix("resolve:")
        return one.template.user_data == self.user_data(spec) and spec.image_id in (None, image)

    def lacks_base(self, alive: list[Instance], spec: Pool, wanted: int) -> bool:
        """Whether less than the base is on demand, and it is not for protected instances' sake."""
        free = [one for one in alive if one.lifecycle == "spot" and not protected(one)]
        lacking = min(spec.on_demand_base, wanted) - units(on_demand_of(alive), spec)
        return (
            spec.spot and lacking >= heaviest(spec) and any(spec.weight(one.instance_type) <= lacking for one in free)
        )

    def drifts(self, pool: str, spec: Pool, wanted: int) -> bool:
        """Whether anything of the pool is outdated, or bought on the wrong market."""
        alive = self.alive(pool)
        return any(self.outdated(one, spec) for one in alive) or self._wrongly_bought(alive, spec, wanted)

    def _wrongly_bought(self, alive: list[Instance], spec: Pool, wanted: int) -> bool:
        if not spec.spot:
            return False
        base = min(spec.on_demand_base, wanted)
        before = [one for one in alive if one.id not in self.newest]
        counts = [units(on_demand_of(some), spec) for some in (before, alive)]
        return min(counts) < base or (spec.fallback is None and max(counts) > base)

    def temporary_on_demand(self, pool: str, spec: Pool, wanted: int) -> list[Instance]:
        """What a spot pool runs on demand beyond its base, if each of them is beyond it."""
        found = on_demand_of(self.alive(pool))
        beyond = units(found, spec) - min(spec.on_demand_base, wanted)
        return [one for one in found if spec.spot and spec.weight(one.instance_type) <= beyond]

    def of_base(self, one: Instance, alive: list[Instance], spec: Pool, wanted: int) -> bool:
        """Whether without this instance less than the base would be on demand."""
        rest = units([each for each in on_demand_of(alive) if each is not one], spec)
        return spec.spot and one.lifecycle == "on-demand" and rest < min(spec.on_demand_base, wanted)

    def beyond_wanted(self, pool: str, spec: Pool, wanted: int) -> int:
        """How many units may run beyond the wanted size while others replace them."""
        alive = self.alive(pool)
        risky = [one for one in alive if one.id in self.at_risk and spec.on_rebalance == "replace_first"]
        returns = spec.fallback is not None and spec.fallback.return_to_spot
        beyond = units(on_demand_of(alive), spec) - min(spec.on_demand_base, wanted)
        temporary = max(0, beyond) if returns and spec.spot else 0
        rolling = spec.update == "rolling" and self.drifts(pool, spec, wanted)
        return units(risky, spec) + temporary + (max(spec.max_unavailable, heaviest(spec)) if rolling else 0)

    def swaps(self, one: Instance, spec: Pool, alive: list[Instance], wanted: int) -> bool:
        """Whether successors of an instance fit beside it below max_instances, in whole instances."""
        have = units(alive, spec)
        need, free = wanted - have + spec.weight(one.instance_type), spec.max_instances - have
        sums = {0}
        for _ in range(free):
            sums |= {total + spec.weight(name) for total in sums for name in self.types(spec)}
        return any(need <= total <= free for total in sums)

    def freed_in_place(self, old: list[Instance], spec: Pool, alive: list[Instance], wanted: int) -> int:
        """Units of the old ones that could go within max_unavailable and make room for a new one; 0 if none."""
        have, freed = units(alive, spec), 0
        idle = units([one for one in alive if self.stays(one) and not self.ready(one, spec)], spec)
        lightest = min((spec.weight(name) for name in self.types(spec)), default=1)
        for one in sorted(old, key=lambda each: spec.weight(each.instance_type)):
            freed += spec.weight(one.instance_type)
            if wanted - (have - idle - freed) > spec.max_unavailable:
                return 0
            if spec.max_instances - have + freed >= lightest:
                return freed
        return 0

    # Prices, room

    def cap(self, spec: Pool, instance_type: str) -> Decimal | None:
        """The most that a spot instance-hour of a type may cost; a share is one of the price list's price, if any."""
        text = spec.spot_max_price
        if text is None or not text.endswith("%"):
            return None if text is None else Decimal(text)
        if self.unpriced(spec, instance_type):
            return Decimal(0)
        listed = max(
            one.on_demand_price for one in self.market.offerings.values() if one.instance_type == instance_type
        )
        return (listed * Decimal(text[:-1]) / 100).quantize(SMALLEST, ROUND_DOWN)

    def unpriced(self, spec: Pool, instance_type: str) -> bool:
        """Whether the cap of a type is a share of a price that the price list does not have."""
        listed = any(one.machine.listed for one in self.market.offerings.values() if one.instance_type == instance_type)
        return spec.spot_max_price is not None and spec.spot_max_price.endswith("%") and not listed

    def types(self, spec: Pool) -> tuple[str, ...]:
        """The types that a pool may have: those it names, or those that meet its requirements."""
        if spec.requirements is None:
            return spec.instance_types
        sold = {name for name, _ in self.market.offerings}
        return tuple(name for name in sorted(sold) if _meets(name, spec))

    def broken(self, spec: Pool) -> bool:
        """Whether what the pool describes cannot be launched, or never does its work."""
        words = (spec.image_id or "", self.user_data(spec), *spec.security_group_ids)
        unknown = spec.launch_template is not None and spec.launch_template.name != TEMPLATE
        nowhere = not self.types(spec) or not set(spec.subnet_ids) <= set(SUBNETS)
        return unknown or nowhere or spec.ready_tag == "never" or any(word in BROKEN_WORDS for word in words)

    def right_reasons(self, spec: Pool, alive: list[Instance], wanted: int) -> set[Reason]:
        """Why instances may rightly be missing; empty if nothing hinders."""
        if not set(spec.subnet_ids) <= set(SUBNETS) or not self.types(spec):
            return {Reason.CONFIG}
        free = spec.max_instances - units(alive, spec)
        if self._is_lost(spec):  # which shows only at a launch
            return {Reason.CONFIG, *(one for one in self.blockers(spec, "spot", free) if one)}
        # An unknown cap is a fault of the item, which on-demand instances do not fix.
        unanswered = self.blockers(spec, "spot", free) - {Reason.MAX_INSTANCES} == {Reason.CONFIG}
        fills = spec.fallback is not None and not unanswered
        lifecycles = self._lacking(spec, alive, wanted, fills=fills)
        each = [self.blockers(spec, lifecycle, free) for lifecycle in lifecycles]
        if self.broken(spec):
            return {Reason.CONFIG, Reason.UNKNOWN, *(one for some in each for one in some if one)}
        # On demand stands in for spot, not spot for the base.
        if (
            fills
            and "spot" in lifecycles
            and any(None in self.blockers(spec, one, free) for one in ("spot", "on-demand"))
        ):
            return set()
        if any(None in some for some in each):
            return set()
        # What is missing may be the successor of a base that a rolling update replaces.
        if spec.update == "rolling" and any(self.outdated(one, spec) for one in on_demand_of(alive)):
            each.append(self.blockers(spec, "on-demand", free))
        return {one for some in each for one in some if one}

    def _is_lost(self, spec: Pool) -> bool:
        """Whether a bad edit came before the user data, which an item alone holds, was put into the launch template."""
        name, templates = f"{STACK}/{spec.pool_name}", self.market.surroundings.templates.values()
        versions = [version for one in templates if one.name == name for version in one.versions.values()]
        kept = any(version.description == spec.machine_digest for version in versions)
        return digest_of(spec.user_data) is not None and not kept

    def _lacking(self, spec: Pool, alive: list[Instance], wanted: int, *, fills: bool) -> tuple[str, ...]:
        if not spec.spot:
            return ("on-demand",)
        base = min(spec.on_demand_base, wanted)
        lacks_base = units(on_demand_of(alive), spec) < base
        spot = [one for one in alive if one.lifecycle == "spot"]
        lacks_spot = units(spot, spec) < wanted - base
        named = (("on-demand", lacks_base or fills), ("spot", lacks_spot))
        return tuple(name for name, lacks in named if lacks)

    def blockers(self, spec: Pool, lifecycle: str, free: int) -> set[Reason | None]:
        """What hinders each offering of a market; None among them if one could be launched now."""
        zones = ZONES[:1] if spec.subnet_ids else ZONES  # the subnets of SUBNETS are in the first
        keys = [(one, zone) for one in self.types(spec) for zone in zones]
        offerings = [self.market.offerings[key] for key in keys if key in self.market.offerings]
        # What blocks those that fit counts, and not that others are too heavy.
        offerings = [one for one in offerings if spec.weight(one.instance_type) <= free] or offerings
        found: set[Reason | None] = set()
        for one in offerings:
            found |= self._blockers_of(spec, one, lifecycle, free) or {None}
        heavy = all(spec.weight(name) > free for name in self.types(spec))
        return found or {Reason.NO_CAPACITY, Reason.CONFIG, *({Reason.MAX_INSTANCES} if heavy else ())}

    def _blockers_of(self, spec: Pool, offering: Offering, lifecycle: str, free: int) -> set[Reason]:
        cap = self.cap(spec, offering.instance_type)
        too_expensive = offering.spot_price > (offering.on_demand_price if cap is None else cap)
        too_expensive |= cap is not None and cap / spec.weight(offering.instance_type) < LEAST_PRICE
        room = self.market.room("spot" if lifecycle == "spot" else "on-demand", [offering.key])
        subnets = [one.id for one in self.market.surroundings.subnets() if one.zone == offering.zone]
        usable = [id_ for id_ in subnets if id_ in spec.subnet_ids] if spec.subnet_ids else subnets[:1]
        if lifecycle == "spot" and self.unpriced(spec, offering.instance_type):
            return {Reason.CONFIG}  # it is not even tried
        blockers = {
            Reason.NO_ADDRESSES: not any(room.addresses[id_] for id_ in usable),
            Reason.PRICE_ABOVE_MAX: lifecycle == "spot" and too_expensive,
            Reason.MAX_INSTANCES: spec.weight(offering.instance_type) > free,
            Reason.NO_CAPACITY: not room.free[offering.key],
        }
        return {reason for reason, holds in blockers.items() if holds}


def protected(instance: Instance) -> bool:
    """Whether a tag protects an instance."""
    return instance.tags.get("spotpools:protect") == "true"


def on_demand_of(instances: Iterable[Instance]) -> list[Instance]:
    return [one for one in instances if one.lifecycle == "on-demand"]


def units(instances: Iterable[Instance], spec: Pool) -> int:
    """What instances count for by the weights of an item."""
    return sum(spec.weight(one.instance_type) for one in instances)


def heaviest(spec: Pool) -> int:
    """The most that one instance counts for."""
    return max(spec.weights.values(), default=1)


def wanted(spec: Pool, now: datetime, around: timedelta = timedelta(0)) -> tuple[int, int]:
    """The fewest and the most units that the item asks for within a span of time around a moment."""
    moments = [now - around, now, now + around, *(at for at in _changes(spec, now) if abs(at - now) <= around)]
    sizes = [_wanted_at(spec, moment) for moment in moments]
    return min(sizes), max(sizes)


def steady_since(spec: Pool, now: datetime) -> datetime | None:
    """When the schedule last changed the pool's size."""
    return max(_changes(spec, now), default=None)


def _wanted_at(spec: Pool, now: datetime) -> int:
    came = [(_last(entry.cron, entry.timezone, now), number) for number, entry in enumerate(spec.schedule)]
    target = spec.schedule[max(came)[1]].target_size if came else spec.target_size
    return max(spec.min_instances, min(target, spec.max_instances))


def _changes(spec: Pool, now: datetime) -> list[datetime]:
    later = now + timedelta(minutes=10)
    return [_last(entry.cron, entry.timezone, moment) for entry in spec.schedule for moment in (now, later)]


def _last(cron: str, zone: str, now: datetime) -> datetime:
    """When a daily entry, the only kind in scenarios, came last."""
    minute, hour = map(int, cron.split()[:2])
    today = now.astimezone(ZoneInfo(zone)).date()
    days = (today - timedelta(days=back) for back in range(-1, 3))
    return max(came for day in days if (came := _came(day, hour, minute, zone)) <= now)


@lru_cache(10_000)
def _came(day: date, hour: int, minute: int, zone: str) -> datetime:
    """The first moment at which the clock on the wall shows this time of a day, or has jumped over it."""
    wall = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001  a clock on the wall has no zone
    usual = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    if usual.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall:
        return usual
    at = usual - timedelta(hours=3)  # this night the clocks jump over it
    while at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) < wall:
        at += timedelta(minutes=1)
    return at


def _meets(name: str, spec: Pool) -> bool:
    asked, (vcpus, gib, gpus, gpu) = spec.requirements, TYPES[name]
    assert asked is not None

    def within(has: int, least: int, most: int | None) -> bool:
        return least <= has <= (has if most is None else most)

    return (
        name != "c7g.large"
        and within(vcpus, asked.vcpus.min, asked.vcpus.max)
        and within(gib, asked.memory_gib.min, asked.memory_gib.max)
        and (asked.gpus is None or within(gpus, asked.gpus.min, asked.gpus.max))
        and (not asked.gpu_names or gpu in asked.gpu_names)
        and not any(name.startswith(one.rstrip("*")) for one in asked.excluded_types)
    )


def _ended_at(one: Instance) -> datetime:
    return next(step.at for step in one.transitions if step.state == "shutting-down")
