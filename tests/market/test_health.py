"""Status checks, and machines that fail after their launch, on both faces of the market."""

import base64
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.market.faces import Face, instances, launched
from tests.market.test_templates import create


def statuses(face: Face, **params: Any) -> dict[str, str]:
    """Return the two status checks of each visible instance, as system/instance."""
    answer = face.ec2.describe_instance_status(**params)
    return {
        one["InstanceId"]: f"{one['SystemStatus']['Status']}/{one['InstanceStatus']['Status']}"
        for one in answer["InstanceStatuses"]
    }


def launch(face: Face, wanted: int = 1, **data: Any) -> list[str]:
    template = create(face, **data) | {"Version": "$Latest"}
    return launched(face.launch(wanted, zones=("us-east-1a",), template=template))


def test_status_checks_begin_when_an_instance_runs(face: Face) -> None:
    face.tell("PUT", "/market/settings", {"status_check_seconds": 60})
    (one,) = launched(face.launch(1))
    assert statuses(face) == {}
    assert statuses(face, IncludeAllInstances=True) == {one: "not-applicable/not-applicable"}
    face.clock.forward(1.5)
    assert statuses(face) == {one: "initializing/initializing"}
    face.clock.forward(59)
    assert statuses(face, InstanceIds=[one]) == {one: "initializing/initializing"}
    face.clock.forward(1)
    assert statuses(face) == {one: "ok/ok"}
    face.ec2.terminate_instances(InstanceIds=[one])
    assert statuses(face) == {}
    assert statuses(face, IncludeAllInstances=True) == {one: "not-applicable/not-applicable"}


def test_statuses_are_found_by_filters_and_come_in_pages(face: Face) -> None:
    ids = launched(face.launch(7))
    face.clock.forward(4)
    (young,) = launched(face.launch(1, zones=("us-east-1b",)))
    face.clock.forward(2)
    ok = [{"Name": "instance-status.status", "Values": ["ok"]}]
    assert list(statuses(face, Filters=ok)) == ids
    assert list(statuses(face, Filters=[{"Name": "availability-zone", "Values": ["us-east-1b"]}])) == [young]
    pages = face.ec2.get_paginator("describe_instance_status").paginate(PaginationConfig={"PageSize": 5})
    assert [len(page["InstanceStatuses"]) for page in pages] == [5, 3]


def test_an_invalid_request_is_an_error(face: Face) -> None:
    (one,) = launched(face.launch(1))
    for params, code in (
        ({"InstanceIds": ["i-0123456789abcdef0"]}, "InvalidInstanceID.NotFound"),
        ({"InstanceIds": [one], "MaxResults": 5}, "InvalidParameterCombination"),
        ({"InstanceIds": [one] * 101}, "InvalidRequest"),
        ({"InstanceIds": [one, "i-"]}, "InvalidInstanceID.Malformed"),
        ({"InstanceIds": ["i-0123456789"]}, "InvalidInstanceID.Malformed"),
        ({"InstanceIds": ["i-12"]}, "InvalidInstanceID.NotFound"),
        ({"Filters": [{"Name": "tag:pool", "Values": ["p"]}]}, "InvalidParameterValue"),
        ({"Filters": [{"Name": "tag-key", "Values": ["pool"]}]}, "InvalidParameterValue"),
    ):
        with pytest.raises(ClientError) as raised:
            face.ec2.describe_instance_status(**params)
        assert raised.value.response["Error"]["Code"] == code


def test_statuses_lag_like_descriptions(face: Face) -> None:
    (one,) = launched(face.launch(1))
    face.clock.forward(100)
    face.tell("POST", "/market/faults", {"describe_lag_seconds": 98})
    assert statuses(face) == {one: "initializing/initializing"}


def test_machines_of_a_bad_image_die_after_their_launch(face: Face) -> None:
    face.tell("POST", "/market/boots", {"image_id": "ami-bad", "outcome": "dies", "after_seconds": 30})
    good = launch(face, ImageId="ami-good")
    bad = launch(face, 2, ImageId="ami-bad")
    face.clock.forward(29)
    assert set(face.states().values()) == {"running"}
    face.clock.forward(3)
    assert face.states() == dict.fromkeys(good, "running") | dict.fromkeys(bad, "terminated")
    (shown, _) = instances(face.ec2.describe_instances(InstanceIds=bad))
    assert shown["StateReason"] == {
        "Code": "Client.InternalError",
        "Message": "Client.InternalError: Client error on launch",
    }
    assert shown["StateTransitionReason"].startswith("Client.InternalError")


def test_a_machine_may_die_before_it_runs_and_shows_the_reason(face: Face) -> None:
    code = "Server.InsufficientInstanceCapacity"
    face.tell("POST", "/market/boots", {"image_id": "ami-bad", "outcome": "dies", "code": code, "message": "No room"})
    (one,) = launch(face, ImageId="ami-bad")
    face.clock.forward(2)
    (shown,) = instances(face.ec2.describe_instances(InstanceIds=[one]))
    assert (shown["State"]["Name"], shown["StateReason"]) == ("terminated", {"Code": code, "Message": "No room"})
    assert [entry["what"] for entry in face.tell("GET", "/market/record")["record"] if entry.get("instance_id")] == [
        "pending",
        "shutting-down",
        "terminated",
    ]


def test_machines_with_bad_user_data_are_impaired_or_never_ready(face: Face) -> None:
    face.tell("POST", "/market/boots", {"user_data_contains": "fork bomb", "outcome": "impaired"})
    face.tell("POST", "/market/boots", {"user_data_contains": "sleep inf", "outcome": "never_ready"})
    face.tell("POST", "/market/boots", {"user_data_contains": "leak", "outcome": "impaired", "after_seconds": 500})
    ids = [launch(face, UserData=base64.b64encode(text.encode()).decode())[0] for text in
           ("#!/bin/sh\n# a fork bomb", "sleep inf", "leak", "echo hello")]  # fmt: skip
    face.clock.forward(400)
    assert list(statuses(face).values()) == ["ok/impaired", "initializing/initializing", "ok/ok", "ok/ok"]
    face.clock.forward(100)
    assert statuses(face)[ids[2]] == "ok/impaired"


def test_failing_boots_end_on_request(face: Face) -> None:
    face.tell("POST", "/market/boots", {"image_id": "ami-1", "outcome": "dies"})
    face.tell("DELETE", "/market/boots")
    (one,) = launched(face.launch(1))
    face.clock.forward(60)
    assert face.states() == {one: "running"}
    status, answer = face.control("POST", "/market/boots", {"outcome": "dies"})
    assert (status, "image_id" in answer["error"]) == (400, True)
