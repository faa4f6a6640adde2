"""``explain``: all about one pool, from its item, its status and a read-only observation of EC2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cli.aws_errors import refusal_text
from cli.console_links import console_links
from cli.deployment import Deployment
from cli.output import ago, step_text
from cli.tick_health import checked_silence
from lambdas.domain.decision.decide import decide
from lambdas.domain.decision.due import why_due
from lambdas.domain.decision.intent import Intent, intent_of
from lambdas.domain.decision.replacement import outdated
from lambdas.domain.decision.snapshot import Snapshot, take_snapshot
from lambdas.domain.decision.stock import MINUTE, Stock, units
from lambdas.domain.guide import GUIDE, Advice, Trouble, advice
from lambdas.domain.item.faults import SpecError
from lambdas.domain.item.pool import Pool, warnings_of
from lambdas.domain.item.schedule import in_force
from lambdas.domain.model.errors import reason_of
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.plan import Drain, Launch, Plan, Resend, Step, Terminate
from lambdas.domain.model.results import Failure
from lambdas.domain.model.status import (
    Answer,
    Drained,
    LastError,
    Reason,
    Replacing,
    Rollout,
    RolloutState,
    Status,
    Template,
    Waiting,
)
from lambdas.observe import observe, with_drains, with_offers
from lambdas.ports import Drainer, Fleet, FleetError, UnreadableStatusError

SHOWN_OFFERINGS = 6
NAMES = {
    Trouble.HEARTBEAT: "HEARTBEAT_MISSING",
    Trouble.STATUS_UNREADABLE: "STATUS_UNREADABLE",
    Trouble.ITEM_INVALID: "INVALID_ITEM",
}
"""Names of troubles that are not a ``Reason``."""


@dataclass(frozen=True)
class Observation:
    """All that an explanation is made from. If EC2 could not be observed, ``plan`` is None and ``blind`` says why.

    ``silent_since`` is when the tick stopped. If that is unknown, ``unheard`` says why. ``links`` are addresses in the
    AWS console, by what they show.
    """

    pool: str
    intent: Intent
    status: Status | None
    snapshot: Snapshot
    plan: Plan | None = None
    refusal: Failure | None = None
    blind: str = ""
    unreadable: str = ""
    silent_since: datetime | None = None
    unheard: str = ""
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """The wanted size and what sets it."""

    count: int
    by: str


@dataclass(frozen=True)
class Member:
    """One instance. ``notes`` are remarks, for example that it is under notice."""

    id: str
    instance_type: str
    zone: str
    market: str
    state: str
    launched_at: datetime
    ready: bool
    units: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedAdvice:
    """A trouble: what it means, what the control plane does and what the user can do."""

    what: str
    means: str
    does: str
    do: str


@dataclass(frozen=True)
class NextReconcile:
    """What a reconcile would do now, what it waits for otherwise, and why the pool is due."""

    steps: tuple[str, ...]
    otherwise: str
    due: str | None


@dataclass(frozen=True)
class Explanation:
    """All about a pool. Programs rely on the field names: do not rename them."""

    pool: str
    at: datetime
    wanted: Wanted
    running: int
    ready: int
    starting: int
    noticed: int
    on_demand: int
    paused: bool
    draining_since: datetime | None
    drain_at: datetime | None
    tick_silent_since: datetime | None
    instances: tuple[Member, ...]
    waiting: Waiting | None
    reason_since: datetime | None
    last_error: LastError | None
    spec_errors: tuple[SpecError, ...]
    rollout: Rollout | None
    replacing: Replacing | None
    drains: tuple[Drained, ...]
    advice: tuple[NamedAdvice, ...]
    next: NextReconcile | None
    notes: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)


class ReadOnlyFleet:
    """A Fleet that only reads: to ask for a launch template must not create one."""

    def __init__(self, fleet: Fleet) -> None:
        self.instances = fleet.instances
        self.healthy = fleet.healthy
        self.offers = fleet.offers

    def template(self, _pool: Pool, known: Template | None) -> Template | None:
        """Return the known template, even if it is outdated: a plan does not depend on it."""
        return known

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"explain is read-only: it has no {name}")


def look(deployment: Deployment, pool_name: str) -> Observation:
    """Observe a pool with the caller's own credentials. Raises NoSuchPoolError."""
    items, statuses = deployment.pools, deployment.statuses
    stored = items.find(pool_name)
    status, unreadable = None, ""
    try:
        status = statuses.get(pool_name)
    except UnreadableStatusError as fault:
        unreadable = str(fault)
    if stored is None and status is None and not unreadable:
        raise items.no_such(pool_name)
    settings = deployment.settings
    now = deployment.now()
    intent = intent_of(stored.item if stored else None, status, now, timedelta(seconds=settings.drain_grace_seconds))
    fleet = deployment.fleet(settings)
    drainer = deployment.drainer() if status and any(one.runs(now) for one in status.answer.drains) else None
    minute = timedelta(seconds=settings.minute_seconds)
    observed = observe_now(pool_name, intent, status, fleet, drainer, now=now, minute=minute)
    silent_since, unheard = checked_silence(deployment)
    links = console_links(deployment)
    return replace(observed, unreadable=unreadable, silent_since=silent_since, unheard=unheard, links=links)


