"""``python -m tests.sim.mutants``: deliberate defects, put in for this check alone; the simulation must catch each.

What a mutant does is what somebody once shipped, or what a change of the code under test could bring about.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any
from unittest import mock

from lambdas import act
from lambdas.aws import asking, ec2_fleet, offerings
from lambdas.aws.ec2_fleet import Ec2Fleet
from lambdas.domain import answer, capacity, decide, errors, intent, offers, pauses, picture, remember
from lambdas.domain.capacity import Stock
from lambdas.domain.intent import Intent
from lambdas.domain.observed import Instance
from lambdas.domain.plan import Terminate
from lambdas.domain.pool import Pool
from lambdas.domain.results import Launched, Terminated
from lambdas.domain.status import RECENT, Attempt, Reason, Status
from lambdas.ports import FleetError, Lease
from tests.fakes import MemoryStatuses
from tests.sim.runs import play

MOST_SEEDS = 400

Put = Callable[[Any, str, Any], None]
"""Puts a defect in place of a function of a module or class."""

MUTANTS: dict[str, Callable[[Put], None]] = {}


def mutant(name: str) -> Callable[[Callable[[Put], None]], Callable[[Put], None]]:
    """Enter a defect into the list."""

    def enter(apply: Callable[[Put], None]) -> Callable[[Put], None]:
        MUTANTS[name] = apply
        return apply

    return enter


@mutant("a launch is not written down before its call")
def _not_written_down(put: Put) -> None:
    real = act._written_down  # noqa: SLF001  mutants reach inside

    def unwritten(step: Any, seen: Any, lease: Any, hands: act.Hands) -> Attempt:
        return real(step, seen, lease, replace(hands, statuses=mock.Mock()))

    put(act, "_written_down", unwritten)


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

    def take_stock(pool: Any, instances: Any, status: Status, *rest: Any) -> Stock:
        forgetful = status.model_copy(update={"memory": status.memory.model_copy(update=forgotten)})
        return real(pool, instances, forgetful, *rest)

    put(picture, "take_stock", take_stock)


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

    def acquire(self: MemoryStatuses, pool_name: str, now: datetime) -> Lease | None:
        if pool_name in self.leases:
            self.leases[pool_name]["until"] = now
        return real(self, pool_name, now)

    put(MemoryStatuses, "acquire", acquire)


@mutant("noticed instances are terminated")
def _terminate_noticed(put: Put) -> None:
    real = decide._too_many  # noqa: SLF001  mutants reach inside

    def too_many(seen: Any, why: str = "") -> Iterator[Any]:
        yield from real(seen, why)
        if seen.stock.noticed:
            yield Terminate(tuple(one.id for one in seen.stock.noticed), why="they go anyway")

    put(decide, "_too_many", too_many)


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
    put(pauses.Pauses, "after", lambda self, *_: self.base)


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


@dataclass(frozen=True)
class Caught:
    """When a mutant was caught, and by which promise; seed is None if it never was."""

    name: str
    seeds: int
    rule: str | None


def hunt(name: str, most: int = MOST_SEEDS) -> Caught:
    """Run seeds under a mutant until a promise breaks."""
    with ExitStack() as stack:
        put = partial(_put, stack)
        MUTANTS[name](put)
        for seed in range(most):
            if violations := play(seed).violations:
                return Caught(name, seed + 1, violations[0].rule)
    return Caught(name, most, None)


def _put(stack: ExitStack, target: Any, attribute: str, value: Any) -> None:
    stack.enter_context(mock.patch.object(target, attribute, value))


def main() -> int:
    """Hunt them all; 1 if one got away."""
    escaped = 0
    with ProcessPoolExecutor() as pool:
        for caught in pool.map(hunt, MUTANTS):
            escaped += caught.rule is None
            how = f"caught after {caught.seeds:3} seeds: {caught.rule}" if caught.rule else "NOT CAUGHT"
            sys.stdout.write(f"{caught.name:70} {how}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(MUTANTS)} mutants, {escaped} not caught\n")
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
