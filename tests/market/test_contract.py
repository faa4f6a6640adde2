"""The contract of the emulated EC2, for the in-process client and for boto3 with the HTTP server."""

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError, ParamValidationError

from tests.market.conftest import in_process
from tests.market.faces import PRICE, TYPE, ZONES, Face, by_zone, codes, instances, launched


def error_code(raised: pytest.ExceptionInfo[ClientError]) -> str:
    return str(raised.value.response["Error"]["Code"])


# Launching


def test_one_call_launches_all_wanted_instances(face: Face) -> None:
    answer = face.launch(6)
    assert by_zone(answer) == {"us-east-1a": 6}
    assert answer["Errors"] == []
    (entry,) = answer["Instances"]
    assert (entry["InstanceType"], entry["Lifecycle"]) == (TYPE, "spot")
    assert entry["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"] == "us-east-1a"


def test_an_offering_that_holds_everything_is_preferred_to_a_cheaper_one(face: Face) -> None:
    face.offer("us-east-1d", spot_price="1.00")
    assert by_zone(face.launch(4)) == {"us-east-1d": 4}
    assert by_zone(face.launch(6)) == {"us-east-1a": 6}


def test_of_offerings_that_hold_everything_the_cheapest_is_taken(face: Face) -> None:
    face.offer("us-east-1c", spot_price="3.00")
    assert by_zone(face.launch(5)) == {"us-east-1c": 5}


def test_instances_without_room_go_to_the_next_offering_with_an_error_entry(face: Face) -> None:
    answer = face.launch(10)
    assert by_zone(answer) == {"us-east-1a": 8, "us-east-1b": 2}
    assert codes(answer) == ["InsufficientInstanceCapacity"]
    assert answer["Errors"][0]["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"] == "us-east-1a"


def test_too_little_capacity_launches_a_part_with_an_error_for_each_override(face: Face) -> None:
    answer = face.launch(30)
    assert len(launched(answer)) == 24
    assert codes(answer) == ["InsufficientInstanceCapacity"] * 4


def test_no_capacity_is_an_answer_without_instances(face: Face) -> None:
    face.offer("*", capacity=0)
    answer = face.launch(3)
    assert (answer["Instances"], codes(answer)) == ([], ["InsufficientInstanceCapacity"] * 4)


def test_an_instance_uses_capacity_until_it_ends(face: Face) -> None:
    face.offer("*", capacity=0)
    face.offer("us-east-1a", capacity=1)
    (first,) = launched(face.launch(1))
    face.settle()
    face.tell("POST", "/market/interrupt", {"instance_ids": [first]})
    assert launched(face.launch(1)) == []
    face.clock.forward(120)
    assert len(launched(face.launch(1))) == 1


def test_a_type_that_a_zone_does_not_have_fails_alone(face: Face) -> None:
    answer = face.launch(2, zones=("us-east-1e", "us-east-1b"))
    assert (by_zone(answer), codes(answer)) == ({"us-east-1b": 2}, ["InvalidFleetConfiguration"])
    assert "us-east-1e" in answer["Errors"][0]["ErrorMessage"]


def test_a_type_named_twice_for_a_zone_fails_the_whole_call(face: Face) -> None:
    request = face.request(2, zones=("us-east-1a", "us-east-1b", "us-east-1a"))
    with pytest.raises(ClientError, match="duplicate instance pools") as refused:
        face.ec2.create_fleet(**request)
    assert refused.value.response["Error"]["Code"] == "InvalidFleetConfig"


def test_mac1_metal_is_refused_as_an_override(face: Face) -> None:
    with pytest.raises(ClientError, match="not supported as a launch template override"):
        face.launch(1, types=("mac1.metal",))


def test_an_unknown_subnet_fails_alone(face: Face) -> None:
    request = face.request(2, zones=("us-east-1a", "us-east-1b"))
    request["LaunchTemplateConfigs"][0]["Overrides"][0]["SubnetId"] = "subnet-0123456789abcdef0"
    answer = face.ec2.create_fleet(**request)
    assert (by_zone(answer), codes(answer)) == ({"us-east-1b": 2}, ["InvalidSubnetID.NotFound"])


