"""Folds what a reconcile saw and brought about into what is remembered: each reason for a failure has its own policy.

NO_CAPACITY backs off per offering, doubling. PRICE_ABOVE_MAX is looked at again on the next tick; where the price says
so already, without a launch call. QUOTA and CONFIG hold the pool for the longest pause: they need a person. THROTTLED
and UNKNOWN hold it for a doubling pause; UNKNOWN for the third time is CONFIG. Launches whose instances end before they
are ready hold it for a doubling pause too, from the second on as CONFIG.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from lambdas.domain.decide import NEXT_LOOK, blame, late_ones
from lambdas.domain.observed import Instance
from lambdas.domain.pauses import Pauses
from lambdas.domain.picture import Picture
from lambdas.domain.plan import Plan
from lambdas.domain.pool import Market
from lambdas.domain.results import Failure, Launched, Results
from lambdas.domain.status import RECENT, Attempt, Backoff, Batch, Ended, Hold, Memory, NoticeKind, Reason, Template

FORGET_BACKOFF = timedelta(hours=1)
"""An offering left alone for so long starts again with the shortest pause."""

UNKNOWN_TRIES = 3

GRAVITY = (
    Reason.CONFIG,
    Reason.QUOTA,
    Reason.THROTTLED,
    Reason.UNKNOWN,
    Reason.NO_CAPACITY,
    Reason.PRICE_ABOVE_MAX,
)

NO_TEMPLATE = "InvalidLaunchTemplate"
"""How EC2's codes for a launch template, or a version of it, that is not there begin."""

TAKEN_BY_EC2 = ("Server.SpotInstanceTermination", "Server.SpotInstanceShutdown")
NO_ROOM = ("Server.InsufficientInstanceCapacity",)
BY_A_PERSON = ("Client.UserInitiatedShutdown",)
"""Why EC2 ended an instance (EC2 User Guide, StateReason). What is none of these speaks against the machine."""


def remember(picture: Picture, plan: Plan, results: Results, pauses: Pauses) -> Memory:
    """What to keep in mind after this reconcile."""
    memory, launched, now = picture.status.memory, results.launched, picture.now
    attempt = None if plan.drop_attempt else memory.attempt
    backoff = {key: one for key, one in memory.backoff.items() if _still_counts(key, one, picture)}
    holds = dict(memory.holds)
    if launched is not None:
        attempt = None if launched.answered else launched.attempt
        backoff = _backoff_after(launched, backoff, now, pauses)
        # Without an answer to the questions before a launch, there is none on any market.
        asked = (launched.market,) if launched.attempt or picture.intent.pool is None else picture.intent.pool.markets
        for market in asked:
            holds = _holds_after(replace(launched, market=market), holds, now, pauses)
    dead = _stillborn(picture, results)
    backoff |= _no_room(dead, backoff, now, pauses)
    stillborn, holds = _deaths(dead, picture, holds, pauses)
    below = not picture.intent.paused and sum(one.units for one in picture.stock.running) < picture.stock.wanted
    return Memory(
        spec=picture.intent.spec or memory.spec,
        attempt=attempt,
        launched=_launched(picture, plan, results),
        terminated=_terminated(picture, results),
        startup=_startup(picture, plan, results, dead),
        announced=_announced(picture, results),
        stillborn=stillborn,
        backoff=backoff,
        holds=holds,
        taken=_taken(picture, dead, pauses),
        dear=_dear(memory.dear, launched, now),
        template=_template(picture, launched),
        below_since=(memory.below_since or now) if below else None,
        spot_short_since=memory.spot_short_since,
        excess_since=memory.excess_since,
        replace_at=memory.replace_at,
    )


def _template(picture: Picture, launched: Launched | None) -> Template | None:
    """The template's version last used. If EC2 misses it, somebody deleted it: the next launch looks for it anew."""
    known = picture.template or picture.status.memory.template
    missed = launched is not None and any(one.code.startswith(NO_TEMPLATE) for one in launched.failures)
    return known.model_copy(update={"machine": ""}) if known and missed else known


def gravest(failures: Iterable[Failure]) -> Failure | None:
    """The failure that tells most."""
    return min(failures, key=lambda failure: GRAVITY.index(failure.reason), default=None)


