"""GetProducts of AWS's price list: the on-demand prices of the market's types, in the price list's form.

As on AWS, each type has a row for each status of capacity: used, reserved and used (no further cost), and reserved but
not used. The market sells only Linux with shared tenancy.
"""

import json
import zlib
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from localcloud.market.model.errors import EC2Error
from localcloud.market.model.listing import page_of
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import Offering
from localcloud.market.model.requests import Actions, Answer, Params, refuse_unknown

_SERVICE = "AmazonEC2"
_MOST_RESULTS = 100
_MIB_PER_GIB = 1024
# AWS's codes of the term "on demand" and of its rate per hour.
_TERM, _RATE = "JRTCKXETXF", "6YS6EN2CT7"
_STATUSES = {
    "Used": "BoxUsage",
    "AllocatedCapacityReservation": "Reservation",
    "UnusedCapacityReservation": "UnusedBox",
}

_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "TERM_MATCH": lambda value, wanted: value == wanted,
    "EQUALS": lambda value, wanted: value == wanted,
    "CONTAINS": lambda value, wanted: wanted in value,
    "ANY_OF": lambda value, wanted: value in wanted.split(","),
    "NONE_OF": lambda value, wanted: value not in wanted.split(","),
}


def get_products(market: Market, params: Params) -> Answer:
    """List the products that match all filters, by type, in pages. Each is a JSON document."""
    refuse_unknown("GetProducts", params, {"ServiceCode", "Filters", "FormatVersion", "MaxResults", "NextToken"})
    if params["ServiceCode"] != _SERVICE:
        raise EC2Error("NotFoundException", f"The service code {params['ServiceCode']} is not known to this market")
    types: dict[str, Offering] = {}
    for offering in market.offerings.values():
        # A type has one price in a Region. If its zones differ, the highest counts.
        known = types.setdefault(offering.instance_type, offering)
        if offering.on_demand_price > known.on_demand_price:
            types[offering.instance_type] = offering
    every = [(one, _product(market, one, status)) for _, one in sorted(types.items()) for status in _STATUSES]
    products = [product for one, product in every if one.machine.listed]
    fields = set(_attributes(every[0][1])) if every else set()
    for wanted in params.get("Filters") or []:
        if wanted["Field"] not in fields:
            raise EC2Error("InvalidParameterException", f"The market's products have no attribute {wanted['Field']}")
        compare = _COMPARE[wanted["Type"]]
        products = [product for product in products if compare(_attributes(product)[wanted["Field"]], wanted["Value"])]
    try:
        page, token = page_of(list(enumerate(products, 1)), params, key=lambda pair: pair[0], most=_MOST_RESULTS)
    except EC2Error as error:
        raise EC2Error("InvalidNextTokenException", error.message) from None
    listed = [json.dumps(product, separators=(",", ":")) for _, product in page]
    answer: Answer = {"FormatVersion": "aws_v1", "PriceList": listed}
    return {**answer, "NextToken": token} if token else answer


PRICING_ACTIONS: Actions = {"GetProducts": get_products}


def _attributes(product: dict[str, Any]) -> dict[str, str]:
    attributes: dict[str, str] = product["product"]["attributes"]
    return attributes


def _product(market: Market, offering: Offering, status: str) -> dict[str, Any]:
    kind, machine = offering.instance_type, offering.machine
    sku = f"{zlib.crc32(f'{kind} {status}'.encode()):016X}"
    price = Decimal(0) if status == "AllocatedCapacityReservation" else offering.on_demand_price
    attributes = {
        "servicecode": _SERVICE,
        "instanceType": kind,
        "regionCode": market.region,
        "locationType": "AWS Region",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": status,
        "marketoption": "OnDemand",
        "licenseModel": "No License required",
        "operation": "RunInstances",
        "usagetype": f"{_STATUSES[status]}:{kind}",
        "currentGeneration": "Yes" if machine.generation == "current" else "No",
        "vcpu": str(offering.vcpus),
        "memory": f"{(Decimal(machine.memory_mib) / _MIB_PER_GIB).normalize():f} GiB",
    }
    return {
        "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": sku},
        "serviceCode": _SERVICE,
        "terms": {"OnDemand": {f"{sku}.{_TERM}": _term(sku, kind, price, market.clock())}},
        "version": f"{market.clock():%Y%m%d}000000",
        "publicationDate": f"{market.clock():%Y-%m-%d}T00:00:00Z",
    }


def _term(sku: str, kind: str, price: Decimal, at: datetime) -> dict[str, Any]:
    rate = f"{sku}.{_TERM}.{_RATE}"
    dimension = {
        "unit": "Hrs",
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"${price} per On Demand Linux {kind} Instance Hour",
        "appliesTo": [],
        "rateCode": rate,
        "pricePerUnit": {"USD": f"{price:.10f}"},
    }
    return {
        "priceDimensions": {rate: dimension},
        "sku": sku,
        "effectiveDate": f"{at:%Y-%m}-01T00:00:00Z",
        "offerTermCode": _TERM,
        "termAttributes": {},
    }
