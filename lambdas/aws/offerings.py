"""What EC2 offers a pool: its types, the zones of its subnets, current spot prices, on-demand prices."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from lambdas.aws.asking import in_parts, pages
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.item.requirements import Range, Requirements
from lambdas.domain.model.cost import Prices
from lambdas.domain.model.instances import Instance, Offer, offering_key
from lambdas.domain.model.results import Failure
from lambdas.domain.model.status import Reason
from lambdas.ports import Clock, FleetError

PAGE = 1000
MOST_TYPES = 60
"""Types in one CreateFleet. Karpenter has the same limit, because of the size of the request."""

NO_SUBNET = (
    "There is no subnet to launch into: list subnet_ids in the item, or give the stack (context subnet_ids) or the "
    "Region's default VPC some."
)

PRICES_LAST = timedelta(hours=12)
"""On-demand prices change a few times a year; one request per type and function instance is enough."""

MISSING_LASTS = timedelta(hours=1)
"""How long a type that is not in the price list is not requested again."""

VALUE_CHARACTERS = 1024
"""The price list accepts no longer value in a filter: about 80 types."""

PRODUCTS = 100
"""The price list returns no more products in one page."""

SEPARATOR = ","
CURRENCIES = ("USD", "CNY")


class Offerings:
    """Asks EC2 and the price list (None: not available). Raises FleetError when one of them does not answer."""

    def __init__(self, ec2: Any, pricing: Any, *, default_subnets: Sequence[str], region: str, clock: Clock) -> None:
        self._ec2 = ec2
        self._pricing = pricing
        self._default_subnets = tuple(default_subnets)
        self._region = region
        self._clock = clock
        self._on_demand: dict[str, tuple[datetime, Decimal | None]] = {}

    def of(self, pool: Pool, full: Collection[str] = ()) -> list[Offer]:
        """One subnet per zone, with the most free addresses; for spot, only offerings that have a price.

        A type that a zone does not offer has no spot price there, and would be refused. If the cap is a share of the
        on-demand price, an offer for a type that is not in the price list has no such price. On-demand offers have
        their price if it is known.
        """
        subnets = self._subnets(pool.subnet_ids or self._default_subnets, full)
        types = pool.instance_types or self._matching(pool)
        spot = self.spot_prices(types) if pool.spot else {}
        offers: list[Offer] = []
        for market in pool.markets:
            some = self._few_enough(pool, types, market, spot)
            listed = self.list_prices(some) if market is Market.SPOT and pool.share else self._known(some)
            offers += (
                Offer(
                    name,
                    zone,
                    subnet_id,
                    spot.get(offering_key(name, zone)) if market is Market.SPOT else None,
                    market,
                    listed.get(name),
                    pool.weight(name),
                )
                for name in some
                for zone, subnet_id in subnets.items()
                if market is Market.ON_DEMAND or offering_key(name, zone) in spot
            )
        return offers

    def _few_enough(
        self, pool: Pool, types: tuple[str, ...], market: Market, spot: Mapping[str, Decimal]
    ) -> tuple[str, ...]:
        """As many types as one call accepts: the cheapest on the market."""
        if len(types) <= MOST_TYPES:
            return types
        prices = _lowest(spot)
        if market is Market.ON_DEMAND:
            try:
                prices = self.list_prices(types) or prices
            except FleetError:
                if not pool.spot:
                    raise
                # Spot prices rank types in nearly the same order, and spot launches do not wait for the price list.
        return _cheapest(pool, types, prices)

    def unsold(self, types: Sequence[str]) -> tuple[str, ...]:
        """The types that the Region does not sell, neither on spot nor on demand."""
        filters = ([{"Name": "instance-type", "Values": part}] for part in in_parts(types))
        sold = {
            entry["InstanceType"]
            for wanted in filters
            for page in pages(self._ec2.describe_instance_type_offerings, LocationType="region", Filters=wanted)
            for entry in page["InstanceTypeOfferings"]
        }
        return tuple(name for name in types if name not in sold)

    def zones(self, subnet_ids: Sequence[str]) -> dict[str, str]:
        """The zone of each of these subnets. Asked by filter, so that one unknown id does not fail the others."""
        asked = ([{"Name": "subnet-id", "Values": part}] for part in in_parts(subnet_ids))
        found = (page for filters in asked for page in pages(self._ec2.describe_subnets, Filters=filters))
        return {subnet["SubnetId"]: subnet["AvailabilityZone"] for page in found for subnet in page["Subnets"]}

    def _subnets(self, subnet_ids: Sequence[str], full: Collection[str] = ()) -> dict[str, str]:
        """One subnet per zone: not a full one if there is another, then the one with the most free addresses.

        Raises FleetError if there is no subnet at all.
        """
        asked: dict[str, Any] = (
            {"SubnetIds": list(subnet_ids)}
            if subnet_ids
            else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
        )
        found = [subnet for page in pages(self._ec2.describe_subnets, **asked) for subnet in page["Subnets"]]
        best: dict[str, str] = {}
        for subnet in sorted(
            found,
            key=lambda subnet: (
                subnet["SubnetId"] in full,
                -int(subnet.get("AvailableIpAddressCount", 0)),
                subnet["SubnetId"],
            ),
        ):
            best.setdefault(subnet["AvailabilityZone"], subnet["SubnetId"])
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
        types = sorted(entry["InstanceType"] for page in found for entry in page["InstanceTypes"])
        if not types:
            raise FleetError(
                Failure(Reason.CONFIG, "NoMatchingTypes", "No instance type meets the pool's requirements; widen them.")
            )
        return tuple(types)

    def spot_prices(self, types: Iterable[str]) -> dict[str, Decimal]:
        """Current prices by offering, USD per instance-hour. A history from now on begins with the current price."""
        now = self._clock()
        found = (
            page
            for part in in_parts(types)
            for page in pages(
                self._ec2.describe_spot_price_history,
                # A filter ignores a type that does not exist; a parameter might fail the call for all types.
                Filters=[{"Name": "instance-type", "Values": part}],
                ProductDescriptions=["Linux/UNIX"],
                StartTime=now,
                MaxResults=PAGE,
            )
        )
        latest: dict[str, tuple[datetime, Decimal]] = {}
        for page in found:
            for entry in page["SpotPriceHistory"]:
                key = offering_key(entry["InstanceType"], entry["AvailabilityZone"])
                if key not in latest or entry["Timestamp"] > latest[key][0]:
                    latest[key] = entry["Timestamp"], Decimal(entry["SpotPrice"])
        return {key: price for key, (_, price) in latest.items()}

    def prices_of(self, instances: Iterable[Instance]) -> Prices:
        """What these instances cost now. Unknown prices are left out; ``unanswered`` says why."""
        several = tuple(instances)
        unanswered: list[Failure] = []

        def answered(ask: Callable[[Sequence[str]], dict[str, Decimal]], types: Iterable[str]) -> dict[str, Decimal]:
            try:
                return ask(sorted(set(types)))
            except FleetError as error:
                unanswered.append(error.failure)
                return {}

        on_spot = (instance for instance in several if instance.market is Market.SPOT)
        return Prices(
            spot=answered(self.spot_prices, (instance.instance_type for instance in on_spot)),
            on_demand=answered(self.list_prices, (instance.instance_type for instance in several)),
            unanswered=tuple(unanswered),
        )

    def list_prices(self, types: Iterable[str]) -> dict[str, Decimal]:
        """On-demand prices, USD per hour, Linux, shared tenancy; types that are not in the price list are left out.

        Without a price list (some partitions have none) the result is empty.
        """
        if self._pricing is None:
            return {}
        wanted = list(types)
        for part in _in_one_value(name for name in wanted if not self._knows(name)):
            found = self._listed(part)
            if not found and len(part) > 1:
                # AWS does not document how one value lists several types. If this fails, one request per type works.
                for name in part:
                    found |= self._listed([name])
            now = self._clock()
            self._on_demand |= {name: (now, found.get(name)) for name in part}
        return self._known(wanted)

    def _known(self, types: Iterable[str]) -> dict[str, Decimal]:
        """Prices that the price list gave before."""
        known = ((name, self._on_demand[name][1]) for name in types if name in self._on_demand)
        return {name: price for name, price in known if price is not None}

    def _knows(self, instance_type: str) -> bool:
        if instance_type not in self._on_demand:
            return False
        asked_at, price = self._on_demand[instance_type]
        return self._clock() - asked_at < (MISSING_LASTS if price is None else PRICES_LAST)

    def _listed(self, types: list[str]) -> dict[str, Decimal]:
        filters = _products_of(types, self._region)
        found: dict[str, Decimal] = {}
        for page in pages(self._pricing.get_products, ServiceCode="AmazonEC2", Filters=filters, MaxResults=PRODUCTS):
            for product in map(json.loads, page["PriceList"]):
                name = product["product"]["attributes"]["instanceType"]
                for price in _hourly(product):
                    found[name] = max(price, found.get(name, price))
        return found


def instance_requirements(wanted: Requirements) -> dict[str, Any]:
    """The requirements in EC2's terms. Burstable types may match, unlike EC2's default; bare metal does not."""
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
    if gpus is not None and gpus.min:  # a type without accelerators has no accelerator type
        asked["AcceleratorTypes"] = ["gpu"]
    if wanted.gpu_names:
        asked["AcceleratorNames"] = list(wanted.gpu_names)
    return asked


def _range(wanted: Range, factor: int = 1) -> dict[str, int]:
    return {"Min": wanted.min * factor} | ({} if wanted.max is None else {"Max": wanted.max * factor})


def _lowest(spot: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Each type's lowest price in any zone."""
    lowest: dict[str, Decimal] = {}
    for key, price in spot.items():
        name = key.split("/")[0]
        lowest[name] = min(lowest.get(name, price), price)
    return lowest


