"""Works out what to remember after a reconcile. Each reason for a failure has its own policy.

A refusal that names its offering blocks that offering; one that names none blocks the market. NO_CAPACITY backs off,
doubling. PRICE_ABOVE_MAX is checked again at the next tick, without a launch call if the price is known to be too high.
QUOTA and CONFIG pause longest: they need a person. THROTTLED and UNKNOWN pause for a doubling time; the third UNKNOWN
becomes CONFIG. NO_ADDRESSES blocks a subnet: others are tried first. Launches with failed starts also hold their market
for a doubling pause, from the second on as CONFIG.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from lambdas.domain.decision.decide import NEXT_LOOK, blame, late_ones
from lambdas.domain.decision.offers import OVERRIDES_LIMIT
from lambdas.domain.decision.snapshot import Snapshot
from lambdas.domain.decision.stock import units
from lambdas.domain.item.fields import bounded
from lambdas.domain.item.pool import Market
from lambdas.domain.model.errors import KEY_REMEDY, REMEDIES
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.plan import Plan, Terminate
from lambdas.domain.model.results import Failure, Launched, Results
from lambdas.domain.model.status import (
    FORGET_BACKOFF,
    OF_CAPACITY,
    RECENT,
    Attempt,
    Backoff,
    Batch,
    Ended,
    Hold,
    Memory,
    Reason,
    Series,
    Template,
)
from lambdas.domain.record.backoff import A_DAY, BackoffPolicy

UNKNOWN_TRIES = 3
FAILED_KEPT = 8
"""Attempts: those of a few launches on two markets, whose instances end one after the other."""

MOST_OF_A_SERIES = 20
"""Launches of a series that are remembered. Instances of an older launch are replaced as if for the first time."""

LONGEST_SERIES = A_DAY
"""The longest pause between tries that have not helped, for replacements that are not urgent."""

A_LITTLE = timedelta(minutes=1)

RIGHT_RETRY = timedelta(seconds=90)
"""If a right to terminate is missing, it may come back for all instances at once. Longer than the minute of a tick: a
policy may also forbid the end of only one, and then another is chosen.
"""
"""How much earlier than our clock EC2's launch times may be."""

OF_THE_ACCOUNT = ("VolumeLimitExceeded", "MaxFleetCountExceeded", "InstanceLimitExceeded")
"""Quotas of the whole account: other offerings do not help, even if EC2 names one."""

QUOTED = 150
"""Characters of EC2's message kept for an offering's refusal: a pool may have hundreds of offerings."""

SEVERITY = (
    Reason.CONFIG,
    Reason.QUOTA,
    Reason.THROTTLED,
    Reason.UNKNOWN,
    Reason.NO_ADDRESSES,
    Reason.NO_CAPACITY,
    Reason.PRICE_ABOVE_MAX,
)

NO_TEMPLATE = "InvalidLaunchTemplate"
"""The beginning of EC2's codes for a missing launch template, or a missing version of it."""

TEMPLATE_EXISTS = "InvalidLaunchTemplateName.AlreadyExistsException"

TEMPLATE_SETTLES = timedelta(minutes=1)
"""How long EC2 may not show a new launch template, its version or its tags everywhere."""

TEMPLATE_RETRY = timedelta(seconds=5)

TAKEN_BY_EC2 = ("Server.SpotInstanceTermination", "Server.SpotInstanceShutdown")
NO_ROOM = ("Server.InsufficientInstanceCapacity",)
BY_A_PERSON = ("Client.UserInitiatedShutdown",)
"""Why EC2 ended an instance (EC2 User Guide, StateReason). Any other code counts as a machine fault."""

NO_KEY = ("Client.InvalidKMSKey",)
CLIENT_ERROR = ("Client.InternalError",)
"""Of the machine faults, the first concerns the root volume's key, and the second may concern it."""


