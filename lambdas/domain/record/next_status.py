"""Works out the next status of a pool after a reconcile, and whether there is more to do at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from lambdas.domain.decision.decide import SPOT_IS_SHORT, decide
from lambdas.domain.decision.due import past_notices
from lambdas.domain.decision.replacement import base
from lambdas.domain.decision.snapshot import Snapshot
from lambdas.domain.decision.stock import Stock, recently_launched
from lambdas.domain.item.pool import Market
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.plan import Launch, Plan
from lambdas.domain.model.results import Results
from lambdas.domain.model.status import (
    CLOSING,
    STARTING,
    Answer,
    LastError,
    Memory,
    Shortfall,
    Size,
    Status,
    troubles_of,
)
from lambdas.domain.record.backoff import BackoffPolicy
from lambdas.domain.record.memory import TEMPLATE_RETRY, remember, template_settles
from lambdas.domain.record.public_status import answer

MOST_SHORTFALLS = 50
MOST_SIZES = 50
LONGEST_CALM = 1440
"""Minutes that an item may set as scale_in_after_minutes."""


@dataclass(frozen=True)
class Outcome:
    """The next status of a pool, whether there is more to do at once, and the delay, if it is short."""

    status: Status
    again: bool
    soon: timedelta | None = None


def fold(snapshot: Snapshot, plan: Plan, results: Results, policy: BackoffPolicy) -> Outcome:
    """Fold one reconcile's results into the status that it began with."""
    memory = remember(snapshot, plan, results, policy)
    past = set(past_notices(snapshot))
    notices = {id_: notice for id_, notice in snapshot.status.notices.items() if id_ not in past}
    folded = Status(answer=snapshot.status.answer, memory=memory, notices=notices)
    after = replace(snapshot, stock=_stock_after(snapshot, memory, results), status=folded)
    left = decide(after)
    said = answer(after, left, results)
    over = _ended_troubles(snapshot, said, memory)
    known = {**_waits(after, left), "over": over, "begun": _begun_troubles(snapshot, said, memory, over)}
    status = Status(answer=said, memory=memory.model_copy(update=known), notices=notices)
    launches = any(isinstance(step, Launch) for step in left.steps)
    launched = results.launched
    more = launches and launched is not None and launched.answered
    unasked = snapshot.offers is None and launched is None and after.may_launch
    soon = TEMPLATE_RETRY if template_settles(snapshot, launched) else None
    return Outcome(status, again=more or unasked or results.unfinished, soon=soon)


def unlisted(snapshot: Snapshot, error: LastError) -> Status:
    """The next status when EC2 did not list the instances: what the item says is saved, all else stays.

    ``snapshot`` has no instances. The item may change or become faulty before EC2 answers, and was in force until then.
    """
    status, intent, memory = snapshot.status, snapshot.intent, snapshot.status.memory
    now_wanted = Size(at=snapshot.now, wanted=snapshot.stock.wanted)
    kept: dict[str, Any] = {"sizes": _falling((*memory.sizes, now_wanted), status.answer.wanted), "unlisted": True}
    if intent.pool is not None and intent.spec != memory.spec:
        kept |= {"spec": intent.spec, "unsold": None}
    said: dict[str, Any] = {"last_error": error, "draining_since": intent.draining_since}
    if intent.errors:
        said["spec_errors"] = intent.errors
    answer, memory = status.answer.model_copy(update=said), memory.model_copy(update=kept)
    return status.model_copy(update={"answer": answer, "memory": memory})


def _waits(after: Snapshot, left: Plan) -> dict[str, Any]:
    """What waits, how much of it and since when: missing spot, larger sizes before a scale-in, replacements."""
    memory, now = after.status.memory, after.now
    waits = memory.replace_at if memory.replace_at and memory.replace_at > now else None
    return {
        "shortfalls": _shortfalls(after, left),
        "sizes": _sizes(after),
        "replace_at": left.blocked_replacement.until if left.blocked_replacement else waits,
    }


def _ended_troubles(before: Snapshot, said: Answer, memory: Memory) -> dict[str, datetime]:
    """Troubles that have ended since the last reconcile, or shortly before."""
    was = troubles_of(before.status.answer, before.status.memory)
    recently_ended = {name: at for name, at in before.status.memory.over.items() if before.now - at < CLOSING}
    now = set(troubles_of(said, memory))
    return {name: at for name, at in {**recently_ended, **dict.fromkeys(was, before.now)}.items() if name not in now}


