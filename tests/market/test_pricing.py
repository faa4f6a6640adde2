"""The price list, on both faces of the market."""

import json
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.market.faces import Face

LINUX = {
    "regionCode": "us-east-1",
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}


def filters(**wanted: str) -> list[dict[str, str]]:
    return [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]


def products(face: Face, **wanted: str) -> list[dict[str, Any]]:
    answer = face.pricing.get_products(ServiceCode="AmazonEC2", Filters=filters(**wanted))
    return [json.loads(one) for one in answer["PriceList"]]


def price(product: dict[str, Any]) -> Decimal:
    (term,) = product["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    assert dimension["unit"] == "Hrs"
    return Decimal(dimension["pricePerUnit"]["USD"])


def test_a_type_has_its_on_demand_price(face: Face) -> None:
    (one,) = products(face, **LINUX, instanceType="m5.large")
    assert price(one) == Decimal("0.096")
    assert one["product"]["attributes"]["memory"] == "8 GiB"
    face.offer("us-east-1a", "m5.large", on_demand_price="0.12")
    assert [price(one) for one in products(face, **LINUX, instanceType="m5.large")] == [Decimal("0.12")]


def test_reserved_capacity_costs_nothing_more_while_it_is_used(face: Face) -> None:
    (every,) = [{name: value for name, value in LINUX.items() if name != "capacitystatus"}]
    found = products(face, **every, instanceType="m5.large")
    assert {one["product"]["attributes"]["capacitystatus"]: price(one) for one in found} == {
        "Used": Decimal("0.096"),
        "AllocatedCapacityReservation": Decimal(0),
        "UnusedCapacityReservation": Decimal("0.096"),
    }


@pytest.mark.parametrize(
    ("field", "value"), [("operatingSystem", "Windows"), ("tenancy", "Dedicated"), ("regionCode", "eu-west-1")]
)
def test_what_the_market_does_not_sell_has_no_price(face: Face, field: str, value: str) -> None:
    assert products(face, **(LINUX | {field: value})) == []


def test_several_types_can_be_requested_at_once(face: Face) -> None:
    among = {"Type": "ANY_OF", "Field": "instanceType", "Value": "m5.large,c5.xlarge"}
    answer = face.pricing.get_products(ServiceCode="AmazonEC2", Filters=[*filters(**LINUX), among])
    found = [json.loads(one)["product"]["attributes"]["instanceType"] for one in answer["PriceList"]]
    assert found == ["c5.xlarge", "m5.large"]


def test_products_come_in_pages(face: Face) -> None:
    paginator = face.pricing.get_paginator("get_products")
    pages = paginator.paginate(ServiceCode="AmazonEC2", Filters=filters(**LINUX), PaginationConfig={"PageSize": 20})
    sizes = [len(page["PriceList"]) for page in pages]
    types = {one["instance_type"] for one in face.tell("GET", "/market")["offerings"]}
    assert (sizes[0], sum(sizes)) == (20, len(types))


def test_an_invalid_request_is_an_error(face: Face) -> None:
    for params, code in (
        ({"ServiceCode": "AmazonS3"}, "NotFoundException"),
        ({"ServiceCode": "AmazonEC2", "Filters": filters(instancetype="m5.large")}, "InvalidParameterException"),
        ({"ServiceCode": "AmazonEC2", "NextToken": "x"}, "InvalidNextTokenException"),
    ):
        with pytest.raises(ClientError) as raised:
            face.pricing.get_products(**params)
        assert raised.value.response["Error"]["Code"] == code


def test_the_price_list_has_injected_faults_and_its_calls_are_counted(face: Face) -> None:
    face.tell("POST", "/market/faults", {"action": "GetProducts", "error": "ThrottlingException"})
    with pytest.raises(ClientError) as raised:
        products(face, **LINUX)
    assert raised.value.response["Error"]["Code"] == "ThrottlingException"
    products(face, **LINUX)
    assert face.tell("GET", "/market")["calls"] == {"GetProducts": 2}