def remember(snapshot: Snapshot, plan: Plan, results: Results, policy: BackoffPolicy) -> Memory:
    """The memory after this reconcile."""
    memory, launched, now = snapshot.status.memory, results.launched, snapshot.now
    attempt = None if plan.drop_attempt else memory.attempt
    backoff = {key: refusal for key, refusal in memory.backoff.items() if _still_counts(key, refusal, snapshot)}
    holds = dict(memory.holds)
    if launched is not None:
        attempt = None if launched.answered else launched.attempt
        settling = template_settles(snapshot, launched)
        if not settling:
            backoff = _backoff_after(launched, backoff, now, policy)
        # If EC2 refused the requests before a launch, no market can launch.
        asked = (launched.market,) if launched.attempt or snapshot.intent.pool is None else snapshot.intent.pool.markets
        for market in asked:
            if settling:
                holds = {**holds, market: _settling(launched, now)}
            else:
                holds = _holds_after(replace(launched, market=market), holds, now, policy)
    failed = _failed_starts(snapshot, results)
    backoff |= _no_room(failed, backoff, now, policy)
    failed_starts, holds = _count_failed_starts(failed, snapshot, holds, policy)
    below = not snapshot.intent.paused and units(snapshot.stock.running) < snapshot.stock.wanted
    return Memory(
        spec=snapshot.intent.spec or memory.spec,
        attempt=attempt,
        launched=_launched(snapshot, plan, results),
        terminated=_terminated(snapshot, results),
        ending=_ending(snapshot, results),
        shielded=_bounded(_shielded(memory.shielded, results, now)),
        startup=_startup(snapshot, plan, results, failed),
        announced=_announced(snapshot, results),
        failed_starts=failed_starts,
        failed_attempts=_failed_attempts(memory.failed_attempts, failed),
        backoff=_bounded(backoff),
        holds=holds,
        recently_interrupted=_bounded(_recently_interrupted(snapshot, failed, policy)),
        price_refused=_bounded(_price_refused(memory.price_refused, launched, now)),
        full=_bounded(_full_subnets(memory.full, launched, now, policy)),
        template=_template(snapshot, launched),
        below_since=(memory.below_since or now) if below else None,
        sizes=memory.sizes,
        shortfalls=memory.shortfalls,
        replace_at=memory.replace_at,
        risks=_risks(snapshot, _brought(snapshot, plan, results), policy),
        returns=_returns(snapshot, plan, policy),
        unsold=memory.unsold if snapshot.unsold is None and snapshot.intent.spec == memory.spec else snapshot.unsold,
    )


V = TypeVar("V")


def _bounded(remembered: dict[str, V]) -> dict[str, V]:
    """The latest entries, as many as one launch may name: a status must stay small."""
    return dict(list(remembered.items())[-OVERRIDES_LIMIT:])


def _ending(snapshot: Snapshot, results: Results) -> Ended | None:
    """Terminations whose answer is unknown: sent just now, or by a reconcile that did not finish."""
    before, now = snapshot.status.memory.ending, snapshot.now
    known = {instance.id for instance in snapshot.stock.doubtful} - results.ended - results.unanswered
    if results.unanswered:
        return Ended(at=now, ids=tuple(sorted(results.unanswered | known)))
    return Ended(at=before.at, ids=tuple(sorted(known))) if before and known else None


def _shielded(known: Mapping[str, datetime], results: Results, now: datetime) -> dict[str, datetime]:
    """Instances that EC2 refuses to terminate by name: others end instead, and EC2 is not asked every minute."""
    new = {
        id_: now + (RIGHT_RETRY if id_ in answer.forbidden else FORGET_BACKOFF)
        for answer in results.terminated
        for id_ in answer.refused
    }
    return {id_: until for id_, until in {**known, **new}.items() if until > now}


def _brought(snapshot: Snapshot, plan: Plan, results: Results) -> str | None:
    """The launch attempt of which instances have just become known: by its answer, or if that was lost by a listing."""
    launched, attempt = results.launched, snapshot.status.memory.attempt
    if launched and launched.attempt and launched.instances:
        return launched.attempt.id
    return attempt.id if plan.drop_attempt and attempt and _shown(snapshot) else None


