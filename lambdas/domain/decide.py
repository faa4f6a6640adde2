"""The decision: what a pool needs done now. Pure and total: the same answer for the same picture.

The law: never launch while an earlier attempt's answer is unknown (only send that same attempt again), never plan
beyond max_instances, never launch above spot_max_price, never terminate an instance that is protected or noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby

from lambdas.domain.capacity import Stock, is_late, units
from lambdas.domain.errors import REMEDIES
from lambdas.domain.fields import format_price
from lambdas.domain.observed import Instance, Offer
from lambdas.domain.offers import Choice, above_cap, ask, choose
from lambdas.domain.picture import Picture
from lambdas.domain.plan import Drain, Hindrance, Launch, Plan, Resend, Step, Terminate
from lambdas.domain.pool import Market, Pool
from lambdas.domain.replace import base, outdated, replaced
from lambdas.domain.status import FORGET_BACKOFF, RECENT, Attempt, Backoff, Reason
from lambdas.domain.victims import victims

NEXT_LOOK = timedelta(seconds=50)
"""When what only a look can tell is looked at again: by the next tick, so a little less than its period."""

RESEND_FOR = RECENT / 2
"""How long an open attempt is sent again: what the last repeat launched must show before the attempt has settled."""

SELDOM = timedelta(minutes=15)
"""When what does not change by itself is looked at again."""

SHOWN_OFFERINGS = 6
TELL_AT_ONCE = 10
"""Instances whose end is announced in one step: as many events as EventBridge takes in one call, and little to repeat
if the function ends in the middle."""

STILLBORN_TRIES = 2
"""The first launch whose instances end before they are ready may be bad luck."""

SPOT_IS_SHORT = (Reason.NO_CAPACITY, Reason.PRICE_ABOVE_MAX, Reason.QUOTA)
"""Why spot may be missing in a way that buying on demand mends."""


def decide(picture: Picture) -> Plan:
    """Say what to do about the difference between what is wanted and what EC2 shows."""
    if picture.intent.deleted:
        return _drain(picture)
    if picture.intent.pool is None or picture.intent.paused:
        return Plan(steps=tuple(_told(picture)), drop_attempt=_settled(picture))
    if picture.status.memory.attempt is not None:
        return _finish(picture, picture.intent.pool, picture.status.memory.attempt)
    return _fill(picture, picture.intent.pool)


def _drain(picture: Picture) -> Plan:
    end = picture.intent.drain_at
    late = end is not None and picture.now >= end
    steps = (*_told(picture), *(_too_many(picture, why="the pool item was deleted") if late else ()))
    return Plan(steps=steps, drop_attempt=_settled(picture))


def _finish(picture: Picture, pool: Pool, attempt: Attempt) -> Plan:
    """Recover an attempt whose answer is unknown: send it again if it may still be, else wait until it has settled."""
    told = tuple(_told(picture))
    if _settled(picture):
        return Plan(steps=told, drop_attempt=True)
    recent = picture.now - attempt.at < RESEND_FOR
    still = attempt.terms in (pool.launch_terms, pool.terms_written_out)
    fits = picture.stock.alive + max(0, attempt.most - attempt.count) <= pool.max_instances
    if recent and still and fits and _is_still_missing(picture):
        return Plan(steps=(Resend(attempt, why="its answer was lost; the same token launches nothing twice"), *told))
    waiting = Hindrance(
        Reason.UNKNOWN,
        "A launch's answer was lost and it may not be sent again; its instances, if any, are awaited before the next.",
        attempt.at + RECENT,
    )
    return Plan(
        (*told, *_too_many(picture)), hindrance=waiting if picture.stock.wanted > picture.stock.serving else None
    )


def _is_still_missing(picture: Picture) -> bool:
    """Whether what the open attempt asked for would be asked for now. If not, a repeat could only bring too much."""
    without = replace(picture, stock=replace(picture.stock, in_flight=0))
    return without.stock.missing + without.surge > 0


def _settled(picture: Picture) -> bool:
    """Whether an open attempt can add nothing any more: EC2 shows all it asked for, or must show what came of it."""
    attempt = picture.status.memory.attempt
    return attempt is not None and (not picture.stock.in_flight or picture.now - attempt.at >= RECENT)


def _fill(picture: Picture, pool: Pool) -> Plan:
    """Launch what is missing or replaces others, let go what is too much or replaced."""
    launch, hindrance = _launch(picture, pool)
    late = late_ones(picture) if picture.health_known else ()
    left = replace(picture, stock=picture.stock.without(late))
    told = tuple(_told(picture))
    if launch and launch.count < picture.wish:
        told = told[:1]  # two minutes are short: all replacements are asked for before all are told
    steps = (
        *((launch,) if launch else ()),
        *told,
        *((Terminate(late, why=f"not ready {pool.ready_timeout_minutes} minutes after launch"),) if late else ()),
        *_replaced(left, pool, may_miss=not (picture.waits_to_replace or _is_out_of(hindrance))),
        *_too_many(left),
    )
    missing = picture.stock.missing > 0
    return Plan(steps, hindrance=hindrance if missing else None, delayed=None if missing else hindrance)


def _launch(picture: Picture, pool: Pool) -> tuple[Launch | None, Hindrance | None]:
    stock = picture.stock
    full = None
    if stock.missing > stock.headroom:
        full = Hindrance(Reason.MAX_INSTANCES, _full(stock), picture.now + NEXT_LOOK)
    hindrance = (_held(pool.market, picture) or _trial(picture)) if picture.on_trial else None
    for market, count in _wishes(picture, pool, picture.wish):
        found = _from(market, count, picture, pool)
        if isinstance(found, Launch):
            return found, hindrance or full
        hindrance = hindrance or found
    if hindrance is None or not stock.missing or (fill := _fallback(picture, pool, hindrance)) is None:
        return None, hindrance or full
    return (fill, full) if isinstance(fill, Launch) else (None, fill)


def _wishes(picture: Picture, pool: Pool, room: int) -> Iterator[tuple[Market, int]]:
    """What to buy where: a spot pool's base on demand, the rest in the pool's own market."""
    going = picture.swaps.going
    there = (*picture.stock.members, *picture.stock.doubtful)
    stays = units(one for one in there if one.market is Market.ON_DEMAND and one.id not in going)
    of_base = min(room, max(0, base(pool, picture.stock) - stays))
    if of_base:
        yield Market.ON_DEMAND, of_base
    if room > of_base:
        yield pool.market, room - of_base


def _from(market: Market, count: int, picture: Picture, pool: Pool) -> Launch | Hindrance:
    if (held := _held(market, picture)) is not None:
        return held
    if picture.offers is None:
        return Hindrance(Reason.UNKNOWN, "EC2 is asked what it offers.", picture.now, market)
    # What hinders those that would fit counts, and not that others are too heavy.
    fitting = [offer for offer in picture.offers if offer.market is market and offer.units <= picture.stock.headroom]
    choice = choose(pool, market, fitting or picture.offers, picture.status, picture.now)
    if not choice.usable:
        return _no_offer(picture, pool, market, choice)
    stock = picture.stock
    call = ask(pool, count, stock.headroom, choice.usable, stock)
    if call is None:
        later = picture.now + (NEXT_LOOK if stock.missing else SELDOM)
        return Hindrance(Reason.MAX_INSTANCES, _too_heavy(stock), later, market)
    extra = f", {picture.surge} to replace others" if picture.surge else ""
    why = f"{stock.wanted} wanted, {stock.serving} there{extra}"
    return Launch(call.count, call.offers, why=why, market=market, weight=call.weight)


def _held(market: Market, picture: Picture) -> Hindrance | None:
    hold = picture.status.memory.holds.get(market)
    if hold is None or hold.until <= picture.now:
        return None
    return Hindrance(hold.reason, hold.message, hold.until, market)


def _fallback(picture: Picture, pool: Pool, hindrance: Hindrance) -> Launch | Hindrance | None:
    """Buy on demand what spot has been missing for long enough, each part by its own time; before that, say when."""
    short = hindrance.reason in SPOT_IS_SHORT or hindrance.waits
    if pool.fallback is None or hindrance.market is Market.ON_DEMAND or not short:
        return None
    patience, now = pool.fallback.after_minutes * picture.minute, picture.now
    known = picture.status.memory.shortfalls
    new = max(0, picture.stock.missing - sum(one.units for one in known))
    each = [*((one.since + patience, one.units) for one in known), *([(now + patience, new)] if new else [])]
    due = sum(number for at, number in each if at <= now)
    if not due:
        first = min(at for at, _ in each)
        message = f"{hindrance.message} What is still missing at {first:%H:%M:%S} UTC is bought on demand."
        return replace(hindrance, message=message, until=min(hindrance.until, first))
    found = _from(Market.ON_DEMAND, min(picture.stock.missing, picture.wish, due), picture, pool)
    if isinstance(found, Hindrance):
        message = f"{hindrance.message} On demand: {found.message}"
        return Hindrance(found.reason, message, min(hindrance.until, found.until))
    return found


def _trial(picture: Picture) -> Hindrance:
    message = "Instances ended before they were ready: one is tried, and more are launched when it is ready."
    return Hindrance(blame(picture.status.memory.stillborn), message, picture.now + NEXT_LOOK)


def blame(stillborn: int) -> Reason:
    """What so many launches in a row that brought nothing that lived are put down to."""
    return Reason.CONFIG if stillborn >= STILLBORN_TRIES else Reason.UNKNOWN


def _full(stock: Stock) -> str:
    return (
        f"max_instances ({stock.limit}) counts the {len(stock.noticed)} instances under interruption notice while they "
        "run; replacements follow as they go. Raise max_instances to replace at once."
    )


def _too_heavy(stock: Stock) -> str:
    return (
        f"{stock.headroom} units are left below max_instances ({stock.limit}), and each instance type counts for more. "
        "Raise max_instances, or add a lighter type."
    )


def _no_offer(picture: Picture, pool: Pool, market: Market, choice: Choice) -> Hindrance:
    """Why no offering may be tried now. The gravest cause is the reason; the message names the others too."""
    next_look = picture.now + NEXT_LOOK
    causes = [
        (reason, f"EC2 refuses {_names(offer for offer, _ in some)}.{_quoted(some)}", _first(some))
        for reason in (Reason.CONFIG, Reason.QUOTA, Reason.UNKNOWN)
        if (some := choice.refused_for(reason))
    ]
    if choice.unpriced:
        types = ", ".join(sorted({offer.instance_type for offer in choice.unpriced})[:SHOWN_OFFERINGS])
        text = f"The price list has no {types} in this Region: give spot_max_price in USD, or leave the type out."
        causes.insert(0, (Reason.CONFIG, text, picture.now + SELDOM))
    if choice.full:
        subnets = ", ".join(sorted({offer.subnet_id for offer, _ in choice.full})[:SHOWN_OFFERINGS])
        text = f"No free address is left in {subnets}. Free some, or list more subnets in subnet_ids."
        causes.append((Reason.NO_ADDRESSES, text, min(until for _, until in choice.full)))
    if empty := choice.refused_for(Reason.NO_CAPACITY):
        where = _names(offer for offer, _ in empty)
        text = f"EC2 had no capacity in {where}; each is tried again after a growing pause.{_quoted(empty)}"
        causes.append((Reason.NO_CAPACITY, text, _first(empty)))
    if choice.too_dear:
        causes.append((Reason.PRICE_ABOVE_MAX, _too_dear(pool, choice), next_look))
    if not causes:
        return _nothing_sold(picture, pool, market)
    reason, message, _ = causes[0]
    also = " ".join(f"{other}: {text}" for other, text, _ in causes[1:])
    return Hindrance(
        reason,
        f"{message} {also}".strip(),
        min(until for *_, until in causes),
        market,
        waits=any(other in SPOT_IS_SHORT for other, *_ in causes[1:]),
    )


def _names(offers: Iterable[Offer]) -> str:
    names = [offer.offering for offer in offers]
    more = f" and {len(names) - SHOWN_OFFERINGS} more" if len(names) > SHOWN_OFFERINGS else ""
    return ", ".join(names[:SHOWN_OFFERINGS]) + more


def _quoted(refused: tuple[tuple[Offer, Backoff], ...]) -> str:
    """EC2's own words, of the newest refusal."""
    newest = max((backoff for _, backoff in refused), key=lambda one: one.until)
    remedy = REMEDIES.get(newest.message.partition(":")[0])
    said = f" EC2 says: {newest.message}" if newest.message else ""
    return f"{said} {remedy}" if remedy else said


