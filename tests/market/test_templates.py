"""Launch templates and launches from them, on both faces of the market."""

import base64
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.market.faces import Face, by_type, codes, instances, launched

_numbers = count(1)


def create(face: Face, name: str | None = None, **data: Any) -> dict[str, str]:
    """Create a template and return its reference for requests."""
    name = name or f"template-{next(_numbers)}"
    face.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-1", **data})
    return {"LaunchTemplateName": name}


def add(face: Face, template: dict[str, str], **data: Any) -> int:
    """Add a version and return its number."""
    answer = face.ec2.create_launch_template_version(**template, LaunchTemplateData={"ImageId": "ami-1", **data})
    return int(answer["LaunchTemplateVersion"]["VersionNumber"])


def numbers(face: Face, template: dict[str, str], **which: Any) -> list[int]:
    answer = face.ec2.describe_launch_template_versions(**template, **which)
    return [one["VersionNumber"] for one in answer["LaunchTemplateVersions"]]


def launch(
    face: Face, template: dict[str, str], version: str = "$Latest", *, kind: str = "g4dn.metal"
) -> dict[str, Any]:
    return face.launch(1, zones=("us-east-1a",), types=(kind,), template={**template, "Version": version})


def shown(face: Face, answer: dict[str, Any]) -> dict[str, Any]:
    (one,) = instances(face.ec2.describe_instances(InstanceIds=launched(answer)))
    return one


def refused(call: Any, **params: Any) -> str:
    with pytest.raises(ClientError) as raised:
        call(**params)
    return str(raised.value.response["Error"]["Code"])


def test_a_name_of_a_template_is_used_once(face: Face) -> None:
    name = f"template-{next(_numbers)}"
    request = {"LaunchTemplateName": name, "LaunchTemplateData": {"ImageId": "ami-1"}, "ClientToken": name}
    first = face.ec2.create_launch_template(**request)["LaunchTemplate"]
    assert (first["DefaultVersionNumber"], first["LatestVersionNumber"]) == (1, 1)
    again = face.ec2.create_launch_template(**request)["LaunchTemplate"]
    assert again["LaunchTemplateId"] == first["LaunchTemplateId"]
    changed = request | {"LaunchTemplateData": {"ImageId": "ami-2"}}
    assert refused(face.ec2.create_launch_template, **changed) == "IdempotentParameterMismatch"
    other = request | {"ClientToken": name + "-other"}
    assert refused(face.ec2.create_launch_template, **other) == "InvalidLaunchTemplateName.AlreadyExistsException"


def test_a_repeated_token_creates_one_version(face: Face) -> None:
    template = create(face)
    request = {**template, "LaunchTemplateData": {"ImageId": "ami-2"}, "ClientToken": template["LaunchTemplateName"]}
    assert [face.ec2.create_launch_template_version(**request)["LaunchTemplateVersion"]["VersionNumber"]] * 2 == [2, 2]
    face.ec2.create_launch_template_version(**request)
    assert numbers(face, template) == [2, 1]
    request["LaunchTemplateData"] = {"ImageId": "ami-3"}
    assert refused(face.ec2.create_launch_template_version, **request) == "IdempotentParameterMismatch"


def test_a_version_inherits_from_its_source(face: Face) -> None:
    template = create(face, KeyName="mine", InstanceType="m5.large")
    face.ec2.create_launch_template_version(**template, SourceVersion="1", LaunchTemplateData={"KeyName": "yours"})
    (one,) = face.ec2.describe_launch_template_versions(**template, Versions=["2"])["LaunchTemplateVersions"]
    assert one["LaunchTemplateData"]["ImageId"] == "ami-1"
    assert (one["LaunchTemplateData"]["KeyName"], one["LaunchTemplateData"]["InstanceType"]) == ("yours", "m5.large")
    assert one["DefaultVersion"] is False


