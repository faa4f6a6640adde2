"""Refuses whatever could exceed the budget, the number of instances or the time of a run. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from acceptance.costs import Rates, usd

CLEANING = timedelta(minutes=30)
"""Kept free for removing everything, in time and in money."""


class LimitError(Exception):
    """Something could exceed a limit of the run. The message names both and what to change."""


@dataclass(frozen=True)
class Demand:
    """What a step can use at most: further instances, time, and dollars beside instances and stack."""

    name: str
    adds: int
    time: timedelta
    extra: Decimal = Decimal()


@dataclass(frozen=True)
class Guard:
    """The limits of a run. ``deadline``: after it the run only cleans up."""

    budget: Decimal
    most_instances: int
    deadline: datetime
    rates: Rates

    @property
    def reserve(self) -> Decimal:
        """What removing everything costs at most."""
        return self.rates.cost(instances=self.most_instances, time=CLEANING)

    def refuse(self, demand: Demand, *, alive: int, spent: Decimal, now: datetime) -> None:
        """Raise LimitError if the step's worst case does not fit into what is left."""
        if alive + demand.adds > self.most_instances:
            raise LimitError(
                f"{demand.name} may start {demand.adds} and {alive} are alive, but at most {self.most_instances} are "
                f"allowed. Raise --most-instances to {alive + demand.adds} to play it."
            )
        if now + demand.time > self.deadline:
            raise LimitError(
                f"{demand.name} may take {demand.time.total_seconds() / 60:.0f} minutes, but the run ends at "
                f"{self.deadline:%H:%M} UTC. Raise --minutes to play it."
            )
        worst = self.rates.cost(instances=alive + demand.adds, time=demand.time, extra=demand.extra)
        total = spent + worst + self.reserve
        if total > self.budget:
            raise LimitError(
                f"{demand.name} may cost {usd(worst)}; {usd(spent)} are spent and {usd(self.reserve)} are kept for "
                f"removing everything: {usd(total)} in all, above the budget of {usd(self.budget)}. Raise --budget to "
                "play it."
            )

    def watch(self, *, alive: int, spent: Decimal, now: datetime) -> None:
        """Raise LimitError if a limit is exceeded already: then everything is removed."""
        if alive > self.most_instances:
            raise LimitError(f"{alive} instances are alive, but at most {self.most_instances} are allowed")
        if spent + self.reserve > self.budget:
            raise LimitError(f"{usd(spent)} are spent, and removing everything needs the rest of {usd(self.budget)}")
        if now > self.deadline:
            raise LimitError(f"the run's time ended at {self.deadline:%H:%M} UTC")


def highest_possible(rates: Rates, *, most_instances: int, time: timedelta, extra: Decimal) -> Decimal:
    """The most that a whole run can cost, the time for removing everything included."""
    return rates.cost(instances=most_instances, time=time + CLEANING, extra=extra)
