"""Decides what a pool needs now. Pure and total: the same snapshot always gives the same plan.

Invariants: never launch while an earlier attempt's answer is unknown (only send that same attempt again), never plan
beyond max_instances, never launch above spot_max_price, never terminate an instance that is protected or noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby

from lambdas.domain.decision.offers import Choice, above_cap, ask, choose
from lambdas.domain.decision.replacement import base, outdated, replaced
from lambdas.domain.decision.scale_in import scale_in_candidates
from lambdas.domain.decision.snapshot import Snapshot
from lambdas.domain.decision.stock import Stock, is_late, sums_of, units
from lambdas.domain.item.fields import format_price
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.errors import REMEDIES
from lambdas.domain.model.instances import Instance, Offer
from lambdas.domain.model.plan import Blocker, Drain, Launch, Plan, Resend, Step, Terminate
from lambdas.domain.model.status import FORGET_BACKOFF, RECENT, Attempt, Backoff, Reason
from lambdas.domain.wording import closed

NEXT_LOOK = timedelta(seconds=50)
"""When to check again what only a new listing or price can show: a little less than a minute, so at the next tick."""

RESEND_FOR = RECENT / 2
"""How long an open attempt is sent again. EC2 must list what the last repeat launched before the attempt is closed."""

SELDOM = timedelta(minutes=15)
"""When to check what does not change by itself."""

SHOWN_OFFERINGS = 6
ANNOUNCE_AT_ONCE = 10
"""Instances whose end is announced in one step: EventBridge accepts as many events in one call, and little is repeated
if the function ends in the middle."""

FAILED_STARTS_OF_ONE_FAULT = 2
"""After this many launches with failed starts, the item is the likely cause. A single one may be chance."""

SPOT_IS_SHORT = (Reason.NO_CAPACITY, Reason.PRICE_ABOVE_MAX, Reason.QUOTA)
"""Reasons for missing spot capacity that buying on demand helps against."""


def decide(snapshot: Snapshot) -> Plan:
    """Plan how to close the difference between what is wanted and what EC2 shows."""
    if snapshot.intent.deleted:
        return _wind_down(snapshot)
    if snapshot.intent.pool is None or snapshot.intent.paused:
        return Plan(steps=tuple(_announce_ends(snapshot)), drop_attempt=_settled(snapshot))
    if snapshot.status.memory.attempt is not None:
        return _recover_attempt(snapshot, snapshot.intent.pool, snapshot.status.memory.attempt)
    return _fill(snapshot, snapshot.intent.pool)


def _wind_down(snapshot: Snapshot) -> Plan:
    end = snapshot.intent.drain_at
    late = end is not None and snapshot.now >= end
    surplus = _terminate_surplus(snapshot, why="the pool item was deleted") if late else ()
    return Plan(steps=(*_announce_ends(snapshot), *surplus), drop_attempt=_settled(snapshot))


def _recover_attempt(snapshot: Snapshot, pool: Pool, attempt: Attempt) -> Plan:
    """Recover an attempt whose answer is unknown: send it again while that is allowed, else wait until it settles."""
    drains = tuple(_announce_ends(snapshot))
    if _settled(snapshot):
        return Plan(steps=drains, drop_attempt=True)
    recent = snapshot.now - attempt.at < RESEND_FOR
    still = attempt.terms in (pool.launch_terms, pool.terms_written_out)
    fits = snapshot.stock.alive + max(0, attempt.most - attempt.count) <= pool.max_instances
    if recent and still and fits and _is_still_missing(snapshot):
        return Plan((Resend(attempt, why="its answer was lost; the same token launches nothing twice"), *drains))
    waiting = Blocker(
        Reason.UNKNOWN,
        "The answer to a launch was lost, and it cannot be sent again. The next launch waits until the result shows.",
        attempt.at + RECENT,
    )
    missing = snapshot.stock.wanted > snapshot.stock.serving
    return Plan((*drains, *_terminate_surplus(snapshot)), blocker=waiting if missing else None)


def _is_still_missing(snapshot: Snapshot) -> bool:
    """Whether the open attempt's instances are still missing. If not, a repeat could only launch too many."""
    without = replace(snapshot, stock=replace(snapshot.stock, in_flight=0))
    return without.stock.missing + without.surge > 0