def _launched(picture: Picture, plan: Plan, results: Results) -> tuple[Batch, ...]:
    memory, now = picture.status.memory, picture.now
    batches = {one.attempt: one for one in memory.launched if now - one.at < RECENT}
    if plan.drop_attempt and memory.attempt and (shown := _shown(picture)):
        batches[memory.attempt.id] = _batch(memory.attempt, {one.id: one.offering for one in shown}, now)
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


def _shown(picture: Picture) -> tuple[Instance, ...]:
    """What EC2 shows of the open attempt; its next listing, from another replica, may be older and not show it."""
    attempt, stock = picture.status.memory.attempt, picture.stock
    return tuple(one for one in (*stock.running, *stock.starting) if attempt and one.attempt_id == attempt.id)


def _terminated(picture: Picture, results: Results) -> tuple[Ended, ...]:
    """What must not count any more though an older listing may show it: what we ended, what was seen to end awaited."""
    recent = [one for one in picture.status.memory.terminated if picture.now - one.at < RECENT]
    ids = results.ended | {one.id for one in picture.stock.stillborn}
    return (*recent, *([Ended(at=picture.now, ids=tuple(sorted(ids)))] if ids else []))


def _startup(picture: Picture, plan: Plan, results: Results, dead: Iterable[Instance]) -> tuple[str, ...]:
    """Instances that are still to become ready: those awaited, and what has just been launched."""
    new = set(results.launched.instances) if results.launched else set()
    if plan.drop_attempt:
        new |= {one.id for one in _shown(picture)}
    over = results.ended | {one.id for one in dead} | {one.id for one in picture.stock.stillborn}
    return tuple(sorted((picture.stock.unready | new) - over))


def _announced(picture: Picture, results: Results) -> tuple[str, ...]:
    told = {one.instance_id for told in results.told for one in told.drained}
    noticed = {one.id for one in picture.stock.noticed}
    return tuple(sorted(noticed & (told | set(picture.status.memory.announced))))


def _stillborn(picture: Picture, results: Results) -> tuple[Instance, ...]:
    """Instances that ended, or had to be ended, before they were ready."""
    late = set(late_ones(picture)) & results.ended
    stock = picture.stock
    return (*stock.stillborn, *(one for one in (*stock.running, *stock.starting) if one.id in late))


def _became_ready(picture: Picture) -> list[Instance]:
    awaited, stock = set(picture.status.memory.startup), picture.stock
    return [one for one in stock.ready if one.id in awaited]


def _ended_by(instance: Instance, codes: tuple[str, ...]) -> bool:
    return instance.ended.startswith(codes)


def _still_counts(offering: str, backoff: Backoff, picture: Picture) -> bool:
    """Whether a refusal is recent, and nothing that was launched after its pause has lived."""
    tried_again = (one for one in _became_ready(picture) if one.offering == offering)
    lived = any(one.launched_at >= backoff.until for one in tried_again)
    return picture.now - backoff.until < FORGET_BACKOFF and not lived


def _no_room(
    dead: Iterable[Instance], backoff: Mapping[str, Backoff], now: datetime, pauses: Pauses
) -> dict[str, Backoff]:
    """EC2 found no room after all: its answer came late, but it is the same answer."""
    empty = {one.offering for one in dead if _ended_by(one, NO_ROOM)}
    failures = {key: backoff[key].failures + 1 if key in backoff else 1 for key in sorted(empty)}
    return {key: Backoff(until=now + pauses.after(number, key), failures=number) for key, number in failures.items()}


def _deaths(
    dead: Iterable[Instance], picture: Picture, holds: dict[Market, Hold], pauses: Pauses
) -> tuple[int, dict[Market, Hold]]:
    """Launch-then-die loops burn launches: pause, ever longer, until one instance becomes ready.

    Deaths during such a pause are of the launch that began it.
    """
    telling = [one for one in dead if not _ended_by(one, (*TAKEN_BY_EC2, *NO_ROOM, *BY_A_PERSON))]
    before, now = picture.status.memory, picture.now
    if not telling:
        return (0 if _became_ready(picture) else before.stillborn), holds
    first = min(telling, key=lambda one: one.id)
    pause = before.holds.get(first.market)
    paused = before.stillborn > 0 and pause is not None and pause.until > now
    count = before.stillborn + (0 if paused else 1)
    hold = Hold(
        reason=blame(count),
        until=now + pauses.after(count, first.id),
        failures=count,
        message=f"{len(telling)} instances ended before they were ready, launch {count} in a row: {_cause(first)}",
    )
    return count, {
        **holds,
        **{market: _graver(holds.get(market), hold, now) for market in {one.market for one in telling}},
    }