def _risks(snapshot: Snapshot, new: str | None, policy: BackoffPolicy) -> Series | None:
    """If replacements of instances at risk are at risk too, replacing becomes rare. ``new`` is an attempt."""
    series, now, stock = snapshot.status.memory.risks, snapshot.now, snapshot.stock
    replaced = stock.at_risk & snapshot.swaps.going
    going = [instance for instance in stock.members if instance.id in replaced and instance.attempt_id != new]
    counted = units(instance for instance in stock.members if instance.attempt_id == new)
    # A launch of what was missing replaces nothing.
    if new is None or not going or stock.lacking_without(counted):
        return series if series and now - series.until < LONGEST_SERIES else None
    if series is None or now - series.until >= LONGEST_SERIES:
        return Series(since=now - A_LITTLE, tries=1, until=now + policy.seldom(1), attempts=(new,))
    again = any(instance.attempt_id in series.attempts for instance in going)
    tries, until = (series.tries + 1, now + policy.seldom(series.tries + 1)) if again else (series.tries, series.until)
    attempts = (*series.attempts, new)[-MOST_OF_A_SERIES:]
    return Series(since=series.since, tries=tries, until=until, attempts=attempts)


def _returns(snapshot: Snapshot, plan: Plan, policy: BackoffPolicy) -> Series | None:
    """If room is made for spot and spot does not come, that becomes rare; once spot has come it starts again."""
    series, now = snapshot.status.memory.returns, snapshot.now
    on_spot = (instance for instance in _became_ready(snapshot) if instance.market is Market.SPOT)
    if series and any(instance.launched_at >= series.since for instance in on_spot):
        return None
    if not snapshot.swaps.returning or snapshot.offers is None:
        return series
    made = {id_ for step in plan.steps if isinstance(step, Terminate) for id_ in step.instance_ids}
    if not made & snapshot.swaps.going:
        return Series(since=now - A_LITTLE, tries=series.tries if series else 0, until=now + policy.longest)
    tries = series.tries + 1 if series else 1
    return Series(since=now - A_LITTLE, tries=tries, until=now + policy.seldom(tries))


def template_settles(snapshot: Snapshot, launched: Launched | None) -> bool:
    """Whether EC2 refused a launch only because it does not show our new launch template everywhere yet."""
    if launched is None or not launched.short or not launched.failures:
        return False
    known = _template(snapshot, launched)
    young = known is not None and known.made_at is not None and snapshot.now - known.made_at < TEMPLATE_SETTLES
    return young and all(_speaks_of_the_template(failure) for failure in launched.failures)


def _speaks_of_the_template(failure: Failure) -> bool:
    """Whether a failure is about the template: by its code, or because IAM saw the template without its tags."""
    unseen = failure.code == "UnauthorizedOperation" and ":launch-template/" in failure.message
    return unseen or failure.code.startswith(NO_TEMPLATE)


def _settling(launched: Launched, now: datetime) -> Hold:
    first = launched.failures[0]
    message = f"The pool's new launch template is not visible everywhere in EC2 yet: {first.code}: {first.message}"
    return Hold(reason=Reason.UNKNOWN, until=now + TEMPLATE_RETRY, failures=0, message=message)


def _template(snapshot: Snapshot, launched: Launched | None) -> Template | None:
    """The template's version last used. If EC2 does not find it, it was deleted: the next launch looks for it again.

    If EC2 has a template that it does not show, a reconcile that did not finish created it.
    """
    known = snapshot.template or snapshot.status.memory.template
    if launched is not None and any(failure.code == TEMPLATE_EXISTS for failure in launched.failures):
        seen = known is not None and not known.machine
        return known if seen else Template(machine="", id="", version=0, made_at=snapshot.now)
    missed = launched is not None and any(failure.code.startswith(NO_TEMPLATE) for failure in launched.failures)
    young = known and known.made_at and snapshot.now - known.made_at < TEMPLATE_SETTLES
    return known.model_copy(update={"machine": ""}) if known and missed and not young else known


def most_severe(failures: Iterable[Failure]) -> Failure | None:
    """The most severe failure."""
    return min(failures, key=lambda failure: SEVERITY.index(failure.reason), default=None)


def _launched(snapshot: Snapshot, plan: Plan, results: Results) -> tuple[Batch, ...]:
    memory, now = snapshot.status.memory, snapshot.now
    batches = {batch.attempt: batch for batch in memory.launched if now - batch.at < RECENT}
    if plan.drop_attempt and memory.attempt and (shown := _shown(snapshot)):
        batches[memory.attempt.id] = _batch(memory.attempt, {instance.id: instance.offering for instance in shown}, now)
    if (launched := results.launched) and launched.attempt and launched.instances:
        batches[launched.attempt.id] = _batch(launched.attempt, launched.instances, now)
    return tuple(batches.values())


