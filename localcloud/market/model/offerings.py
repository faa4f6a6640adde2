"""Offerings: instance types in zones, with capacity and prices. offerings.csv has the default ones."""

import csv
import re
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from importlib import resources

type_and_zone = tuple[str, str]

PLENTY = 1000
"""On-demand capacity of an offering, if not given."""


@dataclass(frozen=True)
class PriceChange:
    """The spot price from this moment on."""

    at: datetime
    price: Decimal


@dataclass(frozen=True)
class Hardware:
    """Hardware attributes of a type, without vCPUs. The names are those of EC2's InstanceRequirements."""

    memory_mib: int = 0
    architecture: str = "x86_64"
    cpu_manufacturer: str = "intel"
    gpus: int = 0
    gpu_name: str = ""
    gpu_manufacturer: str = ""
    generation: str = "current"
    listed: bool = True
    """Whether the price list has the type."""


_UNSAID = Hardware()
_FAMILY = re.compile(r"[a-z]+[0-9]+(?P<rest>[a-z0-9-]*)")
"""A family's name: letters, generation, then letters for the processor (none: Intel) and other features."""


def hardware_of(instance_type: str) -> Hardware:
    """Return the hardware that a type's name shows: a Graviton, AMD or Intel processor."""
    family = instance_type.partition(".")[0]
    named = _FAMILY.fullmatch(family)
    rest = named["rest"] if named else ""
    if family == "a1" or "g" in rest:
        maker = "nvidia" if "-gb" in rest else "amazon-web-services"
        return Hardware(architecture="arm64", cpu_manufacturer=maker)
    return Hardware(cpu_manufacturer="amd" if rest.startswith("a") else "intel")


@dataclass
class Offering:
    """What EC2 sells of an instance type in a zone. Prices are USD per instance-hour."""

    instance_type: str
    zone: str
    capacity: int
    """The most spot instances, including those that run already."""
    spot_price: Decimal
    on_demand_price: Decimal
    on_demand_capacity: int = PLENTY
    spot: bool = True
    """Whether it is sold as spot. If not, it has no spot price."""
    vcpus: int = 1
    machine: Hardware = _UNSAID
    """Default: what the type's name shows."""
    history: list[PriceChange] = field(default_factory=list)
    """Spot prices until now, oldest first. Each holds until the next."""

    def __post_init__(self) -> None:
        """Derive the hardware from the name, if it is not given."""
        if self.machine is _UNSAID:
            self.machine = hardware_of(self.instance_type)

    @property
    def key(self) -> type_and_zone:
        """Return its key in the market."""
        return self.instance_type, self.zone


def default_offerings() -> list[Offering]:
    """Return the offerings of offerings.csv. Each call returns new objects."""
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
            machine=Hardware(
                memory_mib=int(row["memory_mib"]),
                architecture=row["architecture"],
                cpu_manufacturer=row["cpu_manufacturer"],
                gpus=int(row["gpus"]),
                gpu_name=row["gpu_name"],
                gpu_manufacturer=row["gpu_manufacturer"],
                generation=row["generation"],
            ),
        )
        for row in rows
        for zone, _, capacity in (part.partition(":") for part in row["capacity_by_zone"].split())
    ]
