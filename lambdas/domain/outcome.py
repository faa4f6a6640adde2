"""Folds results into what is remembered, and says what to answer: each reason for waiting has its own policy here.

NO_CAPACITY backs off per offering, doubling. PRICE_ABOVE_MAX is looked at again on the next tick, without a launch
call. QUOTA and CONFIG hold the pool for the longest pause: they need a person. THROTTLED and UNKNOWN hold it for a
doubling pause; UNKNOWN for the third time is CONFIG.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lambdas.domain.capacity import Stock
from lambdas.domain.decide import NEXT_LOOK, decide
from lambdas.domain.picture import Picture
from lambdas.domain.plan import Hindrance, Launch, Plan
from lambdas.domain.results import Failure, Launched, Results
from lambdas.domain.status import (
    NOTICE_COUNTS,
    RECENT,
    Answer,
    Backoff,
    Hold,
    LastError,
    Memory,
    Reason,
    Status,
    Waiting,
)

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


OF_AN_OFFERING = (Reason.NO_CAPACITY, Reason.PRICE_ABOVE_MAX)


@dataclass(frozen=True)
class Pauses:
    """How long to wait after a failure: from ``base``, doubling, to ``longest``."""

    base: timedelta
    longest: timedelta

    def after(self, failures: int, salt: str) -> timedelta:
        """The pause after so many failures in a row, up to a quarter shorter by a jitter that ``salt`` decides.

        What failed together is salted alike, so that it is tried again together, in one call.
        """
        jitter = zlib.crc32(salt.encode()) / 2**32
        doubled: timedelta = self.base * (1 << min(failures - 1, 20))
        return min(doubled, self.longest) * (1 - jitter / 4)


@dataclass(frozen=True)
class Outcome:
    """The next status of a pool, and whether there is more to do at once."""

    status: Status
    again: bool


def fold(picture: Picture, plan: Plan, results: Results, pauses: Pauses) -> Outcome:
    """Fold one reconcile's results into the status it began with."""
    launched, now = results.launched, picture.now
    memory = _remember(picture, plan, results, pauses)
    notices = {id_: one for id_, one in picture.status.notices.items() if now - one.at < NOTICE_COUNTS}
    folded = Status(answer=picture.status.answer, memory=memory, notices=notices)
    after = replace(picture, stock=_stock_after(picture, memory, results), status=folded)
    left = decide(after)
    stock = after.stock
    answer = Answer(
        wanted=stock.wanted,
        running=len(stock.running),
        starting=len(stock.starting) + len(stock.unseen),
        noticed=len(stock.noticed),
        waiting=_waiting(after, left.hindrance, launched),
        spec_errors=picture.intent.errors,
        last_error=_last_error(results, picture),
        draining_since=picture.intent.draining_since,
    )
    again = launched is not None and launched.answered and any(isinstance(step, Launch) for step in left.steps)
    return Outcome(Status(answer=answer, memory=memory, notices=notices), again)


def _remember(picture: Picture, plan: Plan, results: Results, pauses: Pauses) -> Memory:
    memory, launched, now = picture.status.memory, results.launched, picture.now
    hold = memory.hold
    attempt = None if plan.drop_attempt else memory.attempt
    shown = _shown(picture) if plan.drop_attempt else ()
    backoff = {key: one for key, one in memory.backoff.items() if now - one.until < FORGET_BACKOFF}
    if launched is not None:
        attempt = None if launched.answered else launched.attempt
        backoff = _backoff_after(launched, backoff, now, pauses)
        hold = _hold_after(launched, hold, now, pauses)
    below = not picture.intent.paused and len(picture.stock.running) < picture.stock.wanted
    return Memory(
        spec=picture.intent.spec or memory.spec,
        hold=hold,
        attempt=attempt,
        backoff=backoff,
        launched=_recent(memory.launched, now)
        | dict.fromkeys((*shown, *(launched.instances if launched else ())), now),
        terminated=_recent(memory.terminated, now) | dict.fromkeys(results.ended, now),
        below_since=(memory.below_since or now) if below else None,
    )


def _shown(picture: Picture) -> tuple[str, ...]:
    """What EC2 shows of the open attempt; its next listing, from another replica, may be older and not show it."""
    attempt, stock = picture.status.memory.attempt, picture.stock
    return tuple(one.id for one in (*stock.running, *stock.starting) if attempt and one.attempt_id == attempt.id)


def _recent(ids: dict[str, datetime], now: datetime) -> dict[str, datetime]:
    return {id_: at for id_, at in ids.items() if now - at < RECENT}


