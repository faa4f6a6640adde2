"""The plan of a run: its steps in order, what each can use at most, and the claims that it checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from acceptance.costs import FIS_ACTION_MINUTE
from acceptance.guard import Demand
from acceptance.run import Run
from acceptance.steps import account, alarms, fleets, letters, stack, story, telemetry


@dataclass(frozen=True)
class Step:
    """One step. ``adds``: how many further instances may run because of it; ``minutes``: how long it may take."""

    name: str
    title: str
    play: Callable[[Run], str]
    minutes: float
    adds: int = 0
    extra: Decimal = Decimal()
    claims: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Steps without which it makes no sense."""
    only_aws: bool = False
    """Whether the local cloud has nothing that it could look at."""
    ends_run: bool = False
    """Whether a failure ends the run, because nothing after it can succeed."""

    @property
    def demand(self) -> Demand:
        """What the guard checks."""
        return Demand(self.name, self.adds, timedelta(minutes=self.minutes), self.extra)


STEPS = (
    Step(
        "account",
        "The account can start spot instances",
        account.ready,
        minutes=1,
        only_aws=True,
        claims=("quota-names", "spot-role", "drill-quota"),
    ),
    Step(
        "prices",
        "Prices and types",
        account.prices,
        minutes=1,
        claims=("price-list", "requirements"),
    ),
    Step("deploy", "The stack is deployed", stack.deploy, minutes=20, claims=("deploys",), ends_run=True),
    Step(
        "data",
        "Tables and key",
        stack.data,
        minutes=1,
        only_aws=True,
        claims=("deletion-protection", "topic-key"),
    ),
    Step("code", "The functions' code runs", stack.code, minutes=2, claims=("bundle-imports",)),
    Step(
        "fill",
        "A pool fills",
        story.fill,
        minutes=6,
        adds=story.MOST,
        claims=("spot-launches", "image-parameter", "spot-request-tags"),
    ),
    Step(
        "interrupt",
        "An interrupted instance is replaced",
        story.interrupt,
        minutes=20,
        adds=story.MOST - story.SIZE,
        # One action. It lasts two minutes; rounding and a slow start may make it four.
        extra=4 * FIS_ACTION_MINUTE,
        claims=("drill", "drill-without-template", "event-latency"),
        needs=("fill",),
    ),
    Step("price", "A price above the cap is waited out", story.price, minutes=4, adds=1),
    Step("shrink", "The pool is emptied", story.shrink, minutes=16, needs=("fill",)),
    Step(
        "token",
        "A repeated ClientToken",
        fleets.token,
        minutes=6,
        adds=2,
        claims=("token-repeated",),
    ),
    Step("too-low", "A price that is too low", fleets.too_low, minutes=6, adds=1, claims=("price-too-low",)),
    Step(
        "rights",
        "The rights that CreateFleet needs",
        fleets.rights,
        minutes=10,
        adds=1,
        only_aws=True,
        claims=("fleet-resources", "create-action", "template-right", "parameter-right"),
    ),
    Step(
        "alarm",
        "An alarm is explained to people",
        alarms.alarm,
        minutes=15,
        claims=("query-alarm", "alarm-contributors", "message-time", "message-once", "message-key"),
    ),
    Step("clock", "The clocks of DynamoDB", stack.clock, minutes=2, claims=("dynamodb-clock",)),
    Step(
        "subscription",
        "A subscription that no one confirms",
        stack.subscription,
        minutes=1,
        only_aws=True,
        claims=("pending-subscription",),
    ),
    Step("letters", "A dead letter goes back", letters.move, minutes=5, only_aws=True, claims=("dead-letter-move",)),
    Step(
        "logs",
        "The functions' logs",
        telemetry.logs,
        minutes=3,
        claims=("log-star", "cold-starts"),
        needs=("fill",),
    ),
    Step("queries", "The saved queries", telemetry.saved_queries, minutes=5, only_aws=True, claims=("saved-queries",)),
    Step("traces", "The functions' traces", telemetry.traces, minutes=4, only_aws=True, claims=("traces",)),
    Step(
        "dashboard", "The dashboard's data", telemetry.dashboard, minutes=1, only_aws=True, claims=("dashboard-data",)
    ),
    Step("polls", "Empty polls of queues", telemetry.polls, minutes=1, only_aws=True, claims=("empty-polls",)),
    Step("leave", "The pools go", story.leave, minutes=16, needs=("fill",)),
)
"""All steps before the removal, in order."""

AFTER = ("leaves-data", "table-refuses", "key-restorable")
"""The claims that the removal checks."""

MINUTES = 150
"""The default time of a run, before it only cleans up."""


def extras() -> Decimal:
    """What all steps can cost beside instances and stack."""
    return sum((step.extra for step in STEPS), Decimal())


def most_needed() -> int:
    """The most instances that can run at one moment of the plan."""
    return story.MOST + 1
