"""Carries out a plan's steps; decides nothing. What cannot be undone is saved, under the fence, before its call.

A launch is saved with its token, so that a repeat launches nothing twice. A termination is saved with its instances, so
that the next reconcile knows which ones may be ending. Announcements are saved as they are made.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import assert_never

from lambdas.control_plane import ControlPlane
from lambdas.domain.decision.snapshot import Snapshot
from lambdas.domain.decision.stock import most_given
from lambdas.domain.model.plan import Drain, Launch, Plan, Resend, Terminate
from lambdas.domain.model.results import DrainResult, Launched, Results, Terminated
from lambdas.domain.model.status import Attempt, Ended
from lambdas.ports import Lease

SEEN_COUNTS = timedelta(seconds=30)
"""How old a listing may be when an instance is terminated, or its end announced, because of it."""


def act(plan: Plan, snapshot: Snapshot, lease: Lease, plane: ControlPlane) -> Results:
    """Do what the plan says and return the results. Steps that need a newer snapshot are left to the next reconcile.

    Raises LeaseLostError if the lease was lost before a launch or the first termination: what is not saved is not done.
    """
    launched: Launched | None = None
    terminated: list[Terminated] = []
    drains: list[DrainResult] = []
    for step in plan.steps:
        match step:
            case Launch():
                launched = plane.fleet.launch(_saved_attempt(step, snapshot, lease, plane))
            case Resend():
                launched = _still_open(plane.fleet.launch(step.attempt))
            case Terminate() | Drain() if plane.clock() - snapshot.now > SEEN_COUNTS:
                return Results(launched, tuple(terminated), tuple(drains), unfinished=True)
            case Terminate():
                if not terminated:
                    _save_endings(plan, snapshot, lease, plane)
                terminated.append(plane.fleet.terminate(step.instance_ids))
            case Drain():
                drains.append(plane.drainer.tell(lease.pool_name, step.instances, step.command))
                plane.statuses.announced(lease, _announced(snapshot, drains))
            case _:
                assert_never(step)
    return Results(launched, tuple(terminated), tuple(drains))


def _still_open(again: Launched) -> Launched:
    """An error in answer to a repeat says nothing about the call that was lost: the attempt stays open."""
    return again if again.accepted else replace(again, answered=False)


def _saved_attempt(step: Launch, snapshot: Snapshot, lease: Lease, plane: ControlPlane) -> Attempt:
    pool = snapshot.intent.pool
    assert pool is not None  # noqa: S101  only a pool with a spec in force launches
    attempt_id = plane.new_id()
    attempt = Attempt(
        id=attempt_id,
        count=step.count,
        at=snapshot.now,
        request=plane.fleet.request(pool, step, attempt_id, snapshot.template),
        terms=pool.launch_terms,
        market=step.market,
        machine=pool.machine_digest,
        weight=step.weight,
        most=most_given(step.count, (offer.units for offer in step.offers)),
    )
    plane.statuses.begin(lease, attempt)
    return attempt


def _save_endings(plan: Plan, snapshot: Snapshot, lease: Lease, plane: ControlPlane) -> None:
    """Save all terminations of the plan in one write, with earlier ones whose answer is still unknown."""
    ids = {id_ for step in plan.steps if isinstance(step, Terminate) for id_ in step.instance_ids}
    known = {instance.id for instance in snapshot.stock.doubtful}
    plane.statuses.ending(lease, Ended(at=snapshot.now, ids=tuple(sorted(ids | known))))


def _announced(snapshot: Snapshot, drains: list[DrainResult]) -> list[str]:
    new = {drained.instance_id for result in drains for drained in result.drained}
    return sorted(new | set(snapshot.status.memory.announced))