def _stock_after(picture: Picture, memory: Memory, results: Results) -> Stock:
    stock, ended, attempt = picture.stock, results.ended, memory.attempt
    known_attempt = attempt == picture.status.memory.attempt
    new = set(results.launched.instances) if results.launched else set()
    known = {one.id for one in (*stock.running, *stock.starting)} | set(stock.noticed)
    return replace(
        stock,
        running=tuple(one for one in stock.running if one.id not in ended),
        starting=tuple(one for one in stock.starting if one.id not in ended),
        stopped=tuple(one for one in stock.stopped if one.id not in ended),
        unseen=tuple(sorted((set(stock.unseen) | new) - known)),
        in_flight=(stock.in_flight if known_attempt else attempt.count) if attempt else 0,
    )


def _backoff_after(
    launched: Launched, backoff: dict[str, Backoff], now: datetime, pauses: Pauses
) -> dict[str, Backoff]:
    """Offerings that gave an instance start afresh; those that had none pause longer each time."""
    refused = {f.offering: f for f in launched.failures if f.reason is Reason.NO_CAPACITY}
    everywhere = None in refused or (launched.short and launched.answered and not launched.failures)
    empty = launched.offerings if everywhere else refused.keys() & launched.offerings
    after = {key: one for key, one in backoff.items() if key not in launched.instances.values()}
    for offering in sorted(key for key in empty if key is not None):
        failures = after[offering].failures + 1 if offering in after else 1
        lasting = offering in refused and refused[offering].lasting
        pause = pauses.longest if lasting else pauses.after(failures, _salt(launched))
        after[offering] = Backoff(until=now + pause, failures=failures)
    return after


def _hold_after(launched: Launched, hold: Hold | None, now: datetime, pauses: Pauses) -> Hold | None:
    if not launched.short:
        return None
    worst = _gravest(launched.failures)
    if worst is None or worst.reason is Reason.NO_CAPACITY:
        return None
    failures = hold.failures + 1 if hold is not None else 1
    reason, message = worst.reason, f"{worst.code}: {worst.message}"
    if reason is Reason.PRICE_ABOVE_MAX:
        return Hold(reason=reason, until=now + NEXT_LOOK, failures=failures, message=message)
    if reason is Reason.UNKNOWN and failures >= UNKNOWN_TRIES:
        reason = Reason.CONFIG
    needs_a_person = reason in (Reason.CONFIG, Reason.QUOTA)
    pause = pauses.longest if needs_a_person else pauses.after(failures, _salt(launched))
    return Hold(reason=reason, until=now + pause, failures=failures, message=message)


def _salt(launched: Launched) -> str:
    return launched.attempt.id if launched.attempt else ""


def _gravest(failures: Iterable[Failure]) -> Failure | None:
    return min(failures, key=lambda failure: GRAVITY.index(failure.reason), default=None)


def _waiting(after: Picture, hindrance: Hindrance | None, launched: Launched | None) -> Waiting | None:
    """The queued shortfall, aged from when it began, whatever its reason has been since."""
    count = after.stock.wanted - after.stock.serving
    if count <= 0 or after.intent.paused:
        return None
    before = after.status.answer.waiting
    if hindrance is None:
        hindrance = _under_way(after, launched)
    return Waiting(
        count=count,
        reason=hindrance.reason,
        since=before.since if before else after.now,
        attempts=(before.attempts if before else 0) + (1 if launched else 0),
        next_attempt_at=hindrance.until,
        message=hindrance.message,
    )


def _under_way(after: Picture, launched: Launched | None) -> Hindrance:
    """Why instances are missing although the next try is already due: what the last one said, or its lost answer."""
    worst = _gravest(launched.failures) if launched else None
    if launched is None or worst is None:
        return Hindrance(Reason.UNKNOWN, "A launch is under way; its answer is awaited.", after.now + NEXT_LOOK)
    then = "Other offerings are tried at once." if launched.answered else "The same request will be sent again."
    return Hindrance(worst.reason, f"{worst.code}: {worst.message} {then}", after.now)


def _last_error(results: Results, picture: Picture) -> LastError | None:
    """The gravest refusal that mattered: one offering's lack does not when another gave all that was asked."""
    launched = results.launched
    unharmed = launched is not None and not launched.short
    worst = _gravest(one for one in results.failures if not (unharmed and one.reason in OF_AN_OFFERING))
    if worst is None:
        return picture.status.answer.last_error
    return LastError(code=worst.code, message=worst.message, at=picture.now)