def test_templates_are_found_by_name_id_and_tag(face: Face) -> None:
    name = f"template-{next(_numbers)}"
    tags = [{"Key": "spotpools:stack", "Value": name}]
    made = face.ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={"ImageId": "ami-1"},
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
    )["LaunchTemplate"]
    assert made["Tags"] == tags
    create(face)
    ways: tuple[dict[str, Any], ...] = (
        {"LaunchTemplateNames": [name]},
        {"LaunchTemplateIds": [made["LaunchTemplateId"]]},
        {"Filters": [{"Name": "tag:spotpools:stack", "Values": [name]}]},
        {"Filters": [{"Name": "launch-template-name", "Values": [name]}]},
    )
    for way in ways:
        (found,) = face.ec2.describe_launch_templates(**way)["LaunchTemplates"]
        assert found == made
    face.ec2.create_tags(Resources=[made["LaunchTemplateId"]], Tags=[{"Key": "a", "Value": "b"}])
    (found,) = face.ec2.describe_launch_templates(**ways[0])["LaunchTemplates"]
    assert {"Key": "a", "Value": "b"} in found["Tags"]


def test_templates_come_in_pages(face: Face) -> None:
    tag = f"page-{next(_numbers)}"
    for _ in range(3):
        template = create(face)
        (one,) = face.ec2.describe_launch_templates(LaunchTemplateNames=[template["LaunchTemplateName"]])[
            "LaunchTemplates"
        ]
        face.ec2.create_tags(Resources=[one["LaunchTemplateId"]], Tags=[{"Key": tag, "Value": ""}])
    paginator = face.ec2.get_paginator("describe_launch_templates")
    found = paginator.paginate(Filters=[{"Name": "tag-key", "Values": [tag]}], PaginationConfig={"PageSize": 2})
    assert [len(page["LaunchTemplates"]) for page in found] == [2, 1]


@pytest.mark.parametrize(
    ("which", "code"),
    [
        ({"LaunchTemplateName": "nowhere"}, "InvalidLaunchTemplateName.NotFoundException"),
        ({"LaunchTemplateId": "lt-0123456789abcdef0"}, "InvalidLaunchTemplateId.NotFound"),
    ],
)
def test_missing_templates_and_versions_have_their_error_codes(face: Face, which: dict[str, str], code: str) -> None:
    data = {"LaunchTemplateData": {"ImageId": "ami-1"}}
    assert refused(face.ec2.create_launch_template_version, **which, **data) == code
    assert refused(face.ec2.describe_launch_template_versions, **which) == code
    assert refused(face.ec2.modify_launch_template, **which, DefaultVersion="1") == code
    assert refused(face.ec2.delete_launch_template, **which) == code
    ((name, value),) = which.items()
    assert refused(face.ec2.describe_launch_templates, **{f"{name}s": [value]}) == code
    missing = refused(face.ec2.describe_launch_template_versions, LaunchTemplateName="default", Versions=["7"])
    assert missing == "InvalidLaunchTemplateId.VersionNotFound"


def test_versions_are_listed_newest_first_by_number_and_by_alias(face: Face) -> None:
    template = create(face)
    add(face, template)
    add(face, template)
    face.ec2.modify_launch_template(**template, DefaultVersion="2")
    assert numbers(face, template) == [3, 2, 1]
    assert numbers(face, template, Versions=["$Default", "$Latest"]) == [3, 2]
    assert numbers(face, template, MinVersion="2") == [3, 2]
    assert numbers(face, template, MaxVersion="2") == [2, 1]
    pages = face.ec2.get_paginator("describe_launch_template_versions").paginate(
        **template, PaginationConfig={"PageSize": 2}
    )
    assert [[one["VersionNumber"] for one in page["LaunchTemplateVersions"]] for page in pages] == [[3, 2], [1]]


def test_a_deleted_number_is_not_used_again_and_the_default_version_stays(face: Face) -> None:
    template = create(face)
    add(face, template)
    answer = face.ec2.delete_launch_template_versions(**template, Versions=["2", "999"])
    assert [one["VersionNumber"] for one in answer["SuccessfullyDeletedLaunchTemplateVersions"]] == [2]
    (kept,) = answer["UnsuccessfullyDeletedLaunchTemplateVersions"]
    assert kept["VersionNumber"] == 999
    assert kept["ResponseError"] == {
        "Code": "launchTemplateVersionDoesNotExist",
        "Message": "The launch template version does not exist.",
    }
    assert numbers(face, template, Versions=["$Latest"]) == [1], "the latest steps back"
    assert add(face, template) == 3
    assert numbers(face, template) == [3, 1]
    face.ec2.delete_launch_template_versions(**template, Versions=["$Latest"])
    assert numbers(face, template) == [1]
    face.ec2.delete_launch_template(**template)
    assert refused(face.ec2.delete_launch_template, **template) == "InvalidLaunchTemplateName.NotFoundException"


