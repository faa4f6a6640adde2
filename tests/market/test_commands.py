"""SSM commands to instances, on both faces of the market."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.market.faces import Face, launched


def running(face: Face, wanted: int = 1) -> list[str]:
    ids = launched(face.launch(wanted))
    face.settle()
    return ids


def send(face: Face, ids: list[str], *lines: str, **more: Any) -> str:
    answer = face.ssm.send_command(
        DocumentName="AWS-RunShellScript", InstanceIds=ids, Parameters={"commands": list(lines or ("true",))}, **more
    )
    assert answer["Command"]["Status"] == "Pending"
    return str(answer["Command"]["CommandId"])


def result(face: Face, command: str, instance: str) -> tuple[str, int, str]:
    answer = face.ssm.get_command_invocation(CommandId=command, InstanceId=instance)
    return answer["Status"], answer["ResponseCode"], answer["StandardOutputContent"]


def test_a_command_is_in_progress_and_then_a_success(face: Face) -> None:
    (one,) = running(face)
    command = send(face, [one], "drain --now", TimeoutSeconds=60, Comment="for a notice")
    assert result(face, command, one) == ("InProgress", -1, "")
    face.clock.forward(1)
    assert result(face, command, one) == ("Success", 0, "")
    (sent,) = face.tell("GET", "/market/commands")["commands"]
    assert (sent["command_id"], sent["commands"], sent["invocations"]) == (command, ["drain --now"], {one: "Success"})


def test_the_result_of_a_command_is_the_one_that_was_set(face: Face) -> None:
    one, two = running(face, 2)
    rule = {"contains": "drain", "status": "Failed", "response_code": 3, "output": "busy", "after_seconds": 5}
    face.tell("POST", "/market/commands", rule | {"instance_id": two})
    command = send(face, [one, two], "#!/bin/sh", "drain")
    face.clock.forward(1)
    assert (result(face, command, one)[0], result(face, command, two)[0]) == ("Success", "InProgress")
    face.clock.forward(4)
    assert result(face, command, two) == ("Failed", 3, "busy")
    other = send(face, [two], "true")
    face.tell("DELETE", "/market/commands")
    later = send(face, [two], "drain")
    face.clock.forward(1)
    assert (result(face, other, two)[0], result(face, later, two)[0]) == ("Success", "Success")


def test_a_command_on_an_instance_that_ends_first_times_out(face: Face) -> None:
    (one,) = running(face)
    face.tell("POST", "/market/commands", {"after_seconds": 10})
    command = send(face, [one])
    face.ec2.terminate_instances(InstanceIds=[one])
    face.clock.forward(20)
    assert result(face, command, one)[0] == "InProgress"
    face.clock.forward(3600)
    assert result(face, command, one) == ("TimedOut", -1, "")


def test_a_script_at_its_time_limit_is_killed_and_keeps_its_output(face: Face) -> None:
    (one,) = running(face)
    face.tell("POST", "/market/commands", {"status": "TimedOut", "output": "so far", "after_seconds": 120})
    answer = face.ssm.send_command(
        DocumentName="AWS-RunShellScript",
        InstanceIds=[one],
        Parameters={"commands": ["save"], "executionTimeout": ["120"]},
        TimeoutSeconds=60,
    )["Command"]
    assert (answer["ExpiresAfter"] - answer["RequestedDateTime"]).total_seconds() == 180
    invocation = face.ssm.get_command_invocation(CommandId=answer["CommandId"], InstanceId=one)
    assert (invocation["StatusDetails"], "ExecutionStartDateTime" in invocation) == ("InProgress", False)
    face.clock.forward(120)
    assert result(face, answer["CommandId"], one) == ("TimedOut", 137, "so far")
    invocation = face.ssm.get_command_invocation(CommandId=answer["CommandId"], InstanceId=one)
    assert (invocation["StatusDetails"], "ExecutionStartDateTime" in invocation) == ("ExecutionTimedOut", True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"Comment": "x" * 101},
        {"TimeoutSeconds": 2_592_001},
        {"InstanceIds": [f"i-{number:017x}" for number in range(51)]},
        {"InstanceIds": ["i-1"]},
        {"DocumentName": "no document"},
    ],
)
def test_values_that_the_service_model_does_not_allow_are_refused(face: Face, wrong: dict[str, Any]) -> None:
    sound = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]}, "InstanceIds": running(face)}
    assert refused(face.ssm.send_command, **(sound | wrong)) == "ValidationException"


def refused(call: Any, **params: Any) -> str:
    with pytest.raises(ClientError) as raised:
        call(**params)
    return str(raised.value.response["Error"]["Code"])


def test_only_running_instances_accept_commands(face: Face) -> None:
    (old,) = running(face)
    (young,) = launched(face.launch(1))
    request: dict[str, Any] = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]}}
    for ids in ([old, young], ["i-0123456789abcdef0"]):
        assert refused(face.ssm.send_command, **request, InstanceIds=ids) == "InvalidInstanceId"
    assert face.tell("GET", "/market/commands")["commands"] == []
    assert refused(face.ssm.send_command, **request, InstanceIds=[old, old]) == "DuplicateInstanceId"
    wrong = request | {"InstanceIds": [old]}
    assert refused(face.ssm.send_command, **(wrong | {"Parameters": {}})) == "InvalidParameters"
    assert refused(face.ssm.send_command, **(wrong | {"DocumentName": "AWS-RunPatchBaseline"})) == "InvalidDocument"
    unknown = {"CommandId": "0" * 36, "InstanceId": old}
    assert refused(face.ssm.get_command_invocation, **unknown) == "InvocationDoesNotExist"