def _cheapest(pool: Pool, types: Iterable[str], prices: Mapping[str, Decimal]) -> tuple[str, ...]:
    """As many types as one call accepts: those with the lowest price per unit, then by name."""
    unknown = Decimal("Infinity")
    ranked = sorted(types, key=lambda name: (prices.get(name, unknown) / pool.weight(name), name))
    return tuple(sorted(ranked[:MOST_TYPES]))


def _in_one_value(types: Iterable[str]) -> Iterator[list[str]]:
    """Types in lists that fit into one filter value."""
    part: list[str] = []
    for name in types:
        if part and len(SEPARATOR.join([*part, name])) > VALUE_CHARACTERS:
            yield part
            part = []
        part.append(name)
    if part:
        yield part


def _products_of(types: Sequence[str], region: str) -> list[dict[str, str]]:
    wanted = {
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    one_of = {
        "Type": "ANY_OF" if len(types) > 1 else "TERM_MATCH",
        "Field": "instanceType",
        "Value": SEPARATOR.join(types),
    }
    return [one_of, *({"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items())]


def _hourly(product: Mapping[str, Any]) -> Iterator[Decimal]:
    """Prices in the currency of the partition, which its spot prices use too."""
    for term in product["terms"].get("OnDemand", {}).values():
        for dimension in term["priceDimensions"].values():
            if dimension["unit"] == "Hrs":
                price = dimension["pricePerUnit"]
                yield from (Decimal(price[currency]) for currency in CURRENCIES if currency in price)