def _begun_troubles(
    before: Snapshot, said: Answer, memory: Memory, over: Mapping[str, datetime]
) -> dict[str, datetime]:
    """When each trouble began: those of now, and those that ended shortly before."""
    now, known = troubles_of(said, memory), before.status.memory.begun
    ended = {name: at for name, at in known.items() if name in over}
    begun: dict[str, datetime] = {}
    for name in now:
        again = name in before.status.memory.over  # a trouble that comes back begins anew
        begun[name] = before.now if again else known.get(name, before.now)
    if STARTING in begun and memory.below_since:
        begun[STARTING] = memory.below_since  # it is the rest of a shortfall
    return ended | begun


def _shortfalls(after: Snapshot, left: Plan) -> tuple[Shortfall, ...]:
    """What spot lacks, each part with its own start; new instances fill the oldest part first."""
    stock, pool = after.stock, after.intent.pool
    if pool is None or pool.fallback is None or after.intent.paused:
        return ()
    lacks_base = max(0, base(pool, stock) - stock.on_demand)
    lacking = max(0, stock.wanted - stock.serving - lacks_base)
    known = after.status.memory.shortfalls
    served = max(0, sum(shortfall.units for shortfall in known) - lacking)
    kept: list[Shortfall] = []
    for shortfall in known:
        gone = min(served, shortfall.units)
        served -= gone
        if shortfall.units > gone:
            kept.append(Shortfall(since=shortfall.since, units=shortfall.units - gone))
    new = lacking - sum(shortfall.units for shortfall in kept)
    why = left.blocker
    struck = why is not None and why.market is Market.SPOT and (why.reason in SPOT_IS_SHORT or why.waits)
    if new > 0 and struck:
        kept.append(Shortfall(since=after.now, units=new))
    return _merged(kept)


def _merged(shortfalls: list[Shortfall]) -> tuple[Shortfall, ...]:
    """At most MOST_SHORTFALLS parts: the youngest are merged and keep the latest start."""
    few, rest = shortfalls[: MOST_SHORTFALLS - 1], shortfalls[MOST_SHORTFALLS - 1 :]
    if len(rest) > 1:
        rest = [Shortfall(since=rest[-1].since, units=sum(shortfall.units for shortfall in rest))]
    return (*few, *rest)


def _sizes(after: Snapshot) -> tuple[Size, ...]:
    """Larger sizes wanted within scale_in_after_minutes, each with its end: sizes fall, times rise."""
    pool, before, now = after.intent.pool, after.status.answer, after.now
    # A deleted item may come back with any scale_in_after_minutes.
    calm = (pool.scale_in_after_minutes if pool else LONGEST_CALM) * after.minute
    fell = (Size(at=now, wanted=before.wanted),) if before.wanted > after.stock.wanted else ()
    recent = [size for size in (*after.status.memory.sizes, *fell) if now - size.at < calm]
    return _falling(recent, after.stock.wanted)


def _falling(sizes: Sequence[Size], wanted: int) -> tuple[Size, ...]:
    """The sizes above ``wanted`` that no later one reaches, at most MOST_SIZES: sizes fall, times rise."""
    falling: list[Size] = []
    for size in reversed(sizes):
        if size.wanted > max(wanted, falling[-1].wanted if falling else 0):
            falling.append(size)
    return tuple(reversed(falling if len(falling) <= MOST_SIZES else _thinned(falling)))


def _thinned(sizes: list[Size]) -> list[Size]:
    """Half as many sizes: of two neighbours, keep the larger size and the later time. Scaling in later is safe."""
    pairs = zip(sizes[::2], [*sizes[1::2], sizes[-1]], strict=False)
    return [Size(at=younger.at, wanted=older.wanted) for younger, older in pairs]


def _stock_after(snapshot: Snapshot, memory: Memory, results: Results) -> Stock:
    stock, attempt, pool = snapshot.stock, memory.attempt, snapshot.intent.pool
    known_attempt = attempt == snapshot.status.memory.attempt
    known = {instance.id for instance in (*stock.members, *stock.noticed)}

    def weighed(instance: Instance) -> Instance:
        return replace(instance, units=pool.weight(instance.instance_type)) if pool else instance

    launched = results.launched.instances if results.launched else {}
    fresh = launched.keys() - known
    new = tuple(weighed(instance) for instance in recently_launched(memory, snapshot.now) if instance.id in fresh)
    doubt = set(memory.ending.ids) if memory.ending else set()
    left, still = stock.without(results.ended | doubt), doubt - results.ended
    return replace(
        left,
        unseen=(*left.unseen, *new),
        doubtful=tuple(instance for instance in (*stock.members, *stock.doubtful) if instance.id in still),
        unready=frozenset(memory.startup),
        failed_starts=(),
        lived=(),
        in_flight=(stock.in_flight if known_attempt else attempt.count) if attempt else 0,
    )