def _batch(attempt: Attempt, instances: Mapping[str, str], now: datetime) -> Batch:
    ids: dict[str, list[str]] = defaultdict(list)
    for id_, offering in sorted(instances.items()):
        ids[offering].append(id_)
    return Batch(
        at=now, attempt=attempt.id, machine=attempt.machine, ids={key: tuple(some) for key, some in ids.items()}
    )


def _shown(snapshot: Snapshot) -> tuple[Instance, ...]:
    """Instances of the open attempt that EC2 shows. The next listing may be of an older replica and lack them."""
    attempt, stock = snapshot.status.memory.attempt, snapshot.stock
    seen = (*stock.running, *stock.starting, *stock.noticed, *stock.doubtful)
    return tuple(instance for instance in seen if attempt and instance.attempt_id == attempt.id)


def _terminated(snapshot: Snapshot, results: Results) -> tuple[Ended, ...]:
    """Instances that no longer count, although an older listing may show them: terminated by us, or seen to end."""
    recent = [ended for ended in snapshot.status.memory.terminated if snapshot.now - ended.at < RECENT]
    ids = results.ended | {instance.id for instance in snapshot.stock.failed_starts} | set(snapshot.stock.ended)
    return (*recent, *([Ended(at=snapshot.now, ids=tuple(sorted(ids)))] if ids else []))


def _startup(snapshot: Snapshot, plan: Plan, results: Results, failed: Iterable[Instance]) -> tuple[str, ...]:
    """Instances that are not ready yet: those awaited, and those just launched."""
    new = set(results.launched.instances) if results.launched else set()
    if plan.drop_attempt:
        new |= {instance.id for instance in _shown(snapshot)}
    over = results.ended | {instance.id for instance in failed}
    return tuple(sorted((snapshot.stock.unready | new) - over))


def _announced(snapshot: Snapshot, results: Results) -> tuple[str, ...]:
    just_announced = {drained.instance_id for result in results.drains for drained in result.drained}
    noticed = {instance.id for instance in snapshot.stock.noticed}
    return tuple(sorted(noticed & (just_announced | set(snapshot.status.memory.announced))))


def _full_subnets(
    known: Mapping[str, datetime], launched: Launched | None, now: datetime, policy: BackoffPolicy
) -> dict[str, datetime]:
    """Subnets without a free address: others of the zone are tried first for a while."""
    refused = (failure for failure in (launched.failures if launched else ()) if failure.reason is Reason.NO_ADDRESSES)
    new = {failure.subnet: now + policy.base for failure in refused if failure.subnet}
    return {key: until for key, until in sorted({**known, **new}.items()) if until > now}


def _failed_starts(snapshot: Snapshot, results: Results) -> tuple[Instance, ...]:
    """Instances that ended, or were terminated, before they were ready."""
    late = set(late_ones(snapshot)) & results.ended
    stock = snapshot.stock
    return (*stock.failed_starts, *(instance for instance in (*stock.running, *stock.starting) if instance.id in late))


def _became_ready(snapshot: Snapshot) -> list[Instance]:
    awaited, stock = set(snapshot.status.memory.startup), snapshot.stock
    return [*(instance for instance in stock.ready if instance.id in awaited), *stock.lived]


def _ended_by(instance: Instance, codes: tuple[str, ...]) -> bool:
    return instance.ended.startswith(codes)


def _still_counts(offering: str, backoff: Backoff, snapshot: Snapshot) -> bool:
    """Whether a refusal is recent, and no instance launched after its pause has become ready."""
    tried_again = (instance for instance in _became_ready(snapshot) if instance.offering == offering)
    ready_again = any(instance.launched_at >= backoff.until for instance in tried_again)
    return snapshot.now - backoff.until < FORGET_BACKOFF and not ready_again