def _first(refused: tuple[tuple[Offer, Backoff], ...]) -> datetime:
    return min(backoff.until for _, backoff in refused)


def _nothing_sold(picture: Picture, pool: Pool, market: Market) -> Hindrance:
    unsold = picture.not_sold
    if unsold and set(pool.instance_types) <= set(unsold):
        message = f"EC2 sells no instance type of this name in the Region: {', '.join(unsold)}. Check the spelling."
        return Hindrance(Reason.CONFIG, message, picture.now + SELDOM, market)
    types = ", ".join(pool.instance_types[:SHOWN_OFFERINGS]) or "any type that meets the requirements"
    message = (
        f"EC2 sells no {market} capacity of {types} in the zones of the pool's subnets. List other types or subnets, "
        "or set fallback to buy on demand."
    )
    return Hindrance(Reason.NO_CAPACITY, message, picture.now + SELDOM, market)


def _too_dear(pool: Pool, choice: Choice) -> str:
    offer = choice.least_dear
    if not above_cap(pool, offer):
        cap = "spot_max_price" if pool.spot_max_price else "EC2's own cap, the on-demand price"
        return f"EC2 refused every offering as above {cap}; {choice.prices()}. It is tried again each minute."
    in_dollars = f"{format_price(pool.cap(offer.on_demand_price) or Decimal(0))} USD/h"
    cap = f"{pool.spot_max_price} of the on-demand price ({in_dollars})" if pool.share else in_dollars
    return f"Spot prices are above spot_max_price {cap}: {choice.prices()}. No launch is tried until it falls."


