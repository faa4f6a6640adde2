"""Asks EC2 what a decision needs, and no more: instances always, the rest only where it can matter now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from lambdas.domain.decision.intent import Intent
from lambdas.domain.decision.snapshot import Picture, take_picture
from lambdas.domain.decision.stock import take_stock
from lambdas.domain.model.results import Launched
from lambdas.domain.model.status import Status
from lambdas.ports import Drainer, Fleet, FleetError


def observe(
    pool_name: str, intent: Intent, status: Status, fleet: Fleet, *, now: datetime, minute: timedelta
) -> Picture:
    """List the pool's instances, and ask for the health of those that have not been seen ready.

    Raises FleetError if there is no listing: nothing is decided on a guess. Health that EC2 does not tell is as before.
    """
    instances = fleet.instances(pool_name)
    picture = take_picture(intent, instances, status, now, minute=minute)
    by_checks = intent.pool is not None and intent.pool.ready_tag is None
    awaited = [one.id for one in picture.stock.running if one.id in picture.stock.unready]
    if not (awaited and by_checks):
        return picture
    try:
        checked = fleet.healthy(awaited)
    except FleetError as error:
        return replace(picture, untold=(error.failure,), health_known=False)
    return take_picture(intent, instances, status, now, minute=minute, checked=checked)


def with_offers(picture: Picture, fleet: Fleet) -> tuple[Picture, Launched | None]:
    """Add what EC2 offers a pool that may launch or must choose whom to let go, and its launch template.

    A changed description is put down in the template at once, though nothing is to be launched yet: a later bad edit
    must not lose it, and EC2 says now what is wrong with it. If EC2 refuses to tell, that is a launch refused; it
    hinders nothing else.
    """
    pool, memory = picture.intent.pool, picture.status.memory
    if pool is None or picture.intent.paused:
        return picture, None
    try:
        picture = replace(picture, template=fleet.template(pool, memory.template))
        if not (picture.may_launch or picture.may_let_go):
            return picture, None
        full = {subnet for subnet, until in memory.full.items() if until > picture.now}
        offers = [one for one in fleet.offers(pool, full) if one.instance_type not in picture.not_sold]
    except FleetError as error:
        if not picture.may_launch:
            return replace(picture, untold=(*picture.untold, error.failure)), None
        asked = picture.stock.missing + picture.surge
        return picture, Launched(None, asked, failures=(error.failure,), market=pool.market)
    return picture.offered(offers), None


def with_unsold(picture: Picture, fleet: Fleet) -> Picture:
    """Add which types of a changed item EC2 sells nowhere: a misspelt one would be waited for without end.

    Without an answer it is asked again by the next reconcile.
    """
    pool = picture.intent.pool
    known = picture.intent.spec == picture.status.memory.spec and picture.status.memory.unsold is not None
    if pool is None or known:
        return picture
    try:
        return replace(picture, unsold=fleet.unsold(pool))
    except FleetError as error:
        return replace(picture, untold=(*picture.untold, error.failure))


def looked_at_again(picture: Picture, pool_name: str, fleet: Fleet, *, now: datetime) -> Picture:
    """The same with a new listing: what was asked since the first took long, and somebody may have protected one.

    Health is not asked again. Raises FleetError if there is no listing.
    """
    ready = frozenset(one.id for one in picture.stock.members if picture.stock.is_ready(one))
    instances, pool = fleet.instances(pool_name), picture.intent.pool
    stock = take_stock(pool, instances, picture.status, now, checked=ready, minute=picture.minute)
    return replace(picture, stock=stock, now=now)


def with_drains(picture: Picture, drainer: Drainer) -> Picture:
    """Add the states of the drain commands that still run."""
    running = [one for one in picture.status.answer.drains if one.runs(picture.now)]
    if not running:
        return picture
    try:
        return replace(picture, drains=drainer.states(running))
    except FleetError as error:
        return replace(picture, untold=(*picture.untold, error.failure))
