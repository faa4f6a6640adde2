"""Policy statements of the stack, compared with AWS's own table of actions, resources and condition keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.judge import deployed
from tests.infra.rights_table import OF_RESOURCES, faults

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesized

EC2 = "arn:aws:ec2:us-east-1:123456789012:"
BESIDE_THE_TABLE = {
    f"{EC2}spot-instances-request/*: none of ec2:RunInstances is asked on it": "EC2 User Guide, requirements of spot "
    "requests: who may launch spot instances needs RunInstances on it; Karpenter's policy has it too",
    "ec2:RunInstances: is not asked on any resource of the statement": "the same statement",
    "dynamodb:ListStreams: is not asked on any resource of the statement": "the CDK grants it beside what Lambda needs "
    "to read a stream, on the stream, where it has no effect",
    "events:PutEvents: events:source is a ArrayOfString, which StringEquals does not compare": "it is a list for "
    "PutRule; of PutEvents the EventBridge User Guide compares it so (event bus permissions, a specific source)",
}
"""What the table lacks but the policies keep -> the reason."""


def statements(template: Synthesized) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Each statement with its owner, with full ARNs, and whether it belongs to a resource policy."""
    whole = {}
    for name, one in template.resources.items():
        for (kind, attribute), arn in OF_RESOURCES.items():
            if one["Type"] == kind:
                whole[f"<{name}>" if attribute == "Ref" else f"<{name}.{attribute}>"] = arn
    for name, one in template.resources.items():
        properties = one.get("Properties", {})
        for key, of_resource in (("PolicyDocument", one["Type"] != "AWS::IAM::Policy"), ("KeyPolicy", True)):
            for statement in properties.get(key, {}).get("Statement", ()):
                made = deployed(statement)
                given = made["Resource"] if isinstance(made["Resource"], list) else [made["Resource"]]
                made["Resource"] = [filled(arn, whole) for arn in given]
                yield name, made, of_resource


def filled(arn: str, whole: dict[str, str]) -> str:
    for reference, meant in whole.items():
        arn = arn.replace(reference, meant)
    return arn


def test_each_action_resource_and_condition_key_is_known_to_aws(aws: Synthesized) -> None:
    found = {fault for _, one, of_resource in statements(aws) for fault in faults(one, of_resource=of_resource)}
    assert found == set(BESIDE_THE_TABLE)


TERMINATE = {
    "Action": ["ec2:TerminateInstances"],
    "Resource": [f"{EC2}instance/*"],
    "Condition": {"StringEquals": {"aws:ResourceTag/spotpools:stack": "s"}},
}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"Action": ["ec2:TerminateInstance"]}, "there is no such action"),
        ({"Resource": [f"{EC2}instances/*"]}, "none of ec2:TerminateInstances is asked on it"),
        ({"Resource": [f"{EC2}volume/*"]}, "is not asked on any resource"),
        ({"Resource": "*"}, "could be limited to instance"),
        ({"Condition": {"StringEquals": {"aws:RequestTag/spotpools:stack": "s"}}}, "is never present"),
        ({"Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}}}, "is never present"),
        ({"Condition": {"Bool": {"ec2:InstanceType": "true"}}}, "is a String, which Bool does not compare"),
    ],
)
def test_a_statement_that_never_matches_is_found(change: dict[str, Any], fault: str | None) -> None:
    found = list(faults({**TERMINATE, **change}))
    assert any(fault in one for one in found) if fault else not found