def _settled(snapshot: Snapshot) -> bool:
    """Whether an open attempt can add nothing more: EC2 shows all that it asked for, or has had time to show it."""
    attempt = snapshot.status.memory.attempt
    return attempt is not None and (not snapshot.stock.in_flight or snapshot.now - attempt.at >= RECENT)


def _fill(snapshot: Snapshot, pool: Pool) -> Plan:
    """Launch missing instances and replacements; terminate surplus and replaced instances."""
    launch, blocker = _launch(snapshot, pool)
    late = late_ones(snapshot) if snapshot.health_known else ()
    left = replace(snapshot, stock=snapshot.stock.without(late))
    drains = tuple(_announce_ends(snapshot))
    if launch and launch.count < snapshot.to_launch:
        drains = drains[:1]  # two minutes are short: request all replacements before announcing every end
    steps = (
        *((launch,) if launch else ()),
        *drains,
        *((Terminate(late, why=f"not ready {pool.ready_timeout_minutes} minutes after launch"),) if late else ()),
        *_terminate_replaced(left, pool, may_miss=not (snapshot.waits_to_replace or _has_no_replacement(blocker))),
        *_terminate_surplus(left),
    )
    missing = snapshot.stock.missing > 0
    return Plan(steps, blocker=blocker if missing else None, blocked_replacement=None if missing else blocker)


def _launch(snapshot: Snapshot, pool: Pool) -> tuple[Launch | None, Blocker | None]:
    stock = snapshot.stock
    full = None
    if stock.missing > stock.headroom:
        full = Blocker(Reason.MAX_INSTANCES, _max_instances_text(stock), snapshot.now + NEXT_LOOK)
    blocker = (_hold_blocker(pool.market, snapshot) or _trial_blocker(snapshot)) if snapshot.on_trial else None
    for market, count in _purchases(snapshot, pool, snapshot.to_launch):
        found = _launch_on(market, count, snapshot, pool)
        if isinstance(found, Launch):
            return found, blocker or full
        blocker = blocker or found
    if blocker is None or not stock.missing or (fill := _fallback(snapshot, pool, blocker)) is None:
        return None, blocker or full
    return (fill, full) if isinstance(fill, Launch) else (None, fill)


def _purchases(snapshot: Snapshot, pool: Pool, room: int) -> Iterator[tuple[Market, int]]:
    """What to buy on which market: a spot pool's base on demand, the rest in the pool's own market."""
    going = snapshot.swaps.going
    there = (*snapshot.stock.members, *snapshot.stock.doubtful)
    stays = units(instance for instance in there if instance.market is Market.ON_DEMAND and instance.id not in going)
    of_base = min(room, max(0, base(pool, snapshot.stock) - stays))
    if of_base:
        yield Market.ON_DEMAND, of_base
    if room > of_base:
        yield pool.market, room - of_base


def _launch_on(market: Market, count: int, snapshot: Snapshot, pool: Pool) -> Launch | Blocker:
    if (held := _hold_blocker(market, snapshot)) is not None:
        return held
    if snapshot.offers is None:
        return Blocker(Reason.UNKNOWN, "Waiting for EC2's offers.", snapshot.now, market)
    # The reason comes from the offers that fit, not from those that are too heavy.
    fitting = [offer for offer in snapshot.offers if offer.market is market and offer.units <= snapshot.stock.headroom]
    choice = choose(pool, market, fitting or snapshot.offers, snapshot.status, snapshot.now)
    if not choice.usable:
        return _no_offer(snapshot, pool, market, choice)
    stock = snapshot.stock
    call = ask(pool, count, stock.headroom, choice.usable, stock)
    text = _too_heavy_text(stock) if call is None else _too_light_text(snapshot, count, choice.usable)
    if call is None or text:
        later = snapshot.now + (NEXT_LOOK if stock.missing else SELDOM)
        return Blocker(Reason.MAX_INSTANCES, text, later, market)
    extra = f", {snapshot.surge} to replace others" if snapshot.surge else ""
    why = f"{stock.wanted} wanted, {stock.serving} there{extra}"
    return Launch(call.count, call.offers, why=why, market=market, weight=call.weight)


