"""Tags that EC2 refuses, on both faces of the market: by key, by number, or because metadata cannot show them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.market.faces import Face, codes, launched
from tests.market.test_templates import create, launch, refused

SHOWN: dict[str, Any] = {"MetadataOptions": {"InstanceMetadataTags": "enabled"}}
HIDDEN: dict[str, Any] = {"MetadataOptions": {"InstanceMetadataTags": "disabled"}}
UNSHOWABLE = ("kubernetes.io/cluster/x", "Cost Center", ".", "..", "_index", "grüße")


def tags(*keys: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": "1"} for key in keys]


def on_instances(*keys: str) -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": "instance", "Tags": tags(*keys)}]}


def with_tags(face: Face, template: dict[str, str], *keys: str) -> dict[str, Any]:
    """The answer to a launch with tags for its instances."""
    request = face.request(1, zones=("us-east-1a",), template={**template, "Version": "$Latest"})
    return dict(face.ec2.create_fleet(**{**request, **on_instances(*keys)}))


@pytest.mark.parametrize("key", UNSHOWABLE)
def test_a_key_that_metadata_cannot_show_fails_the_launch(face: Face, key: str) -> None:
    answer = with_tags(face, create(face, **SHOWN), "team", key)
    assert (codes(answer), launched(answer)) == (["InvalidParameterValue"], [])
    assert f"'{key}' is not a valid tag key. Tag keys must match pattern" in answer["Errors"][0]["ErrorMessage"]
    assert len(launched(with_tags(face, create(face, **HIDDEN), "team", key))) == 1


def test_the_templates_own_tags_count_too(face: Face) -> None:
    assert codes(launch(face, create(face, **SHOWN, **on_instances("a/b")))) == ["InvalidParameterValue"]
    assert codes(launch(face, create(face, **on_instances("a/b")))) == []


def test_the_accounts_default_holds_if_a_template_does_not_say(face: Face) -> None:
    face.tell("PUT", "/market/account", {"instance_metadata_tags": "enabled"})
    assert codes(with_tags(face, create(face), "a/b")) == ["InvalidParameterValue"]
    assert codes(with_tags(face, create(face, **HIDDEN), "a/b")) == []


@pytest.mark.parametrize("key", UNSHOWABLE)
def test_such_a_tag_cannot_be_added_to_a_running_instance_either(face: Face, key: str) -> None:
    shown, hidden = (launched(launch(face, create(face, **data)))[0] for data in (SHOWN, HIDDEN))
    assert refused(face.ec2.create_tags, Resources=[hidden, shown], Tags=tags("team", key)) == "InvalidParameterValue"
    face.ec2.create_tags(Resources=[hidden], Tags=tags(key))
    (listed,) = face.ec2.describe_instances(InstanceIds=[shown])["Reservations"]
    assert "team" not in {tag["Key"] for tag in listed["Instances"][0]["Tags"]}, "all or nothing"


def test_more_than_fifty_tags_are_refused_and_aws_own_do_not_count(face: Face) -> None:
    some = [f"t{number}" for number in range(51)]
    template = create(face)
    answer = with_tags(face, template, *some)
    assert (codes(answer), launched(answer)) == (["TagLimitExceeded"], [])
    (one,) = launched(with_tags(face, template, *some[:50]))
    assert refused(face.ec2.create_tags, Resources=[one], Tags=tags("more")) == "TagLimitExceeded"


@pytest.mark.parametrize("tag", [("aws:x", "1"), ("k" * 128, "1"), ("k", "v" * 257), ("", "1")])
def test_tags_that_no_resource_may_have_are_refused_everywhere(face: Face, tag: tuple[str, str]) -> None:
    (one,) = launched(launch(face, create(face)))
    wrong = [{"Key": tag[0], "Value": tag[1]}]
    assert refused(face.ec2.create_tags, Resources=[one], Tags=wrong) == "InvalidParameterValue"
    request = face.request(1) | {"TagSpecifications": [{"ResourceType": "instance", "Tags": wrong}]}
    assert refused(face.ec2.create_fleet, **request) == "InvalidParameterValue"
    data = {"ImageId": "ami-1", "TagSpecifications": [{"ResourceType": "instance", "Tags": wrong}]}
    assert (
        refused(face.ec2.create_launch_template, LaunchTemplateName="tagged", LaunchTemplateData=data)
        == "InvalidParameterValue"
    )
