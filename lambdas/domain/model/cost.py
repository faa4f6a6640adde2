"""What instances cost per hour, and how much less that is than on demand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from lambdas.domain.item.pool import Market
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.results import Failure


@dataclass(frozen=True)
class Prices:
    """USD per instance-hour: spot by offering, on demand by instance type. Unknown prices are absent.

    ``unanswered`` says why: the refusals of EC2 or the price list.
    """

    spot: Mapping[str, Decimal] = field(default_factory=dict)
    on_demand: Mapping[str, Decimal] = field(default_factory=dict)
    unanswered: tuple[Failure, ...] = ()

    def of(self, instance: Instance) -> Decimal | None:
        """What an instance costs now."""
        if instance.market is Market.ON_DEMAND:
            return self.on_demand.get(instance.instance_type)
        return self.spot.get(instance.offering)


@dataclass(frozen=True)
class Cost:
    """USD per hour that are paid, and saved compared with on demand; ``unpriced`` instances are in neither."""

    hourly: Decimal = Decimal(0)
    saving: Decimal = Decimal(0)
    unpriced: int = 0


def cost_of(instances: Iterable[Instance], prices: Prices) -> Cost:
    """Add up what these instances cost. An instance with an unknown on-demand price saves nothing."""
    each = [(prices.of(instance), prices.on_demand.get(instance.instance_type)) for instance in instances]
    known = [(paid, listed) for paid, listed in each if paid is not None]
    return Cost(
        hourly=sum((paid for paid, _ in known), Decimal(0)),
        saving=sum((listed - paid for paid, listed in known if listed is not None), Decimal(0)),
        unpriced=len(each) - len(known),
    )