def _graver(known: Hold | None, new: Hold, now: datetime) -> Hold:
    """What EC2 refuses just now may tell more than what has died."""
    stays = known is not None and known.until > now and GRAVITY.index(known.reason) < GRAVITY.index(new.reason)
    return known if known is not None and stays else new


def _cause(instance: Instance) -> str:
    if not instance.ended:
        return "not ready in time. Look at its system log, or raise ready_timeout_minutes."
    return f"{instance.ended}. Look at the image, user_data, and the rights on the volume's key."


def _taken(picture: Picture, dead: Iterable[Instance], pauses: Pauses) -> dict[str, datetime]:
    """Offerings that an interruption struck: avoided for a while, also after the notice is forgotten."""
    struck = {
        notice.offering: notice.at + pauses.avoidance
        for notice in sorted(picture.status.notices.values(), key=lambda one: one.at)
        if notice.kind is NoticeKind.INTERRUPTION
    }
    struck |= {one.offering: picture.now + pauses.avoidance for one in dead if _ended_by(one, TAKEN_BY_EC2)}
    known = picture.status.memory.taken
    latest = {key: max(until, known.get(key, until)) for key, until in (known | struck).items()}
    return {key: until for key, until in sorted(latest.items()) if until > picture.now}


def _dear(known: Mapping[str, datetime], launched: Launched | None, now: datetime) -> dict[str, datetime]:
    """Offerings that EC2 itself found too dear, whatever the prices said that we saw; others are tried meanwhile."""
    refused = (one for one in (launched.failures if launched else ()) if one.reason is Reason.PRICE_ABOVE_MAX)
    new = {one.offering: now + NEXT_LOOK for one in refused if one.offering is not None}
    return {key: until for key, until in sorted({**known, **new}.items()) if until > now}


def _backoff_after(
    launched: Launched, backoff: dict[str, Backoff], now: datetime, pauses: Pauses
) -> dict[str, Backoff]:
    """Those that had none pause longer each time; one that gave some before it was empty starts afresh.

    One that gave all that was asked is not forgotten before an instance of it is ready: EC2 may find no room after all.
    """
    refused = {f.offering: f for f in launched.failures if f.reason is Reason.NO_CAPACITY}
    everywhere = None in refused or (launched.short and launched.answered and not launched.failures)
    empty = launched.offerings if everywhere else refused.keys() & launched.offerings
    gave, after = set(launched.instances.values()), dict(backoff)
    for offering in sorted(key for key in empty if key is not None):
        failures = after[offering].failures + 1 if offering in after and offering not in gave else 1
        lasting = offering in refused and refused[offering].lasting
        pause = pauses.longest if lasting else pauses.after(failures, _salt(launched))
        after[offering] = Backoff(until=now + pause, failures=failures)
    return after


def _holds_after(launched: Launched, holds: dict[Market, Hold], now: datetime, pauses: Pauses) -> dict[Market, Hold]:
    hold = _hold_after(launched, holds.get(launched.market), now, pauses)
    others = {market: one for market, one in holds.items() if market is not launched.market}
    return {**others, launched.market: hold} if hold else others


def _hold_after(launched: Launched, hold: Hold | None, now: datetime, pauses: Pauses) -> Hold | None:
    if not launched.short:
        return None
    worst = gravest(launched.failures)
    if worst is None or worst.reason is Reason.NO_CAPACITY:
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
    pause = pauses.longest if needs_a_person else pauses.after(failures, _salt(launched))
    return Hold(reason=reason, until=now + pause, failures=failures, message=message)


def _salt(launched: Launched) -> str:
    return launched.attempt.id if launched.attempt else ""