def observe_now(
    pool_name: str,
    intent: Intent,
    status: Status | None,
    fleet: Fleet,
    drainer: Drainer | None,
    *,
    now: datetime,
    minute: timedelta = MINUTE,
) -> Observation:
    """Observe and decide like a reconcile, but do not act. ``drainer`` is needed only while a drain command runs."""
    known = status or Status()
    read_only: Any = ReadOnlyFleet(fleet)
    try:
        snapshot = observe(pool_name, intent, known, read_only, now=now, minute=minute)
    except FleetError as error:
        blind = refusal_text(error.failure.code, error.failure.message)
        return Observation(pool_name, intent, status, take_snapshot(intent, (), known, now, minute=minute), blind=blind)
    if drainer is not None:
        snapshot = with_drains(snapshot, drainer)
    snapshot, refusal = with_offers(snapshot, read_only)
    failure = refusal.failures[0] if refusal and refusal.failures else None
    return Observation(pool_name, intent, status, snapshot, decide(snapshot), failure)


def explain(observed: Observation) -> Explanation:
    """Make the explanation from an observation."""
    answer = observed.status.answer if observed.status else Answer()
    stock, now = observed.snapshot.stock, observed.snapshot.now
    return Explanation(
        pool=observed.pool,
        at=now,
        wanted=_wanted(observed.intent, stock, now),
        running=answer.running,
        ready=answer.ready,
        starting=answer.starting,
        noticed=answer.noticed,
        on_demand=answer.on_demand,
        paused=observed.intent.paused and observed.intent.pool is not None,
        draining_since=observed.intent.draining_since,
        drain_at=observed.intent.drain_at,
        tick_silent_since=observed.silent_since,
        instances=tuple(_members(observed.snapshot)),
        waiting=answer.waiting,
        reason_since=observed.status.reason_since if observed.status else None,
        last_error=answer.last_error,
        spec_errors=observed.intent.errors,
        rollout=answer.rollout,
        replacing=answer.replacing,
        drains=answer.drains,
        advice=tuple(_advice(observed, answer)),
        next=_next(observed) if observed.plan and not observed.unreadable else None,
        notes=tuple(_notes(observed)),
        links=observed.links,
    )


def _wanted(intent: Intent, stock: Stock, now: datetime) -> Wanted:
    pool = intent.pool
    if intent.deleted:
        return Wanted(0, "the item was deleted")
    if pool is None:
        return Wanted(0, "its item has never been valid")
    entry = in_force(pool.schedule, now)
    came = entry.last_came(now) if entry else None
    target = entry.target_size if entry else pool.target_size
    by = f"target_size {target}"
    if entry and came:
        by += f" from the schedule entry {entry.cron} ({entry.timezone}), in force for {ago(came, now)}"
    if stock.wanted > target:
        by = f"min_instances, above {by}"
    if intent.errors:
        by += ", from the last valid item"
    return Wanted(stock.wanted, by)


def _members(snapshot: Snapshot) -> Iterator[Member]:
    stock, pool = snapshot.stock, snapshot.intent.pool
    old = {instance.id for instance in outdated(pool, stock)} if pool else set()
    noticed = {instance.id for instance in stock.noticed}

    def notes(instance: Instance) -> Iterator[str]:
        if instance.id in noticed:
            yield "interruption notice: EC2 reclaims it"
        if instance.id in stock.at_risk:
            yield "EC2 announced a risk for it"
        if instance.id in old:
            yield "made from an older description"
        if instance.protected:
            yield "protected from scale-in"
        if instance in stock.unseen:
            yield "EC2 does not list it yet"
        if instance in stock.stopped:
            yield "stopped: it does no work and will be terminated"

    several = (*stock.members, *stock.noticed, *stock.stopped)
    for instance in sorted(several, key=lambda each: (each.launched_at, each.id)):
        yield Member(
            instance.id,
            instance.instance_type,
            instance.zone,
            str(instance.market),
            str(instance.state),
            instance.launched_at,
            stock.is_ready(instance) and instance.id not in noticed,
            instance.units,
            tuple(notes(instance)),
        )


