"""What a reconcile leaves behind: the next status of its pool, and whether there is more to do at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from lambdas.domain.answer import answer
from lambdas.domain.capacity import Stock, recently_launched, units
from lambdas.domain.decide import SPOT_IS_SHORT, decide
from lambdas.domain.observed import Instance
from lambdas.domain.pauses import Pauses
from lambdas.domain.picture import Picture
from lambdas.domain.plan import Launch, Plan
from lambdas.domain.pool import Fallback, Market, Pool
from lambdas.domain.remember import remember
from lambdas.domain.replace import base
from lambdas.domain.results import Results
from lambdas.domain.status import NOTICE_COUNTS, RISK_COUNTS, Memory, Notice, NoticeKind, Status


@dataclass(frozen=True)
class Outcome:
    """The next status of a pool, and whether there is more to do at once."""

    status: Status
    again: bool


def fold(picture: Picture, plan: Plan, results: Results, pauses: Pauses) -> Outcome:
    """Fold one reconcile's results into the status it began with."""
    memory = remember(picture, plan, results, pauses)
    notices = {id_: one for id_, one in picture.status.notices.items() if _counts(one, id_, picture)}
    folded = Status(answer=picture.status.answer, memory=memory, notices=notices)
    after = replace(picture, stock=_stock_after(picture, memory, results), status=folded)
    left = decide(after)
    status = Status(
        answer=answer(after, left, results),
        memory=memory.model_copy(update=_since(after, left)),
        notices=notices,
    )
    launches = any(isinstance(step, Launch) for step in left.steps)
    launched = results.launched
    more = launches and launched is not None and launched.answered
    return Outcome(status, again=more or (picture.offers is None and launched is None and after.may_launch))


def _counts(notice: Notice, instance_id: str, picture: Picture) -> bool:
    age = picture.now - notice.at
    if notice.kind is NoticeKind.INTERRUPTION:
        return age < NOTICE_COUNTS
    present = {one.id for one in (*picture.stock.members, *picture.stock.noticed, *picture.stock.stopped)}
    return age < NOTICE_COUNTS or (instance_id in present and age < RISK_COUNTS)


def _since(after: Picture, left: Plan) -> dict[str, datetime | None]:
    """Since when spot has been short and instances have been too many, and when replacing is tried again."""
    memory, now, stock, pool = after.status.memory, after.now, after.stock, after.intent.pool
    hindered = left.hindrance or left.delayed
    struck = hindered is not None and hindered.market is Market.SPOT and hindered.reason in SPOT_IS_SHORT
    short = pool is not None and pool.fallback is not None and _lacks_spot(stock, pool, pool.fallback)
    waits = memory.replace_at if memory.replace_at and memory.replace_at > now else None
    return {
        "spot_short_since": (memory.spot_short_since or (now if struck else None)) if short else None,
        "excess_since": (memory.excess_since or now) if after.excess and not after.intent.paused else None,
        "replace_at": left.delayed.until if left.delayed else waits,
    }


def _lacks_spot(stock: Stock, pool: Pool, fallback: Fallback) -> bool:
    """Whether spot is missing; on demand that is to be given back does not make up for it."""
    if not fallback.return_to_spot:
        return stock.serving < stock.wanted
    spot = units(one for one in stock.members if one.market is Market.SPOT)
    return spot < stock.wanted - base(pool, stock)


def _stock_after(picture: Picture, memory: Memory, results: Results) -> Stock:
    stock, attempt, pool = picture.stock, memory.attempt, picture.intent.pool
    known_attempt = attempt == picture.status.memory.attempt
    known = {one.id for one in (*stock.members, *stock.noticed)}

    def weighed(one: Instance) -> Instance:
        return replace(one, units=pool.weight(one.instance_type)) if pool else one

    launched = results.launched.instances if results.launched else {}
    new = tuple(
        weighed(one) for one in recently_launched(memory, picture.now) if one.id in launched and one.id not in known
    )
    return replace(
        stock.without(results.ended),
        unseen=(*(one for one in stock.unseen if one.id not in results.ended), *new),
        unready=frozenset(memory.startup),
        stillborn=(),
        in_flight=(stock.in_flight if known_attempt else attempt.count) if attempt else 0,
    )
