"""CreateFleet with weights, strategies and limits, on both faces of the market."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.market.faces import Face, by_type, by_zone, codes, instances, launched

ZONE = ("us-east-1a",)
C5, M5, M5_XLARGE, G4 = "c5.xlarge", "m5.large", "m5.xlarge", "g4dn.xlarge"


def test_a_target_counts_units_and_instances_are_rounded_up(face: Face) -> None:
    answer = face.launch(10, zones=ZONE, types=(M5_XLARGE,), weights={M5_XLARGE: 4})
    assert by_type(answer) == {M5_XLARGE: 3}


def test_the_rest_is_counted_in_units_of_the_next_type(face: Face) -> None:
    face.offer("us-east-1a", M5_XLARGE, capacity=2, spot_price="0.01")
    face.offer("us-east-1a", M5, capacity=2)
    weights = {M5_XLARGE: 4, M5: 2, C5: 3}
    answer = face.launch(13, zones=ZONE, types=tuple(weights), weights=weights, strategy="lowest-price")
    assert by_type(answer) == {M5_XLARGE: 2, M5: 2, C5: 1}


def test_fractions_of_a_unit_count_exactly(face: Face) -> None:
    assert len(launched(face.launch(3, zones=ZONE, types=(M5,), weights={M5: 0.1}))) == 30


@pytest.mark.parametrize(("price", "comes"), [("0.4", 3), ("0.400001", 0)])
def test_a_cap_is_per_unit_hour(face: Face, price: str, comes: int) -> None:
    face.offer("us-east-1a", G4, spot_price=price)
    answer = face.launch(12, zones=ZONE, types=(G4,), weights={G4: 4}, max_price="0.1")
    assert len(launched(answer)) == comes
    if not comes:
        assert codes(answer) == ["SpotMaxPriceTooLow"]
        assert "price of 0.1 is lower" in answer["Errors"][0]["ErrorMessage"]


def test_a_price_above_the_cap_of_its_units_interrupts_an_instance(face: Face) -> None:
    (one,) = launched(face.launch(4, zones=ZONE, types=(G4,), weights={G4: 4}, max_price="0.1"))
    face.settle()
    face.offer("us-east-1a", G4, spot_price="0.4")
    face.clock.forward(121)
    assert face.states() == {one: "running"}
    face.offer("us-east-1a", G4, spot_price="0.41")
    face.clock.forward(121)
    assert face.states() == {one: "shutting-down"}


def test_prices_are_compared_per_unit(face: Face) -> None:
    face.offer("us-east-1a", M5, spot_price="0.03")
    face.offer("us-east-1a", M5_XLARGE, spot_price="0.05")
    both = {"zones": ZONE, "types": (M5, M5_XLARGE)}
    assert by_type(face.launch(8, **both)) == {M5: 8}
    assert by_type(face.launch(8, **both, weights={M5: 1, M5_XLARGE: 2})) == {M5_XLARGE: 4}


def test_if_one_instance_is_more_than_enough_its_whole_price_counts(face: Face) -> None:
    face.offer("us-east-1a", M5, spot_price="0.03")
    face.offer("us-east-1a", M5_XLARGE, spot_price="0.05")
    answer = face.launch(1, zones=ZONE, types=(M5, M5_XLARGE), weights={M5: 2, M5_XLARGE: 4})
    assert by_type(answer) == {M5: 1}


@pytest.mark.parametrize(
    ("strategy", "zones"),
    [
        ("lowest-price", {"us-east-1a": 2, "us-east-1b": 4}),
        ("capacity-optimized", {"us-east-1d": 6}),
        ("price-capacity-optimized", {"us-east-1c": 6}),
    ],
)
def test_each_strategy_chooses_by_its_own_rule(face: Face, strategy: str, zones: dict[str, int]) -> None:
    for zone, capacity, price in (("a", 2, "0.01"), ("b", 4, "0.02"), ("c", 10, "0.03"), ("d", 20, "0.04")):
        face.offer(f"us-east-1{zone}", M5, capacity=capacity, spot_price=price)
    assert by_zone(face.launch(6, types=(M5,), strategy=strategy)) == zones


def test_on_demand_the_cheapest_or_the_first_by_priority_is_launched(face: Face) -> None:
    request = face.request(2, zones=ZONE, types=(M5_XLARGE, M5, C5), lifecycle="on-demand")
    assert by_type(face.ec2.create_fleet(**request)) == {M5: 2}
    request["OnDemandOptions"]["AllocationStrategy"] = "prioritized"
    for override, priority in zip(request["LaunchTemplateConfigs"][0]["Overrides"], (2, None, 1), strict=True):
        override.update({"Priority": priority} if priority else {})
    assert by_type(face.ec2.create_fleet(**request)) == {C5: 2}
    face.offer("us-east-1a", C5, on_demand_capacity=3)
    assert by_type(face.ec2.create_fleet(**request)) == {C5: 1, M5_XLARGE: 1}


def test_on_demand_instances_are_never_interrupted(face: Face) -> None:
    (one,) = launched(face.launch(1, zones=ZONE, types=(M5,), lifecycle="on-demand"))
    face.settle()
    face.offer("us-east-1a", M5, capacity=0, spot_price="9", on_demand_price="0.5")
    status, answer = face.control("POST", "/market/interrupt", {"instance_ids": [one]})
    assert (status, "not a live spot instance" in answer["error"]) == (409, True)
    face.clock.forward(1000)
    (shown,) = instances(face.ec2.describe_instances())
    assert (shown["State"]["Name"], shown["SubnetId"]) == ("running", face.subnet("us-east-1a"))
    assert "InstanceLifecycle" not in shown


def wrong(face: Face, **change: Any) -> str:
    with pytest.raises(ClientError) as raised:
        face.ec2.create_fleet(**(face.request(1) | change))
    return str(raised.value.response["Error"]["Code"])


def test_requests_beyond_the_documented_limits_are_refused(face: Face) -> None:
    (config,) = face.request(1, zones=ZONE)["LaunchTemplateConfigs"]
    assert wrong(face, LaunchTemplateConfigs=[config] * 51) == "InvalidParameterValue"
    assert wrong(face, ClientToken="x" * 65) == "InvalidParameterValue"
    assert wrong(face, ClientToken="Größe") == "InvalidParameterValue"
    assert wrong(face, SpotOptions={"AllocationStrategy": "diversified"}) == "UnsupportedOperation"
    for weight in (0, -1):
        override = config["Overrides"][0] | {"WeightedCapacity": weight}
        assert wrong(face, LaunchTemplateConfigs=[config | {"Overrides": [override]}]) == "InvalidParameterValue"
    too_many = config | {"Overrides": config["Overrides"] * 301}
    assert wrong(face, LaunchTemplateConfigs=[too_many]) == "InvalidInput"
    assert face.states() == {}


def test_fifty_types_in_six_zones_are_one_request(face: Face) -> None:
    zones = tuple(f"us-east-1{letter}" for letter in "abcdef")
    types = tuple(f"x{number}.large" for number in range(50))
    for kind in types:
        for zone in zones:
            face.offer(zone, kind, capacity=3, spot_price="0.05", on_demand_price="0.1", vcpus=2)
    answer = face.launch(400, zones=zones, types=types, weights=dict.fromkeys(types, 2), max_price="0.025")
    assert (len(launched(answer)), len(answer["Instances"])) == (200, 67)
