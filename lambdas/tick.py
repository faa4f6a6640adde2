"""The safety net: if every event is lost, the tick alone brings each pool to its size. A steady pool costs nothing.

Every fifth minute it also calculates what the fleet costs, after everything else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime

from lambdas import report
from lambdas.control_plane import ControlPlane
from lambdas.domain.decision.due import why_due
from lambdas.domain.decision.intent import intent_of
from lambdas.domain.decision.snapshot import take_snapshot
from lambdas.domain.decision.stock import ALIVE
from lambdas.domain.model.cost import cost_of
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.status import Status
from lambdas.metrics import COST_EVERY
from lambdas.ports import UnreadableStatusError

QUEUED_FOR = 5
"""Minutes after which a message counts as lost, and another one is sent."""

QUEUED_AT_ONCE = 10
"""Pools that are marked before their messages are sent: as many as SQS accepts in one call."""

NEVER = datetime.max.replace(tzinfo=UTC)


def tick(plane: ControlPlane) -> None:
    """Ask for a reconcile of every pool that needs one, the longest waiting first; publish the gauges.

    A pool with an unreadable status is reported and skipped: its reconcile would only fail. Raises FleetError if EC2
    does not answer.
    """
    now = plane.clock()
    items = plane.pools.scan()
    found = plane.statuses.scan()
    statuses = {name: status for name, status in found.items() if isinstance(status, Status)}
    unreadable = {name: fault for name, fault in found.items() if isinstance(fault, UnreadableStatusError)}
    instances: Mapping[str, list[Instance]] = defaultdict(list)
    for instance in plane.fleet.instances():
        instances[instance.pool_name].append(instance)
    due: dict[str, str] = {}
    for pool_name in sorted({*items, *statuses, *instances} - {"", *unreadable}, key=lambda name: _age(name, statuses)):
        status = statuses.get(pool_name)
        intent = intent_of(items.get(pool_name), status, now, plane.drain_grace)
        snapshot = take_snapshot(intent, instances[pool_name], status or Status(), now, minute=plane.minute)
        if why := why_due(snapshot, new=status is None):
            due[pool_name] = why
    # While EC2 is slow, more pools may be due than a minute can reconcile: no pool is queued twice. A few at a time: a
    # tick that ends between mark and message leaves few pools waiting until their marks are old.
    names = list(due)
    for start in range(0, len(names), QUEUED_AT_ONCE):
        some = names[start : start + QUEUED_AT_ONCE]
        unmarked = [name for name in some if plane.statuses.queued(name, now, QUEUED_FOR * plane.minute)]
        plane.queue.send({name: due[name] for name in unmarked})
    report.ticked(plane.stack, statuses, unreadable, due, now=now)
    if now.timestamp() % (COST_EVERY * plane.minute).total_seconds() < plane.minute.total_seconds():
        alive = [instance for some in instances.values() for instance in some if instance.state in ALIVE]
        prices = plane.fleet.prices(alive)
        report.cost(plane.stack, cost_of(alive, prices), prices.unanswered)


def _age(pool_name: str, statuses: Mapping[str, Status]) -> tuple[datetime, str]:
    status = statuses.get(pool_name)
    waiting = status.answer.waiting if status else None
    return (waiting.since if waiting else NEVER), pool_name
