"""Offerings: an instance type in a zone, with its room and its prices; and the default ones from offerings.csv."""

import csv
import re
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


@dataclass(frozen=True)
class Hardware:
    """What a type's machines are, beside their vCPUs; names as EC2's InstanceRequirements has them."""

    memory_mib: int = 0
    architecture: str = "x86_64"
    cpu_manufacturer: str = "intel"
    gpus: int = 0
    gpu_name: str = ""
    gpu_manufacturer: str = ""
    generation: str = "current"
    listed: bool = True
    """Whether the price list has them."""


_UNSAID = Hardware()
_FAMILY = re.compile(r"[a-z]+[0-9]+(?P<rest>[a-z0-9-]*)")
"""A family's name: letters, generation, then what tells the processor (none: Intel) and what else it has."""


def hardware_of(instance_type: str) -> Hardware:
    """Return what a type's name tells of its machines: a Graviton, AMD or Intel processor."""
    family = instance_type.partition(".")[0]
    named = _FAMILY.fullmatch(family)
    rest = named["rest"] if named else ""
    if family == "a1" or "g" in rest:
        maker = "nvidia" if "-gb" in rest else "amazon-web-services"
        return Hardware(architecture="arm64", cpu_manufacturer=maker)
    return Hardware(cpu_manufacturer="amd" if rest.startswith("a") else "intel")


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
    spot: bool = True
    """Whether it is sold on spot at all: without, it has no spot price either."""
    vcpus: int = 1
    machine: Hardware = _UNSAID
    """Unsaid: what the type's name tells."""
    history: list[PriceChange] = field(default_factory=list)
    """Spot prices up to now, oldest first; each holds until the next."""

    def __post_init__(self) -> None:
        """Derive from the name what nobody said."""
        if self.machine is _UNSAID:
            self.machine = hardware_of(self.instance_type)

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
