"""The public part of a pool's status: what is wanted, what runs, why the rest waits, how far a change is."""

from __future__ import annotations

from lambdas.domain.decision.decide import NEXT_LOOK
from lambdas.domain.decision.replacement import is_refused, outdated
from lambdas.domain.decision.snapshot import Snapshot
from lambdas.domain.decision.stock import units
from lambdas.domain.model.plan import Blocker, Launch, Plan
from lambdas.domain.model.results import Launched, Results
from lambdas.domain.model.status import Answer, Drained, LastError, Reason, Replacing, Rollout, RolloutState, Waiting
from lambdas.domain.record.memory import most_severe
from lambdas.domain.wording import closed

OF_AN_OFFERING = (Reason.NO_CAPACITY, Reason.PRICE_ABOVE_MAX)
SHOWN_DRAINS = 20
SHOWN_STUCK = 3


def answer(after: Snapshot, left: Plan, results: Results) -> Answer:
    """The public status ``after`` a reconcile; ``left`` is what remains to be done."""
    stock = after.stock
    return Answer(
        wanted=stock.wanted,
        running=units(stock.running),
        ready=units(stock.ready),
        starting=units(stock.starting) + units(stock.unseen),
        noticed=units(stock.noticed),
        on_demand=stock.on_demand,
        waiting=_waiting(after, left, results.launched),
        rollout=_rollout(after, left.blocker, left.blocked_replacement),
        replacing=_replacing(after, left.blocked_replacement),
        drains=_drains(after, results),
        warnings=(*_warnings(after.not_sold), *_of_the_template(after)),
        spec_errors=after.intent.errors,
        last_error=_last_error(results, after),
        draining_since=after.intent.draining_since,
    )


def _waiting(after: Snapshot, left: Plan, launched: Launched | None) -> Waiting | None:
    """The missing instances, since the shortfall began, even if its reason has changed."""
    count = after.stock.wanted - after.stock.serving
    if count <= 0 or after.intent.paused:
        return None
    before = after.status.answer.waiting
    at_once = any(isinstance(step, Launch) for step in left.steps)
    refused = launched is not None and bool(launched.failures)
    blocker = None if at_once and refused else left.blocker
    if blocker is None:
        blocker = _under_way(after, launched)
    return Waiting(
        count=count,
        reason=blocker.reason,
        since=before.since if before else after.now,
        attempts=(before.attempts if before else 0) + (1 if launched and launched.attempt else 0),
        next_attempt_at=blocker.until,
        message=blocker.message,
    )


def _under_way(after: Snapshot, launched: Launched | None) -> Blocker:
    """Why instances are missing although the next try is due: the last try's failure, or its unknown answer."""
    worst = most_severe(launched.failures) if launched else None
    if after.stock.doubtful and not launched:
        message = "EC2 did not answer whether it terminates instances. They are checked again."
        return Blocker(Reason.UNKNOWN, message, after.now + NEXT_LOOK)
    if launched is None or worst is None:
        return Blocker(Reason.UNKNOWN, "A launch is under way. Its answer is not known yet.", after.now + NEXT_LOOK)
    then = "Other offerings are tried at once." if launched.answered else "The same request will be sent again."
    return Blocker(worst.reason, f"{worst.code}: {closed(worst.message)} {then}", after.now)


def _rollout(after: Snapshot, blocker: Blocker | None, blocked_replacement: Blocker | None) -> Rollout | None:
    pool, stock = after.intent.pool, after.stock
    old = outdated(pool, stock) if pool else []
    if pool is None or not old:
        return None
    updated = stock.serving - units(old)
    if pool.update == "on_replace":
        state, message = RolloutState.ON_REPLACE, "They stay until they end for another reason (update is on_replace)."
    elif is_refused(after.status.memory, after.now):
        holds = after.status.memory.holds.values()
        words = " ".join(dict.fromkeys(hold.message for hold in holds))
        state, message = RolloutState.STOPPED, words or "Instances ended before they were ready."
    elif (blocking := blocker or blocked_replacement) and blocking.reason is Reason.CONFIG and not blocking.waits:
        state, message = RolloutState.STOPPED, blocking.message
    elif not after.swaps.going & {instance.id for instance in old} and (stuck := dict(after.swaps.stuck)):
        state, message = RolloutState.ROLLING, "It cannot continue: " + " ".join(dict.fromkeys(stuck.values()))
    elif blocked_replacement is not None:
        state, message = (
            RolloutState.ROLLING,
            f"It waits for a replacement: {blocked_replacement.reason}: {blocked_replacement.message}",
        )
    else:
        state, message = RolloutState.ROLLING, f"At most {pool.max_unavailable} are unavailable at a time."
    return Rollout(state=state, outdated=units(old), updated=updated, message=message)


def _replacing(after: Snapshot, blocked_replacement: Blocker | None) -> Replacing | None:
    """Serving instances that should be replaced, and why they still serve. A rolling update has its own attribute."""
    pool, swaps = after.intent.pool, after.swaps
    rolls = pool is not None and pool.update == "rolling"
    drifted = {instance.id for instance in outdated(pool, after.stock)} if pool and rolls else set()
    going = [instance for instance in after.stock.members if instance.id in swaps.going - drifted]
    stuck = [(instance, why) for instance, why in swaps.stuck if instance.id not in drifted]
    count = units([*going, *(instance for instance, _ in stuck)])
    if not count:
        return None
    if going and blocked_replacement is not None:
        return Replacing(
            count=count,
            reason=blocked_replacement.reason,
            message=blocked_replacement.message,
            next_attempt_at=max(blocked_replacement.until, after.now),
        )
    if going:
        return Replacing(count=count, message="Each is terminated when its replacement is ready.")
    return Replacing(
        count=count,
        reason=Reason.MAX_INSTANCES if any("max_instances" in why for _, why in stuck) else None,
        message=" ".join(dict.fromkeys(why for _, why in stuck[:SHOWN_STUCK])),
    )


def _warnings(unsold: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        f"instance_types: EC2 sells no {name} in this Region; check the spelling, or remove it." for name in unsold
    )


def _drains(after: Snapshot, results: Results) -> tuple[Drained, ...]:
    """The last instances whose end was announced, each with the state of its command."""
    new = [drained for result in results.drains for drained in result.drained]
    known = [
        drained.model_copy(update={"status": after.drains.get(drained.instance_id, drained.status)})
        for drained in after.status.answer.drains
    ]
    return (*known, *new)[-SHOWN_DRAINS:]


def _of_the_template(after: Snapshot) -> tuple[str, ...]:
    template, pool = after.status.memory.template, after.intent.pool
    warning = template is not None and pool is not None and template.machine == pool.machine_digest and template.warning
    return (f"When the pool's launch template was made, EC2 said: {warning}",) if warning else ()


def _last_error(results: Results, snapshot: Snapshot) -> LastError | None:
    """The most severe refusal that matters: one offering's lack does not if others launched all that was requested."""
    launched = results.launched
    unharmed = launched is not None and not launched.short
    failures = [failure for failure in results.failures if not (unharmed and failure.reason in OF_AN_OFFERING)]
    worst = most_severe([*failures, *snapshot.unanswered])
    if worst is None:
        return snapshot.status.answer.last_error
    return LastError(code=worst.code, message=worst.message, at=snapshot.now)