def test_an_override_without_a_zone_goes_to_any_default_subnet(face: Face) -> None:
    request = face.request(1)
    request["LaunchTemplateConfigs"][0]["Overrides"] = [{"InstanceType": TYPE}]
    assert by_zone(face.ec2.create_fleet(**request)) == {"us-east-1a": 1}


def test_on_demand_instances_take_none_of_the_spot_capacity(face: Face) -> None:
    face.offer("*", capacity=0)
    answer = face.launch(3, lifecycle="on-demand")
    assert len(launched(answer)) == 3
    (shown,) = {one.get("InstanceLifecycle") for one in instances(face.ec2.describe_instances())}
    assert shown is None


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ({"LaunchTemplateName": "nowhere", "Version": "1"}, "InvalidLaunchTemplateName.NotFoundException"),
        ({"LaunchTemplateId": "lt-0123456789abcdef0", "Version": "1"}, "InvalidLaunchTemplateId.NotFound"),
        ({"LaunchTemplateName": "default", "Version": "7"}, "InvalidLaunchTemplateId.VersionNotFound"),
    ],
)
def test_an_unknown_launch_template_is_an_error(face: Face, template: dict[str, str], code: str) -> None:
    with pytest.raises(ClientError) as raised:
        face.launch(1, template=template)
    assert error_code(raised) == code


def test_what_the_market_does_not_support_is_refused_by_name(face: Face) -> None:
    request = face.request(1)
    request["LaunchTemplateConfigs"][0]["Overrides"][0]["KeyName"] = "mine"
    with pytest.raises(ClientError, match="KeyName") as raised:
        face.ec2.create_fleet(**request)
    assert error_code(raised) == "UnsupportedOperation"
    with pytest.raises(ClientError, match="maintain"):
        face.ec2.create_fleet(**(face.request(1) | {"Type": "maintain"}))


def test_a_request_that_boto3_would_not_send_is_not_accepted(face: Face) -> None:
    with pytest.raises(ParamValidationError, match="Typ"):
        face.ec2.create_fleet(**(face.request(1) | {"Typ": "instant"}))


# Price


def test_a_price_equal_to_the_cap_launches(face: Face) -> None:
    face.offer("*", "p3.2xlarge", spot_price="0.918")
    assert len(launched(face.launch(1, zones=("us-east-1c",), types=("p3.2xlarge",), max_price="0.918"))) == 1


def test_a_price_above_the_cap_launches_nothing_and_is_named(face: Face) -> None:
    face.offer("*", "p3.2xlarge", spot_price="0.91801")
    answer = face.launch(1, zones=("us-east-1c", "us-east-1d"), types=("p3.2xlarge",), max_price="0.918")
    assert (answer["Instances"], codes(answer)) == ([], ["SpotMaxPriceTooLow"] * 2)
    assert "0.918 " in answer["Errors"][0]["ErrorMessage"]
    assert "0.91801" in answer["Errors"][0]["ErrorMessage"]


def test_without_a_cap_the_on_demand_price_is_the_cap(face: Face) -> None:
    face.offer("*", spot_price="7.824")
    assert len(launched(face.launch(1))) == 1
    face.offer("*", spot_price="7.825")
    assert codes(face.launch(1)) == ["SpotMaxPriceTooLow"] * 4


def test_a_cap_that_is_not_a_price_is_an_error(face: Face) -> None:
    for wrong in ("0.001", "-1", "1e3", "cheap"):
        with pytest.raises(ClientError) as raised:
            face.launch(1, max_price=wrong)
        assert error_code(raised) == "InvalidParameterValue"


def test_a_price_above_its_maximum_price_interrupts_an_instance(face: Face) -> None:
    (capped,) = launched(face.launch(1, max_price=PRICE))
    (uncapped,) = launched(face.launch(1))
    face.settle()
    face.offer("*", spot_price="3.8339")
    face.clock.forward(120)
    assert face.states() == {capped: "shutting-down", uncapped: "running"}


# Tokens