@pytest.mark.parametrize(
    ("versions", "text"),
    [
        (["1", "2"], "The default version cannot be deleted. Either specify another version as default or delete"),
        (["2", "$Default"], "The default version cannot be deleted."),
        (["2", "0"], "Invalid value for version: 0"),
        (["2", "-1"], "Invalid value for version: -1"),
        (["2", "x"], "Invalid value for version: x"),
    ],
)
def test_the_default_version_or_an_invalid_one_fails_the_whole_deletion(
    face: Face, versions: list[str], text: str
) -> None:
    template = create(face)
    add(face, template)
    with pytest.raises(ClientError, match=text) as raised:
        face.ec2.delete_launch_template_versions(**template, Versions=versions)
    assert raised.value.response["Error"]["Code"] == "InvalidParameterValue"
    assert numbers(face, template) == [2, 1], "nothing is deleted"


def test_a_token_is_used_up_by_new_versions_and_by_deletion(face: Face) -> None:
    name = f"template-{next(_numbers)}"
    request = {"LaunchTemplateName": name, "LaunchTemplateData": {"ImageId": "ami-1"}, "ClientToken": name}
    face.ec2.create_launch_template(**request)
    face.ec2.create_launch_template(**request)
    add(face, {"LaunchTemplateName": name})
    with pytest.raises(ClientError, match=r"Client token already used before\."):
        face.ec2.create_launch_template(**request)
    face.ec2.delete_launch_template(LaunchTemplateName=name)
    assert refused(face.ec2.create_launch_template, **request) == "IdempotentParameterMismatch"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"LaunchTemplateId": "lt-1"}, "InvalidParameterCombination"),
        ({"Versions": ["1"], "MinVersion": "2"}, "InvalidParameterCombination"),
        ({"Versions": ["1"], "MaxVersion": "2"}, "InvalidParameterCombination"),
        ({"Versions": ["x"]}, "InvalidParameterValue"),
        ({"Versions": ["0"]}, "InvalidParameterValue"),
    ],
)
def test_an_inconsistent_request_for_versions_is_refused(face: Face, asked: dict[str, Any], code: str) -> None:
    assert refused(face.ec2.describe_launch_template_versions, **create(face), **asked) == code


def test_references_to_missing_things_are_kept_with_a_warning(face: Face) -> None:
    face.tell("PUT", "/market/missing", {"ids": ["sg-gone", "key-gone", "ami-gone"]})
    name = f"template-{next(_numbers)}"
    data = {"ImageId": "ami-gone", "KeyName": "key-gone", "InstanceType": "not-real", "SecurityGroupIds": ["sg-gone"]}
    warnings = [
        {"Code": "InvalidInstanceType", "Message": "The following supplied instance types do not exist: [not-real]"},
        {"Code": "InvalidSecurityGroupID.NotFound", "Message": "The security group 'sg-gone' does not exist"},
    ]
    answer = face.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    assert answer["Warning"]["Errors"] == warnings, "neither image nor key pair is looked at"
    interface = {"DeviceIndex": 0, "Groups": ["sg-there", "sg-gone"]}
    more: dict[str, Any] = {"ImageId": "ami-1", "NetworkInterfaces": [interface]}
    answer = face.ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData=more)
    assert answer["Warning"]["Errors"] == warnings[1:]
    answer = face.ec2.create_launch_template_version(LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-1"})
    assert "Warning" not in answer


def test_new_templates_and_versions_are_visible_after_the_lag(face: Face) -> None:
    name = f"template-{next(_numbers)}"
    tags = [{"ResourceType": "launch-template", "Tags": [{"Key": "lag", "Value": name}]}]
    by_tag = {"Filters": [{"Name": "tag:lag", "Values": [name]}]}
    face.tell("PUT", "/market/settings", {"template_lag_seconds": 5})
    data = {"ImageId": "ami-1"}
    face.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data, TagSpecifications=tags)
    template = {"LaunchTemplateName": name}
    assert refused(face.ec2.describe_launch_template_versions, **template).endswith("NotFoundException")
    assert face.ec2.describe_launch_templates(**by_tag)["LaunchTemplates"] == []
    request = face.request(1, zones=("us-east-1a",), template={**template, "Version": "1"})
    assert refused(face.ec2.create_fleet, **request) == "InvalidLaunchTemplateName.NotFoundException"
    again = {"LaunchTemplateName": name, "LaunchTemplateData": data}
    assert refused(face.ec2.create_launch_template, **again) == "InvalidLaunchTemplateName.AlreadyExistsException"
    face.clock.forward(5)
    assert len(face.ec2.describe_launch_templates(**by_tag)["LaunchTemplates"]) == 1
    assert len(launched(face.ec2.create_fleet(**request))) == 1
    add(face, template)
    assert numbers(face, template) == [1]
    request = face.request(1, zones=("us-east-1a",), template={**template, "Version": "2"})
    assert refused(face.ec2.create_fleet, **request) == "InvalidLaunchTemplateId.VersionNotFound"
    face.clock.forward(5)
    assert len(launched(face.ec2.create_fleet(**request))) == 1


