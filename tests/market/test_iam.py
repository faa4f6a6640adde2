"""The market with ministack's IAM: who calls, which rights a request needs, and how EC2 refuses."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.cloud import (
    ACCOUNT,
    CREDENTIALS,
    ENFORCED,
    MARKET_COMMAND,
    MINISTACK_COMMAND,
    answers,
    client_of,
    isolated_environment,
    ministack_environment,
)
from localcloud.control import MarketControl
from localcloud.processes import Child, port_to_use
from tests.market.faces import wait_until
from tests.support.callers import ec2_as

ROLE, FUNCTION, PROFILE, BOUNDARY = "caller", "some-function", "machines", "boundary"
SPOT_ROLES = "/aws-service-role/spot.amazonaws.com/"
EC2 = f"arn:aws:ec2:us-east-1:{ACCOUNT}:"
TAG = "spotpools:stack"

Statement = dict[str, Any]
EVERYTHING: Statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}


class Site:
    """A ministack, a market that asks its IAM, and a function with its own role."""

    def __init__(self, aws_url: str, market_url: str) -> None:
        self.iam, functions = client_of("iam", aws_url), client_of("lambda", aws_url)
        self.admin = client_of("ec2", market_url)
        self.market = MarketControl(market_url)
        self.market_url = market_url
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        role = self.iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
        self.iam.create_role(RoleName=PROFILE, AssumeRolePolicyDocument=document(trust))
        self.iam.create_instance_profile(InstanceProfileName=PROFILE)
        self.iam.add_role_to_instance_profile(InstanceProfileName=PROFILE, RoleName=PROFILE)
        self.function = functions.create_function(
            FunctionName=FUNCTION,
            Runtime="python3.13",
            Role=role,
            Handler="code.handler",
            Code={"ZipFile": a_zip()},
        )
        client_of("ssm", aws_url).put_parameter(Name="/ours/image", Value="ami-2", Type="String")
        self.ec2 = ec2_as(self.function, market_url)
        self.templates: dict[str, str] = {}
        templates: dict[str, dict[str, Any]] = {
            "plain": {},
            "public-image": {"ImageId": "resolve:ssm:/aws/service/some/image"},
            "own-image": {"ImageId": "resolve:ssm:/ours/image"},
            "with-role": {"IamInstanceProfile": {"Name": PROFILE}},
            "with-unknown-role": {"IamInstanceProfile": {"Name": "nobody"}},
            "tagging-requests": {"TagSpecifications": [specification("spot-instances-request", {"team": "a"})]},
        }
        for name, data in templates.items():
            made = self.admin.create_launch_template(
                LaunchTemplateName=name,
                LaunchTemplateData={"ImageId": "ami-1", **data},
                TagSpecifications=[specification("launch-template", {TAG: "ours"})],
            )
            self.templates[name] = made["LaunchTemplate"]["LaunchTemplateId"]
        subnets = self.admin.describe_subnets()["Subnets"]
        self.subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in subnets}

    def may(self, *statements: Statement) -> None:
        """Let the function's role allow only this. IAM accepts no policy without a statement."""
        if not statements:
            self.iam.delete_role_policy(RoleName=ROLE, PolicyName="policy")
            return
        self.iam.put_role_policy(RoleName=ROLE, PolicyName="policy", PolicyDocument=document(*statements))

    def fleet(
        self, *, template: str = "plain", lifecycle: str = "spot", zones: str = "a", who: Any = None, **override: str
    ) -> Any:
        """Launch an instance, with tags on all resources that can have tags."""
        tags = {TAG: "ours"}
        overrides = [
            {"InstanceType": "m5.large", "SubnetId": self.subnets[f"us-east-1{zone}"], **override}
            for zone in zones.split()
        ]
        named = {"LaunchTemplateName": template, "Version": "$Latest"}
        return (who or self.ec2).create_fleet(
            Type="instant",
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": named, "Overrides": overrides}],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": lifecycle},
            TagSpecifications=[
                specification(kind, tags) for kind in ("fleet", "instance", "volume", "network-interface")
            ],
        )

    def an_instance(self, *, stack: str = "ours") -> str:
        """An instance with this tag, launched by an administrator."""
        instance_id: str = self.fleet(who=self.admin)["Instances"][0]["InstanceIds"][0]
        self.admin.create_tags(Resources=[instance_id], Tags=[{"Key": TAG, "Value": stack}])
        return instance_id

    def state(self, instance_id: str) -> str:
        (one,) = (one for one in self.market.state()["instances"] if one["instance_id"] == instance_id)
        return str(one["state"])


