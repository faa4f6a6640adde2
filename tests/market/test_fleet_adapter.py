"""The contract of Fleet: the production adapter with both faces of the market."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from lambdas.aws.ec2_fleet import Ec2Fleet
from lambdas.aws.offerings import Offerings
from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.instances import State
from lambdas.domain.model.plan import Launch
from lambdas.domain.model.results import Launched, Results
from lambdas.domain.model.status import Attempt, Reason
from lambdas.ports import FleetError
from tests.market.faces import Face

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
def fleet(face: Face) -> Ec2Fleet:
    return fleet_of(face, "s")


def fleet_of(face: Face, stack: str, template: str = "default") -> Ec2Fleet:
    offerings = Offerings(face.ec2, None, default_subnets=(), region="us-east-1", clock=face.clock)
    return Ec2Fleet(face.ec2, stack=stack, default_launch_template=template, offerings=offerings)


def pool(**attributes: Any) -> Pool:
    typed = {} if {"instance_types", "requirements"} & attributes.keys() else {"instance_type": "g4dn.metal"}
    parsed = parse_pool({"pool_name": "p", **typed, **attributes})
    assert isinstance(parsed, Pool)
    return parsed


def attempt(fleet: Ec2Fleet, item: Pool, count: int, name: str = "attempt-1") -> Attempt:
    step = Launch(count, tuple(fleet.offers(item)), why="a test", market=item.market)
    request = fleet.request(item, step, name, fleet.template(item, None))
    return Attempt(id=name, count=count, at=NOW, request=request, terms={}, market=item.market)


def launch(fleet: Ec2Fleet, item: Pool, count: int, name: str = "attempt-1") -> Launched:
    return fleet.launch(attempt(fleet, item, count, name))


def test_a_launch_gives_ids_with_their_offerings(fleet: Ec2Fleet) -> None:
    launched = launch(fleet, pool(), 3)
    assert launched.answered
    assert len(launched.instances) == 3
    assert set(launched.instances.values()) <= launched.offerings


def test_launched_instances_are_listed_with_pool_and_state(fleet: Ec2Fleet, face: Face) -> None:
    ids = set(launch(fleet, pool(), 2).instances)
    assert {(one.id, one.pool_name, one.state) for one in fleet.instances()} == {(i, "p", State.PENDING) for i in ids}
    face.clock.forward(5)
    assert {one.state for one in fleet.instances("p")} == {State.RUNNING}
    assert fleet.instances("q") == []


def test_another_stacks_instances_are_not_listed(fleet: Ec2Fleet, face: Face) -> None:
    launch(fleet, pool(), 1)
    other = fleet_of(face, "t")
    assert other.instances() == other.instances("p") == []


def test_a_protecting_tag_is_seen(fleet: Ec2Fleet, face: Face) -> None:
    (id_,) = launch(fleet, pool(), 1).instances
    face.ec2.create_tags(Resources=[id_], Tags=[{"Key": "spotpools:protect", "Value": "true"}])
    assert [one.protected for one in fleet.instances()] == [True]


def test_unknown_ids_are_left_out_of_a_find(fleet: Ec2Fleet) -> None:
    (id_,) = launch(fleet, pool(), 1).instances
    assert list(fleet.find([id_, "i-0000000000000dead"])) == [id_]
    assert fleet.find([]) == {}


def test_a_find_distinguishes_instances_of_others_from_unknown_ones(fleet: Ec2Fleet, face: Face) -> None:
    (id_,) = launch(fleet, pool(), 1).instances
    found = fleet_of(face, "t").find([id_, "i-0000000000000dead"])
    assert found == {id_: None}


def test_a_large_request_is_sent_in_parts_of_the_size_that_ec2_accepts(fleet: Ec2Fleet, face: Face) -> None:
    ids = set(launch(fleet, pool(), 3).instances)
    others = {f"i-{number:017x}" for number in range(401)}
    face.clock.forward(10)
    assert fleet.find(ids | others).keys() == ids
    assert fleet.healthy(ids) == ids
    subnet = face.subnet("us-east-1a")
    offerings = Offerings(face.ec2, None, default_subnets=(), region="us-east-1", clock=face.clock)
    assert offerings.zones([subnet, *(f"subnet-{number:017x}" for number in range(1000, 1401))]) == {
        subnet: "us-east-1a"
    }
    assert set(offerings.spot_prices(["g4dn.metal", *(f"x{number}.huge" for number in range(401))])) == {
        f"g4dn.metal/us-east-1{zone}" for zone in "abcd"
    }


def test_an_instance_too_new_for_ec2_does_not_hide_the_health_of_others(fleet: Ec2Fleet, face: Face) -> None:
    old = set(launch(fleet, pool(), 2).instances)
    face.clock.forward(20)
    face.tell("POST", "/market/faults", {"describe_lag_seconds": 10})
    new = set(launch(fleet, pool(), 2, "attempt-2").instances)
    assert fleet.healthy(old | new) == old
    assert fleet.healthy(new) == frozenset()


def test_health_is_requested_for_a_hundred_instances_at_a_time(fleet: Ec2Fleet, face: Face) -> None:
    face.tell("PUT", "/market/offerings/t3.micro/us-east-1a", {"capacity": 2000, "spot_price": "0.01"})
    ids = list(launch(fleet, pool(instance_type="t3.micro", max_instances=500), 250).instances)
    face.clock.forward(20)
    assert fleet.healthy([*ids, *ids, "i-0000000000000dead"]) == set(ids)


def test_a_refused_health_request_raises(fleet: Ec2Fleet, face: Face) -> None:
    ids = set(launch(fleet, pool(), 2).instances)
    face.clock.forward(20)
    face.tell("POST", "/market/faults", {"action": "DescribeInstanceStatus", "error": "InvalidInstanceID.NotFound"})
    with pytest.raises(FleetError, match=r"InvalidInstanceID\.NotFound"):
        fleet.healthy(ids)


def test_the_same_attempt_sent_twice_launches_once(fleet: Ec2Fleet) -> None:
    same = attempt(fleet, pool(), 3)
    assert fleet.launch(same).instances == fleet.launch(same).instances
    assert len(fleet.instances()) == 3


def test_a_changed_request_with_the_same_token_is_not_an_answer(fleet: Ec2Fleet) -> None:
    launch(fleet, pool(), 3)
    launched = launch(fleet, pool(), 4)
    assert not launched.answered
    assert len(fleet.instances()) == 3


def test_spot_offers_are_those_that_have_a_price(fleet: Ec2Fleet) -> None:
    offers = {offer.zone: offer.spot_price for offer in fleet.offers(pool())}
    assert offers == dict.fromkeys((f"us-east-1{zone}" for zone in "abcd"), Decimal("3.8338"))


def test_on_demand_offers_need_no_spot_price(fleet: Ec2Fleet) -> None:
    assert {offer.spot_price for offer in fleet.offers(pool(spot=False))} == {None}


def test_named_subnets_are_the_only_ones_offered(fleet: Ec2Fleet) -> None:
    first = fleet.offers(pool())[0]
    offers = fleet.offers(pool(subnet_ids=[first.subnet_id]))
    assert [(one.zone, one.subnet_id) for one in offers] == [(first.zone, first.subnet_id)]


def test_types_that_the_region_does_not_offer_are_named(fleet: Ec2Fleet, face: Face) -> None:
    misspelt = pool(instance_types=["g5.xlagre", "g4dn.metal", "g5.xlarge", "g5.huge"])
    assert fleet.unsold(misspelt) == ("g5.xlagre", "g5.huge")
    assert fleet.unsold(pool()) == ()
    assert fleet.unsold(pool(requirements={"vcpus": {"min": 4}})) == ()
    face.tell("POST", "/market/faults", {"action": "DescribeInstanceTypeOfferings", "error": "UnauthorizedOperation"})
    with pytest.raises(FleetError):
        fleet.unsold(misspelt)


def test_a_type_that_is_sold_only_on_demand_has_no_spot_offer(fleet: Ec2Fleet, face: Face) -> None:
    face.offer("*", "g4dn.metal", spot=False)
    try:
        item = pool(fallback={"after_minutes": 5})
        assert {offer.market for offer in fleet.offers(item)} == {Market.ON_DEMAND}
        assert fleet.unsold(item) == ()
    finally:
        face.offer("*", "g4dn.metal", spot=True)


def test_the_subnet_of_a_zone_with_the_most_free_addresses_is_offered(fleet: Ec2Fleet, face: Face) -> None:
    home, away, beside = face.subnet("us-east-1a"), face.subnet("us-east-1b"), face.add_subnet("us-east-1a")
    item = pool(subnet_ids=[home, beside, away])
    for free, chosen in (((0, 1), beside), ((3, 2), home), ((0, 0), min(home, beside))):
        for subnet, addresses in zip((home, beside), free, strict=True):
            face.tell("PUT", f"/market/subnets/{subnet}", {"free_addresses": addresses})
        offered = {offer.zone: offer.subnet_id for offer in fleet.offers(item)}
        assert offered == {"us-east-1a": chosen, "us-east-1b": away}


def test_a_subnet_without_addresses_is_reported_by_its_id(fleet: Ec2Fleet, face: Face) -> None:
    subnet = face.subnet("us-east-1a")
    face.tell("PUT", f"/market/subnets/{subnet}", {"free_addresses": 2})
    launched = launch(fleet, pool(subnet_ids=[subnet]), 3)
    assert len(launched.instances) == 2
    (refusal,) = launched.failures
    assert (refusal.code, subnet in refusal.message) == ("InsufficientFreeAddressesInSubnet", True)
    fleet.terminate(launched.instances)
    assert len(launch(fleet, pool(subnet_ids=[subnet]), 2, "attempt-2").instances) == 2, "they are free again"


def test_no_capacity_is_reported_per_offering(fleet: Ec2Fleet, face: Face) -> None:
    for zone in "abcd":
        face.tell("PUT", f"/market/offerings/g4dn.metal/us-east-1{zone}", {"capacity": 0})
    launched = launch(fleet, pool(), 2)
    assert launched.instances == {}
    lacking = {one.offering for one in launched.failures if one.code == "InsufficientInstanceCapacity"}
    assert lacking == {f"g4dn.metal/us-east-1{zone}" for zone in "abcd"}
    assert {one.reason for one in launched.failures} == {Reason.NO_CAPACITY}


def test_a_price_above_the_cap_is_a_price_refusal_and_not_missing_capacity(fleet: Ec2Fleet) -> None:
    launched = launch(fleet, pool(spot_max_price="3.8337"), 1)
    assert {one.reason for one in launched.failures if not one.lasting} == {Reason.PRICE_ABOVE_MAX}


def test_a_missing_template_is_a_fault_for_the_owner(face: Face) -> None:
    fleet = fleet_of(face, "s", template="absent")
    launched = launch(fleet, pool(), 1)
    assert [one.reason for one in launched.failures] == [Reason.CONFIG]
    assert launched.answered


@pytest.mark.parametrize(("code", "answered"), [("UnauthorizedOperation", True), ("InternalError", False)])
def test_whether_an_attempt_must_be_sent_again_depends_on_the_error(
    fleet: Ec2Fleet, face: Face, code: str, answered: bool
) -> None:
    face.tell("POST", "/market/faults", {"action": "CreateFleet", "error": code})
    assert launch(fleet, pool(), 1).answered is answered


def test_a_dropped_connection_is_not_an_answer(fleet: Ec2Fleet, face: Face) -> None:
    face.tell("POST", "/market/faults", {"action": "CreateFleet", "drop_connection": True, "where": "after"})
    same = attempt(fleet, pool(), 2)
    assert not fleet.launch(same).answered
    assert len(fleet.launch(same).instances) == 2
    assert len(fleet.instances()) == 2


def test_missing_ids_do_not_prevent_the_termination_of_others(fleet: Ec2Fleet) -> None:
    ids = set(launch(fleet, pool(), 2).instances)
    ended = fleet.terminate([*ids, "i-0000000000000dead"])
    assert set(ended.instance_ids) == ids
    assert ended.unknown == ("i-0000000000000dead",)
    assert ended.failures == ()
    assert not {one.state for one in fleet.instances()} & {State.PENDING, State.RUNNING}


def test_a_protected_instance_is_reported_and_does_not_prevent_other_terminations(fleet: Ec2Fleet, face: Face) -> None:
    face.tell("PUT", "/market/offerings/g4dn.metal/*", {"on_demand_capacity": 4})
    ids = list(launch(fleet, pool(spot=False, max_instances=20), 12).instances)
    protected = ids[0], ids[5], ids[11]
    for id_ in protected:
        face.ec2.modify_instance_attribute(InstanceId=id_, DisableApiTermination={"Value": True})
    ended = fleet.terminate(ids)
    assert set(ended.instance_ids) == set(ids) - set(protected)
    assert [one.code for one in ended.failures] == ["OperationNotPermitted"] * 3
    assert all(any(id_ in one.message for one in ended.failures) for id_ in protected)
    assert {one.id for one in fleet.instances() if one.state is State.PENDING} == set(protected)


def test_many_protected_instances_cost_a_bounded_number_of_calls(fleet: Ec2Fleet, face: Face) -> None:
    face.tell("PUT", "/market/offerings/t3.micro/us-east-1a", {"spot_price": "0.01", "capacity": 0})
    template = {"ImageId": "ami-1", "DisableApiTermination": True}
    face.ec2.create_launch_template(LaunchTemplateName="protecting", LaunchTemplateData=template)
    try:
        item = pool(instance_type="t3.micro", spot=False, max_instances=60, launch_template={"name": "protecting"})
        ids = list(launch(fleet, item, 60).instances)
    finally:
        face.ec2.delete_launch_template(LaunchTemplateName="protecting")
    ended = fleet.terminate(ids)
    assert ended.instance_ids == ()
    assert face.tell("GET", "/market")["calls"]["TerminateInstances"] == len(ended.failures) == 21


def test_an_instance_too_new_for_ec2_is_not_gone(fleet: Ec2Fleet, face: Face) -> None:
    face.tell("POST", "/market/faults", {"describe_lag_seconds": 60})
    face.tell("POST", "/market/faults", {"action": "TerminateInstances", "error": "InvalidInstanceID.NotFound"})
    ids = set(launch(fleet, pool(), 2).instances)
    ended = fleet.terminate(ids)
    assert ended.instance_ids == ()
    assert set(ended.unknown) == ids
    assert [one.code for one in Results(terminated=(ended,)).failures] == ["InvalidInstanceID.NotFound"]


def test_a_forbidden_termination_does_not_prevent_others(fleet: Ec2Fleet, face: Face) -> None:
    ids = sorted(launch(fleet, pool(), 3).instances)
    message = (
        f"You are not authorized to perform: ec2:TerminateInstances on resource: arn:aws:ec2:r:1:instance/{ids[0]}"
    )
    refusal = {"action": "TerminateInstances", "error": "UnauthorizedOperation", "message": message}
    face.tell("POST", "/market/faults", refusal)
    ended = fleet.terminate(ids)
    assert list(ended.instance_ids) == ids[1:]
    assert [(one.code, ids[0] in one.message) for one in ended.failures] == [("UnauthorizedOperation", True)]
    assert ended.refused == ended.forbidden == (ids[0],)


def test_a_forbidden_termination_is_reported(fleet: Ec2Fleet, face: Face) -> None:
    ids = set(launch(fleet, pool(), 2).instances)
    face.tell("POST", "/market/faults", {"action": "TerminateInstances", "error": "UnauthorizedOperation"})
    ended = fleet.terminate(ids)
    assert ended.instance_ids == ()
    assert [one.reason for one in ended.failures] == [Reason.CONFIG]


def test_a_termination_never_raises_so_that_a_launch_before_it_is_remembered(fleet: Ec2Fleet, face: Face) -> None:
    ids = set(launch(fleet, pool(), 2).instances)
    face.tell("POST", "/market/faults", {"action": "TerminateInstances", "error": "UnauthorizedOperation"})
    face.tell("POST", "/market/faults", {"action": "DescribeInstances", "error": "Unavailable"})
    ended = fleet.terminate(ids)
    assert ended.instance_ids == ()
    assert [one.code for one in ended.failures] == ["Unavailable"]


def test_a_call_without_an_answer_raises(fleet: Ec2Fleet, face: Face) -> None:
    face.tell("POST", "/market/faults", {"action": "DescribeInstances", "error": "RequestLimitExceeded"})
    with pytest.raises(FleetError) as error:
        fleet.instances()
    assert error.value.failure.reason is Reason.THROTTLED


def test_a_listing_reads_every_page(fleet: Ec2Fleet, face: Face) -> None:
    face.tell("PUT", "/market/offerings/t3.micro/us-east-1a", {"capacity": 2000, "spot_price": "0.01"})
    small = pool(instance_type="t3.micro", max_instances=1000)
    for number in range(12):
        launch(fleet, small, 100, f"attempt-{number}")
    assert len(fleet.instances("p")) == 1200
