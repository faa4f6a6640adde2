"""``python -m tests.sim.mutants``: deliberate defects, put in for this check alone; the simulation must catch each.

What a mutant does is what was once shipped, or what a change of the code under test could bring about.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import ROUND_UP, Decimal
from functools import partial
from itertools import count
from typing import Any
from unittest import mock

from lambdas import act, observe
from lambdas.aws import asking, ec2_fleet, offerings, status_table
from lambdas.aws.ec2_fleet import Ec2Fleet
from lambdas.aws.launch_templates import LaunchTemplates
from lambdas.control_plane import ControlPlane
from lambdas.domain.decision import decide, intent, offers, snapshot
from lambdas.domain.decision import replacement as replacing
from lambdas.domain.decision import stock as capacity
from lambdas.domain.decision.intent import Intent
from lambdas.domain.decision.replacement import Replacement
from lambdas.domain.decision.snapshot import Snapshot
from lambdas.domain.decision.stock import Stock
from lambdas.domain.item import pool as pool_item
from lambdas.domain.item import schedule
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model import errors
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.plan import Drain, Plan, Terminate
from lambdas.domain.model.results import Launched, Terminated
from lambdas.domain.model.status import RECENT, Attempt, Reason, Shortfall, Status
from lambdas.domain.record import backoff
from lambdas.domain.record import memory as remember
from lambdas.domain.record import next_status as outcome
from lambdas.domain.record import public_status as answer
from lambdas.ports import FleetError, Lease
from tests.sim.runs import play
from tests.support.fakes import MemoryStatuses
from tests.support.seeds import fresh_seed

MOST_SEEDS = 400

Put = Callable[[Any, str, Any], None]
"""Puts a defect in place of a function of a module or class."""

MUTANTS: dict[str, Callable[[Put], None]] = {}

OF_LARGE: set[str] = set()
"""Defects that only pools of hundreds can show."""


def mutant(name: str, *, large: bool = False) -> Callable[[Callable[[Put], None]], Callable[[Put], None]]:
    """Enter a defect into the list."""

    def enter(apply: Callable[[Put], None]) -> Callable[[Put], None]:
        MUTANTS[name] = apply
        if large:
            OF_LARGE.add(name)
        return apply

    return enter


@mutant("a launch is not saved before its call")
def _not_written_down(put: Put) -> None:
    real = act._saved_attempt  # noqa: SLF001  mutants reach inside

    def unwritten(step: Any, seen: Any, lease: Any, plane: ControlPlane) -> Attempt:
        return real(step, seen, lease, replace(plane, statuses=mock.Mock()))

    put(act, "_saved_attempt", unwritten)


@mutant("a retry has a new token")
def _new_token(put: Put) -> None:
    real, numbers = Ec2Fleet.launch, count(1)

    def launch(self: Ec2Fleet, attempt: Attempt) -> Launched:
        request = json.loads(attempt.request)
        if any(attempt.id == seen for seen in sent):
            request["ClientToken"] += f"-{next(numbers)}"
        sent.append(attempt.id)
        return replace(real(self, attempt.model_copy(update={"request": json.dumps(request)})), attempt=attempt)

    sent: list[str] = []
    put(Ec2Fleet, "launch", launch)


@mutant("an answer with Errors counts as nothing launched")
def _count_by_errors(put: Put) -> None:
    real = Ec2Fleet.launch

    def launch(self: Ec2Fleet, attempt: Attempt) -> Launched:
        launched = real(self, attempt)
        return replace(launched, instances={}) if launched.failures else launched

    put(Ec2Fleet, "launch", launch)


@mutant("an error in answer to a repeat closes the attempt")
def _repeat_closes(put: Put) -> None:
    put(act, "_still_open", lambda again: again)


@mutant("a lost answer is taken for a refusal")
def _lost_is_refused(put: Put) -> None:
    real = Ec2Fleet.launch
    put(Ec2Fleet, "launch", lambda self, attempt: replace(real(self, attempt), answered=True))


@mutant("a launch is repeated until the moment it is given up")
def _repeat_too_long(put: Put) -> None:
    put(decide, "RESEND_FOR", RECENT)


@mutant("an attempt that EC2 has shown is forgotten at once")
def _shown_is_forgotten(put: Put) -> None:
    put(remember, "_shown", lambda _: ())


def _forgetting(put: Put, **forgotten: Any) -> None:
    real = capacity.take_stock

    def take_stock(pool: Any, instances: Any, status: Status, *rest: Any, **more: Any) -> Stock:
        forgetful = status.model_copy(update={"memory": status.memory.model_copy(update=forgotten)})
        return real(pool, instances, forgetful, *rest, **more)

    for module in (snapshot, observe):
        put(module, "take_stock", take_stock)


@mutant("just launched instances do not count")
def _launched_ignored(put: Put) -> None:
    _forgetting(put, launched=())


@mutant("an open attempt does not count")
def _attempt_ignored(put: Put) -> None:
    _forgetting(put, attempt=None)


@mutant("noticed instances do not count against max_instances")
def _noticed_ignored(put: Put) -> None:
    put(Stock, "alive", property(lambda stock: stock.serving + stock.in_flight))


@mutant("prices go through float and are rounded to a hundredth of a cent")
def _float_price(put: Put) -> None:
    def above_cap(pool: Pool, offer: Any) -> bool:
        cap, price = pool.cap(offer.on_demand_price), offer.spot_price
        return pool.spot and cap is not None and price is not None and round(float(price), 4) > round(float(cap), 4)

    put(offers, "above_cap", above_cap)
    put(ec2_fleet, "format_price", lambda price: str(Decimal(f"{float(price):.4f}")))


@mutant("the table does not check the fence")
def _no_fence(put: Put) -> None:
    def held(self: MemoryStatuses, lease: Lease) -> dict[str, Any]:
        return self.leases.setdefault(lease.pool_name, {"fence": lease.fence, "dirty": False})

    put(MemoryStatuses, "_held", held)


@mutant("a taken lease is taken again")
def _no_lease(put: Put) -> None:
    real = MemoryStatuses.acquire

    def acquire(self: MemoryStatuses, pool_name: str) -> Lease | None:
        if pool_name in self.leases:
            self.leases[pool_name]["until"] = self.clock()
        return real(self, pool_name)

    put(MemoryStatuses, "acquire", acquire)


@mutant("noticed instances are terminated")
def _terminate_noticed(put: Put) -> None:
    real = decide._terminate_surplus  # noqa: SLF001  mutants reach inside

    def too_many(seen: Any, why: str = "") -> Iterator[Any]:
        yield from real(seen, why=why)
        if seen.stock.noticed:
            yield Terminate(tuple(one.id for one in seen.stock.noticed), why="they go anyway")

    put(decide, "_terminate_surplus", too_many)


@mutant("protected instances are terminated")
def _protect_ignored(put: Put) -> None:
    real = Ec2Fleet._listed  # noqa: SLF001  mutants reach inside

    def listed(self: Ec2Fleet, filters: Any) -> list[Instance]:
        return [replace(one, tags={**one.tags, "spotpools:protect": "no"}) for one in real(self, filters)]

    put(Ec2Fleet, "_listed", listed)


@mutant("instances with our pool's name are ours, whatever their stack")
def _stack_ignored(put: Put) -> None:
    real = Ec2Fleet._listed  # noqa: SLF001  mutants reach inside

    def listed(self: Ec2Fleet, filters: Any) -> list[Instance]:
        mine, self._stack = self._stack, "other"
        theirs = real(self, filters)
        self._stack = mine
        return [*real(self, filters), *theirs]

    put(Ec2Fleet, "_listed", listed)


@mutant("a refused termination counts as done")
def _refused_is_done(put: Put) -> None:
    put(Ec2Fleet, "_terminate_batch", _terminate_blindly)


def _terminate_blindly(self: Ec2Fleet, ids: list[str]) -> Terminated:
    try:
        self._ec2.terminate_instances(InstanceIds=ids)
    except Exception:  # noqa: BLE001  that is the defect
        return Terminated(tuple(ids))
    return Terminated(tuple(ids))


@mutant("throttling is taken for missing capacity")
def _throttling_is_capacity(put: Put) -> None:
    real = errors.reason_of

    def reason_of(code: str) -> Reason:
        reason = real(code)
        return Reason.NO_CAPACITY if reason is Reason.THROTTLED else reason

    put(errors, "reason_of", reason_of)


@mutant("back-off starts afresh each time")
def _no_backoff(put: Put) -> None:
    put(backoff.BackoffPolicy, "after", lambda self, *_: self.base)


@mutant("only the first page is read")
def _first_page(put: Put) -> None:
    real = asking.pages
    for module in (ec2_fleet, offerings):
        put(module, "pages", lambda call, **asked: iter([next(real(call, **asked))]))


@mutant("a failing listing is an empty one")
def _failing_is_empty(put: Put) -> None:
    real = Ec2Fleet._listed  # noqa: SLF001  mutants reach inside

    def listed(self: Ec2Fleet, filters: Any) -> list[Instance]:
        try:
            return real(self, filters)
        except FleetError:
            return []

    put(Ec2Fleet, "_listed", listed)


@mutant("a pause is not heeded")
def _pause_ignored(put: Put) -> None:
    put(Intent, "paused", property(lambda self: self.pool is None and not self.deleted))


@mutant("a bad item counts as a deleted one")
def _bad_is_deleted(put: Put) -> None:
    real = intent.intent_of

    def intent_of(item: Mapping[str, Any] | None, status: Any, now: Any, grace: Any) -> Intent:
        found = real(item, status, now, grace)
        return real(None, status, now, grace) if found.errors else found

    for module in (sys.modules["lambdas.reconcile"], sys.modules["lambdas.tick"]):
        put(module, "intent_of", intent_of)


@mutant("a failed launch leaves no error behind")
def _silent(put: Put) -> None:
    put(answer, "_last_error", lambda _, seen: seen.status.answer.last_error)


@mutant("a surge need not fit into max_instances")
def _surge_overflows(put: Put) -> None:
    def wish(seen: Snapshot) -> int:
        return seen.stock.missing + seen.surge

    real = offers.ask
    put(Snapshot, "to_launch", property(wish))
    put(decide, "ask", lambda pool, count, headroom, *rest: real(pool, count, headroom + pool.max_unavailable, *rest))


@mutant("instances count against max_instances, whatever their weight")
def _weightless(put: Put) -> None:
    def headroom(stock: Stock) -> int:
        return max(0, stock.limit - len(stock.members) - len(stock.noticed) - stock.in_flight)

    put(Stock, "headroom", property(headroom))


@mutant("MaxPrice is an instance's price, not a unit's")
def _max_price_of_instance(put: Put) -> None:
    put(Pool, "unit_cap", lambda self, price, _: self.cap(price))


@mutant("caps are rounded up")
def _rounded_up(put: Put) -> None:
    put(pool_item, "rounded_down", lambda price: price.quantize(Decimal("0.000001"), ROUND_UP))


@mutant("what has been launched counts as ready")
def _launched_is_ready(put: Put) -> None:
    put(Stock, "ready", property(lambda stock: stock.members))
    put(Stock, "is_ready", lambda *_: True)


@mutant("a roll goes on although its first instance never got ready")
def _roll_regardless(put: Put) -> None:
    def rolling(room: Any, _: Any, __: Any, old: tuple[Instance, ...], going: set[str]) -> Any:
        room.admit([one for one in old if one.id not in going][: room.pool.max_unavailable])
        step = room.pool.max_unavailable
        return Replacement(old, step, step, "it was made from an older description"), []

    put(replacing, "_rolling", rolling)


@mutant("max_unavailable counts for nothing")
def _all_at_once(put: Put) -> None:
    real = replacing._rolling  # noqa: SLF001  mutants reach inside

    def rolling(room: Any, *rest: Any) -> Any:
        found, stuck = real(room, *rest)
        return (replace(found, spare=room.stock.wanted) if found.spare else found), stuck

    put(replacing, "_rolling", rolling)


def _wishing(put: Put, module: Any, name: str, change: Callable[[Pool], Pool]) -> None:
    real = getattr(module, name)

    def changed(*given: Any) -> Any:
        return real(*(change(one) if isinstance(one, Pool) else one for one in given))

    put(module, name, changed)


def _falling_back(pool: Pool, **changes: Any) -> Pool:
    fallback = pool.fallback.model_copy(update=changes) if pool.fallback else None
    return pool.model_copy(update={"fallback": fallback})


@mutant("what spot lacks is bought on demand at once")
def _no_wait(put: Put) -> None:
    _wishing(put, decide, "_fallback", partial(_falling_back, after_minutes=0))


@mutant("on-demand instances are never returned to spot")
def _never_returned(put: Put) -> None:
    _wishing(put, replacing, "plan_swaps", partial(_falling_back, return_to_spot=False))


@mutant("an on-demand instance's successor is surplus")
def _successor_is_surplus(put: Put) -> None:
    def surplus(pool: Pool, stock: Stock) -> list[Instance]:
        on_demand = [one for one in stock.members if one.market is Market.ON_DEMAND] if pool.spot else []
        on_demand.sort(key=lambda one: (stock.is_ready(one), one.launched_at, one.id))
        return on_demand[: max(0, len(on_demand) - replacing.base(pool, stock))]

    put(replacing, "temporary_on_demand", surplus)


@mutant("instances that die before they are ready are not counted")
def _deaths_ignored(put: Put) -> None:
    put(remember, "_count_failed_starts", lambda _, __, holds, ___: (0, holds))


@mutant("what is at risk goes before its replacement is ready")
def _at_risk_first(put: Put) -> None:
    real = replacing.plan_swaps

    def plan_swaps(*given: Any) -> Any:
        found = real(*given)
        spared = [
            replace(one, spare=sum(each.units for each in one.instances)) if "risk" in one.why else one
            for one in found.groups
        ]
        return replace(found, groups=tuple(spared))

    put(replacing, "plan_swaps", plan_swaps)


@mutant("risks are not heeded")
def _risks_ignored(put: Put) -> None:
    _wishing(put, replacing, "plan_swaps", lambda pool: pool.model_copy(update={"on_rebalance": "ignore"}))


@mutant("a changed description is launched from the template's old version")
def _old_version(put: Put) -> None:
    real = LaunchTemplates.version
    put(
        LaunchTemplates,
        "version",
        lambda self, pool, known: known if known and pool.described else real(self, pool, known),
    )


@mutant("scale-in does not wait")
def _scale_in_at_once(put: Put) -> None:
    put(Snapshot, "held", property(lambda seen: seen.stock.wanted))


@mutant("the schedule is read in UTC")
def _schedule_in_utc(put: Put) -> None:
    real = schedule.Entry.last_came
    put(schedule.Entry, "last_came", lambda self, now: real(self.model_copy(update={"timezone": "UTC"}), now))


@mutant("no end is announced")
def _untold(put: Put) -> None:
    put(decide, "_announce_ends", lambda *_: ())


@mutant("an instance that never gets ready stays")
def _late_stay(put: Put) -> None:
    for module in (decide, remember):
        put(module, "late_ones", lambda _: ())


@mutant("each shortfall is as old as the first one")
def _one_patience(put: Put) -> None:
    real = outcome._shortfalls  # noqa: SLF001  mutants reach inside

    def shortfalls(after: Snapshot, left: Any) -> tuple[Shortfall, ...]:
        pool, known = after.intent.pool, after.status.memory.shortfalls
        temporary = pool is not None and after.stock.on_demand > replacing.base(pool, after.stock)
        if known and temporary:
            return (Shortfall(since=known[0].since, units=after.stock.limit),)
        return real(after, left)

    put(outcome, "_shortfalls", shortfalls)


@mutant("a clock that is set back takes back what has come")
def _set_back(put: Put) -> None:
    put(schedule, "_set_back", lambda *_: timedelta(0))


@mutant("who ended is not asked for its ready tag")
def _ended_unready(put: Put) -> None:
    put(capacity, "_has_ready_tag", lambda *_: False)


@mutant("swaps begin though they cannot be completed")
def _swaps_in_parts(put: Put) -> None:
    put(replacing._Room, "_fits", lambda *_: True)  # noqa: SLF001  mutants reach inside


@mutant("no swap is made in place")
def _none_in_place(put: Put) -> None:
    put(replacing, "_in_place", lambda *_: ())


@mutant("the calm forgets larger sizes")
def _one_size(put: Put) -> None:
    real = outcome._sizes  # noqa: SLF001  mutants reach inside
    put(outcome, "_sizes", lambda after: real(after)[-1:])


@mutant("replacing in vain goes on as fast as it can")
def _risks_untiring(put: Put) -> None:
    put(remember, "_risks", lambda *_: None)


@mutant("a termination is not saved before its call")
def _ending_unwritten(put: Put) -> None:
    put(act, "_save_endings", lambda *_: None)


@mutant("what was seen minutes ago is acted on")
def _old_looks(put: Put) -> None:
    put(act, "SEEN_COUNTS", timedelta(hours=1))


@mutant("all notices that are past are dropped in one expression", large=True)
def _grown_expression(put: Put) -> None:
    put(status_table, "REMOVED_AT_ONCE", 100_000)


@mutant("all ends are announced before anything is launched", large=True)
def _told_first(put: Put) -> None:
    real = decide.decide

    def told_first(seen: Snapshot) -> Plan:
        plan = real(seen)
        others = [step for step in plan.steps if not isinstance(step, Drain)]
        return replace(plan, steps=(*decide._announce_ends(seen), *others))  # noqa: SLF001  mutants reach inside

    put(sys.modules["lambdas.reconcile"], "decide", told_first)


@dataclass(frozen=True)
class Caught:
    """When a mutant was caught, and by which promise; ``rule`` is None if it never was."""

    name: str
    seeds: int
    rule: str | None
    seed: int = 0


def hunt(name: str, most: int = MOST_SEEDS) -> Caught:
    """Run worlds that nobody has seen under a mutant until a promise breaks that holds without it."""
    first = fresh_seed("FIRST_SEED")
    for number in range(most):
        large = name in OF_LARGE
        with ExitStack() as stack:
            MUTANTS[name](partial(_put, stack))
            violations = play(first + number, large=large).violations
        if not violations:
            continue
        if "TypeError" in str(violations[0].text):
            raise TypeError(f"the defect {name!r} no longer fits what it replaces: {violations[0].text}")
        if not play(first + number, large=large).violations:
            return Caught(name, number + 1, violations[0].rule, first + number)
        sys.stdout.write(f"seed {first + number} breaks without a defect: {violations[0].rule}\n")
    return Caught(name, most, None)


def _put(stack: ExitStack, target: Any, attribute: str, value: Any) -> None:
    stack.enter_context(mock.patch.object(target, attribute, value))


def main() -> int:
    """Hunt them all; 1 if one got away."""
    escaped = 0
    with ProcessPoolExecutor() as pool:
        for caught in pool.map(hunt, MUTANTS):
            escaped += caught.rule is None
            how = (
                f"caught after {caught.seeds:3} worlds ({caught.seed}): {caught.rule}" if caught.rule else "NOT CAUGHT"
            )
            sys.stdout.write(f"{caught.name:70} {how}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(MUTANTS)} mutants, {escaped} not caught\n")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