def _hold_blocker(market: Market, snapshot: Snapshot) -> Blocker | None:
    hold = snapshot.status.memory.holds.get(market)
    if hold is None or hold.until <= snapshot.now:
        return None
    return Blocker(hold.reason, hold.message, hold.until, market)


def _fallback(snapshot: Snapshot, pool: Pool, blocker: Blocker) -> Launch | Blocker | None:
    """Buy on demand the units that spot has lacked for ``after_minutes``. Before that, say when they will be bought."""
    short = blocker.reason in SPOT_IS_SHORT or blocker.waits
    if pool.fallback is None or blocker.market is Market.ON_DEMAND or not short:
        return None
    patience, now = pool.fallback.after_minutes * snapshot.minute, snapshot.now
    known = snapshot.status.memory.shortfalls
    new = max(0, snapshot.stock.missing - sum(part.units for part in known))
    each = [*((part.since + patience, part.units) for part in known), *([(now + patience, new)] if new else [])]
    due = sum(number for at, number in each if at <= now)
    if not due:
        first = min(at for at, _ in each)
        message = f"{closed(blocker.message)} Whatever is still missing at {first:%H:%M:%S} UTC is bought on demand."
        return replace(blocker, message=message, until=min(blocker.until, first))
    found = _launch_on(Market.ON_DEMAND, min(snapshot.stock.missing, snapshot.to_launch, due), snapshot, pool)
    if isinstance(found, Blocker):
        message = f"{closed(blocker.message)} On demand: {found.message}"
        return Blocker(found.reason, message, min(blocker.until, found.until))
    return found


def _trial_blocker(snapshot: Snapshot) -> Blocker:
    message = "Instances ended before they were ready. One is launched as a trial, and more when it is ready."
    return Blocker(blame(snapshot.status.memory.failed_starts), message, snapshot.now + NEXT_LOOK)


def blame(failed_starts: int) -> Reason:
    """The likely cause when so many launches in a row had only failed starts."""
    return Reason.CONFIG if failed_starts >= FAILED_STARTS_OF_ONE_FAULT else Reason.UNKNOWN


def _max_instances_text(stock: Stock) -> str:
    return (
        f"max_instances ({stock.limit}) counts the {len(stock.noticed)} instances under interruption notice while they "
        "run; replacements follow when they end. Raise max_instances to replace at once."
    )


def _too_heavy_text(stock: Stock) -> str:
    return (
        f"{stock.headroom} units are left below max_instances ({stock.limit}), but each instance type counts for more. "
        "Raise max_instances, or add a lighter type."
    )


def _too_light_text(snapshot: Snapshot, count: int, usable: Iterable[Offer]) -> str:
    """Why a launch that only replaces brings too little for any instance to end: it would be a surplus. Else empty."""
    stock = snapshot.stock
    if stock.missing:
        return ""
    going = [instance for instance in stock.members if instance.id in snapshot.swaps.going]
    needed = min([count, *(stock.lacking_without(instance.units) for instance in going)])
    possible = max(sums_of((offer.units for offer in usable), stock.headroom))
    if possible >= needed:
        return ""
    return (
        f"A replacement needs at least {needed} units. Of the instance types that can be tried now, at most {possible} "
        f"units fit below max_instances ({stock.limit}, {stock.headroom} left). Raise max_instances, or wait for "
        "another type."
    )


