"""What must never happen, and what must have happened in the end; judged by what EC2 has, not by what we believe.

A launch is judged by the item as the deciding reconcile read it: an edit between that reading and EC2's answer cannot
be known to it. All else is judged at the moment it takes effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.domain.item.faults import SpecError, parse_pool, recalled
from lambdas.domain.item.pool import Pool
from lambdas.domain.model.status import (
    NOTICE_COUNTS,
    Answer,
    Attempt,
    NoticeKind,
    Reason,
    RolloutState,
    Status,
    Waiting,
)
from lambdas.ports import FleetError, Lease, LeaseLostError
from localcloud.market.api.visible import view_at
from localcloud.market.model.instances import BY_SPOT_MARKET, BY_USER, Instance
from localcloud.market.model.market import Market
from tests.sim.baton import Strand
from tests.sim.books import LOOK, Books, heaviest, on_demand_of, units, wanted
from tests.sim.scenario import HOUR
from tests.support.fakes import STACK, MemoryPools, MemoryStatuses

LARGEST_STATUS = 100_000
LEASE_SECONDS = 75
BASE, LONGEST = 60.0, 900.0
MOST_SKEW = 120.0
"""Seconds by which the clocks of two invocations may differ."""

MOST_IN_VAIN = 16
"""Launches on one market within an hour, if none brings what lives: pauses of 45 s to 11 min, and two clocks' skew."""

MOST_IN_A_ROW = 4
"""How often within an hour a pool's replacements of what was at risk may be replaced for the same reason."""

LISTING_COUNTS = 31.0
"""Seconds after which nothing is decided to be terminated by a listing."""

ACTS_WITHIN = timedelta(seconds=15)
"""How old the listing may be by which an instance is terminated, beyond EC2's own lag."""

MOST_CHURN = 30
"""How often within an hour, without an edit, instances are terminated that were launched just before."""

OF_THE_MARKET = (BY_USER.code, BY_SPOT_MARKET.code, "Server.InsufficientInstanceCapacity")
"""Why instances end that says nothing against their description, as far as EC2 tells."""

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
"""What a refused launch must be called, written apart from the code under test."""

MOST_TOLD_FIRST = 50
"""A notice leaves two minutes, so announcements of ends must not delay the replacements."""

OF_AN_OFFERING = ("InsufficientInstanceCapacity", "SpotMaxPriceTooLow")