def _told(picture: Picture) -> Iterator[Step]:
    """Announce the end of instances under notice, once, a few in each step."""
    known = set(picture.status.memory.announced)
    new = [one for one in picture.stock.noticed if one.id not in known]
    for start in range(0, len(new), TELL_AT_ONCE):
        some = tuple(new[start : start + TELL_AT_ONCE])
        yield Drain(some, picture.intent.drain_command, why="EC2 takes them")


def late_ones(picture: Picture) -> tuple[str, ...]:
    """Ids of instances that have not become ready in time."""
    stock = picture.stock
    return tuple(
        one.id
        for one in (*stock.running, *stock.starting)
        if one.id in stock.unready
        and not one.protected
        and is_late(one, picture.intent.pool, picture.now, picture.minute)
    )


def _is_out_of(hindrance: Hindrance | None) -> bool:
    """Whether EC2 would not give a successor; a pool at its limit has to make room for one."""
    return hindrance is not None and hindrance.reason is not Reason.MAX_INSTANCES


def _replaced(picture: Picture, pool: Pool, *, may_miss: bool) -> Iterator[Step]:
    unseen = {one.id for one in picture.stock.unseen}
    swaps = picture.swaps
    if swaps.returning and not _spot_is_offered(picture, pool):
        return
    go = [
        (one.id, why)
        for one, why in replaced(picture.stock, swaps, picture.held, may_miss=may_miss)
        if one.id not in unseen
    ]
    for why, some in groupby(go, key=lambda each: each[1]):
        yield Terminate(tuple(id_ for id_, _ in some), why=why)


