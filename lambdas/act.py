"""Carries out a plan's steps; decides nothing. A launch is written down, with its token, before its call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from lambdas.domain.picture import Picture
from lambdas.domain.plan import Drain, Launch, Plan, Resend, Terminate
from lambdas.domain.results import Launched, Results, Terminated, Told
from lambdas.domain.status import Attempt
from lambdas.ports import Drainer, Fleet, Lease, StatusStore


@dataclass(frozen=True)
class Hands:
    """What acting needs: EC2, the place to write attempts down, those to be told of an end, and fresh ids."""

    fleet: Fleet
    statuses: StatusStore
    drainer: Drainer
    new_id: Callable[[], str]


def act(plan: Plan, picture: Picture, lease: Lease, hands: Hands) -> Results:
    """Do what the plan says and report what came of it. Raises LeaseLostError before any call it must not make."""
    launched: Launched | None = None
    terminated: list[Terminated] = []
    told: list[Told] = []
    for step in plan.steps:
        match step:
            case Launch():
                launched = hands.fleet.launch(_written_down(step, picture, lease, hands))
            case Resend():
                launched = _still_open(hands.fleet.launch(step.attempt))
            case Terminate():
                terminated.append(hands.fleet.terminate(step.instance_ids))
            case Drain():
                told.append(hands.drainer.tell(lease.pool_name, step.instances, step.command))
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
        terms=pool.launch_terms(),
        market=step.market,
        machine=pool.machine_digest,
    )
    hands.statuses.begin(lease, attempt)
    return attempt
