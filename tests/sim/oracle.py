"""What must never happen, and what must have happened in the end; judged by what EC2 has, not by what we believe.

A launch is judged by the item as the deciding reconcile read it: an edit between that reading and EC2's answer cannot
be known to it. All else is judged at the moment it takes effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.domain.pool import Pool, parse_pool
from lambdas.domain.status import NOTICE_COUNTS, Attempt, NoticeKind, Reason, Status, Waiting
from lambdas.ports import FleetError, Lease, LeaseLostError
from localcloud.market.instances import Instance
from localcloud.market.model import Market
from localcloud.market.offerings import Offering
from tests.fakes import STACK, TEMPLATE, MemoryPools, MemoryStatuses
from tests.sim.baton import Strand
from tests.sim.scenario import A_SUBNET, ZONES

LARGEST_STATUS = 100_000
LEASE_SECONDS = 75
BASE, LONGEST = 60.0, 900.0
MOST_SKEW = 120.0
"""Seconds by which the clocks of two invocations may differ."""

FORGOTTEN = 3600.0
"""Seconds after which a refusal counts as the first again."""

OUR_FAILURES = (FleetError, LeaseLostError, ClientError, BotoCoreError, TimeoutError)
"""What a function may end with. Anything else is a crash."""

REASONS = {
    "RequestLimitExceeded": Reason.THROTTLED,
    "MaxSpotInstanceCountExceeded": Reason.QUOTA,
    "UnauthorizedOperation": Reason.CONFIG,
    "PendingVerification": Reason.CONFIG,
    "InvalidLaunchTemplateName.NotFoundException": Reason.CONFIG,
}
"""What a refused launch must be called, told once more and apart from the code under test."""

OF_AN_OFFERING = ("InsufficientInstanceCapacity", "SpotMaxPriceTooLow")


@dataclass
class Seen:
    """What an invocation has read of one pool."""

    item: Mapping[str, Any] | None = None
    has_item: bool = False
    status: Status | None = None
    status_at: datetime | None = None
    lease: Lease | None = None
    leased_at: float = 0.0


@dataclass
class Invocation:
    """One run of a function: when it began, on which clock, what it has seen and what has hit it."""

    name: str
    work: Callable[[], None]
    skew: float
    deadline: float
    strand: Strand | None = None
    outcome: str = ""
    seen: dict[str, Seen] = field(default_factory=dict)
    shown: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    saved: list[tuple[str, Status]] = field(default_factory=list)
    refused: dict[str, tuple[dict[str, int], frozenset[str]]] = field(default_factory=dict)
    expected: dict[str, Reason] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    last_call: str = ""
    launches_for: str = ""
    ending: set[str] = field(default_factory=set)
    errors_told: int = 0

    def of(self, pool: str) -> Seen:
        """What it has seen of a pool."""
        return self.seen.setdefault(pool, Seen())


@dataclass(frozen=True)
class Violation:
    """A broken promise."""

    rule: str
    text: str


class Oracle:
    """Watches every effect."""

    def __init__(self, market: Market, pools: MemoryPools, statuses: MemoryStatuses) -> None:
        self.market, self.pools, self.statuses = market, pools, statuses
        self.violations: list[Violation] = []
        self.stopped: set[str] = set()
        self.extras: set[str] = set()
        self.told: set[str] = set()
        self.newest: dict[str, tuple[Lease, float, float]] = {}
        self.wanted_at_begin: dict[str, int] = {}
        self.failing: dict[tuple[str, str], tuple[int, float]] = {}
        self.now: Callable[[], float] = lambda: 0.0

    def broken(self, rule: str, text: str) -> None:
        """Write a violation down."""
        self.violations.append(Violation(rule, text))

    # What EC2 has

    def alive(self, pool: str) -> list[Instance]:
        """Instances of ours that run or start."""
        return [
            one
            for one in self.market.instances.values()
            if one.live
            and one.tags.get("spotpools:pool") == pool
            and one.tags.get("spotpools:stack") == STACK
            and one.id not in self.stopped
        ]

    def _wanted(self, spec: Pool) -> int:
        return spec.wanted(self.market.clock())

    # Launches

    def launching(
        self, inv: Invocation, seen: Seen, params: dict[str, Any], call: Callable[[], dict[str, Any]], *, first: bool
    ) -> dict[str, Any]:
        """Let a CreateFleet take effect, and judge it by what its sender had seen when it sent it."""
        token, pool = params["ClientToken"], tag_of(params, "spotpools:pool")
        replayed = token in self.market.answered
        asked: int = params["TargetCapacitySpecification"]["TotalTargetCapacity"]
        status = self.statuses.statuses.get(pool)
        attempt = status.memory.attempt if status else None
        if not replayed and (attempt is None or attempt.id != token):
            self.broken("written down first", f"{inv.name} sends {token}, the open attempt of {pool} is {attempt}")
        answer = call()
        ids = [id_ for entry in answer["Instances"] for id_ in entry["InstanceIds"]]
        self.extras.update(ids[asked:])
        if not replayed:
            self._judge_launch(f"{inv.name} launches {len(ids)} for {pool}", seen, pool, token, ids, first=first)
        return answer

    def _judge_launch(self, what: str, seen: Seen, pool: str, token: str, ids: list[str], *, first: bool) -> None:
        if not seen.has_item or seen.item is None:
            self.broken("no launch for a deleted pool", what)
            return
        spec = in_force(seen.item, seen.status)
        if spec is None:
            self.broken("no launch without a valid spec", f"{what}: {dict(seen.item)}")
            return
        if spec.paused:
            self.broken("no launch while paused", what)
        alive = [one for one in self.alive(pool) if one.id not in self.extras]
        if len(alive) > spec.max_instances:
            text = f"{what}: {len(alive)} alive, max_instances is {spec.max_instances}"
            self.broken("never above max_instances", text)
        noticed = _noticed(seen)
        serving = [one.id for one in alive if one.id not in noticed]
        wanted = self._wanted(spec) if first else max(self._wanted(spec), self.wanted_at_begin.get(token, 0))
        if len(serving) > wanted and ids:
            self.broken("never launch twice", f"{what}: {len(serving)} serve, {wanted} are wanted")
        for instance in (self.market.instances[id_] for id_ in ids):
            self._judge_price(what, spec, instance)

    def _judge_price(self, what: str, spec: Pool, instance: Instance) -> None:
        offering = self.market.offerings[instance.instance_type, instance.zone]
        cap = spec.cap(offering.on_demand_price)
        if spec.spot != (instance.lifecycle == "spot"):
            self.broken("spot or on demand as told", f"{what}: {instance.lifecycle}")
        if spec.spot and cap is not None:
            dear = offering.spot_price > cap or instance.max_price is None or instance.max_price > cap
            if dear:
                text = f"{what} at {offering.spot_price}, bidding {instance.max_price}; spot_max_price is {cap}"
                self.broken("never above spot_max_price", text)

    def calling(self, inv: Invocation, params: dict[str, Any]) -> None:
        """A launch is asked for: not of an offering that has kept refusing until just now."""
        pool = tag_of(params, "spotpools:pool")
        for override in params["LaunchTemplateConfigs"][0]["Overrides"]:
            offering = f"{override['InstanceType']}/{override['AvailabilityZone']}/{market_of(params)}"
            failures, at = self.failing.get((pool, offering), (0, 0.0))
            least = 0.75 * min(BASE * 2 ** max(0, failures - 1), LONGEST) - MOST_SKEW
            if failures and self.now() - at < least:
                text = f"{inv.name} asks {offering} for {pool} again {self.now() - at:.0f} s after refusal {failures}"
                self.broken("back-off grows", text)

    def answered(self, inv: Invocation, params: dict[str, Any], answer: Mapping[str, Any]) -> None:
        """A launch's answer has reached the caller."""
        pool = tag_of(params, "spotpools:pool")
        refused: dict[str, int] = {}
        for entry in answer["Errors"]:
            if entry["ErrorCode"] == "InsufficientInstanceCapacity":
                override = entry["LaunchTemplateAndOverrides"]["Overrides"]
                refused[f"{override['InstanceType']}/{override['AvailabilityZone']}/{market_of(params)}"] = 1
        gave = frozenset(
            f"{entry['InstanceType']}/{entry['AvailabilityZone']}/{market_of(params)}" for entry in answer["Instances"]
        )
        inv.refused[pool] = (refused, gave)

    # Terminations

    def terminating(self, inv: Invocation, ids: Iterable[str]) -> None:
        """Judge a TerminateInstances as it takes effect."""
        for id_ in ids:
            tags = inv.shown.get(id_)
            pool = (tags or {}).get("spotpools:pool", "")
            what = f"{inv.name} terminates {id_} of {pool}"
            if tags is None or tags.get("spotpools:stack") != STACK:
                self.broken("nothing of anybody else's", f"{what}: tags seen were {tags}")
                continue
            if tags.get("spotpools:protect") == "true":
                self.broken("protected instances stay", what)
            if id_ in _noticed(inv.of(pool), margin=timedelta(seconds=60)):
                self.broken("noticed instances are left to EC2", what)
            self._judge_fence(inv, pool, what)

    def _judge_fence(self, inv: Invocation, pool: str, what: str) -> None:
        seen = inv.of(pool)
        newest, since, skew = self.newest.get(pool, (None, 0.0, 0.0))
        # Taken over before the lease's true end by a clock that is ahead: no fence can prevent a call under way.
        early = skew > inv.skew and since - seen.leased_at < LEASE_SECONDS
        if seen.lease is None or (newest is not None and newest is not seen.lease and not early):
            self.broken("only the newest fence acts", f"{what} under {seen.lease}, the newest is {newest}")

    # The table

    def leased(self, inv: Invocation, lease: Lease | None) -> None:
        """A lease was granted, or was not."""
        if lease is not None:
            seen = inv.of(lease.pool_name)
            seen.lease, seen.leased_at = lease, self.now()
            self.newest[lease.pool_name] = (lease, self.now(), inv.skew)

    def written(self, lease: Lease, what: str) -> None:
        """A write under a lease took effect."""
        newest = self.newest[lease.pool_name][0]
        if newest is not lease:
            self.broken("only the newest fence writes", f"{what} under {lease}, the newest is {newest}")

    def begun(self, inv: Invocation, lease: Lease, attempt: Attempt) -> None:
        """An attempt was written down."""
        self.written(lease, "begin")
        inv.begun.add(attempt.id)
        seen = inv.of(lease.pool_name)
        spec = in_force(seen.item, seen.status) if seen.item else None
        # Sent again later, it may find that those then under notice were not taken after all.
        self.wanted_at_begin[attempt.id] = (self._wanted(spec) if spec else 0) + len(_noticed(seen))

    def saved(self, inv: Invocation, lease: Lease, before: Status, after: Status) -> None:
        """A status was written."""
        pool = lease.pool_name
        self.written(lease, "save")
        inv.saved.append((pool, after))
        if after.answer.last_error != before.answer.last_error:
            inv.errors_told += 1
        size = len(after.model_dump_json(exclude_none=True))
        if size > LARGEST_STATUS:
            self.broken("a status stays small", f"{pool}: {size} bytes")
        waiting, expected = after.answer.waiting, inv.expected.pop(pool, None)
        if expected and waiting and waiting.reason is not expected:
            text = f"{pool} waits for {waiting.reason}, EC2 said {expected}: {waiting.message[:100]}"
            self.broken("the right reason", text)
        refused, gave = inv.refused.pop(pool, ({}, frozenset()))
        for offering in refused:
            failures, at = self.failing.get((pool, offering), (0, 0.0))
            again = offering not in gave and self.now() - at < FORGOTTEN
            self.failing[pool, offering] = (failures + 1 if again else 1, self.now())
        for offering in gave - refused.keys():
            self.failing.pop((pool, offering), None)

    def deleted(self, lease: Lease) -> None:
        """A status was deleted, and all memory of its back-off with it."""
        self.written(lease, "delete")
        self.failing = {key: one for key, one in self.failing.items() if key[0] != lease.pool_name}

    # The end of an invocation

    def ended(self, inv: Invocation, error: BaseException | None) -> None:
        """Whatever went wrong in it must show: an error, or a status that tells of it."""
        queue_said = isinstance(error, RuntimeError) and str(error).startswith("SQS")
        if isinstance(error, Exception) and not isinstance(error, OUR_FAILURES) and not queue_said:
            self.broken("no crash", f"{inv.name}: {type(error).__name__}: {error}")
        if inv.outcome != "ok":
            return
        for call, how, code in inv.faults:
            nothing_left = call == "TerminateInstances" and not any(one.id in inv.ending for one in self._living())
            if not (self._shows(inv, how, code) or nothing_left):
                self.broken("every failure shows", f"{inv.name} went well, though {call} met {how} {code}")

    def _living(self) -> list[Instance]:
        return [one for one in self.market.instances.values() if one.live]

    def _shows(self, inv: Invocation, how: str, code: str) -> bool:
        if how in ("error", "error_after", "drop_before", "drop_after", "late", "after_terminate"):
            return inv.errors_told > 0
        if how == "zero":
            return any(status.answer.waiting for _, status in inv.saved)
        if how in ("inside", "beside") and code not in OF_AN_OFFERING:
            return inv.errors_told > 0
        return how not in ("throttled", "timed_out_before", "timed_out_after")

    # The end of a run

    def unsettled(self) -> list[Violation]:
        """What is not yet as it must be, some time after the last fault."""
        names = sorted({*self.pools.items, *self.statuses.statuses, *self._tagged()})
        return [Violation("converges", text) for name in names if (text := self._amiss(name))]

    def _tagged(self) -> set[str]:
        return {one.tags["spotpools:pool"] for one in self.market.instances.values() if _ours(one) and one.live}

    def _amiss(self, pool: str) -> str | None:
        alive, item, status = self.alive(pool), self.pools.items.get(pool), self.statuses.statuses.get(pool)
        protected = sum(1 for one in alive if one.tags.get("spotpools:protect") == "true")
        if item is None:
            left = len(alive) > protected or (status and not alive)
            return f"{pool} was deleted; alive {len(alive)}, protected {protected}, status {status}" if left else None
        answer, spec = (status or Status()).answer, in_force(item, status)
        if bool(answer.spec_errors) != isinstance(parse_pool(item), tuple):
            return f"{pool}: spec_errors are {answer.spec_errors[:1]} for {item}"
        if answer.noticed or answer.running != len([one for one in alive if one.state == "running"]):
            return f"{pool}: status tells of {answer.running} running, {answer.noticed} noticed; EC2 has {len(alive)}"
        wanted = self._wanted(spec) if spec and not spec.paused else None
        if wanted is not None and len(alive) > max(wanted, protected):
            return f"{pool} has {len(alive)} alive, {wanted} wanted, {protected} protected"
        if spec and wanted is not None and len(alive) < wanted:
            return self._rightly_waits(pool, spec, wanted - len(alive), answer.waiting)
        return f"{pool} wants no more, yet waits: {answer.waiting}" if answer.waiting else None

    def _rightly_waits(self, pool: str, spec: Pool, short: int, waiting: Waiting | None) -> str | None:
        if waiting is None or waiting.count != short:
            return f"{pool} lacks {short} and says {waiting}"
        right = self.right_reasons(spec)
        if waiting.reason not in right:
            return f"{pool} lacks {short} for {sorted(right)} and says {waiting.reason}: {waiting.message[:150]}"
        return None

    def right_reasons(self, spec: Pool) -> set[Reason]:
        """Why a pool may rightly wait, by the market's own books."""
        if spec.launch_template and spec.launch_template.name != TEMPLATE:
            return {Reason.CONFIG, Reason.PRICE_ABOVE_MAX} if spec.spot_max_price else {Reason.CONFIG}
        if spec.subnet_ids and spec.subnet_ids != (A_SUBNET,):
            return {Reason.CONFIG}
        zones = ZONES[:1] if spec.subnet_ids else ZONES
        keys = [(one, zone) for one in spec.instance_types for zone in zones]
        offerings = [self.market.offerings[key] for key in keys if key in self.market.offerings]
        reasons = {self._hindrance(spec, offering) for offering in offerings}
        if not reasons:
            return {Reason.NO_CAPACITY, Reason.CONFIG}
        return set() if None in reasons else {one for one in reasons if one}

    def _hindrance(self, spec: Pool, offering: Offering) -> Reason | None:
        cap = spec.cap(offering.on_demand_price) or offering.on_demand_price
        if spec.spot and offering.spot_price > cap:
            return Reason.PRICE_ABOVE_MAX
        room = self.market.room("spot" if spec.spot else "on-demand", [offering.key])
        return None if room.free[offering.key] else Reason.NO_CAPACITY