def _spot_is_offered(picture: Picture, pool: Pool) -> bool:
    """Whether spot may be tried in the place of an on-demand instance: an offering has refused nothing for a while."""
    usable = choose(pool, Market.SPOT, picture.offers or (), picture.status, picture.now).usable
    backoff = picture.status.memory.backoff
    lately = {key for key, one in backoff.items() if picture.now - one.until < FORGET_BACKOFF}
    room = picture.stock.headroom + min(units(each.instances) for each in picture.swaps.groups if each.returns)
    return any(offer.offering not in lately and offer.units <= room for offer in usable)


def _too_many(picture: Picture, why: str = "more instances than wanted") -> Iterator[Step]:
    stock, pool = picture.stock, picture.intent.pool
    if again := _once_more(picture):
        yield Terminate(again, why="the answer to their termination was lost")
    if picture.excess:
        going = picture.swaps.going
        chosen = victims(
            stock,
            (one for one in stock.members if one.id not in going),
            picture.excess,
            offers=picture.offers or (),
            outdated={one.id for one in outdated(pool, stock)} if pool else (),
            on_demand_base=base(pool, stock) if pool else 0,
            spread_zones=pool is not None and pool.spread_zones,
        )
        if chosen:
            yield Terminate(chosen, why=f"{why}: {stock.serving} there, {stock.wanted} wanted")
    stopped = tuple(one.id for one in stock.stopped if not one.protected)
    if stopped:
        yield Terminate(stopped, why="stopped instances serve no pool")


def _once_more(picture: Picture) -> tuple[str, ...]:
    """Of those that may have been terminated already, the ones that ought to be still: more would be too many."""
    stock = picture.stock
    surplus = stock.serving + units(stock.doubtful) - picture.held
    ready = units(stock.ready) + units(one for one in stock.doubtful if stock.is_ready(one)) - picture.held
    chosen: list[str] = []

    def not_ready_first(one: Instance) -> tuple[bool, str]:
        return stock.is_ready(one), one.id

    for one in sorted(stock.doubtful, key=not_ready_first):
        seen = bool(one.pool_name)  # only what EC2 shows with our tag is terminated
        if seen and not one.protected and (not stock.is_ready(one) or one.units <= min(surplus, ready)):
            chosen.append(one.id)
            surplus -= one.units
            ready -= one.units if stock.is_ready(one) else 0
    return tuple(chosen)