def _no_offer(snapshot: Snapshot, pool: Pool, market: Market, choice: Choice) -> Blocker:
    """Why no offering may be tried now. The most severe cause is the reason; the message names the others too."""
    next_look = snapshot.now + NEXT_LOOK
    causes = [
        (reason, f"EC2 refuses {_names(offer for offer, _ in some)}.{_quoted(some)}", _earliest_retry(some))
        for reason in (Reason.CONFIG, Reason.QUOTA, Reason.UNKNOWN)
        if (some := choice.refused_for(reason))
    ]
    if choice.unpriced:
        types = ", ".join(sorted({offer.instance_type for offer in choice.unpriced})[:SHOWN_OFFERINGS])
        text = f"The price list has no {types} in this Region: give spot_max_price in USD, or remove the type."
        causes.insert(0, (Reason.CONFIG, text, snapshot.now + SELDOM))
    if choice.full:
        subnets = ", ".join(sorted({offer.subnet_id for offer, _ in choice.full})[:SHOWN_OFFERINGS])
        text = f"No free address is left in {subnets}. Free some, or list more subnets in subnet_ids."
        causes.append((Reason.NO_ADDRESSES, text, min(until for _, until in choice.full)))
    if empty := choice.refused_for(Reason.NO_CAPACITY):
        where = _names(offer for offer, _ in empty)
        text = f"EC2 had no capacity in {where}. Each is tried again after a growing pause.{_quoted(empty)}"
        causes.append((Reason.NO_CAPACITY, text, _earliest_retry(empty)))
    if choice.too_expensive:
        causes.append((Reason.PRICE_ABOVE_MAX, _too_expensive_text(pool, choice), next_look))
    if not causes:
        return _nothing_sold(snapshot, pool, market)
    reason, message, _ = causes[0]
    also = " ".join(f"{other}: {text}" for other, text, _ in causes[1:])
    return Blocker(
        reason,
        f"{closed(message)} {also}" if also else message,
        min(until for *_, until in causes),
        market,
        waits=any(other in SPOT_IS_SHORT for other, *_ in causes[1:]),
    )


def _names(offers: Iterable[Offer]) -> str:
    names = [offer.offering for offer in offers]
    more = f" and {len(names) - SHOWN_OFFERINGS} more" if len(names) > SHOWN_OFFERINGS else ""
    return ", ".join(names[:SHOWN_OFFERINGS]) + more


def _quoted(refused: tuple[tuple[Offer, Backoff], ...]) -> str:
    """EC2's message about the newest refusal, and our remedy if there is one."""
    newest = max((backoff for _, backoff in refused), key=lambda backoff: backoff.until)
    remedy = REMEDIES.get(newest.message.partition(":")[0])
    said = f" EC2 says: {newest.message}" if newest.message else ""
    return f"{said} {remedy}" if remedy else said


def _earliest_retry(refused: tuple[tuple[Offer, Backoff], ...]) -> datetime:
    return min(backoff.until for _, backoff in refused)


def _nothing_sold(snapshot: Snapshot, pool: Pool, market: Market) -> Blocker:
    unsold = snapshot.not_sold
    if unsold and set(pool.instance_types) <= set(unsold):
        message = f"EC2 sells no instance type of this name in the Region: {', '.join(unsold)}. Check the spelling."
        return Blocker(Reason.CONFIG, message, snapshot.now + SELDOM, market)
    types = ", ".join(pool.instance_types[:SHOWN_OFFERINGS]) or "any type that meets the requirements"
    fallback = ", or set fallback to buy on demand" if market is Market.SPOT and pool.fallback is None else ""
    message = (
        f"EC2 sells no {market} capacity of {types} in the zones of the pool's subnets. List other types or "
        f"subnets{fallback}."
    )
    return Blocker(Reason.NO_CAPACITY, message, snapshot.now + SELDOM, market)


def _too_expensive_text(pool: Pool, choice: Choice) -> str:
    offer = choice.cheapest_too_expensive
    if not above_cap(pool, offer):
        cap = "spot_max_price" if pool.spot_max_price else "EC2's own cap, the on-demand price"
        return f"EC2 refused every offering as above {cap}: {choice.prices()}. It is tried again every minute."
    in_dollars = f"{format_price(pool.cap(offer.on_demand_price) or Decimal(0))} USD/h"
    cap = f"{pool.spot_max_price} of the on-demand price ({in_dollars})" if pool.share else in_dollars
    return f"Spot prices are above spot_max_price {cap}: {choice.prices()}. Nothing is launched until one falls."


def _announce_ends(snapshot: Snapshot) -> Iterator[Step]:
    """Announce the end of instances under notice, once, a few in each step."""
    known = set(snapshot.status.memory.announced)
    new = [instance for instance in snapshot.stock.noticed if instance.id not in known]
    for start in range(0, len(new), ANNOUNCE_AT_ONCE):
        some = tuple(new[start : start + ANNOUNCE_AT_ONCE])
        yield Drain(some, snapshot.intent.drain_command, why="EC2 interrupts them")


