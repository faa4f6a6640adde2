"""The decision: what a pool needs done now. Pure and total: the same answer for the same picture.

The law: never launch while an earlier attempt's answer is unknown (only send that same attempt again), never plan
beyond max_instances, never launch above spot_max_price, never terminate an instance that is protected or noticed.
"""

from __future__ import annotations

from datetime import timedelta

from lambdas.domain.capacity import Stock
from lambdas.domain.offers import Choice, choose
from lambdas.domain.picture import Picture
from lambdas.domain.plan import Hindrance, Launch, Plan, Resend, Terminate
from lambdas.domain.pool import Pool, format_price
from lambdas.domain.status import RECENT, Attempt, Reason
from lambdas.domain.victims import victims

LAUNCH_LIMIT = 100
"""Instances per CreateFleet: a larger call fails as one when throttled (40 to 70 came through in Karpenter's tests)."""

NEXT_LOOK = timedelta(seconds=50)
"""When what only a look can tell is looked at again: by the next tick, so a little less than its period."""

RESEND_FOR = RECENT / 2
"""How long an open attempt is sent again: what the last repeat launched must show before the attempt has settled."""

SHOWN_OFFERINGS = 6


def decide(picture: Picture) -> Plan:
    """Say what to do about the difference between what is wanted and what EC2 shows."""
    if picture.intent.deleted:
        return _drain(picture)
    if picture.intent.pool is None or picture.intent.paused:
        return Plan(drop_attempt=_settled(picture))
    if picture.status.memory.attempt is not None:
        return _finish(picture, picture.intent.pool, picture.status.memory.attempt)
    launch, hindrance = _launch(picture, picture.intent.pool)
    return Plan(steps=(*((launch,) if launch else ()), *_scale_in(picture.stock)), hindrance=hindrance)


def _drain(picture: Picture) -> Plan:
    end = picture.intent.drain_at
    late = end is not None and picture.now >= end
    steps = _scale_in(picture.stock, why="the pool item was deleted") if late else ()
    return Plan(steps=steps, drop_attempt=_settled(picture))


def _finish(picture: Picture, pool: Pool, attempt: Attempt) -> Plan:
    """Recover an attempt whose answer is unknown: send it again if it may still be, else wait until it has settled."""
    if _settled(picture):
        return Plan(drop_attempt=True)
    recent = picture.now - attempt.at < RESEND_FOR
    if recent and attempt.terms == pool.launch_terms() and picture.stock.alive <= pool.max_instances:
        return Plan(steps=(Resend(attempt, why="its answer was lost; the same token launches nothing twice"),))
    waiting = Hindrance(
        Reason.UNKNOWN,
        "A launch's answer was lost and it may not be sent again; its instances, if any, are awaited before the next.",
        attempt.at + RECENT,
    )
    return Plan(steps=_scale_in(picture.stock), hindrance=waiting)


def _settled(picture: Picture) -> bool:
    """Whether an open attempt can add nothing any more: EC2 shows all it asked for, or must show what came of it."""
    attempt = picture.status.memory.attempt
    return attempt is not None and (not picture.stock.in_flight or picture.now - attempt.at >= RECENT)


def _launch(picture: Picture, pool: Pool) -> tuple[Launch | None, Hindrance | None]:
    stock, now, hold = picture.stock, picture.now, picture.status.memory.hold
    if not stock.missing:
        return None, None
    if hold is not None and hold.until > now:
        return None, Hindrance(hold.reason, hold.message, hold.until)
    full = Hindrance(Reason.MAX_INSTANCES, _full(stock), now + NEXT_LOOK) if stock.missing > stock.headroom else None
    if not stock.headroom:
        return None, full
    choice = choose(pool, picture.offers, picture.status, now)
    if not choice.usable:
        return None, _no_offer(picture, pool, choice)
    count = min(stock.missing, stock.headroom, LAUNCH_LIMIT)
    return Launch(count, choice.usable, why=f"{stock.wanted} wanted, {stock.serving} there"), full


def _full(stock: Stock) -> str:
    return (
        f"max_instances ({stock.limit}) counts the {len(stock.noticed)} instances under interruption notice while they "
        "run; replacements follow as they go. Raise max_instances to replace at once."
    )


def _no_offer(picture: Picture, pool: Pool, choice: Choice) -> Hindrance:
    next_look = picture.now + NEXT_LOOK
    if choice.backed_off:
        where = ", ".join(offer.offering for offer in choice.backed_off[:SHOWN_OFFERINGS])
        dear = f" The rest is above the cap: {choice.prices()}." if choice.too_dear else ""
        message = f"EC2 had no capacity in {where}; each is tried again after a growing pause.{dear}"
        return Hindrance(Reason.NO_CAPACITY, message, choice.retry_at or next_look)
    if choice.too_dear and pool.spot_max_price is not None:
        cap = format_price(pool.spot_max_price)
        message = (
            f"Spot prices are above spot_max_price {cap} USD/h: {choice.prices()}. No launch is tried until it falls."
        )
        return Hindrance(Reason.PRICE_ABOVE_MAX, message, next_look)
    message = (
        "No zone of the pool's subnets offers its instance types, or there is no subnet: check instance_types, list "
        "subnet_ids in the item, or give the stack or the Region's default VPC some."
    )
    return Hindrance(Reason.CONFIG, message, next_look)


def _scale_in(stock: Stock, why: str = "more instances than wanted") -> tuple[Terminate, ...]:
    chosen = victims(stock)
    stopped = tuple(one.id for one in stock.stopped if not one.protected)
    both = (
        Terminate(chosen, why=f"{why}: {stock.serving} there, {stock.wanted} wanted"),
        Terminate(stopped, why="stopped instances serve no pool"),
    )
    return tuple(step for step in both if step.instance_ids)
