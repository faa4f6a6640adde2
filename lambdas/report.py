"""Reports a reconcile and a tick: one log line each, and their metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from lambdas.domain.alarm.names import troubles_under
from lambdas.domain.guide import Trouble
from lambdas.domain.item.pool import Market
from lambdas.domain.model.cost import Cost
from lambdas.domain.model.plan import Drain, Launch, Plan, Resend, Step, Terminate
from lambdas.domain.model.results import Failure, Results
from lambdas.domain.model.status import CLOSING, Answer, Reason, Status, reason_of_trouble, troubles_of
from lambdas.metrics import Metric
from lambdas.ports import Lease, UnreadableStatusError
from lambdas.telemetry import logger, publish, tallied

REASON_GAUGES = {
    Reason.NO_CAPACITY: Metric.POOLS_NO_CAPACITY,
    Reason.PRICE_ABOVE_MAX: Metric.POOLS_PRICE_ABOVE_MAX,
    Reason.QUOTA: Metric.POOLS_QUOTA,
    Reason.THROTTLED: Metric.POOLS_THROTTLED,
    Reason.CONFIG: Metric.POOLS_LAUNCH_REFUSED,
}


def reconciled(stack: str, lease: Lease, plan: Plan, results: Results, *, status: Status, now: datetime) -> None:
    """Report what one round of a reconcile saw, did and achieved."""
    answer = status.answer
    logger.info(
        "reconciled",
        pool=lease.pool_name,
        fence=lease.fence,
        steps=[_step(step) for step in plan.steps],
        failures=[f"{failure.reason}: {failure.code}: {failure.message}"[:300] for failure in results.failures[:20]],
        **answer.model_dump(mode="json", exclude_none=True),
    )
    launched = results.launched
    count = len(launched.instances) if launched else 0
    on_demand = launched is not None and launched.market is Market.ON_DEMAND
    ended = sum(len(termination.instance_ids) for termination in results.terminated)
    refusals = (failure for termination in results.terminated for failure in termination.failures)
    refused = sum(failure.reason is not Reason.THROTTLED for failure in refusals)
    counters = {
        (Metric.ON_DEMAND_LAUNCHED if on_demand else Metric.SPOT_LAUNCHED): count,
        Metric.INSTANCES_TERMINATED: ended,
        Metric.TERMINATIONS_REFUSED: refused,
        Metric.DRAINS_REFUSED: sum(len(drain.failures) for drain in results.drains),
    }
    counted = {name: number for name, number in counters.items() if number}
    publish(stack, counted | tallied() | troubles([answer], zeros=False))
    _of_a_pool(stack, lease.pool_name, status, now)


def forgotten(stack: str, lease: Lease, status: Status) -> None:
    """Report that a deleted pool, with nothing left of it, is forgotten."""
    logger.info("forgotten", pool=lease.pool_name, fence=lease.fence)
    for reason in troubles_of(status.answer, status.memory):
        publish(stack, {Metric.SECONDS_IN_TROUBLE: 0}, pool=lease.pool_name, reason=reason)


def not_forgotten(lease: Lease, error: Exception) -> None:
    """Report that something of a deleted pool cannot be deleted."""
    logger.error("not forgotten", pool=lease.pool_name, fence=lease.fence, fault=str(error))


def ticked(
    stack: str,
    statuses: Mapping[str, Status],
    unreadable: Mapping[str, UnreadableStatusError],
    due: Mapping[str, str],
    *,
    now: datetime,
) -> None:
    """Publish every gauge, zeros included, and the heartbeat; name each status that cannot be read."""
    for pool_name, fault in unreadable.items():
        logger.error("status unreadable", pool=pool_name, fault=str(fault))
    for pool_name, status in statuses.items():
        _of_a_pool(stack, pool_name, status, now)
    answers = [status.answer for status in statuses.values()]
    # A pool whose trouble has an alarm of its own raises only that one.
    below = (
        _since(status.memory.below_since, now)
        for status in statuses.values()
        if troubles_under(Trouble.BELOW_TARGET, status)
    )
    waiting = (_since(answer.waiting.since, now) for answer in answers if answer.waiting)
    fleet = {
        Metric.WANTED: sum(answer.wanted for answer in answers),
        Metric.RUNNING: sum(answer.running for answer in answers),
        Metric.SECONDS_BELOW_TARGET: max(below, default=0),
        Metric.SECONDS_WAITING: max(waiting, default=0),
        Metric.STATUSES_UNREADABLE: len(unreadable),
        Metric.HEARTBEAT: 1,
    }
    publish(stack, fleet | tallied() | troubles(answers, zeros=True))
    logger.info("ticked", pools=len(statuses), due=due)


def cost(stack: str, now: Cost, unanswered: Iterable[Failure] = ()) -> None:
    """Publish what the fleet costs, and log why prices are unknown. Metrics are floats; no decision uses them."""
    if refusals := [f"{failure.reason}: {failure.code}: {failure.message}"[:300] for failure in unanswered]:
        logger.warning("prices unknown", failures=refusals, instances=now.unpriced)
    publish(
        stack,
        {
            Metric.HOURLY_COST: float(now.hourly),
            Metric.HOURLY_SAVING: float(now.saving),
            Metric.INSTANCES_UNPRICED: now.unpriced,
        },
    )


def troubles(answers: Iterable[Answer], *, zeros: bool) -> dict[Metric, float]:
    """How many pools are invalid or wait, by reason."""
    count = dict.fromkeys((Metric.POOLS_INVALID, *REASON_GAUGES.values()), 0.0)
    for answer in answers:
        if answer.spec_errors:
            count[Metric.POOLS_INVALID] += 1
        if (reason := reason_of_trouble(answer)) in REASON_GAUGES:
            count[REASON_GAUGES[reason]] += 1
    return {metric: value for metric, value in count.items() if value or zeros}


def _of_a_pool(stack: str, pool_name: str, status: Status, now: datetime) -> None:
    answer, below = status.answer, status.memory.below_since
    publish(stack, {Metric.WANTED: answer.wanted, Metric.RUNNING: answer.running}, pool=pool_name)
    since = answer.waiting.since if answer.waiting else below
    for reason in troubles_of(answer, status.memory):
        # At least one second, because zero means that the pool is not in trouble.
        publish(stack, {Metric.SECONDS_IN_TROUBLE: max(1.0, _since(since, now))}, pool=pool_name, reason=reason)
    for reason, ended in status.memory.over.items():
        if now - ended < CLOSING:
            publish(stack, {Metric.SECONDS_IN_TROUBLE: 0}, pool=pool_name, reason=reason)


def _since(moment: datetime | None, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds()) if moment else 0.0


def _step(step: Step) -> dict[str, Any]:
    match step:
        case Launch():
            offerings = [offer.offering for offer in step.offers[:20]]
            return {"launch": step.count, "market": step.market, "offerings": offerings, "why": step.why}
        case Resend():
            return {"resend": step.attempt.id, "why": step.why}
        case Terminate():
            return {"terminate": list(step.instance_ids[:100]), "why": step.why}
        case Drain():
            return {"drain": [instance.id for instance in step.instances[:100]], "why": step.why}
