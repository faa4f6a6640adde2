"""The meaning of error codes (of the table, of a family, our own), and the length of messages."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from lambdas.domain.model.errors import CODES, NO_ANSWER, OURS, REMEDIES, failure, reason_of
from lambdas.domain.model.results import Failure
from lambdas.domain.model.status import Reason
from tests.support.fakes import World

LAMBDAS = Path(__file__).parents[2] / "lambdas"
REFUSAL = (
    "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/r/f is not "
    "authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:us-east-1:123456789012:instance/* because no "
    "identity-based policy allows the ec2:RunInstances action"
)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("InsufficientAddressCapacity", Reason.NO_CAPACITY),
        ("InsufficientReservedInstancesCapacity", Reason.NO_CAPACITY),
        ("InvalidFleetConfiguration", Reason.NO_CAPACITY),
        ("InvalidFleetConfig", Reason.CONFIG),
        ("InvalidSpotFleetRequestConfig", Reason.CONFIG),
        ("InvalidInstanceType", Reason.CONFIG),
        ("InvalidRequest", Reason.CONFIG),
        ("InvalidSnapshot.NotFound", Reason.CONFIG),
        ("InvalidSecurityGroupID.NotFound", Reason.CONFIG),
        ("InvalidSecurityGroupId.Malformed", Reason.CONFIG),
        ("InvalidLaunchTemplateName.NotFoundException", Reason.CONFIG),
        ("InvalidIamInstanceProfileArn.Malformed", Reason.CONFIG),
        ("MissingInput", Reason.CONFIG),
        ("UnsupportedOperation", Reason.CONFIG),
        ("UnsupportedTenancy", Reason.CONFIG),
        ("Unsupported", Reason.NO_CAPACITY),
        ("AuthFailure.SomethingNew", Reason.CONFIG),
        ("Blocked", Reason.CONFIG),
        ("FilterLimitExceeded", Reason.CONFIG),
        ("SecurityGroupsPerInterfaceLimitExceeded", Reason.CONFIG),
        ("AddressLimitExceeded", Reason.QUOTA),
        ("SnapshotLimitExceeded", Reason.QUOTA),
        ("RequestLimitExceeded", Reason.THROTTLED),
        ("ThrottledNow", Reason.THROTTLED),
        ("503", Reason.THROTTLED),
        ("InvalidInstanceID.NotFound", Reason.UNKNOWN),
        ("SomethingElse", Reason.UNKNOWN),
        ("", Reason.UNKNOWN),
    ],
)
def test_a_code_has_its_meaning(code: str, reason: Reason) -> None:
    assert reason_of(code) is reason


def test_no_code_is_in_two_places() -> None:
    codes = [code for table in (CODES, OURS) for codes in table.values() for code in codes]
    assert len(codes) == len(set(codes))


def test_each_code_of_our_own_has_the_reason_that_it_is_raised_with() -> None:
    raised: dict[str, str] = {}
    for path in LAMBDAS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Failure"):
                continue
            if len(node.args) > 1 and isinstance(node.args[0], ast.Attribute):
                assert isinstance(node.args[1], ast.Constant), f"{path.name}:{node.lineno}"
                raised[str(node.args[1].value)] = node.args[0].attr
    raised.pop("")  # without a code there is only the message
    assert len(raised) > 3, "they are found"
    assert {code: reason_of(code).name for code in raised} == raised


def test_the_encoded_blob_of_a_refusal_is_dropped() -> None:
    failed = failure("UnauthorizedOperation", f"{REFUSAL}. Encoded authorization failure message: {'Ab1_-' * 200}")
    assert failed.message == f"{REFUSAL}."


def test_a_long_message_is_cut_and_its_remedy_stays() -> None:
    failed = failure("VcpuLimitExceeded", "x" * 10_000)
    assert len(failed.message) < 700
    assert failed.message.endswith(REMEDIES["VcpuLimitExceeded"])
    assert len(Failure(Reason.UNKNOWN, "c" * 10_000, "y" * 10_000).message) == 1000


def test_a_long_refusal_stays_small_in_the_status() -> None:
    world = World()
    message = f"{REFUSAL} Encoded authorization failure message: {'Q' * 60_000}"
    world.fault(action="CreateFleet", error="UnauthorizedOperation", message=message, times=9)
    world.edit(target_size=3, instance_types=["g5.xlarge"])
    stored = world.status().model_dump_json()
    assert "QQQ" not in stored
    assert len(stored) < 20_000
    waiting = json.loads(stored)["answer"]["waiting"]
    assert REFUSAL in waiting["message"]


@pytest.mark.parametrize("code", ["500", "502", "503", "504", "RequestTimeout"])
def test_after_an_answer_that_is_not_from_ec2_the_attempt_stays_open(code: str) -> None:
    assert code in NO_ANSWER
    world = World()
    world.fault(action="CreateFleet", error=code, where="after")
    world.edit(target_size=2)
    assert world.status().memory.attempt is not None
    world.minutes(1)
    assert len(world.alive()) == 2


@pytest.mark.parametrize("said", ["Max spot instance count exceeded", "Max spot instance count exceeded."])
def test_the_remedy_is_a_sentence_of_its_own_though_ec2_ends_its_message_without_a_full_stop(said: str) -> None:
    assert failure("MaxSpotInstanceCountExceeded", said).message.startswith("Max spot instance count exceeded. Ask for")
