"""THE SENTENCE: load, observe, decide, act, record; for one pool, under its lease. Read this file first."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from lambdas import report
from lambdas.act import Hands, act
from lambdas.domain.decide import decide
from lambdas.domain.intent import intent_of
from lambdas.domain.outcome import fold
from lambdas.domain.pauses import Pauses
from lambdas.domain.picture import MINUTE
from lambdas.domain.status import LastError, Status, with_error
from lambdas.observe import observe, with_drains, with_offers
from lambdas.ports import Clock, Drainer, DueQueue, Fleet, FleetError, Lease, PoolStore, StatusStore

ROUNDS = 3
"""How often one invocation looks again before it hands the pool back to the queue."""


@dataclass(frozen=True)
class ControlPlane:
    """Everything a reconcile works with."""

    stack: str
    pools: PoolStore
    statuses: StatusStore
    fleet: Fleet
    drainer: Drainer
    queue: DueQueue
    clock: Clock
    pauses: Pauses
    drain_grace: timedelta
    minute: timedelta = MINUTE
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    wait: Callable[[float], None] = time.sleep


def reconcile(pool_name: str, plane: ControlPlane) -> None:
    """Close the difference between what the pool's item wants and what EC2 shows.

    If another reconcile has the pool, it is told to look again and this one leaves. Failures raise; the lease is
    given back first, so that a retry need not wait for it to run out.
    """
    lease = plane.statuses.acquire(pool_name, plane.clock())
    if lease is None:
        return
    try:
        for _ in range(ROUNDS):
            again = _once(lease, plane)
            if not again and plane.statuses.release(lease):
                return
    except Exception:
        plane.statuses.release(lease, even_if_dirty=True)
        raise
    plane.statuses.release(lease, even_if_dirty=True)
    plane.queue.send({pool_name: "there is more to do than one invocation's share"})


def _once(lease: Lease, plane: ControlPlane) -> bool:
    """One round; True if there is more to do at once."""
    status = plane.statuses.get(lease.pool_name) or Status()
    try:
        return _round(lease, status, plane)
    except FleetError as error:
        failed = LastError(code=error.failure.code, message=error.failure.message, at=plane.clock())
        plane.statuses.save(lease, status, with_error(status, failed))
        raise


def _round(lease: Lease, status: Status, plane: ControlPlane) -> bool:
    now = plane.clock()
    intent = intent_of(plane.pools.get(lease.pool_name), status, now, plane.drain_grace)
    picture = observe(lease.pool_name, intent, status, plane.fleet, now=now, minute=plane.minute)
    if intent.deleted and picture.stock.empty:
        plane.fleet.forget_template(lease.pool_name)
        plane.statuses.delete(lease)
        report.forgotten(lease)
        return False
    picture, refusal = with_offers(with_drains(picture, plane.drainer), plane.fleet)
    plan = decide(picture)
    results = act(plan, picture, lease, Hands(plane.fleet, plane.statuses, plane.drainer, plane.new_id))
    if refusal:
        results = replace(results, launched=refusal)
    outcome = fold(picture, plan, results, plane.pauses)
    if outcome.status != status:
        plane.statuses.save(lease, status, outcome.status)
    report.reconciled(plane.stack, lease, plan, results, status=outcome.status, now=now)
    return outcome.again