def test_a_repeated_request_launches_nothing_more(face: Face) -> None:
    request = face.request(3, token="once")
    first, second = face.ec2.create_fleet(**request), face.ec2.create_fleet(**request)
    assert launched(first) == launched(second)
    assert first["FleetId"] == second["FleetId"]
    assert len(face.states()) == 3


def test_a_changed_request_with_a_used_token_is_refused(face: Face) -> None:
    face.launch(3, token="once")
    with pytest.raises(ClientError) as raised:
        face.launch(4, token="once")
    assert error_code(raised) == "IdempotentParameterMismatch"
    assert len(face.states()) == 3


def test_an_answer_without_instances_uses_up_the_token(face: Face) -> None:
    face.offer("*", capacity=0)
    face.launch(2, token="once")
    face.offer("*", capacity=5)
    assert launched(face.launch(2, token="once")) == []
    assert len(launched(face.launch(2, token="another"))) == 2


def test_an_error_leaves_the_token_unused(face: Face) -> None:
    face.tell("POST", "/market/faults", {"action": "CreateFleet", "error": "InternalError"})
    with pytest.raises(ClientError):
        face.launch(2, token="once")
    assert len(launched(face.launch(2, token="once"))) == 2


# Listings


def test_an_instance_is_pending_and_then_running(face: Face) -> None:
    (one,) = launched(face.launch(1))
    assert face.states() == {one: "pending"}
    face.clock.forward(1.5)
    assert face.states() == {one: "running"}


def test_instances_are_found_by_tag_and_state(face: Face) -> None:
    (mine,) = launched(face.launch(1, pool="mine"))
    face.settle()
    (young,) = launched(face.launch(1, pool="mine"))
    face.launch(1, pool="other")
    tag = {"Name": "tag:spotpools:pool", "Values": ["mine"]}
    assert face.states(Filters=[tag]) == {mine: "running", young: "pending"}
    assert face.states(Filters=[tag, {"Name": "instance-state-name", "Values": ["running"]}]) == {mine: "running"}
    assert len(face.states(Filters=[{"Name": "tag-key", "Values": ["spotpools:*"]}])) == 3
    assert face.states(Filters=[{"Name": "tag-key", "Values": ["absent"]}]) == {}


