"""What each function's role may do and may not do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.judge import decision, flat

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesize, Synthesized

# SendMessage alone is enough to request a reconcile.
TO_ITS_DEAD_LETTERS = ("sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage")
LAUNCHERS = ("OnPoolDue", "OnSpotNotice")
TAGGED = {"StringEquals": {"aws:ResourceTag/spotpools:stack": "spotpools"}}


def actions(statement: dict[str, Any]) -> set[str]:
    given = statement["Action"]
    return {given} if isinstance(given, str) else set(given)


def resources(statement: dict[str, Any]) -> list[str]:
    """Resource ARNs with the intrinsic functions shortened."""
    given = statement["Resource"]
    return [flat(one) for one in (given if isinstance(given, list) else [given])]


def with_action(template: Synthesized, function: str, action: str) -> list[dict[str, Any]]:
    return [one for one in template.statements(function) if action in actions(one)]


@pytest.mark.parametrize(
    ("function", "allowed"),
    [
        (
            "OnTick",
            {
                *TO_ITS_DEAD_LETTERS,
                "dynamodb:Scan",
                "dynamodb:UpdateItem",  # marks the queued pools
                "ec2:DescribeInstances",
                "ec2:DescribeSpotPriceHistory",
                "pricing:GetProducts",
            },
        ),
        (
            "OnPoolEdit",
            {
                *TO_ITS_DEAD_LETTERS,
                "dynamodb:DescribeStream",
                "dynamodb:GetRecords",
                "dynamodb:GetShardIterator",
                "dynamodb:ListStreams",
            },
        ),
        *(
            (
                function,
                {
                    "dynamodb:DeleteItem",
                    "dynamodb:GetItem",
                    "dynamodb:PutItem",
                    "dynamodb:UpdateItem",
                    "ec2:CreateFleet",
                    "ec2:CreateLaunchTemplate",
                    "ec2:CreateLaunchTemplateVersion",
                    "ec2:CreateTags",
                    "ec2:DeleteLaunchTemplate",
                    "ec2:DeleteLaunchTemplateVersions",
                    "ec2:DescribeInstanceStatus",
                    "ec2:DescribeInstanceTypeOfferings",
                    "ec2:DescribeInstances",
                    "ec2:DescribeLaunchTemplates",
                    "ec2:DescribeLaunchTemplateVersions",
                    "ec2:DescribeSpotPriceHistory",
                    "ec2:DescribeSubnets",
                    "ec2:GetInstanceTypesFromInstanceRequirements",
                    "ec2:RunInstances",
                    "ec2:TerminateInstances",
                    "events:PutEvents",
                    "iam:CreateServiceLinkedRole",
                    "iam:PassRole",
                    "sqs:ChangeMessageVisibility",
                    "sqs:DeleteMessage",
                    "sqs:GetQueueAttributes",
                    "sqs:GetQueueUrl",
                    "sqs:ReceiveMessage",
                    "sqs:SendMessage",
                    "pricing:GetProducts",
                    "ssm:GetCommandInvocation",
                    "ssm:GetParameters",
                    "ssm:SendCommand",
                },
            )
            for function in LAUNCHERS
        ),
    ],
)
def test_a_function_may_do_only_its_work(aws: Synthesized, function: str, allowed: set[str]) -> None:
    found = set().union(*(actions(one) for one in aws.statements(function)))
    everyones = {"logs:CreateLogStream", "logs:PutLogEvents", "xray:PutTelemetryRecords", "xray:PutTraceSegments"}
    assert found == allowed | everyones
    assert all(one["Effect"] == "Allow" for one in aws.statements(function))


def test_roles_have_no_managed_policies(aws: Synthesized) -> None:
    assert not [name for name, one in aws.of("AWS::IAM::Role").items() if "ManagedPolicyArns" in one["Properties"]]


KEYS = [f"arn:aws:kms:eu-west-1:123456789012:key/{name}" for name in ("1234abcd-12ab-34cd-56ef-1234567890ab", "mrk-1")]


@pytest.mark.parametrize("function", LAUNCHERS)
def test_volume_keys_are_used_only_through_ec2(synthesize: Synthesize, function: str) -> None:
    statements = [
        one
        for one in synthesize(volume_key_arns=KEYS).statements(function)
        if any(action.startswith("kms:") for action in actions(one))
    ]
    through_ec2 = {"Fn::Join": ["", ["ec2.", {"Ref": "AWS::Region"}, ".amazonaws.com"]]}
    used = ("kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*")
    assert {action: one["Condition"] for one in statements for action in actions(one)} == {
        **{action: {"StringEquals": {"kms:ViaService": through_ec2}} for action in used},
        "kms:CreateGrant": {"Bool": {"kms:GrantIsForAWSResource": "true"}},
    }
    assert all(one["Resource"] == KEYS for one in statements)


def test_without_chosen_keys_no_key_may_be_used(aws: Synthesized) -> None:
    for function in (*LAUNCHERS, "OnTick", "OnPoolEdit"):
        assert "kms:" not in json.dumps(aws.statements(function))


@pytest.mark.parametrize("function", LAUNCHERS)
def test_only_instances_with_the_stacks_tag_can_be_terminated(aws: Synthesized, function: str) -> None:
    (statement,) = with_action(aws, function, "ec2:TerminateInstances")
    assert actions(statement) == {"ec2:TerminateInstances"}
    assert statement["Condition"] == TAGGED
    assert resources(statement) == ["arn:<AWS::Partition>:ec2:<AWS::Region>:<AWS::AccountId>:instance/*"]


@pytest.mark.parametrize("function", LAUNCHERS)
def test_all_that_a_launch_creates_must_carry_the_stacks_tag(aws: Synthesized, function: str) -> None:
    statements = with_action(aws, function, "ec2:RunInstances")
    assert all(actions(one) <= {"ec2:RunInstances", "ec2:CreateFleet"} for one in statements)
    conditions = {
        arn.rsplit(":", 1)[1].removesuffix("/*"): one.get("Condition") for one in statements for arn in resources(one)
    }
    requested = {"StringEquals": {"aws:RequestTag/spotpools:stack": "spotpools"}}
    assert conditions == {
        # used: cannot carry a tag of the request
        "image": None,
        "snapshot": None,
        "key-pair": None,
        "placement-group": None,
        "security-group": None,
        "subnet": None,
        # decides image, network and role: only what an administrator has tagged
        "launch-template": TAGGED,
        # created
        "fleet": requested,
        "instance": requested,
        "network-interface": requested,
        "volume": requested,
        # created, but a fleet cannot tag it
        "spot-instances-request": None,
    }


@pytest.mark.parametrize("function", LAUNCHERS)
def test_tags_can_be_set_only_at_launch(aws: Synthesized, function: str) -> None:
    at_launch, at_creation = with_action(aws, function, "ec2:CreateTags")
    tagged = {"aws:RequestTag/spotpools:stack": "spotpools"}
    assert at_launch["Condition"] == {"StringEquals": {**tagged, "ec2:CreateAction": ["CreateFleet", "RunInstances"]}}
    assert at_creation["Condition"] == {"StringEquals": {**tagged, "ec2:CreateAction": "CreateLaunchTemplate"}}
    assert resources(at_creation) == ["arn:<AWS::Partition>:ec2:<AWS::Region>:<AWS::AccountId>:launch-template/*"]


@pytest.mark.parametrize("function", LAUNCHERS)
def test_templates_of_administrators_cannot_be_changed(aws: Synthesized, function: str) -> None:
    (statement,) = with_action(aws, function, "ec2:CreateLaunchTemplateVersion")
    assert statement["Condition"] == {
        "StringEquals": {"aws:ResourceTag/spotpools:stack": "spotpools"},
        "StringLike": {"aws:ResourceTag/spotpools:pool": "?*"},
    }


@pytest.mark.parametrize("function", LAUNCHERS)
def test_commands_run_only_on_our_own_instances(aws: Synthesized, function: str) -> None:
    document, instances = with_action(aws, function, "ssm:SendCommand")
    assert resources(document) == ["arn:<AWS::Partition>:ssm:<AWS::Region>::document/AWS-RunShellScript"]
    assert instances["Condition"] == {"StringEquals": {"ssm:resourceTag/spotpools:stack": "spotpools"}}


@pytest.mark.parametrize("function", LAUNCHERS)
def test_roles_are_passed_only_if_named_at_deploy_time(aws: Synthesized, local: Synthesized, function: str) -> None:
    (statement,) = with_action(aws, function, "iam:PassRole")
    assert resources(statement) == ["arn:aws:iam::123456789012:role/pool-instances"]
    assert statement["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    assert with_action(local, function, "iam:PassRole") == []


@pytest.mark.parametrize("function", LAUNCHERS)
def test_only_the_service_role_of_spot_can_be_created(aws: Synthesized, function: str) -> None:
    (statement,) = with_action(aws, function, "iam:CreateServiceLinkedRole")
    assert statement["Condition"] == {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}}
    (arn,) = resources(statement)
    assert arn.endswith(":role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot")


def test_the_users_table_is_read_only(aws: Synthesized) -> None:
    (pools,) = [name for name in aws.of("AWS::DynamoDB::GlobalTable") if "Status" not in name]
    allowed = [
        actions(statement)
        for function in ("OnTick", "OnPoolEdit", *LAUNCHERS)
        for statement in aws.statements(function)
        if f"<{pools}.Arn>" in resources(statement)
    ]
    assert set().union(*allowed) == {"dynamodb:GetItem", "dynamodb:Scan"}


KNOW_NO_RESOURCE = (
    "ec2:Describe",
    "ec2:GetInstanceTypesFromInstanceRequirements",
    "pricing:GetProducts",
    "ssm:GetCommandInvocation",
    "xray:Put",
    "dynamodb:ListStreams",
)


@pytest.mark.parametrize("function", ["OnTick", "OnPoolEdit", *LAUNCHERS])
def test_star_resources_are_only_for_actions_without_resource_types(aws: Synthesized, function: str) -> None:
    for statement in aws.statements(function):
        if "*" in resources(statement):
            assert all(one.startswith(KNOW_NO_RESOURCE) for one in actions(statement))


def test_a_permissions_boundary_is_set_on_every_role(synthesize: Synthesize) -> None:
    boundary = "arn:aws:iam::123456789012:policy/boundary"
    roles = synthesize(permissions_boundary=boundary).of("AWS::IAM::Role")
    assert {one["Properties"]["PermissionsBoundary"] for one in roles.values()} == {boundary}


EC2 = "arn:aws:ec2:us-east-1:123456789012:"
OURS, THEIRS = "spotpools", "someone-elses"


def verdict(template: Synthesized, function: str, action: str, resource: str, **context: str) -> str:
    """The decision of the local cloud's IAM evaluator on a request under the function's policies."""
    return decision(template.statements(function), action, resource, context)


@pytest.mark.parametrize("function", LAUNCHERS)
@pytest.mark.parametrize(
    ("action", "resource", "context", "allowed"),
    [
        ("ec2:TerminateInstances", "instance/i-1", {"aws:ResourceTag/spotpools:stack": OURS}, True),
        ("ec2:TerminateInstances", "instance/i-1", {"aws:ResourceTag/spotpools:stack": THEIRS}, False),
        ("ec2:TerminateInstances", "instance/i-1", {}, False),
        *(
            (action, f"{kind}/new", {"aws:RequestTag/spotpools:stack": tag} if tag else {}, tag == OURS)
            for action in ("ec2:CreateFleet", "ec2:RunInstances")
            for kind in ("fleet", "instance", "network-interface", "volume")
            for tag in (OURS, THEIRS, "")
        ),
        ("ec2:RunInstances", "spot-instances-request/new", {}, True),
        ("ec2:CreateFleet", "subnet/subnet-1", {}, True),
        ("ec2:RunInstances", "security-group/sg-1", {}, True),
        ("ec2:CreateFleet", "launch-template/lt-1", {"aws:ResourceTag/spotpools:stack": OURS}, True),
        ("ec2:CreateFleet", "launch-template/lt-1", {}, False),
        (
            "ec2:CreateTags",
            "instance/i-1",
            {"aws:RequestTag/spotpools:stack": OURS, "ec2:CreateAction": "CreateFleet"},
            True,
        ),
        # A function that could tag an existing instance could then terminate it.
        ("ec2:CreateTags", "instance/i-1", {"aws:RequestTag/spotpools:stack": OURS}, False),
        ("ec2:DeleteTags", "instance/i-1", {"aws:ResourceTag/spotpools:stack": OURS}, False),
        ("ec2:StopInstances", "instance/i-1", {"aws:ResourceTag/spotpools:stack": OURS}, False),
    ],
)
def test_an_iam_evaluator_decides_the_same(
    aws: Synthesized, function: str, action: str, resource: str, context: dict[str, str], *, allowed: bool
) -> None:
    decision = verdict(aws, function, action, f"{EC2}{resource}", **context)
    assert decision == ("Allow" if allowed else "ImplicitDeny")


@pytest.mark.parametrize("function", LAUNCHERS)
def test_no_other_role_can_be_passed_and_no_other_service_can_get_one(aws: Synthesized, function: str) -> None:
    to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
    role = "arn:aws:iam::123456789012:role/pool-instances"
    assert verdict(aws, function, "iam:PassRole", role, **to_ec2) == "Allow"
    assert verdict(aws, function, "iam:PassRole", role + "-admin", **to_ec2) == "ImplicitDeny"
    assert (
        verdict(aws, function, "iam:PassRole", role, **{"iam:PassedToService": "lambda.amazonaws.com"})
        == "ImplicitDeny"
    )