def late_ones(snapshot: Snapshot) -> tuple[str, ...]:
    """Ids of instances that have not become ready in time."""
    stock = snapshot.stock
    return tuple(
        instance.id
        for instance in (*stock.running, *stock.starting)
        if instance.id in stock.unready
        and not instance.protected
        and is_late(instance, snapshot.intent.pool, snapshot.now, snapshot.minute)
    )


def _has_no_replacement(blocker: Blocker | None) -> bool:
    """Whether EC2 has no replacement to give now. A pool at max_instances is different: it must make room first."""
    return blocker is not None and blocker.reason is not Reason.MAX_INSTANCES


def _terminate_replaced(snapshot: Snapshot, pool: Pool, *, may_miss: bool) -> Iterator[Step]:
    unseen = {instance.id for instance in snapshot.stock.unseen}
    swaps = snapshot.swaps
    if swaps.returning and not _spot_is_offered(snapshot, pool):
        return
    go = [
        (instance.id, why)
        for instance, why in replaced(snapshot.stock, swaps, snapshot.held, may_miss=may_miss)
        if instance.id not in unseen
    ]
    for why, some in groupby(go, key=lambda each: each[1]):
        yield Terminate(tuple(id_ for id_, _ in some), why=why)


def _spot_is_offered(snapshot: Snapshot, pool: Pool) -> bool:
    """Whether spot may be tried in place of an on-demand instance: some offering has had no refusal for a while."""
    usable = choose(pool, Market.SPOT, snapshot.offers or (), snapshot.status, snapshot.now).usable
    backoff = snapshot.status.memory.backoff
    recently_refused = {key for key, refusal in backoff.items() if snapshot.now - refusal.until < FORGET_BACKOFF}
    room = snapshot.stock.headroom + min(units(each.instances) for each in snapshot.swaps.groups if each.returns)
    return any(offer.offering not in recently_refused and offer.units <= room for offer in usable)


def _terminate_surplus(snapshot: Snapshot, why: str = "more instances than wanted") -> Iterator[Step]:
    stock, pool = snapshot.stock, snapshot.intent.pool
    if again := _terminate_again(snapshot):
        yield Terminate(again, why="the answer to their termination was lost")
    if snapshot.excess:
        going = snapshot.swaps.going
        chosen = scale_in_candidates(
            stock,
            (instance for instance in stock.members if instance.id not in going),
            snapshot.excess,
            offers=snapshot.offers or (),
            outdated={instance.id for instance in outdated(pool, stock)} if pool else (),
            on_demand_base=base(pool, stock) if pool else 0,
            spread_zones=pool is not None and pool.spread_zones,
        )
        if chosen:
            yield Terminate(chosen, why=f"{why}: {stock.serving} there, {stock.wanted} wanted")
    stopped = tuple(instance.id for instance in stock.stopped if not instance.protected)
    if stopped:
        yield Terminate(stopped, why="stopped instances serve no pool")


def _terminate_again(snapshot: Snapshot) -> tuple[str, ...]:
    """Instances to terminate again, because the first answer was lost: those that are still surplus."""
    stock = snapshot.stock
    surplus = stock.serving + units(stock.doubtful) - snapshot.held
    ready = units(stock.ready) + units(filter(stock.is_ready, stock.doubtful)) - snapshot.held
    chosen: list[str] = []

    def not_ready_first(instance: Instance) -> tuple[bool, str]:
        return stock.is_ready(instance), instance.id

    def is_needed(instance: Instance) -> bool:
        if stock.is_ready(instance):
            return instance.units > min(surplus, ready)
        late = is_late(instance, snapshot.intent.pool, snapshot.now, snapshot.minute)
        return instance.units > surplus and not late

    for instance in sorted(stock.doubtful, key=not_ready_first):
        seen = bool(instance.pool_name)  # only what EC2 shows with our tag is terminated
        if seen and not instance.protected and not is_needed(instance):
            chosen.append(instance.id)
            surplus -= instance.units
            ready -= instance.units if stock.is_ready(instance) else 0
    return tuple(chosen)