def in_force(item: Mapping[str, Any], status: Status | None) -> Pool | None:
    """The spec that an item stands for: its own, or while it is invalid the last valid one."""
    parsed = parse_pool(item)
    if isinstance(parsed, Pool):
        return parsed
    remembered = status.memory.spec if status else None
    return Pool.model_validate(remembered) if remembered else None


def _noticed(seen: Seen, margin: timedelta = timedelta(0)) -> set[str]:
    """Instances that the status, as it was read, showed under interruption notice."""
    if seen.status is None or seen.status_at is None:
        return set()
    at = seen.status_at
    taken = ((id_, one) for id_, one in seen.status.notices.items() if one.kind is NoticeKind.INTERRUPTION)
    return {id_ for id_, one in taken if at - one.at < NOTICE_COUNTS - margin}


def _ours(instance: Instance) -> bool:
    return instance.tags.get("spotpools:stack") == STACK and "spotpools:pool" in instance.tags


def market_of(params: dict[str, Any]) -> str:
    """Spot or on-demand, as a CreateFleet asks."""
    return str(params["TargetCapacitySpecification"]["DefaultTargetCapacityType"])


def tag_of(params: dict[str, Any], key: str) -> str:
    tags = {tag["Key"]: tag["Value"] for one in params["TagSpecifications"] for tag in one["Tags"]}
    return str(tags[key])
