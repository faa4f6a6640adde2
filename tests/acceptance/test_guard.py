"""The limits of a run: what a step may use at most must fit into what is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from acceptance.costs import EXTRAS_HOUR, Life, Rates, spent
from acceptance.guard import CLEANING, Demand, Guard, LimitError, highest_possible
from acceptance.plan import MINUTES, STEPS, extras, most_needed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RATES = Rates(Decimal("0.093"), stack=Decimal("0.10"))
"""An instance-hour costs ten cents with its extras, and so does an hour of the stack."""


def guard(**changes: object) -> Guard:
    given = {"budget": Decimal(10), "most_instances": 4, "deadline": NOW + 10 * HOUR, "rates": RATES}
    return Guard(**(given | changes))  # type: ignore[arg-type]  # a test's shorthand


def refusal(one: Guard, demand: Demand, *, alive: int = 0, cost: str = "0", now: datetime = NOW) -> str:
    try:
        one.refuse(demand, alive=alive, spent=Decimal(cost), now=now)
    except LimitError as error:
        return str(error)
    return ""


def test_a_step_that_fits_exactly_is_played() -> None:
    assert refusal(guard(), Demand("fill", 3, HOUR), alive=1) == ""


def test_a_step_is_refused_if_it_could_start_one_instance_too_many() -> None:
    text = refusal(guard(), Demand("fill", 3, HOUR), alive=2)
    assert "at most 4 are allowed" in text
    assert "--most-instances to 5" in text


def test_a_step_is_refused_if_it_could_last_longer_than_the_run() -> None:
    late = NOW + 9.5 * HOUR
    assert "the run ends at 22:00 UTC" in refusal(guard(), Demand("fill", 0, HOUR), now=late)
    assert refusal(guard(), Demand("fill", 0, HOUR / 2), now=late) == ""


def test_a_step_is_refused_if_its_worst_case_and_the_removal_exceed_the_budget() -> None:
    # Two instances and the stack for an hour cost 0.30; four and the stack for the removal 0.25.
    step = Demand("fill", 1, HOUR, extra=Decimal("0.05"))
    assert refusal(guard(budget=Decimal("0.60")), step, alive=1) == ""
    text = refusal(guard(budget=Decimal("0.60")), step, alive=1, cost="0.001")
    assert "above the budget of 0.600 USD" in text
    assert "0.350 USD" in text


@pytest.mark.parametrize(
    ("alive", "cost", "now", "says"),
    [
        (5, "0", NOW, "5 instances are alive"),
        (4, "9.76", NOW, "needs the rest of 10.000 USD"),
        (4, "0", NOW + 11 * HOUR, "time ended"),
    ],
)
def test_a_run_ends_when_a_limit_is_exceeded_all_the_same(alive: int, cost: str, now: datetime, says: str) -> None:
    guard().watch(alive=4, spent=Decimal("9.75"), now=NOW + 10 * HOUR)
    with pytest.raises(LimitError, match=says):
        guard().watch(alive=alive, spent=Decimal(cost), now=now)


def test_each_instance_counts_at_the_highest_price_from_launch_to_end_and_for_a_minute_at_least() -> None:
    lives = [
        Life(NOW - 2 * HOUR, NOW - HOUR),
        Life(NOW - HOUR),
        Life(NOW - timedelta(seconds=2), NOW),
    ]
    cost = spent(RATES, lives, stack_since=NOW - 3 * HOUR, now=NOW, extra=Decimal("0.4"))
    assert cost.quantize(Decimal("0.00001")) == Decimal("0.1") * 2 + Decimal("0.00167") + Decimal("0.3") + Decimal(
        "0.4"
    )


def test_before_the_deployment_nothing_is_spent() -> None:
    assert spent(RATES, [], stack_since=None, now=NOW) == 0


def test_the_highest_possible_cost_counts_all_instances_all_the_time() -> None:
    most = highest_possible(RATES, most_instances=4, time=HOUR, extra=Decimal(1))
    assert most == Decimal("0.5") * Decimal("1.5") + 1
    assert HOUR / 2 == CLEANING
    assert Decimal("0.007") == EXTRAS_HOUR


def test_the_plan_fits_into_the_default_limits() -> None:
    alive = {"interrupt": 2, "price": 3, "shrink": 3}
    assert max(alive.get(step.name, 0) + step.adds for step in STEPS) == most_needed() == 4
    assert sum(step.minutes for step in STEPS) <= MINUTES
    most = highest_possible(Rates(Decimal("0.0188")), most_instances=4, time=timedelta(minutes=MINUTES), extra=extras())
    assert most < 1
