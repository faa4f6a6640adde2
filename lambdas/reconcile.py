"""THE SENTENCE: load, observe, decide, act, record; for one pool, under its lease. Read this file first."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from lambdas import report
from lambdas.act import Hands, act
from lambdas.domain.decide import decide
from lambdas.domain.intent import intent_of
from lambdas.domain.outcome import Pauses, fold
from lambdas.domain.picture import Picture, take_picture
from lambdas.domain.plan import Plan
from lambdas.domain.results import Launched, Results
from lambdas.domain.status import LastError, Status, with_error
from lambdas.ports import Clock, DueQueue, Fleet, FleetError, Lease, PoolStore, StatusStore

ROUNDS = 3
"""How often one invocation looks again before it hands the pool back to the queue."""


@dataclass(frozen=True)
class ControlPlane:
    """Everything a reconcile works with."""

    stack: str
    pools: PoolStore
    statuses: StatusStore
    fleet: Fleet
    queue: DueQueue
    clock: Clock
    pauses: Pauses
    drain_grace: timedelta
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())


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
    picture = take_picture(intent, plane.fleet.instances(lease.pool_name), status, now)
    if intent.deleted and picture.stock.empty:
        plane.statuses.delete(lease)
        report.forgotten(lease)
        return False
    picture, refusal = _with_offers(picture, plane.fleet)
    plan = Plan() if refusal else decide(picture)
    results = refusal or act(plan, picture, lease, Hands(plane.fleet, plane.statuses, plane.new_id))
    outcome = fold(picture, plan, results, plane.pauses)
    if outcome.status != status:
        plane.statuses.save(lease, status, outcome.status)
    report.reconciled(plane.stack, lease, plan, results, status=outcome.status, now=now)
    return outcome.again


def _with_offers(picture: Picture, fleet: Fleet) -> tuple[Picture, Results | None]:
    """Add what EC2 offers a pool that may launch. If EC2 refuses to tell, that is a launch refused."""
    if not picture.may_launch or picture.intent.pool is None:
        return picture, None
    try:
        return picture.offered(fleet.offers(picture.intent.pool)), None
    except FleetError as error:
        return picture, Results(Launched(None, picture.stock.missing, failures=(error.failure,)))
