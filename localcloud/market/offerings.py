"""Offerings: an instance type in a zone, with its room and its prices; and the default ones from offerings.csv."""

import csv
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from importlib import resources

type_and_zone = tuple[str, str]

PLENTY = 1000
"""On-demand capacity of an offering for which none is stated."""


@dataclass(frozen=True)
class PriceChange:
    """From this moment on the spot price was this one."""

    at: datetime
    price: Decimal


@dataclass
class Offering:
    """What EC2 sells of one instance type in one zone. Prices are USD per instance-hour."""

    instance_type: str
    zone: str
    capacity: int
    """Spot instances that fit, those already running included."""
    spot_price: Decimal
    on_demand_price: Decimal
    on_demand_capacity: int = PLENTY
    vcpus: int = 1
    history: list[PriceChange] = field(default_factory=list)
    """Spot prices up to now, oldest first; each holds until the next."""

    @property
    def key(self) -> type_and_zone:
        """Return what the market files it under."""
        return self.instance_type, self.zone


def default_offerings() -> list[Offering]:
    """Return the offerings of offerings.csv, anew at every call."""
    text = resources.files(__package__).joinpath("offerings.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return [
        Offering(
            instance_type=row["instance_type"],
            zone=zone,
            capacity=int(capacity),
            spot_price=Decimal(row["spot_usd_per_hour"]),
            on_demand_price=Decimal(row["on_demand_usd_per_hour"]),
            vcpus=int(row["vcpus"]),
        )
        for row in rows
        for zone, _, capacity in (part.partition(":") for part in row["capacity_by_zone"].split())
    ]