def _no_room(
    failed: Iterable[Instance], backoff: Mapping[str, Backoff], now: datetime, policy: BackoffPolicy
) -> dict[str, Backoff]:
    """Back-off for offerings that EC2 found full after its answer: it is the same answer, only late."""
    empty = {instance.offering for instance in failed if _ended_by(instance, NO_ROOM)}
    failures = {key: backoff[key].failures + 1 if key in backoff else 1 for key in sorted(empty)}
    return {
        key: Backoff(until=now + policy.after(number, key), failures=number, message=", ".join(NO_ROOM))
        for key, number in failures.items()
    }


def _count_failed_starts(
    failed: Iterable[Instance], snapshot: Snapshot, holds: dict[Market, Hold], policy: BackoffPolicy
) -> tuple[int, dict[Market, Hold]]:
    """Count launches with failed starts, and pause, longer each time, until one instance becomes ready.

    All failed starts of one launch count once.
    """
    faulty = [instance for instance in failed if not _ended_by(instance, (*TAKEN_BY_EC2, *NO_ROOM, *BY_A_PERSON))]
    before, now = snapshot.status.memory, snapshot.now
    if not faulty:
        return (0 if _became_ready(snapshot) else before.failed_starts), holds
    first = min(faulty, key=lambda instance: instance.id)
    known = before.failed_starts > 0 and {instance.attempt_id for instance in faulty} <= set(before.failed_attempts)
    count = before.failed_starts + (0 if known else 1)
    hold = Hold(
        reason=Reason.CONFIG if _ended_by(first, NO_KEY) else blame(count),
        until=now + policy.after(count, first.id),
        failures=count,
        message=f"{len(faulty)} instances ended before they were ready, launch {count} in a row: {_cause(first)}",
    )
    return count, {
        **holds,
        **{market: _more_severe(holds.get(market), hold, now) for market in {instance.market for instance in faulty}},
    }


def _failed_attempts(known: Iterable[str], failed: Iterable[Instance]) -> tuple[str, ...]:
    """The last attempts with a failed start."""
    return tuple(dict.fromkeys((*known, *sorted(instance.attempt_id for instance in failed))))[-FAILED_KEPT:]


def _more_severe(known: Hold | None, new: Hold, now: datetime) -> Hold:
    """The known hold if it is in force and more severe than the new one, else the new one."""
    stays = known is not None and known.until > now and SEVERITY.index(known.reason) < SEVERITY.index(new.reason)
    return known if known is not None and stays else new


def _cause(instance: Instance) -> str:
    if not instance.ended:
        return "not ready in time. Read its system log, or raise ready_timeout_minutes."
    if _ended_by(instance, NO_KEY):
        return f"{instance.ended}. {KEY_REMEDY}"
    or_the_key = f" Or: {KEY_REMEDY}" if _ended_by(instance, CLIENT_ERROR) else ""
    return f"{instance.ended}. Check the image and user_data.{or_the_key}"


def _recently_interrupted(snapshot: Snapshot, failed: Iterable[Instance], policy: BackoffPolicy) -> dict[str, datetime]:
    """Offerings with an interruption or a warning: avoided for a while, even after the notice is forgotten."""
    struck = {
        notice.offering: notice.at + policy.avoidance
        for notice in sorted(snapshot.status.notices.values(), key=lambda notice: notice.at)
        if notice.kind in OF_CAPACITY
    }
    interrupted = (instance.offering for instance in failed if _ended_by(instance, TAKEN_BY_EC2))
    struck |= dict.fromkeys(interrupted, snapshot.now + policy.avoidance)
    known = snapshot.status.memory.recently_interrupted
    latest = {key: max(until, known.get(key, until)) for key, until in (known | struck).items()}
    return {key: until for key, until in sorted(latest.items()) if until > snapshot.now}


def _price_refused(known: Mapping[str, datetime], launched: Launched | None, now: datetime) -> dict[str, datetime]:
    """Offerings that EC2 refused as too expensive, whatever prices it listed; others are tried meanwhile."""
    failures = launched.failures if launched else ()
    refused = (failure for failure in failures if failure.reason is Reason.PRICE_ABOVE_MAX)
    new = {failure.offering: now + NEXT_LOOK for failure in refused if failure.offering is not None}
    return {key: until for key, until in sorted({**known, **new}.items()) if until > now}


