"""What EC2 has to offer a pool: its types, the zones of its subnets, present spot prices, on-demand prices."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from lambdas.aws.asking import ask, pages
from lambdas.domain.cost import Prices
from lambdas.domain.observed import Instance, Offer, offering_key
from lambdas.domain.pool import Market, Pool
from lambdas.domain.requirements import Range, Requirements
from lambdas.domain.results import Failure
from lambdas.domain.status import Reason
from lambdas.ports import Clock, FleetError

PAGE = 1000
MOST_TYPES = 60
"""Types in one CreateFleet; Karpenter stops there too, for the size of the request."""

NO_SUBNET = (
    "There is no subnet to launch into: list subnet_ids in the item, or give the stack (context subnet_ids) or the "
    "Region's default VPC some."
)

PRICES_LAST = timedelta(hours=12)
"""On-demand prices change a few times a year; one question per type and function instance is enough."""


class Offerings:
    """Asks EC2 and the price list. Raises FleetError when one of them does not answer."""

    def __init__(self, ec2: Any, pricing: Any, *, default_subnets: Sequence[str], region: str, clock: Clock) -> None:
        self._ec2 = ec2
        self._pricing = pricing
        self._default_subnets = tuple(default_subnets)
        self._region = region
        self._clock = clock
        self._on_demand: dict[str, tuple[datetime, Decimal]] = {}

    def unsold(self, pool: Pool) -> tuple[str, ...]:
        """Those of the pool's types that EC2 sells nowhere in the Region."""
        return tuple(name for name in pool.instance_types if not name)

    def of(self, pool: Pool, full: Collection[str] = ()) -> list[Offer]:
        """One subnet a zone, that with the most free addresses; for spot, only offerings that have a price.

        A type that a zone does not offer has no spot price there, and would only be refused.
        """
        subnets = self._subnets(pool.subnet_ids or self._default_subnets, full)
        types = pool.instance_types or self._matching(pool)
        prices = self.spot_prices(types) if pool.spot else {}
        if len(types) > MOST_TYPES:
            types = _cheapest(pool, types, prices)
        on_demand = {name: self.listed_price(name) for name in types} if pool.spot and pool.share else {}
        return [
            Offer(
                name,
                zone,
                subnet_id,
                prices.get(offering_key(name, zone)) if market is Market.SPOT else None,
                market,
                on_demand.get(name),
                pool.weight(name),
            )
            for market in pool.markets
            for name in types
            for zone, subnet_id in subnets.items()
            if market is Market.ON_DEMAND or not prices or offering_key(name, zone) in prices
        ]

    def zones(self, subnet_ids: Sequence[str]) -> dict[str, str]:
        """The zone of each of these subnets; asked by filter, so that one unknown id does not fail the others."""
        asked = pages(self._ec2.describe_subnets, Filters=[{"Name": "subnet-id", "Values": list(subnet_ids)}])
        return {one["SubnetId"]: one["AvailabilityZone"] for page in asked for one in page["Subnets"]}

    def _subnets(self, subnet_ids: Sequence[str], full: Collection[str] = ()) -> dict[str, str]:
        """The subnet of each zone: not a full one if there is another, then that with the most free addresses.

        Raises FleetError if there is none at all.
        """
        asked: dict[str, Any] = (
            {"SubnetIds": list(subnet_ids)}
            if subnet_ids
            else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
        )
        found = [one for page in pages(self._ec2.describe_subnets, **asked) for one in page["Subnets"]]
        best: dict[str, str] = {}
        for one in sorted(
            found,
            key=lambda subnet: (
                subnet["SubnetId"] in full,
                -int(subnet.get("AvailableIpAddressCount", 0)),
                subnet["SubnetId"],
            ),
        ):
            best.setdefault(one["AvailabilityZone"], one["SubnetId"])
        if not best:
            raise FleetError(Failure(Reason.CONFIG, "NoSubnet", NO_SUBNET))
        return dict(sorted(best.items()))

    def _matching(self, pool: Pool) -> tuple[str, ...]:
        """The types that EC2's attribute-based selection finds; raises FleetError if there are none."""
        if pool.requirements is None:
            return ()
        found = pages(
            self._ec2.get_instance_types_from_instance_requirements,
            ArchitectureTypes=[pool.requirements.architecture],
            VirtualizationTypes=["hvm"],
            InstanceRequirements=instance_requirements(pool.requirements),
            MaxResults=PAGE,
        )
        types = sorted(one["InstanceType"] for page in found for one in page["InstanceTypes"])
        if not types:
            raise FleetError(
                Failure(Reason.CONFIG, "NoMatchingTypes", "No instance type meets the pool's requirements; widen them.")
            )
        return tuple(types)

    def spot_prices(self, types: Sequence[str]) -> dict[str, Decimal]:
        """Present prices by offering, USD per instance-hour: the history from now on begins with what holds now."""
        found = pages(
            self._ec2.describe_spot_price_history,
            InstanceTypes=list(types),
            ProductDescriptions=["Linux/UNIX"],
            StartTime=self._clock(),
            MaxResults=PAGE,
        )
        latest: dict[str, tuple[datetime, Decimal]] = {}
        for page in found:
            for entry in page["SpotPriceHistory"]:
                key = offering_key(entry["InstanceType"], entry["AvailabilityZone"])
                if key not in latest or entry["Timestamp"] > latest[key][0]:
                    latest[key] = entry["Timestamp"], Decimal(entry["SpotPrice"])
        return {key: price for key, (_, price) in latest.items()}

    def prices_of(self, instances: Iterable[Instance]) -> Prices:
        """What these instances cost now; a type that the price list does not have is left out."""
        several = tuple(instances)
        spot = sorted({one.instance_type for one in several if one.market is Market.SPOT})
        listed = {name: self.listed_price(name) for name in sorted({one.instance_type for one in several})}
        return Prices(
            spot=self.spot_prices(spot) if spot else {},
            on_demand={name: price for name, price in listed.items() if price is not None},
        )

    def on_demand_price(self, instance_type: str) -> Decimal:
        """USD per hour, Linux, shared tenancy; raises FleetError for a type that the price list does not have."""
        price = self.listed_price(instance_type)
        if price is None:
            message = f"The price list has no {instance_type} in {self._region}: give spot_max_price in USD."
            raise FleetError(Failure(Reason.CONFIG, "NoOnDemandPrice", message))
        return price

    def listed_price(self, instance_type: str) -> Decimal | None:
        """USD per hour, Linux, shared tenancy; None for a type that the price list does not have."""
        known = self._on_demand.get(instance_type)
        if known is not None and self._clock() - known[0] < PRICES_LAST:
            return known[1]
        page = ask(self._pricing.get_products, ServiceCode="AmazonEC2", Filters=_product(instance_type, self._region))
        price = max((found for text in page["PriceList"] for found in _hourly(json.loads(text))), default=None)
        if price is not None:
            self._on_demand[instance_type] = self._clock(), price
        return price


