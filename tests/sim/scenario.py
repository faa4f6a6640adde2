"""A scenario is plain data made from one seed: the market, and everything that happens to it and to us, with its time.

Nothing is drawn while a scenario runs, so a run is a function of its scenario, and leaving a happening out leaves the
others as they were: that is what shrinking rests on.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

TYPES = {
    "g5.xlarge": (4, 16, 1, "a10g"),
    "g4dn.xlarge": (4, 16, 1, "t4"),
    "p3.2xlarge": (8, 61, 1, "v100"),
    "c6i.large": (2, 4, 0, ""),
    "c7g.large": (2, 4, 0, ""),
}
"""Of each type: vCPUs, GiB of memory, GPUs and their name."""

ARM = "c7g.large"
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SETTLING = 25 * MINUTE
"""How long after an episode every minute is ticked; in the stillness after that, every half hour."""

CENT_OF_A_CENT = Decimal("0.000001")
SUBNETS = ("subnet-00000000000000001", "subnet-00000000000000004")
"""Of the first zone: its default, and another one."""

PLAIN_DAY = datetime(2026, 1, 1, tzinfo=UTC)

STARTS = {
    PLAIN_DAY: "UTC",
    datetime(2028, 2, 28, 20, tzinfo=UTC): "UTC",
    datetime(2026, 3, 29, 0, 30, tzinfo=UTC): "Europe/Berlin",
    datetime(2026, 10, 25, 0, 20, tzinfo=UTC): "Europe/Berlin",
    datetime(2026, 3, 8, 6, 30, tzinfo=UTC): "America/New_York",
    datetime(2026, 11, 1, 5, 20, tzinfo=UTC): "America/New_York",
    datetime(2026, 4, 4, 14, 30, tzinfo=UTC): "Australia/Lord_Howe",
    datetime(2026, 10, 3, 15, 0, tzinfo=UTC): "Australia/Lord_Howe",
}
"""When scenarios begin: on plain days, and minutes before the clocks of a zone change."""

LARGE = 300
READY_TAG = "ready=true"
"""What the simulated workload sets on its instance."""

GOOD: tuple[dict[str, Any], ...] = (
    {"image_id": "ami-0a"}, {"image_id": "ami-0b"}, {"image_id": "ami-0c", "tags": {"team": "vision"}},
    {"user_data": "echo 1"}, {"user_data": "echo 2", "security_group_ids": ["sg-1"]},
    {"root_volume_size_gib": Decimal(50)}, {"key_name": "ops"}, {}, {"launch_template": {"name": "test-default"}},
    {"user_data": "#!/bin/sh\n# runs a job"},
)  # fmt: skip
"""Descriptions of machines that live."""

BROKEN: tuple[dict[str, Any], ...] = (
    {"image_id": "ami-dies"}, {"user_data": "halt at once"}, {"user_data": "is impaired"}, {"user_data": "hangs"},
    {"image_id": "ami-missing"}, {"image_id": "ami-locked"}, {"security_group_ids": ["sg-missing"]},
    {"image_id": "ssm:/no/such"},
)  # fmt: skip
"""Descriptions that EC2 refuses, and those of machines that never do their work."""

REQUIREMENTS: tuple[dict[str, Any], ...] = (
    {"vcpus": {"min": Decimal(4)}}, {"vcpus": {"min": Decimal(1), "max": Decimal(4)}}, {"gpus": {"min": Decimal(1)}},
    {"gpu_names": ["t4", "a10g"]}, {"memory_gib": {"min": Decimal(500)}}, {"excluded_types": ["p3.*", "g5.*"]},
)  # fmt: skip
TIME_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
MISSPELT = "g5.xlagre"

LAUNCH_CODES = (
    "RequestLimitExceeded", "Unavailable", "InternalError", "MaxSpotInstanceCountExceeded", "UnauthorizedOperation",
    "InsufficientInstanceCapacity", "SpotMaxPriceTooLow", "PendingVerification", "SomethingNew",
    "IdempotentParameterMismatch", "InvalidLaunchTemplateName.NotFoundException",
)  # fmt: skip
ENTRY_CODES = (
    "RequestLimitExceeded", "InsufficientInstanceCapacity", "SpotMaxPriceTooLow", "UnauthorizedOperation",
    "MaxSpotInstanceCountExceeded", "SomethingNew",
)  # fmt: skip
ASKING_CODES = ("RequestLimitExceeded", "Unavailable", "InternalError", "UnauthorizedOperation")
TABLE_CALLS = (
    "statuses.get", "statuses.scan", "statuses.acquire", "statuses.release", "statuses.begin", "statuses.save",
    "statuses.delete", "statuses.note", "statuses.ending", "statuses.announced", "statuses.queued", "pools.get",
    "pools.scan",
)  # fmt: skip
LEASED_WRITES = (
    "statuses.begin", "statuses.save", "statuses.save", "statuses.ending", "statuses.announced", "statuses.release",
    "statuses.delete",
)  # fmt: skip
"""Writes that hold only as long as their writer has the lease."""

ASKING_CALLS = (
    "DescribeSubnets", "DescribeSpotPriceHistory", "DescribeInstanceStatus", "DescribeInstanceStatus",
    "DescribeLaunchTemplates", "DescribeLaunchTemplateVersions", "CreateLaunchTemplate", "CreateLaunchTemplateVersion",
    "DeleteLaunchTemplate", "DeleteLaunchTemplateVersions", "GetProducts",
    "GetInstanceTypesFromInstanceRequirements", "PutEvents", "SendCommand", "GetCommandInvocation",
)  # fmt: skip
SPOT_MOVES = (
    "interrupt", "interrupt", "interrupt", "storm", "false", "stranger", "rebalance", "rebalance", "maintenance",
    "dies", "risks", "risks",
)  # fmt: skip
FAULTS = (
    "launch", "launch", "launch", "describe", "ask", "ask", "terminate", "table", "table", "table", "kill", "kill",
    "slow", "queue", "outage",
)  # fmt: skip
LAUNCH_FAULTS = (
    "error", "error", "error_after", "inside", "inside", "zero", "more", "beside", "drop_before", "drop_after",
    "drop_after", "late",
)  # fmt: skip
KILL_POINTS = (
    "CreateFleet", "TerminateInstances", "DescribeInstances", *TABLE_CALLS, "queue.send", "CreateLaunchTemplateVersion",
    "PutEvents",
)  # fmt: skip


@dataclass(frozen=True)
class Happening:
    """One thing that happens at a moment (seconds from the beginning): what, and to whom or how."""

    at: float
    what: str
    args: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """As a line of a trace."""
        return f"{self.what} {' '.join(f'{name}={value}' for name, value in self.args.items())}"


@dataclass(frozen=True)
class OfferingAtFirst:
    """An offering of the market as the scenario begins."""

    instance_type: str
    zone: str
    capacity: int
    price: Decimal
    on_demand: Decimal


@dataclass(frozen=True)
class Scenario:
    """Everything a run is made from."""

    seed: int
    offerings: tuple[OfferingAtFirst, ...]
    happenings: tuple[Happening, ...]
    ticks: tuple[float, ...]
    end: float
    page_size: int
    pending_seconds: float = 1.5
    check_seconds: float = 2.0
    ec2_seconds: float = 0.0
    """By so much each call to EC2 takes longer than usual."""
    start: datetime = PLAIN_DAY
    as_on_aws: bool = False
    """Whether instances take as long as on a real account, and listings differ from one moment to the next."""
    template_lag_seconds: float = 0.0
    unlisted: tuple[str, ...] = ()
    """Types that the price list does not have."""

    def without(self, dropped: Iterable[Happening]) -> Scenario:
        """The same scenario in which these things do not happen."""
        gone = {id(one) for one in dropped}
        return self.having(one for one in self.happenings if id(one) not in gone)

    def having(self, kept: Iterable[Happening]) -> Scenario:
        """The same scenario with these happenings alone."""
        return replace(self, happenings=tuple(kept))


def make(seed: int, *, small: bool = False, large: bool = False) -> Scenario:
    """Make the scenario of a seed; a small one has few pools and one or two hours, a large one pools of hundreds."""
    # The one source of chance: everything follows from the seed.
    return _Maker(random.Random(seed), seed, small=small, large=large).scenario()  # noqa: S311  a simulation's chance is no secret


class _Maker:
    def __init__(self, rng: random.Random, seed: int, *, small: bool, large: bool) -> None:
        self.rng = rng
        self.seed = seed
        self.small = small
        self.start = rng.choice([*STARTS])
        self.large = large or (not small and rng.random() < 0.01)
        """A few pools of hundreds, whose offerings are as large."""
        self.aws = rng.random() < 0.3
        numbers = (1, 1, 2) if self.large else (1, 1, 2, 3) if small else (1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 8, 15)
        number = rng.choice(numbers)
        self.pools = [f"pool-{n:02}" for n in range(1, number + 1)]
        several = [one for one in TYPES if one != ARM]
        self.types = rng.sample(several, rng.randint(1, len(several)))
        self.arm = rng.random() < 0.2
        self.zones = sorted(rng.sample(ZONES, rng.randint(1, len(ZONES))))
        sold = [*self.types, ARM] if self.arm else self.types
        self.offerings = [self._offering(one, zone) for one in sold for zone in self.zones]
        self.modern = {pool: self._wishes() for pool in self.pools if rng.random() < 0.5}
        """Pools that use what came with the third step, each with what it mostly wishes."""
        self.skewed = rng.random() < 0.4
        self.unlisted = tuple(one for one in sold if rng.random() < 0.05)
        self.happenings: list[Happening] = []

    def scenario(self) -> Scenario:
        rng = self.rng
        episodes = 1 if self.small or self.large else rng.randint(1, 3 if len(self.pools) < 8 else 1)
        at, ticks = 0.0, []
        for _ in range(episodes):
            length = rng.uniform(5, 20 if self.small or self.large or len(self.pools) > 8 else 45) * MINUTE
            self._episode(at, length)
            settled = at + length + SETTLING
            ticks += [at + minute * MINUTE for minute in range(1, int((length + SETTLING) / MINUTE))]
            stillness = 0.0 if self.small else rng.choice((0.0, rng.uniform(0, 4 * HOUR), rng.uniform(0, 1.5 * DAY)))
            ticks += [settled + half * HOUR / 2 for half in range(int(stillness / HOUR * 2))]
            at = settled + stillness
        # A little off the full minute: other things happen on it.
        jittered = tuple(tick + rng.uniform(0, 2) for tick in ticks)
        happenings = tuple(sorted(self.happenings, key=lambda one: one.at))
        pages, pending, checks = (
            rng.choice((2, 4, 9, 50, 1000)),
            rng.choice((1.5, 1.5, 30.0)),
            rng.choice((2.0, 60.0, 150.0)),
        )
        slow = rng.choice((1.0, 3.0, 10.0)) if rng.random() < 0.06 else 0.0
        return Scenario(
            self.seed,
            tuple(self.offerings),
            happenings,
            jittered,
            end=at,
            page_size=1000 if self.large or slow else pages,
            pending_seconds=pending,
            check_seconds=checks,
            ec2_seconds=slow,
            start=self.start,
            as_on_aws=self.aws,
            template_lag_seconds=rng.choice((2.0, 8.0, 20.0)) if rng.random() < 0.2 else 0.0,
            unlisted=self.unlisted,
        )

    def _episode(self, start: float, length: float) -> None:
        rng, pools = self.rng, self.pools
        if not start:
            for pool in pools:
                self._put(rng.uniform(0, 90), self._item(pool, 0.0))
        if rng.random() < 0.2:  # nothing else, or it would hide what comes of it
            self._flood(start + 2 * MINUTE)
            self._lost_answers(start + rng.uniform(3, 5) * MINUTE)
            return
        per_pool = 1 if len(pools) > 8 else 3
        doers = (
            (self._user, rng.randint(1, 2 + per_pool * len(pools))),
            (self._market, rng.randint(0, 8)),
            (self._spot, rng.randint(0, 5)),
            (self._fault, rng.randint(0, 6 + 3 * len(pools))),
            (self._messages, rng.randint(0, 5)),
            (self._misc, rng.randint(0, 4)),
            (self._lost_answers, rng.choice((0, 0, 0, 1))),
        )
        for do, times in doers:
            for _ in range(times):
                do(start + rng.uniform(0, length))

    def _add(self, at: float, what: str, **args: Any) -> None:
        self.happenings.append(Happening(at, what, args))

    # The user

    def _user(self, at: float) -> None:
        rng, pool = self.rng, self.rng.choice(self.pools)
        item, then = self._item(pool, at), at + rng.uniform(1, 900)
        doings = (
            "put",
            "put",
            "put",
            "put",
            "bad",
            "bad",
            "pause",
            "delete",
            "protect",
            "shield",
            "stop",
            "flap",
            "steps",
        )
        match rng.choice(doings):
            case "put":
                self._put(at, item)
            case "bad":
                self._put(at, self._bad(pool, at))
                self._perhaps_put(then, item)
            case "pause":
                self._put(at, {**item, "paused": True})
                self._perhaps_put(then, item)
            case "delete":
                self._add(at, "delete", pool=pool)
                self._perhaps_put(then, item)
            case "protect":
                self._add(at, "protect", pool=pool, count=rng.randint(1, 3))
                self._add(then, "unprotect", pool=pool)
            case "shield":
                self._add(at, "shield", pool=pool, count=rng.randint(1, 3))
            case "stop":
                self._add(at, "stop", pool=pool)
            case "steps":
                self._shrink(at, item)
            case _:  # sizes changed faster than anybody can follow
                for n in range(rng.randint(2, 6)):
                    self._put(at + n * rng.uniform(0.1, 4), self._item(pool, at))

    def _shrink(self, at: float, item: dict[str, Any]) -> None:
        """Smaller and smaller, each step within the calm of those before."""
        calm = {"min_instances": 0, "schedule": [], "scale_in_after_minutes": self.rng.choice((5, 15))}
        for number, share in enumerate((1, 0.6, 0.3, 0)):
            size = int(int(item["max_instances"]) * share)
            self._put(at + number * self.rng.uniform(60, 200), {**item, **calm, "target_size": size})

    def _put(self, at: float, item: dict[str, Any]) -> None:
        self._add(at, "put", pool=item["pool_name"], item=item)

    def _perhaps_put(self, at: float, item: dict[str, Any]) -> None:
        if self.rng.random() < 0.65:
            self._put(at, item)

    def _item(self, pool: str, at: float) -> dict[str, Any]:
        """A new item; of a modern pool mostly the usual one in another size or with another description."""
        item = self._plain_item(pool)
        if pool not in self.modern:
            return item
        rng = self.rng
        wishes = self.modern[pool] if rng.random() < 0.8 else self._wishes()
        if rng.random() < 0.6:
            wishes = {**wishes, "description": self._description()}
        if rng.random() < 0.3:
            wishes = {**wishes, "sizes": {name: item[name] for name in ("max_instances", "target_size")}}
        for name in ("instance_type", "instance_types", "launch_template"):
            item.pop(name, None)
        item |= wishes["types"] | wishes["sizes"] | wishes["patience"] | wishes["description"]
        limit = int(item["max_instances"])
        for name in {"target_size", "min_instances", "on_demand_base"} & item.keys():
            item[name] = min(Decimal(item[name]), Decimal(limit))
        if rng.random() < 0.2:
            item["schedule"] = self._schedule(at, limit)
        if item.get("spot") is False:
            item.pop("fallback", None)
        return item

    def _wishes(self) -> dict[str, Any]:
        rng = self.rng
        limit = rng.choice((LARGE // 5, LARGE)) if self.large else rng.choice((3, 5, 8, 12, 12))
        target = rng.choice((limit, rng.randint(1, limit), rng.randint(1, limit)))
        if len(self.types) > 1 and rng.random() < 0.2:
            return self._one_heavy()
        types = self._types(limit)
        if rng.random() < 0.4 and (
            weights := types.get("weights")
        ):  # one heavy instance may do, and is hard to replace
            target = min(limit, int(max(weights.values())))
        return {
            "types": types,
            "sizes": {"max_instances": Decimal(limit), "target_size": Decimal(target)},
            "description": self._description(),
            "patience": self._patience(limit),
        }

    def _one_heavy(self) -> dict[str, Any]:
        """One heavy instance that has room for light ones beside it, but not for its like."""
        light, heavy = self.rng.sample(self.types, 2)
        weight = self.rng.choice((4, 6, 8))
        return {
            "types": {"instance_types": [light, heavy], "weights": {heavy: Decimal(weight)}},
            "sizes": {"max_instances": Decimal(weight + weight // 2), "target_size": Decimal(weight)},
            "description": self._description(),
            "patience": {"on_rebalance": "replace_first"},
        }

    def _types(self, limit: int) -> dict[str, Any]:
        rng = self.rng
        chosen = rng.sample(self.types, rng.randint(1, len(self.types)))
        if rng.random() < 0.03:
            chosen.append(MISSPELT)
        match rng.choice(("types", "types", "weights", "weights", "weights", "requirements", "arm")):
            case "weights":
                weighs = (1, 1, 2, 2, 3, 4, 8, limit // 2 or 1, limit)
                weights = {one: Decimal(rng.choice(weighs)) for one in chosen if rng.random() < 0.8}
                return {"instance_types": chosen, "weights": weights}
            case "requirements":
                return {"requirements": rng.choice(REQUIREMENTS)}
            case "arm" if self.arm:
                return {"instance_types": [ARM]}
            case _:
                return {"instance_types": chosen}

    def _description(self) -> dict[str, Any]:
        return dict(self.rng.choice(BROKEN if self.rng.random() < 0.15 else GOOD))

    def _patience(self, limit: int) -> dict[str, Any]:
        """How a pool spreads, updates, buys, waits and lets go."""
        rng = self.rng
        wishes: dict[str, Any] = {
            "spread_zones": True,
            "allocation": rng.choice(("capacity-optimized", "lowest-price")),
            "spot_max_price": rng.choice(("25%", "40%", "60%", "100%", "33.3%")),
            "on_demand_base": Decimal(rng.randint(1, max(1, limit // 2))),
            "fallback": {"after_minutes": Decimal(rng.choice((0, 3, 10, 20))), "return_to_spot": rng.random() < 0.7},
            "update": "rolling",
            "max_unavailable": Decimal(rng.choice((20, 60) if self.large else (1, 1, 2, 4))),
            "ready_timeout_minutes": Decimal(rng.choice((5, 10, 20))),
            "ready_tag": rng.choice((READY_TAG, READY_TAG, "ready", "never")),
            "on_rebalance": "replace_first",
            "drain_command": "/opt/drain",
            "scale_in_after_minutes": Decimal(rng.choice((1, 5, 15))),
        }
        often = {"update": 0.7, "on_rebalance": 0.6, "max_unavailable": 0.6, "fallback": 0.4, "ready_tag": 0.2}
        if self.large:  # one after the other would take hours
            often["max_unavailable"] = 1.0
        return {name: wish for name, wish in wishes.items() if rng.random() < often.get(name, 0.3)}

    def _schedule(self, at: float, limit: int) -> list[dict[str, Any]]:
        """Entries of which most come soon, each in the words of some time zone."""
        rng, entries = self.rng, []
        for _ in range(rng.randint(1, 3)):
            changing = STARTS[self.start] != "UTC" and rng.random() < 0.6
            zone, hours = (STARTS[self.start], (-1, 1)) if changing else (rng.choice(TIME_ZONES), (-6, 1.5))
            local = (self.start + timedelta(seconds=at + rng.uniform(*hours) * HOUR)).astimezone(ZoneInfo(zone))
            entry = {"cron": f"{local.minute} {local.hour} * * *", "timezone": zone}
            entries.append({**entry, "target_size": Decimal(rng.randint(0, limit))})
        return entries

    def _plain_item(self, pool: str) -> dict[str, Any]:
        rng = self.rng
        limit = rng.choice((LARGE // 5, LARGE)) if self.large else rng.choice((1, 2, 3, 4, 5, 8, 12))
        target = rng.choice((0, limit, rng.randint(0, limit), rng.randint(0, limit)))
        item: dict[str, Any] = {
            "pool_name": pool,
            "max_instances": Decimal(limit) if rng.random() < 0.5 else str(limit),
            "target_size": Decimal(target) if rng.random() < 0.5 else str(target),
        }
        if rng.random() < 0.2:
            item["min_instances"] = Decimal(rng.randint(0, limit))
        chosen = rng.sample(self.types, rng.randint(1, len(self.types)))
        item |= {"instance_type": chosen[0]} if len(chosen) == 1 else {"instance_types": chosen}
        if rng.random() < 0.15:
            item["spot"] = False
        if rng.random() < 0.5:
            price = self._some_price()
            item["spot_max_price"] = price if rng.random() < 0.5 else str(price)
        if rng.random() < 0.15:
            item["subnet_ids"] = list(rng.choice((SUBNETS[:1], SUBNETS, SUBNETS, ("subnet-0000",))))
        if rng.random() < 0.04:
            item["launch_template"] = {"name": "no-such-template"}
        return item

    def _some_price(self) -> Decimal:
        """A price at, just beside, or well off what an offering costs now."""
        base = self.rng.choice(self.offerings).price
        step = self.rng.choice((Decimal(0), CENT_OF_A_CENT, -CENT_OF_A_CENT, base / 10, -base / 10, base / 2))
        return max(Decimal("0.01"), (base + step).quantize(CENT_OF_A_CENT))

    def _bad(self, pool: str, at: float) -> dict[str, Any]:
        spoil: dict[str, Any] = self.rng.choice(
            (
                {"target_size": Decimal(-1)},
                {"target_size": "99", "max_instances": "3"},
                {"max_instnaces": Decimal(40)},
                {"spot_max_price": "cheap"},
                {"spot_max_price": True},
                {"instance_types": [], "instance_type": "g5.xlarge"},
                {"instance_types": ["not a type"]},
                {"paused": "yes"},
                {"target_size": Decimal("1e9999")},
                {f"unknown-{n}": "value " * 20 for n in range(300)},
            )
        )
        return {**self._item(pool, at), **spoil}

    # The market

    def _offering(self, instance_type: str, zone: str) -> OfferingAtFirst:
        price = Decimal(self.rng.randint(100_000, 2_000_000)).scaleb(-6)
        on_demand = (price * self.rng.randint(2, 4)).quantize(CENT_OF_A_CENT)
        capacity = self.rng.choice((0, 20, 100, 300, 1000) if self.large else (0, 1, 2, 4, 8, 20, 40))
        return OfferingAtFirst(instance_type, zone, capacity, price, on_demand)

    def _market(self, at: float) -> None:
        rng, offering = self.rng, self.rng.choice(self.offerings)
        where = {"instance_type": offering.instance_type, "zone": offering.zone}
        match rng.choice(("capacity", "capacity", "price", "price", "drought", "flood", "on_demand", "addresses")):
            case "capacity":
                self._add(at, "offering", **where, capacity=rng.choice((0, 0, 1, 2, 5, 20)))
            case "price":
                factor = Decimal(rng.choice(("0.5", "0.9", "1", "1.000001", "1.1", "2", "5")))
                self._add(at, "offering", **where, price=(offering.price * factor).quantize(CENT_OF_A_CENT))
            case "on_demand":
                self._add(at, "offering", **where, on_demand=rng.choice((0, 0, 1, 3)))
                self._add(at + rng.uniform(5, 60) * MINUTE, "offering", **where, on_demand=1000)
            case "addresses":
                number = rng.choice((0, 0, 1, 2, 3))
                self._add(at, "addresses", number=number, free=rng.choice((0, 0, 1, 3)))
                if rng.random() < 0.7:
                    self._add(at + rng.uniform(1, 60) * MINUTE, "addresses", number=number, free=1000)
            case "drought":
                for one in self.offerings:
                    self._add(at, "offering", instance_type=one.instance_type, zone=one.zone, capacity=0)
                if rng.random() < 0.7:
                    self._flood(at + rng.uniform(1, 60) * MINUTE)
            case _:
                self._flood(at)

    @property
    def _plenty(self) -> int:
        return 1000 if self.large else 30

    def _flood(self, at: float) -> None:
        for one in self.offerings:
            self._add(
                at, "offering", instance_type=one.instance_type, zone=one.zone, capacity=self._plenty, price=one.price
            )

    def _spot(self, at: float) -> None:
        rng, pool = self.rng, self.rng.choice(self.pools)
        match rng.choice(SPOT_MOVES):
            case "interrupt":
                seconds = rng.choice((120.0, 120.0, 120.0, 5.0))
                count = rng.choice((4, 60, LARGE)) if self.large else rng.randint(1, 4)
                self._add(at, "interrupt", pool=pool, count=count, seconds=seconds)
            case "storm":
                one = rng.choice(self.offerings)
                self._add(at, "storm", instance_type=one.instance_type, zone=one.zone)
            case "false":
                self._add(at, "false_notice", pool=pool, count=rng.randint(1, 2))
            case "stranger":
                self._add(at, "stranger_notice", pool=pool)
            case "rebalance":
                self._add(at, "rebalance", pool=pool)
            case "maintenance":
                closed = rng.choice((None, rng.uniform(1, 600)))
                self._add(at, "maintenance", pool=pool, closed_after=closed)
            case "risks":  # of an offering, or of all, whose instances are all recommended anew, again and again
                one, minutes = rng.choice(self.offerings), rng.choice((5, 5, 10))
                offering = rng.choice(((one.instance_type, one.zone), None))
                for again in range(rng.choice((1, 3, 8, 8))):
                    self._add(at + again * minutes * MINUTE, "risks", offering=offering)
            case _:
                self._add(at, "fault", call="CreateFleet", how="dies", times=rng.randint(1, 3), seconds=5.0)

    # Faults at calls

    def _fault(self, at: float) -> None:
        rng = self.rng
        match rng.choice(FAULTS):
            case "launch":
                self._launch_fault(at)
            case "describe":
                how = rng.choice(("error", "error", "drop_before"))
                self._arm(at, "DescribeInstances", how, code=rng.choice(ASKING_CODES))
            case "ask":
                how = rng.choice(("error", "drop_before", "drop_after"))
                self._arm(at, rng.choice(ASKING_CALLS), how, code=rng.choice(ASKING_CODES))
            case "terminate":
                how = rng.choice(("error", "vanish", "vanish_forbidden", "drop_before", "drop_after"))
                code = rng.choice(("RequestLimitExceeded", "UnauthorizedOperation", "InvalidInstanceID.NotFound"))
                self._arm(at, "TerminateInstances", how, code=code)
                if rng.random() < 0.3:
                    self._arm(at, "DescribeInstances", "after_terminate", code="Unavailable")
            case "table":
                self._table_fault(at)
            case "kill":
                self._arm(at, rng.choice(KILL_POINTS), rng.choice(("kill_before", "kill_after")))
            case "slow":
                how = rng.choice(("slow_before", "slow_after"))
                self._arm(at, rng.choice(KILL_POINTS), how, seconds=rng.choice((3.0, 11.0, 30.0, 58.0, 70.0)))
            case "queue":
                self._arm(at, "queue.send", rng.choice(("timed_out_before", "timed_out_after")))
            case _:  # EC2 takes every launch and says nothing for minutes
                how = rng.choice(("drop_before", "drop_before", "drop_after"))
                self._arm(at, "CreateFleet", how, times=rng.randint(3, 14), seconds=0.0)
                self._arm(at, "CreateFleet", "drop_after", seconds=0.0)

    def _table_fault(self, at: float) -> None:
        rng = self.rng
        if rng.random() < 1 / 3:
            seconds = rng.choice((5.0, 90.0, 200.0))
            self._arm(at, rng.choice(LEASED_WRITES), "arrives_late", times=1, seconds=seconds)
        else:
            how = rng.choice(("throttled", "throttled", "timed_out_before", "timed_out_after", "timed_out_after"))
            self._arm(at, rng.choice(TABLE_CALLS), how)

    def _lost_answers(self, at: float) -> None:
        """A pool's launch whose answers are lost for a while, a listing that lags, and an edit of its size."""
        rng, pool = self.rng, self.rng.choice(self.pools)
        limit, lost = rng.choice((8, 12, 20)), rng.choice((0, 0, 2, 8, 9, 9))
        item = {"pool_name": pool, "max_instances": Decimal(limit), "instance_types": list(self.types)}
        lag = 110.0 if self.skewed else rng.choice((110.0, 240.0, 240.0))
        self._add(at - 1, "lag", seconds=20.0 if self.aws else lag)
        self._put(at, {**item, "target_size": Decimal(rng.randint(limit // 2, limit))})
        code = rng.choice(("RequestLimitExceeded", "UnauthorizedOperation", "MaxSpotInstanceCountExceeded"))
        for how, times in (("drop_before", lost), ("drop_after", 1), (rng.choice(("error", "drop_before")), 1)):
            if times:
                self._arm(at, "CreateFleet", how, times=times, pool=pool, code=code, seconds=0.0)
        edited = at + (lost + 2) * MINUTE + rng.uniform(0, 60)
        self._put(edited, {**item, "target_size": Decimal(rng.randint(limit // 2, limit))})
        self._add(edited + rng.uniform(120, 600), "lag", seconds=2.0)

    def _launch_fault(self, at: float) -> None:
        rng = self.rng
        how = rng.choice(LAUNCH_FAULTS)
        code = rng.choice(
            ENTRY_CODES
            if how in ("inside", "beside")
            else ("InternalError", "Unavailable", "ServiceUnavailable")
            if how == "error_after"
            else LAUNCH_CODES
        )
        launches, seconds = rng.choice((0, 0, 1, 2)), rng.choice((0.0, 12.0))
        self._arm(at, "CreateFleet", how, code=code, launches=launches, seconds=seconds)
        if how in ("drop_after", "error_after", "late") and rng.random() < 0.5:
            # What a repeat of the lost call meets
            code = rng.choice(LAUNCH_CODES)
            self._arm(at, "CreateFleet", rng.choice(("error", "drop_before", "drop_after")), code=code, seconds=0.0)

    def _arm(self, at: float, call: str, how: str, *, times: int | None = None, **details: Any) -> None:
        times = times or self.rng.choice((1, 1, 1, 2, 3))
        self._add(at, "fault", call=call, how=how, times=times, **details)

    # Messages, time

    def _messages(self, at: float) -> None:
        rng = self.rng
        match rng.choice(("lose", "twice", "late", "stream", "tick", "notices", "burst", "burst")):
            case "burst":
                self._add(at, "burst", pool=rng.choice(self.pools), count=rng.randint(2, 4))
            case "stream":
                self._add(at, "outage", channel="stream", seconds=rng.choice((MINUTE, HOUR, DAY)))
            case "tick":
                self._add(at, "outage", channel="tick", seconds=rng.choice((5 * MINUTE, HOUR)))
            case "notices":
                self._add(at, "outage", channel="notices", seconds=rng.choice((MINUTE, HOUR)))
            case how:
                channel = rng.choice(("stream", "due", "notices"))
                seconds = rng.choice((10.0, 300.0, HOUR))
                self._add(at, "mischief", channel=channel, how=how, seconds=seconds, times=rng.randint(1, 5))

    def _misc(self, at: float) -> None:
        rng = self.rng
        if self.skewed and rng.random() < 0.7:
            skews = [rng.choice((-60.0, 60.0, rng.uniform(-60, 60))) for _ in range(rng.randint(2, 12))]
            self._add(at, "skew", seconds=skews)
        else:
            # The longest lag that still fits into the ten minutes for which our memory outweighs a listing.
            lag = rng.choice((5.0, 20.0, 60.0, 110.0) if self.skewed else (5.0, 45.0, 110.0, 240.0))
            if self.aws:  # a lag that varies shows an instance as running after it was shown as ending, not as ended
                lag = min(lag, 20.0)
            self._add(at, "lag", seconds=lag)
            self._add(at + rng.uniform(60, 1800), "lag", seconds=rng.choice((0.0, 2.0)))