def _backoff_after(
    launched: Launched, backoff: dict[str, Backoff], now: datetime, policy: BackoffPolicy
) -> dict[str, Backoff]:
    """A refused offering pauses longer each time. One that launched some first starts with the shortest pause.

    The back-off of an offering that launched all is kept until an instance of it is ready: EC2 may still have no room.
    """
    # Of several refusals of one offering, a lack of capacity counts: only that outlasts an edit.
    named = sorted(launched.failures, key=lambda failure: failure.reason is Reason.NO_CAPACITY)
    refused = {failure.offering: failure for failure in named if failure.offering and _of_its_offering(failure)}
    unnamed = (failure for failure in launched.failures if failure.offering is None)
    everywhere = [failure for failure in unnamed if failure.reason is Reason.NO_CAPACITY]
    if everywhere or (launched.short and launched.answered and not launched.failures):
        words = everywhere[0] if everywhere else Failure(Reason.NO_CAPACITY, "", "EC2 launched fewer than requested.")
        refused = {**dict.fromkeys(launched.offerings, words), **refused}
    gave, after = set(launched.instances.values()), dict(backoff)
    for offering in sorted(refused.keys() & launched.offerings):
        after[offering] = _refused(
            refused[offering], None if offering in gave else after.get(offering), launched, now, policy
        )
    return after


def _of_its_offering(failure: Failure) -> bool:
    """Whether a refusal is about its offering only. Price and addresses are remembered separately."""
    own = failure.reason in (Reason.NO_CAPACITY, Reason.CONFIG, Reason.QUOTA, Reason.UNKNOWN)
    return failure.offering is not None and own and failure.code not in OF_THE_ACCOUNT


def _refused(
    refusal: Failure, before: Backoff | None, launched: Launched, now: datetime, policy: BackoffPolicy
) -> Backoff:
    failures = before.failures + 1 if before else 1
    reason = refusal.reason
    if reason is Reason.UNKNOWN and failures >= UNKNOWN_TRIES and before and before.reason is not Reason.NO_CAPACITY:
        reason = Reason.CONFIG
    needs_a_person = reason in (Reason.CONFIG, Reason.QUOTA)
    pause = policy.longest if refusal.lasting or needs_a_person else policy.after(failures, _salt(launched))
    message = refusal.message.removesuffix(REMEDIES.get(refusal.code, "")).strip()  # the decision adds it again
    words = f"{refusal.code}: {message}" if refusal.code else message
    return Backoff(until=now + pause, failures=failures, reason=reason, message=bounded(words, QUOTED))


def _holds_after(
    launched: Launched, holds: dict[Market, Hold], now: datetime, policy: BackoffPolicy
) -> dict[Market, Hold]:
    hold = _hold_after(launched, holds.get(launched.market), now, policy)
    others = {market: hold for market, hold in holds.items() if market is not launched.market}
    return {**others, launched.market: hold} if hold else others


def _hold_after(launched: Launched, hold: Hold | None, now: datetime, policy: BackoffPolicy) -> Hold | None:
    if not launched.short:
        return None
    worst = most_severe(failure for failure in launched.failures if not _of_its_offering(failure))
    if worst is None or worst.reason is Reason.NO_CAPACITY or (worst.reason is Reason.NO_ADDRESSES and worst.subnet):
        return None
    failures = hold.failures + 1 if hold is not None else 1
    reason, message = worst.reason, f"{worst.code}: {worst.message}"
    if reason is Reason.PRICE_ABOVE_MAX and worst.offering is not None:
        return None
    if reason is Reason.PRICE_ABOVE_MAX:
        return Hold(reason=reason, until=now + NEXT_LOOK, failures=failures, message=message)
    if reason is Reason.UNKNOWN and failures >= UNKNOWN_TRIES:
        reason = Reason.CONFIG
    needs_a_person = reason in (Reason.CONFIG, Reason.QUOTA)
    pause = policy.longest if needs_a_person else policy.after(failures, _salt(launched))
    return Hold(reason=reason, until=now + pause, failures=failures, message=message)


def _salt(launched: Launched) -> str:
    return launched.attempt.id if launched.attempt else ""
