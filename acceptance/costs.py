"""What a run can cost, in US dollars. Pure: everything comes in as an argument."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

STACK_MONTH = Decimal(20)
"""The stack with a few pools, with all metrics, the dashboard and the key: docs/costs.md, ten pools, rounded up."""

HOURS_A_MONTH = 730

EXTRAS_HOUR = Decimal("0.007")
"""What an instance-hour costs beside the instance: a public IPv4 address (0.005), 8 GiB of gp3 (0.001), rounded up."""

FIS_ACTION_MINUTE = Decimal("0.10")
"""Price of a FIS action-minute (aws.amazon.com/fis/pricing)."""

SHORTEST = timedelta(minutes=1)
"""EC2 bills each instance for at least a minute."""

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Rates:
    """What an hour costs: of one instance at the highest price, without its extras, and of the stack."""

    instance: Decimal
    stack: Decimal = STACK_MONTH / HOURS_A_MONTH

    @property
    def whole_instance(self) -> Decimal:
        """An instance-hour with its address and its volume."""
        return self.instance + EXTRAS_HOUR

    def cost(self, *, instances: int, time: timedelta, extra: Decimal = Decimal()) -> Decimal:
        """The most that this many instances and the stack cost in this time."""
        return (instances * self.whole_instance + self.stack) * hours(time) + extra


@dataclass(frozen=True)
class Life:
    """When an instance was launched, and when it was first seen as ended (None: it has not ended)."""

    launched: datetime
    ended: datetime | None = None


def spent(
    rates: Rates, lives: Iterable[Life], *, stack_since: datetime | None, now: datetime, extra: Decimal = Decimal()
) -> Decimal:
    """The most that a run has cost so far: each instance counts at the highest price."""
    ran = sum((max((one.ended or now) - one.launched, SHORTEST) for one in lives), timedelta())
    stood = max(now - stack_since, timedelta()) if stack_since else timedelta()
    return hours(ran) * rates.whole_instance + hours(stood) * rates.stack + extra


def hours(time: timedelta) -> Decimal:
    """A time in hours."""
    return Decimal(str(time / HOUR))


def usd(amount: Decimal) -> str:
    """An amount for people: rounded up to a tenth of a cent."""
    return f"{amount.quantize(Decimal('0.001'), rounding='ROUND_UP')} USD"
