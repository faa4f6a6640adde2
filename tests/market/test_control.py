"""The control interface: its answers and its refusals."""

from decimal import Decimal
from typing import Any

import pytest

from tests.market.faces import TYPE, Face, launched


def offering(face: Face, zone: str, instance_type: str = TYPE) -> dict[str, Any]:
    offerings = face.tell("GET", "/market")["offerings"]
    (found,) = [one for one in offerings if (one["instance_type"], one["availability_zone"]) == (instance_type, zone)]
    assert isinstance(found, dict)
    return found


def test_the_overview_shows_capacity_and_prices_as_strings(face: Face) -> None:
    (one,) = launched(face.launch(1))
    shown = offering(face, "us-east-1a")
    assert (shown["capacity"], shown["in_use"], shown["noticed"]) == (8, 1, 0)
    assert (shown["spot_price"], shown["on_demand_price"]) == ("3.8338", "7.824")
    (instance,) = face.tell("GET", "/market")["instances"]
    assert (instance["instance_id"], instance["pool"], instance["state"]) == (one, "p", "pending")


def test_an_offering_is_created_and_changed(face: Face) -> None:
    face.offer("us-east-1e", capacity=2, spot_price="1.5")
    shown = offering(face, "us-east-1e")
    assert (shown["capacity"], shown["spot_price"], shown["on_demand_price"]) == (2, "1.5", "7.824")
    face.offer("us-east-1e", spot_price=1.25)
    assert Decimal(offering(face, "us-east-1e")["spot_price"]) == Decimal("1.25")


def test_a_star_changes_all_offerings_of_a_type(face: Face) -> None:
    changed = face.tell("PUT", f"/market/offerings/{TYPE}/*", {"capacity": 0})["offerings"]
    assert [one["capacity"] for one in changed] == [0, 0, 0, 0]


def test_interrupting_a_pool_answers_the_ids(face: Face) -> None:
    ids = launched(face.launch(6))
    face.settle()
    answer = face.tell("POST", "/market/interrupt", {"pool": "p", "count": 3, "notice_seconds": 5})
    assert answer["instance_ids"] == ids[:3]
    assert offering(face, "us-east-1a")["noticed"] == 3
    face.clock.forward(5)
    assert sorted(face.states().values()) == ["running"] * 3 + ["shutting-down"] * 3


def test_a_rebalance_recommendation_ends_no_instance(face: Face) -> None:
    (one,) = launched(face.launch(1))
    face.settle()
    assert face.tell("POST", "/market/rebalance", {"instance_ids": [one]})["instance_ids"] == [one]
    face.clock.forward(1000)
    assert face.states() == {one: "running"}


def test_settings_are_changed_and_faults_are_listed_until_used(face: Face) -> None:
    assert face.tell("PUT", "/market/settings", {"notice_seconds": 7})["notice_seconds"] == 7
    fault = {"action": "CreateFleet", "error": "Unavailable", "times": 3}
    assert face.tell("POST", "/market/faults", fault)["faults"] == [fault]
    assert face.tell("DELETE", "/market/faults")["faults"] == []


def test_the_record_is_read_from_the_last_position(face: Face) -> None:
    face.launch(1)
    first = face.tell("GET", "/market/record")
    face.settle()
    face.offer("us-east-1a", capacity=3)
    rest = face.tell("GET", f"/market/record?since={first['next']}")
    assert [entry["what"] for entry in rest["record"]] == ["running", "offering"]


def test_a_reset_is_an_empty_market_with_the_default_offerings(face: Face) -> None:
    face.launch(2)
    face.offer("*", capacity=0)
    face.tell("POST", "/market/faults", {"action": "CreateFleet", "error": "Unavailable"})
    answer = face.tell("POST", "/market/reset")
    assert (answer["instances"], answer["calls"], answer["faults"]) == ([], {}, [])
    assert offering(face, "us-east-1a")["capacity"] == 8
    assert face.states() == {}


def test_a_new_type_has_the_processor_that_its_name_shows_and_runs_its_images(face: Face) -> None:
    face.offer("us-east-1a", "m7g.48xlarge", capacity=1, spot_price="1", on_demand_price="2")
    (made,) = (one for one in face.tell("GET", "/market")["offerings"] if one["instance_type"] == "m7g.48xlarge")
    assert (made["architecture"], made["cpu_manufacturer"]) == ("arm64", "amazon-web-services")
    face.offer("us-east-1b", "m7g.48xlarge", capacity=1, spot_price="1", architecture="x86_64")
    both = [one for one in face.tell("GET", "/market")["offerings"] if one["instance_type"] == "m7g.48xlarge"]
    assert {one["architecture"] for one in both} == {"x86_64"}, "what is said counts, in all zones"


@pytest.mark.parametrize(
    ("call", "body", "status", "says"),
    [
        (f"PUT /market/offerings/{TYPE}/us-east-1a", {"capacity": -1}, 400, "capacity"),
        (f"PUT /market/offerings/{TYPE}/us-east-1a", {"capacty": 1}, 400, "capacty"),
        (f"PUT /market/offerings/{TYPE}/us-east-1a", {"spot_price": "cheap"}, 400, "spot_price"),
        ("PUT /market/offerings/x9.large/us-east-1a", {"capacity": 1}, 400, "x9.large is not offered"),
        ("PUT /market/offerings/x9.large/*", {"capacity": 1}, 404, "x9.large"),
        ("PUT /market/settings", {"pace": 0}, 400, "pace"),
        ("POST /market/interrupt", {"instance_ids": ["i-1"]}, 404, "i-1"),
        ("POST /market/interrupt", {"pool": "p"}, 400, "count"),
        ("POST /market/interrupt", {"pool": "p", "count": 1}, 409, "0 running"),
        ("POST /market/faults", {"action": "CreateFleet"}, 400, "needs error"),
        ("POST /market/replay", {}, 400, "trace"),
        ("POST /market/replay", {"trace": "absent.csv"}, 400, "absent.csv"),
        ("GET /market/record?since=x", None, 400, "since"),
        ("GET /market/nothing", None, 404, "docs/market.md"),
    ],
)
def test_an_impossible_call_is_refused_with_a_reason(
    face: Face, call: str, body: dict[str, Any] | None, status: int, says: str
) -> None:
    method, _, path = call.partition(" ")
    refused, answer = face.control(method, path, body)
    assert (refused, says in answer["error"]) == (status, True), answer