@dataclass
class Seen:
    """What an invocation has read of one pool."""

    item: Mapping[str, Any] | None = None
    has_item: bool = False
    status: Status | None = None
    status_at: datetime | None = None
    lease: Lease | None = None


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
    looked_at: float = 0.0
    """When EC2 last listed instances for it."""
    faults: list[tuple[str, str, str]] = field(default_factory=list)
    saved: list[tuple[str, Status]] = field(default_factory=list)
    refused: dict[str, tuple[dict[str, int], frozenset[str]]] = field(default_factory=dict)
    expected: dict[str, Reason] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    last_call: str = ""
    launches_for: str = ""
    ending: set[str] = field(default_factory=set)
    brought: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    """Pools for which it has called CreateFleet."""
    errors_told: int = 0
    announced: Counter[str] = field(default_factory=Counter)
    """How many ends it has announced, by pool."""
    raised: bool = False
    """Whether something failed in it and an error shows it, though the function went on."""

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
        self.books = Books(market)
        self.alive = self.books.alive
        self.violations: list[Violation] = []
        self.announced_ends: set[str] = set()
        """Instances whose end was announced."""
        self.lacking: dict[str, list[tuple[float, int]]] = {}
        """How much a pool has lacked, each time that it was looked at, in the last hours."""
        self.wanted_at: dict[str, list[tuple[float, int]]] = {}
        """The least that a pool has wanted, each time that it was looked at."""
        self.launches: dict[tuple[str, str], list[tuple[float, list[str]]]] = {}
        """When which instances were launched, by pool and market."""
        self.newest: dict[str, Lease] = {}
        self.replaced_again: dict[str, list[tuple[float, str]]] = {}
        """When which replacements of what was at risk were to be replaced for the same reason, by pool."""
        self.churned: dict[str, list[float]] = {}
        """When instances were terminated soon after their launch, by pool, since its last edit."""
        self.failed_starts_in: set[str] = set()
        """Pools of which instances ended without having been ready."""
        self.most_at_begin: dict[str, int] = {}
        self.failing: dict[tuple[str, str], tuple[int, float]] = {}
        self.now: Callable[[], float] = lambda: 0.0

    def broken(self, rule: str, text: str) -> None:
        """Write a violation down."""
        self.violations.append(Violation(rule, text))

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
            self.broken("saved first", f"{inv.name} sends {token}, the open attempt of {pool} is {attempt}")
        inv.asked.add(pool)
        answer = call()
        ids = [id_ for entry in answer["Instances"] for id_ in entry["InstanceIds"]]
        if not replayed:
            inv.brought.update(ids)
            self.books.newest = inv.brought
            self.books.extras.update(self._beyond(asked, params, ids))
            for one in (self.market.instances[id_] for id_ in ids):  # though the answer may be lost, they will be seen
                self.failing.pop((pool, f"{one.instance_type}/{one.zone}/{market_of(params)}"), None)
            self._judge_risks(pool, seen, ids)
            self._judge_launch(f"{inv.name} launches {len(ids)} for {pool}", seen, pool, token, ids, first=first)
            self._judge_loop(pool, market_of(params), ids)
        return answer

    def _beyond(self, asked: int, params: dict[str, Any], ids: list[str]) -> list[str]:
        """What EC2 gave although it had given all that was asked for."""
        weights = {
            one["InstanceType"]: int(one.get("WeightedCapacity", 1))
            for one in params["LaunchTemplateConfigs"][0]["Overrides"]
        }
        beyond = []
        for id_ in ids:
            if asked <= 0:
                beyond.append(id_)
            asked -= weights[self.market.instances[id_].instance_type]
        return beyond

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
        alive = [one for one in self.alive(pool) if one.id not in self.books.extras]
        if units(alive, spec) > spec.max_instances:
            text = f"{what}: {units(alive, spec)} alive, max_instances is {spec.max_instances}"
            self.broken("never above max_instances", text)
        noticed = _noticed(seen)
        serving = units([one for one in alive if one.id not in noticed], spec)
        most = self._most(pool, spec) if first else max(self._most(pool, spec), self.most_at_begin.get(token, 0))
        if serving > most + heaviest(spec) - 1 and ids:
            self.broken("never more than wanted and replaced", f"{what}: {serving} serve, {most} may")
        for instance in (self.market.instances[id_] for id_ in ids):
            self._judge_price(what, spec, instance)
            if not self.books.as_described(instance, spec):
                self.broken("made as described", f"{what}: {instance.template} for {dict(seen.item)}")
        if first:  # sent again, it may find that less is wanted by now
            self._judge_market(what, spec, pool, ids, noticed)
            if ids and not noticed and spec.update != "rolling":
                self._judge_swaps(what, spec, [one for one in alive if one.id not in ids])

    def _judge_swaps(self, what: str, spec: Pool, before: list[Instance]) -> None:
        """Where nothing is missing, a launch begins a swap: one that can be completed, in whole instances."""
        sizes = self._wanted(spec)
        temporary = on_demand_of(before) if spec.fallback is not None else []
        going = [*temporary, *(one for one in before if one.id in self.books.at_risk)]
        begun = units(before, spec) >= max(sizes)
        if begun and not any(self.books.swaps(one, spec, before, size) for one in going for size in sizes):
            text = f"{what}: {units(before, spec)} units were there, {max(sizes)} wanted"
            self.broken("what is begun can be completed", text)

    def _most(self, pool: str, spec: Pool) -> int:
        """How many units may serve a pool: those wanted, those that replace others, who may not go and does no work."""
        most = self._wanted(spec)[1]
        idle = [one for one in self.alive(pool) if self.books.stays(one) and not self.books.ready(one, spec)]
        return most + self.books.beyond_wanted(pool, spec, most) + units(idle, spec)

    def _wanted(self, spec: Pool) -> tuple[int, int]:
        return wanted(spec, self.market.clock(), timedelta(seconds=2 * MOST_SKEW))

    def _judge_price(self, what: str, spec: Pool, instance: Instance) -> None:
        offering = self.market.offerings[instance.instance_type, instance.zone]
        cap = self.books.cap(spec, instance.instance_type)
        if instance.lifecycle == "spot" and cap is not None:
            too_expensive = offering.spot_price > cap or instance.max_price is None or instance.max_price > cap
            if too_expensive:
                text = f"{what} at {offering.spot_price}, bidding {instance.max_price}; spot_max_price is {cap}"
                self.broken("never above spot_max_price", text)

    def _judge_market(self, what: str, spec: Pool, pool: str, ids: list[str], noticed: set[str]) -> None:
        """Spot or on demand as the item says: the base at once, what spot lacks only after a while."""
        new = [self.market.instances[id_] for id_ in ids if id_ not in self.books.extras]
        bought = on_demand_of(new)
        if not spec.spot:
            if len(bought) < len(new):
                self.broken("spot or on demand as the item says", f"{what}: spot in a pool on demand")
            return
        stays = [
            one
            for one in on_demand_of(self.alive(pool))
            if one.id not in noticed
            and not (self.books.outdated(one, spec) or one.id in self.books.at_risk or one.id in self.books.extras)
        ]
        base = min(spec.on_demand_base, self._wanted(spec)[1])
        if not bought or units(stays, spec) <= base + heaviest(spec) - 1:
            return
        if spec.fallback is None:
            self.broken(
                "spot or on demand as the item says", f"{what}: {units(stays, spec)} on demand, the base is {base}"
            )
            return
        temporary = units(bought, spec) - max(0, base - units([one for one in stays if one not in bought], spec))
        lasting = self._lacked_for(pool, spec.fallback.after_minutes * 60 - MOST_SKEW - LOOK)
        if temporary > lasting + heaviest(spec) - 1:
            text = (
                f"{what}: {temporary} on demand, of which {lasting} have been lacking for "
                f"{spec.fallback.after_minutes} minutes"
            )
            self.broken("on demand only when spot has been short for long", text)

    def _lacked_for(self, pool: str, seconds: float) -> int:
        """How many units have been lacking all the time for so long: the fewest at any look since then."""
        if seconds <= 0:
            return 10**6
        looks = self.lacking.get(pool, [])
        before = [lacked for at, lacked in looks if at <= self.now() - seconds][-1:]
        since = [lacked for at, lacked in looks if at > self.now() - seconds]
        return min((*before, *since)) if before else 0

    def _judge_loop(self, pool: str, lifecycle: str, ids: list[str]) -> None:
        """Launches that bring nothing that lives become rare."""
        if not ids:
            return
        lately = [(at, some) for at, some in self.launches.get((pool, lifecycle), []) if self.now() - at < HOUR]
        while lately and not any(self._failed_to_start(pool, id_) for id_ in lately[-1][1]):
            lately.clear()
        self.launches[pool, lifecycle] = [*lately, (self.now(), ids)]
        if len(lately) >= MOST_IN_VAIN:
            self.broken("launches in vain become rare", f"{pool}: {len(lately)} within an hour")

    def _judge_risks(self, pool: str, seen: Seen, ids: list[str]) -> None:
        """To replace what is at risk helps little where what replaces it soon is at risk too."""
        spec = in_force(seen.item, seen.status) if seen.item is not None else None
        before = [one for one in self.alive(pool) if one.id not in ids]
        risky = [one for one in before if one.id in self.books.at_risk]
        if spec is None or not ids or not risky:
            return
        serving = units([one for one in before if not one.notice and one.id not in _noticed(seen)], spec)
        wanted_most = self._wanted(spec)[1]
        if serving + units([self.market.instances[id_] for id_ in ids], spec) <= wanted_most:
            return  # all of them were missing
        if serving < wanted_most:  # which of them replace others shows nowhere: none counts as a replacement yet
            self.books.generation |= dict.fromkeys(ids, 0)
            return
        lately = {one.id for one in risky if self.market.clock() - one.launched_at < timedelta(days=1)}
        generation = 1 + min(self.books.generation.get(one.id, 0) if one.id in lately else 0 for one in risky)
        self.books.generation |= dict.fromkeys(ids, generation)
        rolls = spec.update == "rolling" and self.books.drifts(pool, spec, self._wanted(spec)[1])
        if generation > 1 and not rolls:
            before_this = [(at, id_) for at, id_ in self.replaced_again.get(pool, []) if self.now() - at < HOUR]
            # An instance may need several: its replacement fills a gap if another one ends by itself meanwhile.
            known = {id_ for _, id_ in before_this}
            new = [one.id for one in risky if one.id not in known]
            self.replaced_again[pool] = [*before_this, *((self.now(), id_) for id_ in new[:1])]
            if new and len(before_this) >= MOST_IN_A_ROW:
                self.broken("replacing in vain becomes rare", f"{pool}: {len(before_this)} times within an hour")

    def _failed_to_start(self, pool: str, id_: str) -> bool:
        item = self.pools.items.get(pool)
        spec = in_force(item, self.statuses.statuses.get(pool)) if item else None
        instance = self.market.instances.get(id_)
        if instance is None or spec is None or instance.live:
            return False
        taken = instance.ending is not None and instance.ending.code in OF_THE_MARKET
        return not taken and not self.books.ready(instance, spec)

    def edited(self, pool: str) -> None:
        """An item is about to be put or deleted: who was ready stays so, and launches in vain are forgiven."""
        item = self.pools.items.get(pool)
        spec = in_force(item, self.statuses.statuses.get(pool)) if item else None
        if spec is not None:
            self.books.look(pool, spec)
        self.churned.pop(pool, None)
        for lifecycle in ("spot", "on-demand"):
            self.launches.pop((pool, lifecycle), None)

    def calling(self, inv: Invocation, params: dict[str, Any]) -> None:
        """A launch is asked for: not of an offering that has kept refusing until just now."""
        pool = tag_of(params, "spotpools:pool")
        for override in params["LaunchTemplateConfigs"][0]["Overrides"]:
            offering = f"{override['InstanceType']}/{override['AvailabilityZone']}/{market_of(params)}"
            failures, at = self.failing.get((pool, offering), (0, 0.0))
            # By a clock behind, what was launched beside the first refusal may seem launched after it, and begin anew.
            least = 0.75 * min(BASE * 2 ** max(0, failures - 2), LONGEST) - MOST_SKEW
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

    def choosing(self, inv: Invocation, ids: Iterable[str]) -> None:
        """It is about to save what it then terminates."""
        if self.now() - inv.looked_at > LISTING_COUNTS:
            text = f"{inv.name} chooses {sorted(ids)} {self.now() - inv.looked_at:.0f} s after it listed instances"
            self.broken("acts on what it has just seen", text)

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
        for pool in {inv.shown.get(id_, {}).get("spotpools:pool", "") for id_ in ids}:
            self._judge_saved(pool, f"{inv.name} terminates in {pool}", ids)
            going = [self.market.instances[id_] for id_ in ids if id_ in self.market.instances]
            self._judge_loss(inv, pool, going)
            self._judge_churn(pool, going)

    def _judge_churn(self, pool: str, going: list[Instance]) -> None:
        """A pool that launches and terminates in turn costs money and never comes to rest."""
        since = self.market.clock() - timedelta(minutes=4)
        if not any(one.live and one.launched_at > since and one.id not in self.books.extras for one in going):
            return
        lately = [at for at in self.churned.get(pool, []) if self.now() - at < HOUR]
        self.churned[pool] = [*lately, self.now()]
        if len(lately) >= MOST_CHURN:
            self.broken(
                "a pool comes to rest", f"{pool}: {len(lately)} times within an hour what was just launched went"
            )

    def _judge_loss(self, inv: Invocation, pool: str, going: list[Instance]) -> None:
        """Whoever works may go only if enough others work, by what EC2 has."""
        self.books.newest = inv.brought
        seen = inv.of(pool)
        spec = in_force(seen.item, seen.status) if seen.item is not None else None
        if spec is None:
            return
        if spec.paused:
            self.broken("a paused pool keeps all", f"{inv.name} terminates {[one.id for one in going]} of {pool}")
        noticed, lost = _noticed(seen), self.books.just_lost(pool)
        working = [one for one in (*self.alive(pool), *lost) if one.id not in noticed and self.books.ready(one, spec)]
        # Who became ready just now, or by an earlier item only, was not seen so; nor who starts in an older listing.
        awaited = set(seen.status.memory.startup) if seen.status else set()
        listed_at = view_at(self.market) - ACTS_WITHIN
        shown_starting = {one.id for one in working if one.state_at(listed_at) == "pending"}
        known = [one for one in working if one.id not in awaited | shown_starting]
        taken = [one for one in going if one in known and one.live and one not in lost]
        left = units([one for one in working if one not in going], spec)
        least = self._wanted(spec)[0]
        kept = [one for one in (*self.alive(pool), *lost) if one not in working and self.books.stays(one)]
        floor = least - self._spare(pool, spec, working, lost) - units(kept, spec) - (heaviest(spec) - 1)
        if taken and left < min(units(known, spec), floor):
            text = f"{inv.name} leaves {left} of {units(known, spec)} ready in {pool}; {least} wanted, {floor} at least"
            self.broken("enough stay ready", text)
        plain = [one for one in taken if not self._to_replace(one, pool, spec)]
        held = min(self._wanted_lately(pool, spec), spec.max_instances)
        there = (*self.alive(pool), *lost)
        rest = units([one for one in there if one not in going and one.id not in noticed], spec)
        if plain and rest < held - (heaviest(spec) - 1):
            text = f"{inv.name} leaves {rest} of {pool}, which wanted {held} less than its calm ago"
            self.broken("scale-in waits", text)

    def _wanted_lately(self, pool: str, spec: Pool) -> int:
        """The largest size that the pool has wanted within scale_in_after_minutes, as often as it was looked at."""
        since = self.now() - (spec.scale_in_after_minutes * 60 - MOST_SKEW - LOOK)
        return max((wanted for at, wanted in self.wanted_at.get(pool, []) if at > since), default=0)

    def _to_replace(self, one: Instance, pool: str, spec: Pool) -> bool:
        """Whether an instance may go for another reason than that there are too many."""
        return (
            one.id in self.books.at_risk
            or self.books.outdated(one, spec)
            or self.books.drifts(pool, spec, self._wanted(spec)[1])
            or (spec.spot and one.lifecycle == "on-demand")
        )

    def _spare(self, pool: str, spec: Pool, working: list[Instance], lost: list[Instance]) -> int:
        """How many of the wanted units may be missing for a rolling update's sake, or while one makes way for spot."""
        temporary = self.books.temporary_on_demand(pool, spec, self._wanted(spec)[1])
        returns = spec.fallback is not None and spec.fallback.return_to_spot and temporary
        return max(
            self._spare_of_a_roll(pool, spec, working, lost),
            max(spec.weight(one.instance_type) for one in temporary)
            if returns and self._is_full(pool, spec, temporary, lost)
            else 0,
        )

    def _spare_of_a_roll(self, pool: str, spec: Pool, working: list[Instance], lost: list[Instance]) -> int:
        if spec.update != "rolling" or not self.books.drifts(pool, spec, self._wanted(spec)[1]):
            return 0
        if any(not self.books.outdated(one, spec) for one in working):
            return max(spec.max_unavailable, heaviest(spec))
        free = spec.max_instances - units([*self.alive(pool), *lost], spec)
        lightest = min((spec.weight(name) for name in self.books.types(spec)), default=1)
        return heaviest(spec) if free < lightest else 0

    def _is_full(self, pool: str, spec: Pool, temporary: list[Instance], lost: list[Instance]) -> bool:
        """Whether a successor fits beside none of these."""
        free = spec.max_instances - units([*self.alive(pool), *lost], spec)
        return free < min(spec.weight(one.instance_type) for one in temporary)

    def _judge_fence(self, inv: Invocation, pool: str, what: str) -> None:
        lease, newest = inv.of(pool).lease, self.newest.get(pool)
        if lease is None or newest is not lease:
            self.broken("only the newest fence acts", f"{what} under {lease}, the newest is {newest}")

    def _judge_saved(self, pool: str, what: str, ids: Iterable[str]) -> None:
        """Whoever comes next must know what may be gone."""
        status = self.statuses.statuses.get(pool)
        ending = status.memory.ending if status else None
        if unwritten := set(ids) - set(ending.ids if ending else ()):
            self.broken("saved first", f"{what}, and {sorted(unwritten)} are not saved")

    # The table

    def leased(self, inv: Invocation, lease: Lease | None) -> None:
        """A lease was granted, or was not."""
        if lease is not None:
            seen = inv.of(lease.pool_name)
            seen.lease = lease
            self.newest[lease.pool_name] = lease

    def written(self, lease: Lease, what: str) -> None:
        """A write under a lease took effect."""
        newest = self.newest[lease.pool_name]
        if newest is not lease:
            self.broken("only the newest fence writes", f"{what} under {lease}, the newest is {newest}")

    def begun(self, inv: Invocation, lease: Lease, attempt: Attempt) -> None:
        """An attempt was saved."""
        self.written(lease, "begin")
        inv.begun.add(attempt.id)
        if inv.announced[lease.pool_name] > MOST_TOLD_FIRST and lease.pool_name not in inv.asked:
            text = (
                f"{inv.name} announced {inv.announced[lease.pool_name]} ends before it launched for {lease.pool_name}"
            )
            self.broken("replacements come first", text)
        seen = inv.of(lease.pool_name)
        spec = in_force(seen.item, seen.status) if seen.item else None
        # Sent again later, it may find that those then under notice were not taken after all.
        noticed = [one for one in self.alive(lease.pool_name) if one.id in _noticed(seen)]
        self.most_at_begin[attempt.id] = self._most(lease.pool_name, spec) + units(noticed, spec) if spec else 0

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
        spec = in_force(inv.of(pool).item or {}, inv.of(pool).status)
        on_one_market = spec is not None and not spec.on_demand_base and spec.fallback is None
        # Of several weights other types may come into question for what is left.
        alike = spec is not None and (heaviest(spec) == 1 or not (inv.brought or inv.ending))
        named = waiting is not None and f"{expected}:" in waiting.message  # beside a more severe reason
        died = waiting is not None and "before they were ready" in waiting.message
        # By checks whoever lived for less than a minute may not have been seen ready; a tag stays to be seen.
        if spec and self.books.failed_starts(pool, spec, once=False):
            self.failed_starts_in.add(pool)
        both = died and inv.ending  # the launch is refused, and those of the last one were just given up
        wrong = waiting and waiting.reason is not expected and not (named or both)
        if expected and on_one_market and alike and waiting and wrong:
            text = f"{pool} waits for {waiting.reason}, EC2 said {expected}: {waiting.message[:100]}"
            self.broken("the right reason", text)
        # If EC2 lists nothing, the message is that of the last reconcile, perhaps of an item without the tag.
        repeated = waiting and before.answer.waiting and waiting.message == before.answer.waiting.message
        if waiting and died and not repeated and spec and spec.ready_tag and pool not in self.failed_starts_in:
            self.broken("the right reason", f"{pool} says {waiting.message[:100]}, and none did")
        refused, gave = inv.refused.pop(pool, ({}, frozenset()))
        for offering in refused:
            failures, at = self.failing.get((pool, offering), (0, 0.0))
            again = offering not in gave and self.now() - at < FORGOTTEN
            self.failing[pool, offering] = (failures + 1 if again else 1, self.now())
        for offering in gave - refused.keys():
            self.failing.pop((pool, offering), None)
        self._look_at_size(inv, pool)
        self._look_at_spot(inv, pool, after)

    def _look_at_size(self, inv: Invocation, pool: str) -> None:
        """Keep the book of how much a pool has wanted, for as long as it asks for calm; a deleted one wants nothing."""
        seen = inv.of(pool)
        spec = in_force(seen.item, seen.status) if seen.item is not None else None
        calm = spec.scale_in_after_minutes * 60 if spec else HOUR
        looks = [(at, wanted) for at, wanted in self.wanted_at.get(pool, []) if self.now() - at < calm]
        self.wanted_at[pool] = [*looks, (self.now(), self._wanted(spec)[0] if spec else 0)]

    def _look_at_spot(self, inv: Invocation, pool: str, after: Status) -> None:
        """Keep the book of how much a pool has lacked; what a lost launch brought is not known to it."""
        seen = inv.of(pool)
        spec = in_force(seen.item, seen.status) if seen.item is not None else None
        if spec is None or spec.fallback is None:
            if not after.memory.unlisted:  # without a listing a deletion has no effect yet, and may never have one
                self.lacking.pop(pool, None)
            return
        notices = {id_ for id_, one in after.notices.items() if one.kind is NoticeKind.INTERRUPTION}
        serving = [one for one in self.alive(pool) if one.id not in notices and not one.notice]
        lacking = max(0, self._wanted(spec)[1] - units(serving, spec))
        if after.memory.attempt is not None and self.lacking.get(pool):
            lacking = max(lacking, self.lacking[pool][-1][1])
        looks = [(at, lacked) for at, lacked in self.lacking.get(pool, []) if self.now() - at < 6 * HOUR]
        self.lacking[pool] = [*looks, (self.now(), lacking)]

    def released(self, inv: Invocation, lease: Lease) -> None:
        """A reconcile has done all it could: it has announced the ends of the instances under notice that it saw."""
        seen = inv.of(lease.pool_name)
        spec = in_force(seen.item, seen.status) if seen.item is not None else None
        if spec is None or spec.paused or any(call == "PutEvents" for call, *_ in inv.faults):
            return
        unanswered = _noticed(seen, margin=timedelta(seconds=60)) & inv.shown.keys() - self.announced_ends
        for one in self.alive(lease.pool_name):
            if one.id in unanswered:
                self.broken("the end is announced", f"{inv.name} saw the notice of {one.id} and announced nothing")

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
        if inv.outcome != "ok" or inv.raised:
            return
        for call, how, code in inv.faults:
            nothing_left = call == "TerminateInstances" and not any(one.id in inv.ending for one in self._living())
            # The cost of the fleet leaves out the prices that a tick did not get, and counts them as unpriced.
            of_the_cost = inv.name.startswith("tick") and call in ("DescribeSpotPriceHistory", "GetProducts")
            # A version too many harms nobody: it stands among the pool's warnings.
            warned = call == "DeleteLaunchTemplateVersions" and any(status.answer.warnings for _, status in inv.saved)
            if not (self._shows(inv, how, code) or nothing_left or of_the_cost or warned):
                self.broken("every failure shows", f"{inv.name} went well, though {call} met {how} {code}")

    def _living(self) -> list[Instance]:
        return [one for one in self.market.instances.values() if one.live]

    def _shows(self, inv: Invocation, how: str, code: str) -> bool:
        if how in ("error", "error_after", "drop_before", "drop_after", "late", "after_terminate"):
            return inv.errors_told > 0
        if how == "zero":
            return any(status.answer.waiting or _at_size(status.answer) for _, status in inv.saved)
        if how in ("inside", "beside") and code not in OF_AN_OFFERING:
            return inv.errors_told > 0
        return how not in ("throttled", "timed_out_before", "timed_out_after")

    # The end of a run

    def unsettled(self) -> list[Violation]:
        """What is not yet as it must be, some time after the last fault."""
        self.books.newest = set()
        names = sorted({*self.pools.items, *self.statuses.statuses, *self._tagged()})
        return [Violation("converges", text) for name in names if (text := self._amiss(name))]

    def to_replace(self) -> int:
        """How many instances of all pools are to give way to others."""
        specs = {pool: in_force(item, self.statuses.statuses.get(pool)) for pool, item in self.pools.items.items()}
        return sum(
            spec is not None and (one.id in self.books.at_risk or self.books.outdated(one, spec))
            for pool, spec in specs.items()
            for one in self.alive(pool)
        )

    def _tagged(self) -> set[str]:
        return {one.tags["spotpools:pool"] for one in self.market.instances.values() if _ours(one) and one.live}

    def _amiss(self, pool: str) -> str | None:
        alive, item, status = self.alive(pool), self.pools.items.get(pool), self.statuses.statuses.get(pool)
        if item is None:
            return self._not_gone(pool, alive, status)
        answer, spec = (status or Status()).answer, in_force(item, status)
        if bool(answer.spec_errors) != isinstance(parse_pool(item), tuple):
            return f"{pool}: spec_errors are {answer.spec_errors[:1]} for {item}"
        running = [one for one in alive if one.state == "running"]
        if answer.noticed or answer.running != (units(running, spec) if spec else len(running)):
            return f"{pool}: status tells of {answer.running} running, {answer.noticed} noticed; EC2 has {len(alive)}"
        if spec is None or spec.paused:
            return f"{pool} wants nothing, yet waits: {answer.waiting}" if answer.waiting else None
        return (
            self._wrong_size(pool, spec, alive, answer)
            or self._not_replaced(pool, spec, alive, answer)
            or self._never_ready(pool, spec, alive)
        )

    def _not_gone(self, pool: str, alive: list[Instance], status: Status | None) -> str | None:
        staying = [one for one in alive if self.books.stays(one)]
        template = any(one.name == f"{STACK}/{pool}" for one in self.market.surroundings.templates.values())
        kept = alive or any(self.books.stays(one) for one in self.books.of(pool) if one.id in self.books.stopped)
        if len(alive) > len(staying) or ((status or template) and not kept):
            return f"{pool} was deleted; alive {len(alive)}, protected {len(staying)}, template {template}, {status}"
        return None

    def _wrong_size(self, pool: str, spec: Pool, alive: list[Instance], answer: Answer) -> str | None:
        size, serving = self._wanted(spec)[1], units(alive, spec)
        going = [
            *self.books.temporary_on_demand(pool, spec, size),
            *(one for one in alive if self.books.outdated(one, spec)),
        ]
        going += [one for one in alive if one.id in self.books.at_risk]
        # Successors that can never be complete serve nobody.
        possible = any(self.books.swaps(one, spec, alive, size) for one in going)
        most = size + (self.books.beyond_wanted(pool, spec, size) if possible else 0)
        free = [one for one in alive if not self.books.stays(one) and not self.books.of_base(one, alive, spec, size)]
        spare = [one for one in free if spec.weight(one.instance_type) <= serving - most]
        working = [one for one in alive if self.books.ready(one, spec)]
        # Whoever works stays while others that never get ready are there in its place.
        spare = [
            one for one in spare if one not in working or units(working, spec) - spec.weight(one.instance_type) >= size
        ]
        if spare:
            return f"{pool} has {serving} alive, {size} wanted, {most} allowed; {spare[0].id} could go"
        if serving < size:
            return self._rightly_waits(pool, spec, alive, answer.waiting)
        return f"{pool} wants no more, yet waits: {answer.waiting}" if answer.waiting else None

    def _rightly_waits(self, pool: str, spec: Pool, alive: list[Instance], waiting: Waiting | None) -> str | None:
        size = self._wanted(spec)[1]
        short = size - units(alive, spec)
        if waiting is None or (waiting.count != short and not self.books.broken(spec)):
            return f"{pool} lacks {short} and says {waiting}"
        right = self.books.right_reasons(spec, alive, size)
        if self.books.failed_starts(pool, spec):
            right |= {Reason.CONFIG, Reason.UNKNOWN}
        if spec.fallback and not self._lacked_for(pool, spec.fallback.after_minutes * 60 + 60):
            # A rolling update at its limit opens a gap that spot lacks anew, each time for after_minutes.
            free = spec.max_instances - units(alive, spec)
            right |= {one for one in self.books.blockers(spec, "spot", free) if one}
        if waiting.reason not in right:
            return f"{pool} lacks {short} for {sorted(right)} and says {waiting.reason}: {waiting.message[:150]}"
        return None

    def _not_replaced(self, pool: str, spec: Pool, alive: list[Instance], answer: Answer) -> str | None:
        """What should have given way to others and has not, although nothing hinders it."""
        size = self._wanted(spec)[1]
        if units(alive, spec) < size:
            return None
        old = [one for one in alive if self.books.outdated(one, spec) and not self.books.stays(one)]
        fit = [one for one in old if self.books.swaps(one, spec, alive, size)]
        # Where a successor fits beside, in place is no way: it waits until the type that fits is sold.
        freed = 0 if fit else self.books.freed_in_place(old, spec, alive, size)
        old = old if freed else fit
        noted = self.statuses.statuses[pool].notices  # messages get lost
        at_risk = (self.books.at_risk & noted.keys()) - self.books.safe_again - self.books.generation.keys()
        risky = [one for one in alive if one.id in at_risk and not self.books.stays(one)]
        risky = [one for one in risky if self.books.swaps(one, spec, alive, size)]
        temporary = [one for one in self.books.temporary_on_demand(pool, spec, size) if not self.books.stays(one)]
        temporary = [one for one in temporary if self.books.swaps(one, spec, alive, size)]
        returns = spec.fallback is not None and spec.fallback.return_to_spot
        stopped = answer.rollout is not None and answer.rollout.state is RolloutState.STOPPED
        wrong = (
            (stopped, f"{pool}'s roll is stopped for no reason: {answer.rollout}"),
            (
                spec.update == "rolling" and old,
                f"{pool} still has {len(old)} of an older description: {answer.rollout}",
            ),
            (spec.on_rebalance == "replace_first" and risky, f"{pool} still has {len(risky)} at risk"),
            (returns and temporary, f"{pool} still has {len(temporary)} on demand that spot could replace"),
            (spec.update == "rolling" and self.books.lacks_base(alive, spec, size), f"{pool} still lacks its base"),
        )
        blocked = (
            self.books.broken(spec)
            or self.books.failed_starts(pool, spec)
            or self._no_room_to_replace(spec, spec.max_instances - units(alive, spec) + freed)
        )
        return None if blocked else next((text for holds, text in wrong if holds), None)

    def _never_ready(self, pool: str, spec: Pool, alive: list[Instance]) -> str | None:
        """Who does no work for longer than it may take to begin holds the place of one that would."""
        since = self.market.clock() - timedelta(minutes=spec.ready_timeout_minutes, seconds=MOST_SKEW + 2 * LOOK)
        idle = [
            one
            for one in alive
            if one.launched_at < since and not self.books.ready(one, spec) and not self.books.stays(one)
        ]
        return f"{pool} still has {idle[0].id}, which never got ready" if idle else None

    def _no_room_to_replace(self, spec: Pool, free: int) -> bool:
        """Whether no spot, or on-demand, instance could be had in anybody's place."""
        markets = (("spot",) if spec.spot else ()) + (("on-demand",) if spec.on_demand_base or not spec.spot else ())
        return any(None not in self.books.blockers(spec, market, free) for market in markets)


