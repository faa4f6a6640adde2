"""The flow: load, observe, decide, act, record; for one pool, under its lease. Read this file first."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from lambdas import report
from lambdas.act import act
from lambdas.control_plane import ControlPlane
from lambdas.domain.decision.decide import decide
from lambdas.domain.decision.intent import Intent, intent_of
from lambdas.domain.decision.snapshot import take_snapshot
from lambdas.domain.model.status import Answer, LastError, Memory, Status
from lambdas.domain.record.next_status import fold, unlisted
from lambdas.observe import looked_at_again, observe, with_drains, with_offers, with_unsold
from lambdas.ports import FleetError, Lease

ROUNDS = 8
"""How many rounds one invocation does at most, before it sends the pool back to the queue."""

LAST_ROUND_BEGINS = timedelta(seconds=20)
"""How long after its start an invocation may begin a round; a function has a minute, and EC2 may be slow."""

AT_ONCE = timedelta(0)

FRESH = timedelta(seconds=10)
"""How old a listing may be when instances are terminated because of it; an older one is repeated."""


def reconcile(pool_name: str, plane: ControlPlane) -> None:
    """Close the difference between what the pool's item wants and what EC2 shows.

    If another reconcile has the lease, the pool is marked dirty for it, and this one returns. Failures raise; the lease
    is released first, so that a retry need not wait until it expires.
    """
    began = plane.clock()
    lease = plane.statuses.acquire(pool_name)
    if lease is None:
        return
    try:
        for _ in range(ROUNDS):
            pause = _once(lease, plane)
            if pause is None and plane.statuses.release(lease):
                return
            if pause or plane.clock() - began > LAST_ROUND_BEGINS:
                break
    except Exception:
        plane.statuses.release(lease, even_if_dirty=True)
        raise
    plane.statuses.release(lease, even_if_dirty=True)
    why = "EC2 does not show yet what was just created" if pause else "there is more to do than one invocation can do"
    plane.queue.send({pool_name: why}, after=pause or AT_ONCE)


def _once(lease: Lease, plane: ControlPlane) -> timedelta | None:
    """One round. Returns the delay until there is more to do, possibly zero; None: until something happens."""
    status, now = plane.statuses.get(lease.pool_name) or Status(), plane.clock()
    intent = intent_of(plane.pools.get(lease.pool_name), status, now, plane.drain_grace)
    try:
        return _round(lease, intent, status, now, plane)
    except FleetError as error:
        unseen = take_snapshot(intent, (), status, now, minute=plane.minute)
        plane.statuses.save(lease, status, unlisted(unseen, _last_error(error, plane)))
        raise


def _round(lease: Lease, intent: Intent, status: Status, now: datetime, plane: ControlPlane) -> timedelta | None:
    snapshot = observe(lease.pool_name, intent, status, plane.fleet, now=now, minute=plane.minute)
    if intent.deleted and snapshot.stock.empty:
        _forget(lease, intent, status, plane)
        return None
    snapshot = with_unsold(with_drains(snapshot, plane.drainer), plane.fleet)
    snapshot, refusal = with_offers(snapshot, plane.fleet)
    if snapshot.offers is not None and snapshot.may_let_go and plane.clock() - now > FRESH:
        snapshot = looked_at_again(snapshot, lease.pool_name, plane.fleet, now=plane.clock())
    plan = decide(snapshot)
    results = act(plan, snapshot, lease, plane)
    if refusal:
        results = replace(results, launched=refusal)
    outcome = fold(snapshot, plan, results, plane.backoff_policy)
    if outcome.status != status:
        plane.statuses.save(lease, status, outcome.status)
    report.reconciled(plane.stack, lease, plan, results, status=outcome.status, now=now)
    return AT_ONCE if outcome.again else outcome.soon


def _forget(lease: Lease, intent: Intent, status: Status, plane: ControlPlane) -> None:
    """Delete the status of a deleted pool without instances. It stays while its launch template cannot be deleted."""
    now = plane.clock()
    if status.memory.forget_at is not None and now < status.memory.forget_at:
        return
    try:
        plane.fleet.forget_template(lease.pool_name)
    except FleetError as error:
        since = intent.draining_since
        left = Memory(
            template=status.memory.template,
            backoff=status.memory.backoff,
            terminated=status.memory.terminated,
            forget_at=now + plane.backoff_policy.longest,
        )
        kept = Status(answer=Answer(draining_since=since, last_error=_last_error(error, plane)), memory=left)
        plane.statuses.save(lease, status, kept)
        report.not_forgotten(lease, error)
        return
    plane.statuses.delete(lease)
    report.forgotten(plane.stack, lease, status)


def _last_error(error: FleetError, plane: ControlPlane) -> LastError:
    return LastError(code=error.failure.code, message=error.failure.message, at=plane.clock())