def test_invalid_template_data_are_refused(face: Face) -> None:
    def code(**data: Any) -> str:
        name = f"template-{next(_numbers)}"
        return refused(face.ec2.create_launch_template, LaunchTemplateName=name, LaunchTemplateData=data)

    assert code() == "MissingParameter"
    assert code(UserData="not base64") == "InvalidUserData.Malformed"
    assert code(MetadataOptions={"HttpPutResponseHopLimit": 999}) == "InvalidParameterValue"
    assert code(UserData=base64.b64encode(b"x" * 16385).decode()) == "InvalidParameterValue"
    wrong = [{"ResourceType": "subnet", "Tags": [{"Key": "a", "Value": "b"}]}]
    assert code(TagSpecifications=wrong) == "InvalidParameterValue"


def test_each_version_alias_launches_its_version(face: Face) -> None:
    template = create(face, ImageId="ami-1")
    add(face, template, ImageId="ami-2")
    add(face, template, ImageId="ami-3")
    face.ec2.modify_launch_template(**template, DefaultVersion="2")
    launches = {version: shown(face, launch(face, template, version)) for version in ("$Latest", "$Default", "1")}
    assert {version: one["ImageId"] for version, one in launches.items()} == {
        "$Latest": "ami-3",
        "$Default": "ami-2",
        "1": "ami-1",
    }
    tags = {tag["Key"]: tag["Value"] for tag in launches["$Default"]["Tags"]}
    assert tags["aws:ec2launchtemplate:version"] == "2"