def instance_requirements(wanted: Requirements) -> dict[str, Any]:
    """The requirements in EC2's words. Burstable types may match, unlike EC2's default; bare metal does not."""
    asked: dict[str, Any] = {
        "VCpuCount": _range(wanted.vcpus),
        "MemoryMiB": _range(wanted.memory_gib, 1024),
        "InstanceGenerations": list(wanted.generations),
        "BurstablePerformance": "included",
    }
    if wanted.excluded_types:
        asked["ExcludedInstanceTypes"] = list(wanted.excluded_types)
    gpus = wanted.gpus or (Range(min=1) if wanted.gpu_names else None)
    if gpus is not None:
        asked["AcceleratorCount"] = _range(gpus)
    if gpus is not None and gpus.min:  # a type without any has no accelerator type either
        asked["AcceleratorTypes"] = ["gpu"]
    if wanted.gpu_names:
        asked["AcceleratorNames"] = list(wanted.gpu_names)
    return asked


def _range(wanted: Range, factor: int = 1) -> dict[str, int]:
    return {"Min": wanted.min * factor} | ({} if wanted.max is None else {"Max": wanted.max * factor})


def _cheapest(pool: Pool, types: Iterable[str], prices: Mapping[str, Decimal]) -> tuple[str, ...]:
    """As many types as one call takes: those with the lowest price per unit anywhere, then by name."""
    lowest: dict[str, Decimal] = {}
    for key, price in prices.items():
        name = key.split("/")[0]
        lowest[name] = min(lowest.get(name, price), price)
    unknown = Decimal("Infinity")
    ranked = sorted(types, key=lambda name: (lowest.get(name, unknown) / pool.weight(name), name))
    return tuple(sorted(ranked[:MOST_TYPES]))


def _product(instance_type: str, region: str) -> list[dict[str, str]]:
    wanted = {
        "instanceType": instance_type,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    return [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]


def _hourly(product: Mapping[str, Any]) -> Iterable[Decimal]:
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if dimension["unit"] == "Hrs" and "USD" in dimension["pricePerUnit"]:
                yield Decimal(dimension["pricePerUnit"]["USD"])