def test_a_listing_comes_in_pages(face: Face) -> None:
    ids = launched(face.launch(8)) + launched(face.launch(5))
    pages = list(face.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    assert [len(instances(page)) for page in pages] == [5, 5, 3]
    assert [one["InstanceId"] for page in pages for one in instances(page)] == ids


@pytest.mark.parametrize(
    ("asked", "filters"),
    [
        ("describe_instances", {"instance-id": 200, "instance-state-name": 1}),
        ("describe_instance_status", {"availability-zone": 201}),
        ("describe_spot_price_history", {"instance-type": 201}),
        ("describe_launch_templates", {"launch-template-name": 201}),
        ("describe_subnets", {"subnet-id": 201}),
    ],
)
def test_a_call_accepts_200_values_in_all_its_filters_together(face: Face, asked: str, filters: dict[str, int]) -> None:
    def ask(less: int) -> None:
        values = {name: [f"value-{n}" for n in range(number - less)] for name, number in filters.items()}
        getattr(face.ec2, asked)(Filters=[{"Name": name, "Values": some} for name, some in values.items() if some])

    ask(less=1)
    with pytest.raises(ClientError, match="The maximum number of filter values specified on a single call is 200") as (
        raised
    ):
        ask(less=0)
    assert error_code(raised) == "FilterLimitExceeded"


def test_ids_and_a_page_size_exclude_each_other(face: Face) -> None:
    (one,) = launched(face.launch(1))
    with pytest.raises(ClientError) as raised:
        face.ec2.describe_instances(InstanceIds=[one], MaxResults=5)
    assert error_code(raised) == "InvalidParameterCombination"


def test_lag_hides_new_instances_and_shows_old_states(face: Face) -> None:
    face.tell("POST", "/market/faults", {"describe_lag_seconds": 10})
    (one,) = launched(face.launch(1))
    assert face.states() == {}
    with pytest.raises(ClientError) as raised:
        face.ec2.describe_instances(InstanceIds=[one])
    assert error_code(raised) == "InvalidInstanceID.NotFound"
    face.clock.forward(10)
    assert face.states(InstanceIds=[one]) == {one: "pending"}
    face.clock.forward(1.5)
    assert face.states(InstanceIds=[one]) == {one: "running"}
    face.ec2.terminate_instances(InstanceIds=[one])
    assert face.states(InstanceIds=[one]) == {one: "running"}
    face.tell("DELETE", "/market/faults")
    assert face.states(InstanceIds=[one]) == {one: "shutting-down"}


def test_an_ended_instance_stays_visible_for_an_hour(face: Face) -> None:
    (one,) = launched(face.launch(1))
    face.ec2.terminate_instances(InstanceIds=[one])
    face.clock.forward(3601)
    assert face.states() == {one: "terminated"}
    face.clock.forward(2)
    assert face.states() == {}


def test_subnets_are_found_by_zone_by_id_and_as_defaults(face: Face) -> None:
    defaults = face.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    assert sorted(one["AvailabilityZone"] for one in defaults)[:4] == list(ZONES)
    (one,) = face.ec2.describe_subnets(SubnetIds=[face.subnet("us-east-1b")])["Subnets"]
    assert one["AvailabilityZone"] == "us-east-1b"


def test_a_subnet_shows_its_free_addresses(face: Face) -> None:
    subnet = face.subnet("us-east-1a")

    def free() -> int:
        return int(face.ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]["AvailableIpAddressCount"])

    before = free()
    ids = launched(face.launch(3, zones=("us-east-1a",)))
    assert free() == before - 3
    face.ec2.terminate_instances(InstanceIds=ids[:2])
    assert free() == before - 1
    face.tell("PUT", f"/market/subnets/{subnet}", {"free_addresses": 1})
    answer = face.launch(3, zones=("us-east-1a", "us-east-1b"), lifecycle="on-demand")
    assert by_zone(answer) == {"us-east-1a": 1, "us-east-1b": 2}
    (refusal,) = answer["Errors"]
    assert refusal["ErrorCode"] == "InsufficientFreeAddressesInSubnet"
    assert refusal["ErrorMessage"] == (
        f"There are not enough free addresses in subnet '{subnet}' to satisfy the requested number of instances."
    )
    assert face.control("PUT", "/market/subnets/subnet-0", {"free_addresses": 1})[0] == 404


def test_a_type_may_be_sold_only_on_demand(face: Face) -> None:
    face.offer("*", spot=False)
    assert codes(face.launch(1, zones=("us-east-1a",))) == ["Unsupported"]
    assert face.ec2.describe_spot_price_history(InstanceTypes=[TYPE])["SpotPriceHistory"] == []
    assert launched(face.launch(1, zones=("us-east-1a",), lifecycle="on-demand"))


def test_sold_types_are_listed_by_region_and_by_zone(face: Face) -> None:
    wanted = [{"Name": "instance-type", "Values": [TYPE, "g5.xlagre"]}]
    answer = face.ec2.describe_instance_type_offerings(LocationType="region", Filters=wanted)
    assert answer["InstanceTypeOfferings"] == [
        {"InstanceType": TYPE, "LocationType": "region", "Location": "us-east-1"}
    ]
    answer = face.ec2.describe_instance_type_offerings(LocationType="availability-zone", Filters=wanted)
    assert [one["Location"] for one in answer["InstanceTypeOfferings"]] == list(ZONES)


# Termination and interruption