def test_an_instance_follows_its_template_and_the_requests_tags_win(face: Face) -> None:
    tags = [{"Key": "spotpools:pool", "Value": "template's"}, {"Key": "team", "Value": "vision"}]
    template = create(
        face,
        KeyName="mine",
        IamInstanceProfile={"Arn": "arn:aws:iam::000000000000:instance-profile/worker"},
        NetworkInterfaces=[{"DeviceIndex": 0, "Groups": ["sg-1"], "AssociatePublicIpAddress": True}],
        MetadataOptions={"HttpTokens": "required", "InstanceMetadataTags": "enabled"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    one = shown(face, launch(face, template))
    given = {tag["Key"]: tag["Value"] for tag in one["Tags"]}
    assert (given["team"], given["spotpools:pool"]) == ("vision", "p")
    assert one["KeyName"] == "mine"
    assert one["SecurityGroups"] == [{"GroupId": "sg-1"}]
    assert one["IamInstanceProfile"]["Arn"].endswith("/worker")
    assert (one["MetadataOptions"]["HttpTokens"], one["MetadataOptions"]["InstanceMetadataTags"]) == (
        "required",
        "enabled",
    )


def test_an_override_may_name_another_image(face: Face) -> None:
    request = face.request(1, zones=("us-east-1a",), template=create(face) | {"Version": "1"})
    request["LaunchTemplateConfigs"][0]["Overrides"][0]["ImageId"] = "ami-9"
    assert shown(face, face.ec2.create_fleet(**request))["ImageId"] == "ami-9"


def test_a_parameter_can_name_an_image(face: Face) -> None:
    face.tell("PUT", "/market/parameters", {"parameters": {"/mine": "ami-7", "/wrong": "snap-1"}})
    public = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-"
    types = {"/mine": "m5.large", public + "x86_64": "m5.large", public + "arm64": "m7g.large"}
    ids = {
        name: shown(face, launch(face, create(face, ImageId=f"resolve:ssm:{name}"), kind=kind))["ImageId"]
        for name, kind in types.items()
    }
    assert ids["/mine"] == "ami-7"
    assert len(set(ids.values())) == 3
    assert all(one.startswith("ami-") for one in ids.values())
    template = create(face, ImageId=f"resolve:ssm:{public}arm64")
    described = face.ec2.describe_launch_template_versions(**template, ResolveAlias=True)["LaunchTemplateVersions"]
    assert described[0]["LaunchTemplateData"]["ImageId"] == ids[public + "arm64"]
    for name, code in (("/absent", "InvalidParameterValue"), ("/wrong", "InvalidAMIID.Malformed")):
        answer = launch(face, create(face, ImageId=f"resolve:ssm:{name}"))
        assert (codes(answer), launched(answer)) == ([code], [])


def test_a_type_of_another_architecture_than_the_image_fails_alone(face: Face) -> None:
    template = create(face, ImageId="resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64")
    answer = face.launch(
        2, zones=("us-east-1a",), types=("m5.large", "m7g.large"), template={**template, "Version": "1"}
    )
    assert (by_type(answer), codes(answer)) == ({"m7g.large": 2}, ["InvalidParameterValue"])
    assert "architecture 'x86_64' of the specified instance type" in answer["Errors"][0]["ErrorMessage"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"ImageId": "ami-gone"}, "InvalidAMIID.NotFound"),
        ({"SecurityGroupIds": ["sg-there", "sg-gone"]}, "InvalidGroup.NotFound"),
        ({"NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-gone"]}]}, "InvalidGroup.NotFound"),
        ({"KeyName": "key-gone"}, "InvalidKeyPair.NotFound"),
    ],
)
def test_missing_references_of_a_template_are_an_error_entry_for_each_override(
    face: Face, data: dict[str, Any], code: str
) -> None:
    template = {**create(face, **data), "Version": "1"}
    assert len(launched(face.launch(1, template=template))) == 1
    face.tell("PUT", "/market/missing", {"ids": ["ami-gone", "sg-gone", "key-gone"]})
    answer = face.launch(1, template=template)
    assert (codes(answer), launched(answer)) == ([code] * 4, [])


@pytest.mark.parametrize("inside", ["SecurityGroupIds", "NetworkInterfaces"])
def test_more_security_groups_than_the_account_allows_are_refused(face: Face, inside: str) -> None:
    groups = [f"sg-{number}" for number in range(6)]
    interface = {"DeviceIndex": 0, "Groups": groups}
    data: dict[str, Any] = {"SecurityGroupIds": groups, "NetworkInterfaces": [interface]}
    template = create(face, **{inside: data[inside]})
    answer = launch(face, template)
    assert (codes(answer), launched(answer)) == (["SecurityGroupsPerInterfaceLimitExceeded"], [])
    face.tell("PUT", "/market/account", {"security_groups_per_interface": 6})
    assert len(launched(launch(face, template))) == 1


def test_security_groups_together_with_interfaces_are_refused(face: Face) -> None:
    interface = {"DeviceIndex": 0, "AssociatePublicIpAddress": True}
    answer = launch(face, create(face, SecurityGroupIds=["sg-1"], NetworkInterfaces=[interface]))
    assert (codes(answer), launched(answer)) == (["InvalidParameterCombination"], [])


def test_a_template_without_an_image_launches_nothing(face: Face) -> None:
    name = f"template-{next(_numbers)}"
    face.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"KeyName": "mine"})
    assert codes(launch(face, {"LaunchTemplateName": name})) == ["MissingParameter"]
