"""Carries out a plan's steps; decides nothing. What cannot be undone is written down under the fence before its call.

A launch is written down with its token, so that a repeat launches nothing twice; a termination with its instances, so
that whoever comes next knows what may be gone. Announcements are written down as they are made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import assert_never

from lambdas.domain.capacity import most_given
from lambdas.domain.picture import Picture
from lambdas.domain.plan import Drain, Launch, Plan, Resend, Terminate
from lambdas.domain.results import Launched, Results, Terminated, Told
from lambdas.domain.status import Attempt, Ended
from lambdas.ports import Clock, Drainer, Fleet, Lease, StatusStore

SEEN_COUNTS = timedelta(seconds=30)
"""How old a look at EC2 may be when an instance is terminated, or its end announced, because of it."""


@dataclass(frozen=True)
class Hands:
    """What acting needs: EC2, the place to write attempts down, those to be told of an end, a clock, and fresh ids."""

    fleet: Fleet
    statuses: StatusStore
    drainer: Drainer
    clock: Clock
    new_id: Callable[[], str]


def act(plan: Plan, picture: Picture, lease: Lease, hands: Hands) -> Results:
    """Do what the plan says and report what came of it. Raises LeaseLostError before any call it must not make.

    What the picture is too old for is left to the next look.
    """
    launched: Launched | None = None
    terminated: list[Terminated] = []
    told: list[Told] = []
    for step in plan.steps:
        match step:
            case Launch():
                launched = hands.fleet.launch(_written_down(step, picture, lease, hands))
            case Resend():
                launched = _still_open(hands.fleet.launch(step.attempt))
            case Terminate() | Drain() if hands.clock() - picture.now > SEEN_COUNTS:
                return Results(launched, tuple(terminated), tuple(told), unfinished=True)
            case Terminate():
                if not terminated:
                    _write_endings_down(plan, picture, lease, hands)
                terminated.append(hands.fleet.terminate(step.instance_ids))
            case Drain():
                told.append(hands.drainer.tell(lease.pool_name, step.instances, step.command))
                hands.statuses.announced(lease, _announced(picture, told))
            case _:
                assert_never(step)
    return Results(launched, tuple(terminated), tuple(told))


def _still_open(again: Launched) -> Launched:
    """An error in answer to a repeat says nothing of the call that was lost: the attempt stays open."""
    return again if again.accepted else replace(again, answered=False)


def _written_down(step: Launch, picture: Picture, lease: Lease, hands: Hands) -> Attempt:
    pool = picture.intent.pool
    assert pool is not None  # noqa: S101  only a pool with a spec in force launches
    attempt_id = hands.new_id()
    attempt = Attempt(
        id=attempt_id,
        count=step.count,
        at=picture.now,
        request=hands.fleet.request(pool, step, attempt_id, picture.template),
        terms=pool.launch_terms,
        market=step.market,
        machine=pool.machine_digest,
        weight=step.weight,
        most=most_given(step.count, (offer.units for offer in step.offers)),
    )
    hands.statuses.begin(lease, attempt)
    return attempt


def _write_endings_down(plan: Plan, picture: Picture, lease: Lease, hands: Hands) -> None:
    """All of the plan's in one write, and those before whose answer is not known yet."""
    ids = {id_ for step in plan.steps if isinstance(step, Terminate) for id_ in step.instance_ids}
    known = {one.id for one in picture.stock.doubtful}
    hands.statuses.ending(lease, Ended(at=picture.now, ids=tuple(sorted(ids | known))))


def _announced(picture: Picture, told: list[Told]) -> list[str]:
    new = {one.instance_id for each in told for one in each.drained}
    return sorted(new | set(picture.status.memory.announced))