def test_a_termination_answers_the_previous_and_the_current_state(face: Face) -> None:
    (one,) = launched(face.launch(1))
    face.settle()
    (change,) = face.ec2.terminate_instances(InstanceIds=[one])["TerminatingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "shutting-down")
    (again,) = face.ec2.terminate_instances(InstanceIds=[one])["TerminatingInstances"]
    assert (again["PreviousState"]["Name"], again["CurrentState"]["Name"]) == ("shutting-down", "shutting-down")
    (shown,) = instances(face.ec2.describe_instances(InstanceIds=[one]))
    assert shown["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert shown["StateTransitionReason"].startswith("User initiated (")


def test_one_unknown_id_prevents_all_terminations(face: Face) -> None:
    (one,) = launched(face.launch(1))
    with pytest.raises(ClientError, match="i-0123456789abcdef0") as raised:
        face.ec2.terminate_instances(InstanceIds=[one, "i-0123456789abcdef0"])
    assert error_code(raised) == "InvalidInstanceID.NotFound"
    assert face.states() == {one: "pending"}


def test_a_protected_instance_prevents_terminations_in_its_zone_only(face: Face) -> None:
    one, beside = launched(face.launch(2, zones=("us-east-1a",), lifecycle="on-demand"))
    (elsewhere,) = launched(face.launch(1, zones=("us-east-1b",), lifecycle="on-demand"))
    face.ec2.modify_instance_attribute(InstanceId=one, DisableApiTermination={"Value": True})
    with pytest.raises(ClientError, match=f"The instance '{one}' may not be terminated") as raised:
        face.ec2.terminate_instances(InstanceIds=[one, beside, elsewhere])
    assert error_code(raised) == "OperationNotPermitted"
    assert face.states() == {one: "pending", beside: "pending", elsewhere: "shutting-down"}
    face.ec2.modify_instance_attribute(InstanceId=one, DisableApiTermination={"Value": False})
    face.ec2.terminate_instances(InstanceIds=[one, beside])
    assert set(face.states().values()) == {"shutting-down"}


def test_spot_instances_cannot_be_protected(face: Face) -> None:
    (one,) = launched(face.launch(1))
    with pytest.raises(ClientError, match="not supported for spot instances") as raised:
        face.ec2.modify_instance_attribute(InstanceId=one, DisableApiTermination={"Value": True})
    assert error_code(raised) == "UnsupportedOperation"


def test_an_instance_under_notice_runs_for_two_more_minutes(face: Face) -> None:
    (one,) = launched(face.launch(1))
    face.settle()
    face.tell("POST", "/market/interrupt", {"instance_ids": [one]})
    face.clock.forward(119)
    assert face.states() == {one: "running"}
    face.clock.forward(1)
    assert face.states() == {one: "shutting-down"}
    face.clock.forward(2)
    (shown,) = instances(face.ec2.describe_instances())
    assert shown["State"] == {"Code": 48, "Name": "terminated"}
    assert shown["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert "SubnetId" not in shown


def test_less_capacity_interrupts_no_instance(face: Face) -> None:
    ids = launched(face.launch(6))
    face.settle()
    face.offer("*", capacity=0)
    face.clock.forward(1000)
    assert face.states() == dict.fromkeys(ids, "running")


# Tags


def test_tags_are_those_of_the_request_and_of_aws(face: Face) -> None:
    answer = face.launch(1, pool="mine")
    (shown,) = instances(face.ec2.describe_instances())
    tags = {tag["Key"]: tag["Value"] for tag in shown["Tags"]}
    assert tags["spotpools:pool"] == "mine"
    assert tags["aws:ec2:fleet-id"] == answer["FleetId"]


def test_tags_are_added_and_removed(face: Face) -> None:
    (one,) = launched(face.launch(1))
    protected = [{"Name": "tag:spotpools:protect", "Values": ["true"]}]
    face.ec2.create_tags(Resources=[one], Tags=[{"Key": "spotpools:protect", "Value": "true"}])
    assert face.states(Filters=protected) == {one: "pending"}
    face.ec2.delete_tags(Resources=[one], Tags=[{"Key": "spotpools:protect"}])
    assert face.states(Filters=protected) == {}


# Prices


def prices(face: Face, **params: Any) -> list[tuple[str, Decimal]]:
    answer = face.ec2.describe_spot_price_history(
        InstanceTypes=["p3.2xlarge"], ProductDescriptions=["Linux/UNIX"], **params
    )
    return [(row["AvailabilityZone"][-1], Decimal(row["SpotPrice"])) for row in answer["SpotPriceHistory"]]


def test_the_current_price_is_one_row_for_each_zone(face: Face) -> None:
    face.clock.forward(60)
    face.offer("us-east-1d", "p3.2xlarge", spot_price="1.1")
    face.clock.forward(60)
    now = prices(face, StartTime=face.clock() + timedelta(hours=1))
    assert sorted(now) == [
        ("a", Decimal("0.918")),
        ("c", Decimal("0.918")),
        ("d", Decimal("1.1")),
        ("f", Decimal("0.918")),
    ]


def test_the_price_history_is_newest_first_and_starts_with_the_price_at_its_start(face: Face) -> None:
    for price in ("1.1", "1.2"):
        face.clock.forward(60)
        face.offer("us-east-1d", "p3.2xlarge", spot_price=price)
    zone = {"AvailabilityZone": "us-east-1d"}
    assert prices(face, **zone) == [("d", Decimal("1.2")), ("d", Decimal("1.1")), ("d", Decimal("0.918"))]
    since = face.clock() - timedelta(seconds=30)
    assert prices(face, StartTime=since, **zone) == [("d", Decimal("1.2")), ("d", Decimal("1.1"))]
    assert prices(face, StartTime=since, EndTime=since, **zone) == [("d", Decimal("1.1"))]


def test_prices_come_in_pages_that_end_with_an_empty_token(face: Face) -> None:
    page = face.ec2.describe_spot_price_history(InstanceTypes=["p3.2xlarge"], MaxResults=3)
    rest = face.ec2.describe_spot_price_history(InstanceTypes=["p3.2xlarge"], MaxResults=3, NextToken=page["NextToken"])
    assert [len(one["SpotPriceHistory"]) for one in (page, rest)] == [3, 1]
    assert rest["NextToken"] == ""


def test_other_products_have_no_prices_here(face: Face) -> None:
    answer = face.ec2.describe_spot_price_history(ProductDescriptions=["Windows"])
    assert answer["SpotPriceHistory"] == []


# Limits and faults


def test_a_quota_counts_the_vcpus_of_its_family_group(face: Face) -> None:
    face.tell("PUT", "/market/settings", {"quotas": {"spot:g": 200}})
    answer = face.launch(3)
    assert len(launched(answer)) == 2  # of 96 vCPUs each
    assert codes(answer) == ["MaxSpotInstanceCountExceeded"] * 4
    assert len(launched(face.launch(3, types=("m5.large",)))) == 3


def test_throttling_uses_a_bucket_that_refills(face: Face) -> None:
    face.tell("PUT", "/market/settings", {"throttling": True})
    request = face.request(1)
    for _ in range(50):
        face.ec2.create_fleet(**request)
    with pytest.raises(ClientError) as raised:
        face.ec2.create_fleet(**request)
    assert error_code(raised) == "RequestLimitExceeded"
    face.clock.forward(1)
    face.ec2.create_fleet(**request)


def test_launching_too_fast_is_an_error_entry_beside_the_instances(face: Face) -> None:
    face.tell("PUT", "/market/settings", {"throttling": True})
    face.offer("us-east-1a", capacity=5000)
    answer = face.launch(1200)
    assert len(launched(answer)) == 1000
    assert "RequestLimitExceeded" in codes(answer)


def test_a_fault_before_the_effect_changes_nothing(face: Face) -> None:
    face.tell("POST", "/market/faults", {"action": "CreateFleet", "error": "Unavailable", "times": 2})
    for _ in range(2):
        with pytest.raises(ClientError) as raised:
            face.launch(1)
        assert error_code(raised) == "Unavailable"
    assert face.states() == {}
    assert len(launched(face.launch(1))) == 1


def test_a_fault_after_the_effect_hides_what_happened(face: Face) -> None:
    fault = {"action": "CreateFleet", "error": "InternalError", "message": "Oops", "where": "after"}
    face.tell("POST", "/market/faults", fault)
    with pytest.raises(ClientError, match="Oops"):
        face.launch(2, token="once")
    assert len(face.states()) == 2
    assert len(launched(face.launch(2, token="once"))) == 2
    assert len(face.states()) == 2


def test_a_dropped_connection_does_not_tell_whether_the_call_took_effect(face: Face) -> None:
    face.tell("POST", "/market/faults", {"action": "CreateFleet", "drop_connection": True, "where": "after"})
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        face.launch(2, token="once")
    assert len(face.states()) == 2


def test_an_error_may_be_inside_an_answer(face: Face) -> None:
    fault = {"action": "CreateFleet", "error": "UnauthorizedOperation", "where": "inside", "launches": 1}
    face.tell("POST", "/market/faults", fault)
    answer = face.launch(3)
    assert (len(launched(answer)), codes(answer)) == (1, ["UnauthorizedOperation"] * 4)


def test_all_calls_are_counted(face: Face) -> None:
    face.tell("POST", "/market/faults", {"action": "CreateFleet", "error": "Unavailable"})
    with pytest.raises(ClientError):
        face.launch(1, zones=("us-east-1a",))
    face.states()
    face.states()
    assert face.tell("GET", "/market")["calls"] == {"DescribeSubnets": 1, "CreateFleet": 1, "DescribeInstances": 2}


# Both faces together


def all_calls(face: Face) -> list[Any]:
    """Make calls of every kind and return all answers."""
    began = face.clock.now = face.clock.now.replace(microsecond=0)  # EC2 shows times in whole seconds
    request = face.request(9, token="once", max_price="4")
    request["LaunchTemplateConfigs"][0]["Overrides"].append({"InstanceType": TYPE, "AvailabilityZone": "us-east-1f"})
    first = face.ec2.create_fleet(**request)
    answers = [first, face.ec2.create_fleet(**request)]
    one, two, three, *_ = launched(first)
    face.settle()
    face.tell("POST", "/market/interrupt", {"instance_ids": [one]})
    answers.append(face.ec2.describe_instances(Filters=[{"Name": "tag-key", "Values": ["spotpools:pool"]}]))
    answers.append(face.ec2.terminate_instances(InstanceIds=[two, three]))
    face.clock.forward(121)
    answers.append(face.ec2.describe_instances(MaxResults=5))
    answers.append(face.ec2.describe_instances(MaxResults=5, NextToken=answers[-1]["NextToken"]))
    answers.append(face.launch(2, lifecycle="on-demand"))
    answers.append(face.ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["absent"]}]))
    face.offer("us-east-1b", spot_price="4.1")
    answers.append(face.ec2.describe_spot_price_history(InstanceTypes=[TYPE], StartTime=began))
    answers.append(face.ec2.create_tags(Resources=[one], Tags=[{"Key": "a", "Value": "b"}]))
    for wrong in (request | {"Type": "request"}, face.request(0)):
        with pytest.raises(ClientError) as raised:
            face.ec2.create_fleet(**wrong)
        answers.append(raised.value.response["Error"])
    return [plain(answer, {"began": began}) for answer in answers]


def plain(value: Any, known: dict[str, Any]) -> Any:
    """Replace what differs between markets: ids by their order of appearance, times by seconds passed."""
    if isinstance(value, dict):
        names = sorted(value.keys() - {"ResponseMetadata", "ImageId"})
        return {name: bool(value[name]) if name == "NextToken" else plain(value[name], known) for name in names}
    if isinstance(value, list):
        return [plain(one, known) for one in value]
    if isinstance(value, datetime):
        return round((value - known["began"]).total_seconds())
    if isinstance(value, str):
        value = re.sub(r"\((\d{4}-.*) GMT\)", "(then)", value)
        return re.sub(
            r"\b(i|r|lt|sir|fleet|subnet|vpc)-[0-9a-f-]+\b",
            lambda found: str(known.setdefault(found.group(), f"{found.group(1)} {len(known)}")),
            value,
        )
    return value


def test_both_faces_give_the_same_answers(served: tuple[Any, Face]) -> None:
    _, over_http = served
    over_http.tell("POST", "/market/reset")
    for mine, theirs in zip(all_calls(in_process()), all_calls(over_http), strict=True):
        assert mine == theirs