def _advice(observed: Observation, answer: Answer) -> Iterator[NamedAdvice]:
    """Yield the advice on each trouble once, the present reason for waiting first among reasons."""
    general = {
        Trouble.HEARTBEAT: observed.silent_since is not None,
        Trouble.STATUS_UNREADABLE: bool(observed.unreadable),
        Trouble.ITEM_INVALID: bool(observed.intent.errors),
    }
    troubles: dict[str, Advice] = {NAMES[trouble]: GUIDE[trouble] for trouble, holds in general.items() if holds}
    pool = observed.intent.pool
    if observed.intent.errors and pool is None:
        never = replace(GUIDE[Trouble.ITEM_INVALID], does="Nothing is done for the pool until its item is valid.")
        troubles[NAMES[Trouble.ITEM_INVALID]] = never
    reasons: list[Reason] = [answer.waiting.reason] if answer.waiting else []
    if observed.refusal:
        reasons.append(observed.refusal.reason)
    if answer.rollout and answer.rollout.state is RolloutState.STOPPED:
        reasons.append(Reason.CONFIG)
    if answer.replacing and answer.replacing.reason:
        reasons.append(answer.replacing.reason)
    if answer.last_error and _explains(answer.last_error, answer):
        reasons.append(reason_of(answer.last_error.code))
    has_fallback = pool is not None and pool.fallback is not None
    troubles |= {str(reason): advice(reason, has_fallback=has_fallback) for reason in reasons}
    for name, known in troubles.items():
        yield NamedAdvice(name, known.means, known.does, known.do)


def _explains(error: LastError, answer: Answer) -> bool:
    """Return whether the last error has to do with the present state: one of an earlier reason explains nothing."""
    if waiting := answer.waiting:
        return waiting.reason is Reason.UNKNOWN or error.code in waiting.message
    return answer.rollout is not None


def _notes(observed: Observation) -> Iterator[str]:
    if observed.unreadable:
        yield observed.unreadable
    if observed.status is None and not observed.unreadable:
        yield "It is new: the control plane checks it within a minute."
    if observed.blind:
        yield f"EC2 could not be checked; showing the last recorded status. {observed.blind}"
    if observed.unheard:
        yield observed.unheard
    for failure in observed.snapshot.unanswered:
        yield f"EC2 did not answer a question: {failure.code}: {failure.message}"
    if observed.status:
        yield from observed.status.answer.warnings
    if observed.intent.pool:
        yield from warnings_of(observed.intent.pool)


def _next(observed: Observation) -> NextReconcile:
    plan, snapshot = observed.plan or Plan(), observed.snapshot
    steps = tuple(_in_words(step) for step in plan.steps)
    due = why_due(snapshot, new=observed.status is None)
    return NextReconcile(steps, _otherwise(observed, plan), due)


def _otherwise(observed: Observation, plan: Plan) -> str:
    """Say why nothing (more) is done."""
    snapshot, blocker = observed.snapshot, plan.blocker or plan.blocked_replacement
    if refusal := observed.refusal:
        return f"EC2 did not list its offerings, so nothing is launched: {refusal.code}: {refusal.message}"
    if blocker:
        ahead = blocker.until > snapshot.now
        when = f"in {ago(blocker.until, snapshot.now)}" if ahead else "at once"
        return f"{blocker.reason}: {blocker.message} The next try is {when}."
    rollout = observed.status.answer.rollout if observed.status else None
    return "" if plan.steps else _at_rest(snapshot, rollout)


def _at_rest(snapshot: Snapshot, rollout: Rollout | None) -> str:
    intent, now = snapshot.intent, snapshot.now
    if intent.deleted and intent.drain_at and now < intent.drain_at:
        return f"Its instances are terminated in {ago(intent.drain_at, now)}; restore the item to keep them."
    if intent.paused:
        return "Nothing: the pool is paused." if intent.pool else "Nothing until its item is valid."
    if snapshot.stock.in_flight:
        return "Nothing until the answer to an earlier launch is known."
    return _complete(snapshot, rollout)


def _complete(snapshot: Snapshot, rollout: Rollout | None) -> str:
    stock = snapshot.stock
    beyond = stock.serving - stock.wanted
    if beyond > 0 and snapshot.held > stock.wanted:
        until = ago(snapshot.held_until, snapshot.now)
        return f"{beyond} more than wanted are kept for {until} (scale_in_after_minutes)."
    if snapshot.swaps.stuck:
        return " ".join(dict.fromkeys(why for _, why in snapshot.swaps.stuck))
    if rollout and rollout.state is RolloutState.STOPPED:
        return "Nothing: the rolling update is stopped. Fix the item, and it continues."
    if beyond > 0 and units(one for one in stock.members if one.protected) >= beyond:
        return f"Nothing: {beyond} more than wanted are protected from scale-in."
    return "Nothing: the pool is as it should be."


def _in_words(step: Step) -> str:
    match step:
        case Launch():
            offers = [f"{offer.instance_type} in {offer.zone}" for offer in step.offers]
            return step_text(f"launch {step.count} ({step.market}) from", offers, step.why, most=SHOWN_OFFERINGS)
        case Resend():
            return step_text("repeat the launch", [step.attempt.id], step.why)
        case Terminate():
            return step_text("terminate", step.instance_ids, step.why)
        case Drain():
            run = "" if step.command is None else ", and run drain_command on,"
            return step_text(f"announce the end of{run}", [one.id for one in step.instances], step.why)
