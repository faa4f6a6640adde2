"""Which pools a tick must reconcile: those where something differs or is waiting for this moment."""

from __future__ import annotations

from lambdas.domain.capacity import units
from lambdas.domain.decide import decide
from lambdas.domain.picture import Picture
from lambdas.domain.replace import is_refused
from lambdas.domain.status import NOTICE_COUNTS, RISK_COUNTS, Notice, NoticeKind, Reason, RolloutState


def why_due(picture: Picture, *, new: bool = False) -> str | None:
    """Why the pool needs a reconcile now; None when it would change nothing. ``new``: there is no status of it."""
    if picture.intent.deleted and picture.stock.empty:
        # One that was forgotten has no status either, and EC2 shows for about an hour what it had.
        later = picture.status.memory.forget_at
        return None if new or (later is not None and later > picture.now) else "it is to be forgotten"
    if new:
        return "it is new"
    reasons = (
        ("its item changed", _item_changed(picture)),
        ("its instances changed", _instances_changed(picture)),
        ("a launch's answer is unknown", picture.status.memory.attempt is not None),
        ("a termination's answer is unknown", picture.status.memory.ending is not None),
        ("it has instances to let go", bool(decide(picture).steps)),
        ("instances are starting up", _starting_up(picture)),
        ("a drain command runs", any(one.runs(picture.now) for one in picture.status.answer.drains)),
        ("instances are missing", _may_try(picture)),
        ("an on-demand instance may make way for spot", picture.swaps.returning),
        ("what stopped its rolling update is over", _may_roll_on(picture)),
        ("what EC2 announced is past", bool(past_notices(picture))),
    )
    return next((why for why, holds in reasons if holds), None)


def _item_changed(picture: Picture) -> bool:
    intent, answer = picture.intent, picture.status.answer
    if intent.deleted:
        return answer.draining_since is None
    return (
        answer.draining_since is not None
        or intent.errors != answer.spec_errors
        or intent.spec != picture.status.memory.spec
    )


def _instances_changed(picture: Picture) -> bool:
    stock, answer = picture.stock, picture.status.answer
    starting = units(stock.starting) + units(stock.unseen)
    shown = (stock.wanted, units(stock.running), starting, units(stock.noticed))
    return shown != (answer.wanted, answer.running, answer.starting, answer.noticed)


def _starting_up(picture: Picture) -> bool:
    """Whether a look can tell more of instances that are not ready: by checks, by a tag, by their end."""
    stock, pool = picture.stock, picture.intent.pool
    if pool is None:
        return False
    by_tag = units(stock.ready) != picture.status.answer.ready
    by_checks = pool.ready_tag is None and any(one.id in stock.unready for one in stock.running)
    return bool(by_tag or by_checks or stock.stillborn or stock.lived)


def _may_roll_on(picture: Picture) -> bool:
    rollout = picture.status.answer.rollout
    stopped = rollout is not None and rollout.state is RolloutState.STOPPED
    return stopped and not is_refused(picture.status.memory, picture.now) and not picture.intent.paused


def _may_try(picture: Picture) -> bool:
    waiting = picture.status.answer.waiting
    if waiting is None:
        return picture.may_launch
    # Prices are looked at by each tick, whenever the last look was: it costs no launch.
    watched = waiting.reason is Reason.PRICE_ABOVE_MAX
    return (watched or waiting.next_attempt_at <= picture.now) and not picture.intent.paused


def past_notices(picture: Picture) -> tuple[str, ...]:
    """Ids of the instances whose notice no longer matters: EC2 has taken them, or has not in all the time."""
    present = {one.id for one in (*picture.stock.members, *picture.stock.noticed, *picture.stock.stopped)}
    present |= {one.id for one in picture.stock.doubtful}

    def counts(id_: str, notice: Notice) -> bool:
        age = picture.now - notice.at
        risk = notice.kind is not NoticeKind.INTERRUPTION and id_ in present and age < RISK_COUNTS
        return age < NOTICE_COUNTS or risk

    return tuple(id_ for id_, notice in picture.status.notices.items() if not counts(id_, notice))
