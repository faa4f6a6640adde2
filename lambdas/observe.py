"""Asks EC2 for what a decision needs: instances always, the rest only where it can matter now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from lambdas.domain.decision.intent import Intent
from lambdas.domain.decision.snapshot import Snapshot, take_snapshot
from lambdas.domain.decision.stock import take_stock
from lambdas.domain.model.results import Launched
from lambdas.domain.model.status import Status
from lambdas.ports import Drainer, Fleet, FleetError


def observe(
    pool_name: str, intent: Intent, status: Status, fleet: Fleet, *, now: datetime, minute: timedelta
) -> Snapshot:
    """List the pool's instances, and ask for the health of those that have not been seen ready.

    Raises FleetError without a listing: nothing is decided by guessing. Without an answer, health stays as it was.
    """
    instances = fleet.instances(pool_name)
    snapshot = take_snapshot(intent, instances, status, now, minute=minute)
    by_checks = intent.pool is not None and intent.pool.ready_tag is None
    awaited = [instance.id for instance in snapshot.stock.running if instance.id in snapshot.stock.unready]
    if not (awaited and by_checks):
        return snapshot
    try:
        checked = fleet.healthy(awaited)
    except FleetError as error:
        return replace(snapshot, unanswered=(error.failure,), health_known=False)
    return take_snapshot(intent, instances, status, now, minute=minute, checked=checked)


def with_offers(snapshot: Snapshot, fleet: Fleet) -> tuple[Snapshot, Launched | None]:
    """Add what EC2 offers a pool that may launch or must choose instances to terminate, and its launch template.

    A changed description goes into the template at once, even if nothing is launched yet: a later faulty edit must not
    lose it, and EC2 says now what is wrong with it. A refusal here counts as a refused launch; it blocks nothing else.
    """
    pool, memory = snapshot.intent.pool, snapshot.status.memory
    if pool is None or snapshot.intent.paused:
        return snapshot, None
    try:
        snapshot = replace(snapshot, template=fleet.template(pool, memory.template))
        if not (snapshot.may_launch or snapshot.may_let_go):
            return snapshot, None
        full = {subnet for subnet, until in memory.full.items() if until > snapshot.now}
        offers = [offer for offer in fleet.offers(pool, full) if offer.instance_type not in snapshot.not_sold]
    except FleetError as error:
        if not snapshot.may_launch:
            return replace(snapshot, unanswered=(*snapshot.unanswered, error.failure)), None
        asked = snapshot.stock.missing + snapshot.surge
        return snapshot, Launched(None, asked, failures=(error.failure,), market=pool.market)
    return snapshot.offered(offers), None


def with_unsold(snapshot: Snapshot, fleet: Fleet) -> Snapshot:
    """Add the types of a changed item that the Region does not sell: a misspelt type would be awaited for ever.

    Without an answer the next reconcile asks again.
    """
    pool = snapshot.intent.pool
    known = snapshot.intent.spec == snapshot.status.memory.spec and snapshot.status.memory.unsold is not None
    if pool is None or known:
        return snapshot
    try:
        return replace(snapshot, unsold=fleet.unsold(pool))
    except FleetError as error:
        return replace(snapshot, unanswered=(*snapshot.unanswered, error.failure))


def looked_at_again(snapshot: Snapshot, pool_name: str, fleet: Fleet, *, now: datetime) -> Snapshot:
    """The same with a new listing: requests since the first took long, and a user may have protected an instance.

    Health is not asked again. Raises FleetError if there is no listing.
    """
    ready = frozenset(instance.id for instance in snapshot.stock.members if snapshot.stock.is_ready(instance))
    instances, pool = fleet.instances(pool_name), snapshot.intent.pool
    stock = take_stock(pool, instances, snapshot.status, now, checked=ready, minute=snapshot.minute)
    return replace(snapshot, stock=stock, now=now)


def with_drains(snapshot: Snapshot, drainer: Drainer) -> Snapshot:
    """Add the states of the drain commands that still run."""
    running = [drained for drained in snapshot.status.answer.drains if drained.runs(snapshot.now)]
    if not running:
        return snapshot
    try:
        return replace(snapshot, drains=drainer.states(running))
    except FleetError as error:
        return replace(snapshot, unanswered=(*snapshot.unanswered, error.failure))