def document(*statements: Statement) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def specification(kind: str, tags: dict[str, str]) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def a_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("code.py", "def handler(event, context): pass")
    return content.getvalue()


def deny(action: str, resource: str = "*", **condition: Any) -> Statement:
    arn = resource if resource.startswith(("*", "arn:")) else f"{EC2}{resource}"
    return {"Effect": "Deny", "Action": action, "Resource": arn, **({"Condition": condition} if condition else {})}


@pytest.fixture(scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory, port, market_port = tmp_path_factory.mktemp("iam"), port_to_use(0), port_to_use(0)
    aws_url, market_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{market_port}"
    (directory / "tmp").mkdir()
    environments = {
        "ministack": (MINISTACK_COMMAND, ministack_environment(port, directory, ec2_url=market_url)),
        "market": (
            [*MARKET_COMMAND, "--port", str(market_port), "--account", ACCOUNT],
            isolated_environment() | {"AWS_ENDPOINT_URL": aws_url, **ENFORCED} | CREDENTIALS,
        ),
    }
    with ExitStack() as undo:
        children = []
        for name, (command, environment) in environments.items():
            children.append(Child(name, command, log=directory / name, environment=environment, directory=Path.cwd()))
            undo.callback(children[-1].stop)
        children[0].wait_until(lambda: answers(f"{aws_url}/_ministack/ready"), seconds=30)
        children[1].wait_until(lambda: answers(f"{market_url}/market"), seconds=30)
        yield Site(aws_url, market_url)


@pytest.fixture
def site(_site: Site) -> Site:
    """A market without instances, an account that launched spot before, and a role with all rights."""
    _site.market.reset()
    _site.may(EVERYTHING)
    _site.fleet()
    return _site


def refused(call: Any, **asked: Any) -> str:
    """The message of EC2's refusal."""
    with pytest.raises(ClientError) as caught:
        call(**asked)
    answer = caught.value.response
    assert answer["Error"]["Code"] == "UnauthorizedOperation"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    return str(answer["Error"]["Message"])


def test_a_refusal_names_caller_action_and_resource(site: Site) -> None:
    instance = site.an_instance()
    site.may()
    message = refused(site.ec2.terminate_instances, InstanceIds=[instance])
    said, _, encoded = message.partition(". Encoded authorization failure message: ")
    assert len(encoded) > 500
    assert said == (
        "You are not authorized to perform this operation. "
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/{FUNCTION} is not authorized to perform: "
        f"ec2:TerminateInstances on resource: {EC2}instance/{instance} "
        "because no identity-based policy allows the ec2:TerminateInstances action"
    )
    site.may(EVERYTHING, deny("ec2:Terminate*"))
    message = refused(site.ec2.terminate_instances, InstanceIds=[instance])
    assert "with an explicit deny in an identity-based policy. Encoded" in message
    site.may()
    assert "Encoded" not in refused(site.ec2.describe_instances)


def test_a_change_of_the_policy_holds_from_the_next_request_on(site: Site) -> None:
    for _ in range(3):
        site.may()
        refused(site.ec2.describe_instances)
        site.may(EVERYTHING)
        site.ec2.describe_instances()


def test_an_administrator_may_do_everything(site: Site) -> None:
    site.may()
    assert site.fleet(who=site.admin)["Errors"] == []


def test_an_unknown_access_key_is_refused(site: Site) -> None:
    stranger = ec2_as({**site.function, "FunctionArn": f"{site.function['FunctionArn']}-other"}, site.market_url)
    with pytest.raises(ClientError) as caught:
        stranger.describe_instances()
    assert caught.value.response["Error"]["Code"] == "AuthFailure"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 401


def test_managed_policies_count_and_a_boundary_limits_them(site: Site) -> None:
    site.may()
    arn = site.iam.create_policy(
        PolicyName=BOUNDARY,
        PolicyDocument=document({"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}),
    )["Policy"]["Arn"]
    site.iam.attach_role_policy(RoleName=ROLE, PolicyArn=arn)
    site.ec2.describe_instances()
    site.iam.detach_role_policy(RoleName=ROLE, PolicyArn=arn)
    refused(site.ec2.describe_instances)
    site.may(EVERYTHING)
    site.iam.put_role_permissions_boundary(RoleName=ROLE, PermissionsBoundary=arn)
    site.ec2.describe_instances()
    refused(site.ec2.describe_subnets)
    site.iam.delete_role_permissions_boundary(RoleName=ROLE)
    site.iam.delete_policy(PolicyArn=arn)
    site.ec2.describe_subnets()


def test_actions_that_are_not_in_the_table_are_refused(site: Site) -> None:
    site.may({"Effect": "Allow", "Action": "*", "Resource": f"{EC2}*"})
    assert "ec2:CreateSecurityGroup on resource: * " in refused(
        site.ec2.create_security_group, GroupName="g", Description="d"
    )


@pytest.mark.parametrize("key", ["aws:RequestedRegion", "ec2:Region"])
def test_read_calls_can_be_limited_to_a_region(site: Site, key: str) -> None:
    site.may(EVERYTHING, deny("ec2:Describe*", StringNotEquals={key: "us-east-1"}))
    site.ec2.describe_spot_price_history()
    site.may(EVERYTHING, deny("ec2:Describe*", StringEquals={key: "us-east-1"}))
    refused(site.ec2.describe_spot_price_history)


# Terminating and tagging


OURS = {
    "Effect": "Allow",
    "Action": "*",
    "Resource": "*",
    "Condition": {"StringEquals": {f"aws:ResourceTag/{TAG}": "ours"}},
}


@pytest.mark.parametrize("key", [f"aws:ResourceTag/{TAG}", f"ec2:ResourceTag/{TAG}"])
def test_only_instances_with_the_tag_can_be_terminated(site: Site, key: str) -> None:
    ours, theirs = site.an_instance(), site.an_instance(stack="theirs")
    site.may({**OURS, "Condition": {"StringEquals": {key: "ours"}}})
    assert theirs in refused(site.ec2.terminate_instances, InstanceIds=[ours, theirs])
    assert [site.state(one) for one in (ours, theirs)] == ["pending", "pending"], "all of a batch or none"
    site.ec2.terminate_instances(InstanceIds=[ours])
    assert site.state(ours) == "shutting-down"


def test_a_missing_instance_has_no_tag_that_allows_its_termination(site: Site) -> None:
    site.may(OURS)
    refused(site.ec2.terminate_instances, InstanceIds=["i-0123456789abcdef0"])


def test_the_right_to_tag_at_launch_does_not_allow_tagging_an_existing_instance(site: Site) -> None:
    theirs = site.an_instance(stack="theirs")
    at_launch = {"StringEquals": {"ec2:CreateAction": ["CreateFleet", "RunInstances"]}}
    site.may({"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*", "Condition": at_launch})
    refused(site.ec2.create_tags, Resources=[theirs], Tags=[{"Key": TAG, "Value": "ours"}])
    site.may({"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": f"{EC2}instance/{theirs}"})
    site.ec2.create_tags(Resources=[theirs], Tags=[{"Key": TAG, "Value": "ours"}])


def test_launch_templates_are_checked_with_their_tags(site: Site) -> None:
    data = {"ImageId": "ami-1"}
    tagged = {"StringEquals": {f"aws:RequestTag/{TAG}": "mine"}}
    site.may(
        {"Effect": "Allow", "Action": ["ec2:*"], "Resource": f"{EC2}launch-template/*", "Condition": tagged},
        {**OURS, "Condition": {"StringEquals": {f"aws:ResourceTag/{TAG}": "mine"}}},
    )
    refused(site.ec2.create_launch_template, LaunchTemplateName="untagged", LaunchTemplateData=data)
    site.ec2.create_launch_template(
        LaunchTemplateName="mine",
        LaunchTemplateData=data,
        TagSpecifications=[specification("launch-template", {TAG: "mine"})],
    )
    site.ec2.create_launch_template_version(LaunchTemplateName="mine", LaunchTemplateData=data)
    site.ec2.modify_launch_template(LaunchTemplateName="mine", DefaultVersion="2")
    site.ec2.delete_launch_template_versions(LaunchTemplateName="mine", Versions=["1"])
    for template in ("plain", "with-role"):
        refused(site.ec2.create_launch_template_version, LaunchTemplateName=template, LaunchTemplateData=data)
        refused(site.ec2.delete_launch_template, LaunchTemplateName=template)
    site.ec2.delete_launch_template(LaunchTemplateName="mine")


# Launching


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("ec2:CreateFleet", "fleet/*"),
        ("ec2:CreateFleet", "instance/*"),
        ("ec2:CreateFleet", "volume/*"),
        ("ec2:CreateFleet", "launch-template/lt-*"),
        ("ec2:CreateFleet", "subnet/subnet-*"),
        ("ec2:CreateFleet", "arn:aws:ec2:us-east-1::image/ami-1"),
        ("ec2:CreateTags", "fleet/*"),
    ],
)
def test_a_forbidden_fleet_is_an_error(site: Site, action: str, resource: str) -> None:
    site.may(EVERYTHING, deny(action, resource))
    assert f"{action} on resource: " in refused(site.fleet)


@pytest.mark.parametrize(
    ("template", "action", "resource"),
    [
        ("plain", "ec2:RunInstances", "launch-template/lt-*"),
        ("plain", "ec2:RunInstances", "arn:aws:ec2:us-east-1::image/ami-1"),
        ("plain", "ec2:RunInstances", "subnet/subnet-*"),
        ("plain", "ec2:RunInstances", "security-group/*"),
        ("plain", "ec2:RunInstances", "instance/*"),
        ("plain", "ec2:RunInstances", "volume/*"),
        ("plain", "ec2:RunInstances", "network-interface/*"),
        ("plain", "ec2:RunInstances", "spot-instances-request/*"),
        ("plain", "ec2:CreateTags", "instance/*"),
        ("plain", "ec2:CreateTags", "volume/*"),
        ("plain", "ec2:CreateTags", "network-interface/*"),
        ("tagging-requests", "ec2:CreateTags", "spot-instances-request/*"),
        ("public-image", "ssm:GetParameters", "arn:aws:ssm:us-east-1::parameter/aws/service/some/image"),
        ("own-image", "ssm:GetParameters", f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter/ours/image"),
        ("with-role", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/{PROFILE}"),
    ],
)
def test_a_forbidden_launch_is_an_entry_of_the_fleets_errors(
    site: Site, template: str, action: str, resource: str
) -> None:
    assert site.fleet(template=template)["Errors"] == [], "allowed before"
    site.may(EVERYTHING, deny(action, resource))
    answer = site.fleet(template=template)
    (error,) = answer["Errors"]
    assert error["ErrorCode"] == "UnauthorizedOperation"
    assert f"{action} on resource: arn:aws:" in error["ErrorMessage"]
    assert answer["Instances"] == []


@pytest.mark.parametrize(
    ("action", "key", "value"),
    [
        ("ec2:CreateFleet", f"aws:RequestTag/{TAG}", "ours"),
        ("ec2:RunInstances", f"aws:RequestTag/{TAG}", "ours"),
        ("ec2:RunInstances", f"aws:ResourceTag/{TAG}", "ours"),
        ("ec2:RunInstances", f"ec2:ResourceTag/{TAG}", "ours"),
        ("ec2:RunInstances", "ec2:InstanceType", "m5.large"),
        ("ec2:RunInstances", "ec2:InstanceMarketType", "spot"),
        ("ec2:RunInstances", "ec2:AvailabilityZone", "us-east-1a"),
        ("ec2:RunInstances", "ec2:Region", "us-east-1"),
        ("ec2:CreateTags", "ec2:CreateAction", "CreateFleet"),
        ("ec2:CreateTags", "ec2:CreateAction", "RunInstances"),
        ("iam:PassRole", "iam:PassedToService", "ec2.amazonaws.com"),
    ],
)
def test_a_condition_sees_the_keys_that_ec2_supplies(site: Site, action: str, key: str, value: str) -> None:
    def refusals(unwanted: str) -> list[str]:
        site.may(EVERYTHING, deny(action, StringEquals={key: unwanted}))
        try:
            return [one["ErrorCode"] for one in site.fleet(template="with-role")["Errors"]]
        except ClientError as error:
            return [error.response["Error"]["Code"]]

    assert refusals(value) == ["UnauthorizedOperation"]
    assert refusals(f"not-{value}") == [], "the refusal came of the value"


def test_a_condition_sees_all_tag_keys_and_the_launch_template(site: Site) -> None:
    allowed = {"ForAllValues:StringEquals": {"aws:TagKeys": [TAG]}}
    tagging = {"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "*", "Condition": allowed}
    by_template = {"ArnEquals": {"ec2:LaunchTemplate": f"{EC2}launch-template/{site.templates['plain']}"}}
    launching = {"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*", "Condition": by_template}
    site.may({**EVERYTHING, "Action": ["ec2:CreateFleet"]}, tagging, launching)
    assert site.fleet()["Errors"] == []
    assert "ec2:RunInstances" in site.fleet(template="tagging-requests")["Errors"][0]["ErrorMessage"]
    site.may({**EVERYTHING, "Action": ["ec2:CreateFleet", "ec2:RunInstances"]}, tagging)
    assert "spot-instances-request" in site.fleet(template="tagging-requests")["Errors"][0]["ErrorMessage"]


def test_a_forbidden_subnet_does_not_prevent_launches_in_others(site: Site) -> None:
    site.may(EVERYTHING, deny("ec2:RunInstances", f"subnet/{site.subnets['us-east-1a']}"))
    answer = site.fleet(zones="a b")
    assert [one["ErrorCode"] for one in answer["Errors"]] == ["UnauthorizedOperation"]
    assert [one["AvailabilityZone"] for one in answer["Instances"]] == ["us-east-1b"]


def test_the_image_of_an_override_is_the_one_that_is_checked(site: Site) -> None:
    site.may(EVERYTHING, deny("ec2:RunInstances", "arn:aws:ec2:us-east-1::image/ami-2"))
    assert site.fleet()["Errors"] == []
    assert "image/ami-2 with an explicit deny" in site.fleet(ImageId="ami-2")["Errors"][0]["ErrorMessage"]


def test_an_on_demand_launch_makes_no_spot_request(site: Site) -> None:
    site.may(EVERYTHING, deny("ec2:RunInstances", "spot-instances-request/*"))
    assert site.fleet(lifecycle="on-demand")["Errors"] == []


def test_an_unknown_instance_profile_is_not_an_authorization_error(site: Site) -> None:
    (error,) = site.fleet(template="with-unknown-role")["Errors"]
    assert error["ErrorCode"] == "InvalidParameterValue"


def test_the_first_spot_launch_creates_the_accounts_service_role_if_allowed(site: Site) -> None:
    (role,) = site.iam.list_roles(PathPrefix=SPOT_ROLES)["Roles"]
    site.iam.delete_service_linked_role(RoleName=role["RoleName"])
    site.may(EVERYTHING, deny("iam:CreateServiceLinkedRole"))
    (error,) = site.fleet()["Errors"]
    assert error["ErrorCode"] == "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
    assert site.fleet(lifecycle="on-demand")["Errors"] == []
    site.may(EVERYTHING)
    assert site.fleet()["Errors"] == []
    assert site.iam.list_roles(PathPrefix=SPOT_ROLES)["Roles"]


# Keys of volumes

KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
NEEDED = ("kms:GenerateDataKeyWithoutPlaintext", "kms:CreateGrant")
OF_AN_IMAGE = ("kms:DescribeKey", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo")


def dies_by_its_key(site: Site, **fleet: Any) -> bool:
    """Launch an instance, which EC2 always accepts, and return whether it ends by itself."""
    answer = site.fleet(**fleet)
    assert answer["Errors"] == []
    (instance_id,) = answer["Instances"][0]["InstanceIds"]
    wait_until(lambda: site.state(instance_id) != "pending", seconds=10, what="it has started, or has not")
    (one,) = site.admin.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"]
    if one["State"]["Name"] == "running":
        return False
    assert one["StateReason"]["Code"] == "Client.InvalidKMSKey.InvalidState"
    assert one["StateTransitionReason"] == "Client.InternalError"
    return True


@pytest.fixture
def encrypted(site: Site) -> Site:
    """An account that encrypts volumes with its own key, with a grant for spot, on a clock ten times as fast."""
    site.market.account(volume_key=KEY, spot_key_grants=[KEY])
    site.market.settings(pace=10)
    return site


@pytest.mark.parametrize("lifecycle", ["spot", "on-demand"])
@pytest.mark.parametrize("action", NEEDED)
def test_without_a_right_to_its_volumes_key_an_instance_is_launched_and_ends(
    encrypted: Site, lifecycle: str, action: str
) -> None:
    assert not dies_by_its_key(encrypted, lifecycle=lifecycle)
    encrypted.may(EVERYTHING, deny(action, KEY))
    assert dies_by_its_key(encrypted, lifecycle=lifecycle)
    encrypted.may(EVERYTHING, *(deny(one, KEY) for one in OF_AN_IMAGE))
    assert not dies_by_its_key(encrypted, lifecycle=lifecycle)


@pytest.mark.parametrize("action", OF_AN_IMAGE)
def test_an_encrypted_image_needs_more_rights(encrypted: Site, action: str) -> None:
    encrypted.market.account(volume_key="", image_keys={"ami-1": KEY})
    assert not dies_by_its_key(encrypted)
    encrypted.may(EVERYTHING, deny(action, KEY))
    assert dies_by_its_key(encrypted)


def test_spot_needs_a_grant_for_its_service_linked_role(encrypted: Site) -> None:
    encrypted.market.account(spot_key_grants=[])
    assert dies_by_its_key(encrypted)
    assert not dies_by_its_key(encrypted, lifecycle="on-demand")


def test_the_conditions_of_a_policy_on_keys_hold(encrypted: Site) -> None:
    by_ec2 = {"StringEquals": {"kms:ViaService": "ec2.us-east-1.amazonaws.com"}}
    for_aws = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    less = {"Effect": "Allow", "NotAction": "kms:*", "Resource": "*"}
    use = {"Effect": "Allow", "Action": NEEDED[0], "Resource": KEY, "Condition": by_ec2}
    grant = {"Effect": "Allow", "Action": NEEDED[1], "Resource": KEY, "Condition": for_aws}
    encrypted.may(less, use, grant)
    assert not dies_by_its_key(encrypted)
    encrypted.may(
        less, {**use, "Condition": {"StringEquals": {"kms:ViaService": "rds.us-east-1.amazonaws.com"}}}, grant
    )
    assert dies_by_its_key(encrypted)
    encrypted.may(less, use, {**grant, "Condition": {"Bool": {"kms:GrantIsForAWSResource": "false"}}})
    assert dies_by_its_key(encrypted)
