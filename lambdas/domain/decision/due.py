"""Finds out why the tick must reconcile a pool: something differs, or a wait has ended."""

from __future__ import annotations

from lambdas.domain.decision.decide import decide
from lambdas.domain.decision.replacement import is_refused
from lambdas.domain.decision.snapshot import Snapshot
from lambdas.domain.decision.stock import units
from lambdas.domain.model.status import NOTICE_COUNTS, RISK_COUNTS, Notice, NoticeKind, Reason, RolloutState


def why_due(snapshot: Snapshot, *, new: bool = False) -> str | None:
    """Why the pool needs a reconcile now; None if it would change nothing. ``new``: the pool has no status yet."""
    if snapshot.intent.deleted and snapshot.stock.empty:
        # A forgotten pool has no status either, and EC2 shows its ended instances for about an hour.
        later = snapshot.status.memory.forget_at
        return None if new or (later is not None and later > snapshot.now) else "it was deleted and has ended"
    if new:
        return "it is new"
    reasons = (
        ("its item changed", _item_changed(snapshot)),
        ("its instances changed", _instances_changed(snapshot)),
        ("a launch's answer is unknown", snapshot.status.memory.attempt is not None),
        ("a termination's answer is unknown", snapshot.status.memory.ending is not None),
        ("it has instances to terminate", bool(decide(snapshot).steps)),
        ("instances are starting up", _starting_up(snapshot)),
        ("a drain command runs", any(drain.runs(snapshot.now) for drain in snapshot.status.answer.drains)),
        ("instances are missing", _may_try(snapshot)),
        ("an on-demand instance may be replaced by spot", snapshot.swaps.returning),
        ("its rolling update can continue", _may_roll_on(snapshot)),
        ("a notice of EC2 is past", bool(past_notices(snapshot))),
    )
    return next((why for why, holds in reasons if holds), None)


def _item_changed(snapshot: Snapshot) -> bool:
    intent, answer = snapshot.intent, snapshot.status.answer
    if snapshot.status.memory.unlisted:
        return True
    if intent.deleted:
        return answer.draining_since is None
    return (
        answer.draining_since is not None
        or intent.errors != answer.spec_errors
        or intent.spec != snapshot.status.memory.spec
    )


def _instances_changed(snapshot: Snapshot) -> bool:
    stock, answer = snapshot.stock, snapshot.status.answer
    starting = units(stock.starting) + units(stock.unseen)
    shown = (stock.wanted, units(stock.running), starting, units(stock.noticed))
    return shown != (answer.wanted, answer.running, answer.starting, answer.noticed)


def _starting_up(snapshot: Snapshot) -> bool:
    """Whether a reconcile can learn more about instances that are not ready: from checks, a tag, or their end."""
    stock, pool = snapshot.stock, snapshot.intent.pool
    if pool is None:
        return False
    by_tag = units(stock.ready) != snapshot.status.answer.ready
    by_checks = pool.ready_tag is None and any(instance.id in stock.unready for instance in stock.running)
    return bool(by_tag or by_checks or stock.failed_starts or stock.lived)


def _may_roll_on(snapshot: Snapshot) -> bool:
    answer = snapshot.status.answer
    stopped = answer.rollout is not None and answer.rollout.state is RolloutState.STOPPED
    blocked = (
        is_refused(snapshot.status.memory, snapshot.now) or snapshot.waits_to_replace or answer.waiting is not None
    )
    return stopped and not blocked and not snapshot.intent.paused


def _may_try(snapshot: Snapshot) -> bool:
    waiting = snapshot.status.answer.waiting
    if waiting is None:
        return snapshot.may_launch
    # Each tick checks prices, whenever the last check was: that costs no launch.
    watched = waiting.reason is Reason.PRICE_ABOVE_MAX
    return (watched or waiting.next_attempt_at <= snapshot.now) and not snapshot.intent.paused


def past_notices(snapshot: Snapshot) -> tuple[str, ...]:
    """Ids of instances whose notice no longer matters: they have ended, or still run long after the notice."""
    present = {instance.id for instance in (*snapshot.stock.members, *snapshot.stock.noticed, *snapshot.stock.stopped)}
    present |= {instance.id for instance in snapshot.stock.doubtful}

    def counts(id_: str, notice: Notice) -> bool:
        age = snapshot.now - notice.at
        risk = notice.kind is not NoticeKind.INTERRUPTION and id_ in present and age < RISK_COUNTS
        return age < NOTICE_COUNTS or risk

    return tuple(id_ for id_, notice in snapshot.status.notices.items() if not counts(id_, notice))