def in_force(item: Mapping[str, Any], status: Status | None) -> Pool | None:
    """The spec that an item stands for: its own, or while it is invalid the last valid one."""
    if isinstance(parsed := _parsed(_Item(repr(item), item)), Pool):
        return parsed
    return recalled(status.memory.spec if status else None)


@dataclass(frozen=True)
class _Item:
    """An item that can be remembered: the same one is judged again and again."""

    text: str
    item: Mapping[str, Any] = field(compare=False)


@lru_cache(1000)
def _parsed(one: _Item) -> Pool | tuple[SpecError, ...]:
    return parse_pool(one.item)


def _noticed(seen: Seen, margin: timedelta = timedelta(0)) -> set[str]:
    """Instances that the status, as it was read, showed under interruption notice."""
    if seen.status is None or seen.status_at is None:
        return set()
    at = seen.status_at
    taken = ((id_, one) for id_, one in seen.status.notices.items() if one.kind is NoticeKind.INTERRUPTION)
    return {id_ for id_, one in taken if at - one.at < NOTICE_COUNTS - margin}


def _ours(instance: Instance) -> bool:
    return instance.tags.get("spotpools:stack") == STACK and "spotpools:pool" in instance.tags


def _at_size(answer: Answer) -> bool:
    return answer.running + answer.starting >= answer.wanted


def market_of(params: dict[str, Any]) -> str:
    """Spot or on-demand, as a CreateFleet asks."""
    return str(params["TargetCapacitySpecification"]["DefaultTargetCapacityType"])


def tag_of(params: dict[str, Any], key: str) -> str:
    tags = {tag["Key"]: tag["Value"] for one in params["TagSpecifications"] for tag in one["Tags"]}
    return str(tags[key])
