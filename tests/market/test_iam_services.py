"""The rights that calls of the price list and of SSM need, with ministack's IAM."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.market.api.ssm import DOCUMENT
from tests.market.test_iam import EVERYTHING, Site, _site, deny, site  # noqa: F401  # two of them are fixtures
from tests.support.callers import client_as

CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "prices": ("pricing", "get_products", {"ServiceCode": "AmazonEC2"}),
    "send": ("ssm", "send_command", {"DocumentName": DOCUMENT, "Parameters": {"commands": ["true"]}}),
    "look": ("ssm", "get_command_invocation", {"CommandId": "0" * 36, "InstanceId": "i-0123456789abcdef0"}),
}


def error_of(site: Site, name: str, **more: Any) -> str:  # noqa: F811  # the fixture, handed on
    service, method, params = CALLS[name]
    try:
        getattr(client_as(site.function, site.market_url, service), method)(**params, **more)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


@pytest.mark.parametrize(
    ("name", "action", "allowed"),
    [("prices", "pricing:GetProducts", ""), ("look", "ssm:GetCommandInvocation", "InvocationDoesNotExist")],
)
def test_a_call_needs_its_right(site: Site, name: str, action: str, allowed: str) -> None:  # noqa: F811  # the fixture
    assert error_of(site, name) == allowed
    site.may(EVERYTHING, deny(action))
    assert error_of(site, name) == "AccessDeniedException"


@pytest.mark.parametrize(
    "resource", [f"arn:aws:ssm:us-east-1::document/{DOCUMENT}", "arn:aws:ec2:us-east-1:000000000000:instance/i-*"]
)
def test_a_command_needs_the_right_to_its_document_and_to_each_instance(site: Site, resource: str) -> None:  # noqa: F811  # the fixture
    one = site.an_instance()
    site.admin.get_waiter("instance_running").wait(InstanceIds=[one], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    assert error_of(site, "send", InstanceIds=[one]) == ""
    site.may(EVERYTHING, deny("ssm:SendCommand", resource))
    assert error_of(site, "send", InstanceIds=[one]) == "AccessDeniedException"


@pytest.mark.parametrize("key", ["ssm:resourceTag/spotpools:stack", "aws:ResourceTag/spotpools:stack"])
def test_commands_can_be_limited_to_instances_with_a_tag(site: Site, key: str) -> None:  # noqa: F811  # the fixture
    ours, theirs = site.an_instance(), site.an_instance(stack="theirs")
    ids = [ours, theirs]
    site.admin.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    site.may(
        {"Effect": "Allow", "Action": "ssm:SendCommand", "Resource": f"arn:aws:ssm:*::document/{DOCUMENT}"},
        {
            "Effect": "Allow",
            "Action": "ssm:SendCommand",
            "Resource": "arn:aws:ec2:*:*:instance/*",
            "Condition": {"StringEquals": {key: "ours"}},
        },
    )
    assert error_of(site, "send", InstanceIds=[ours]) == ""
    assert error_of(site, "send", InstanceIds=[theirs]) == "AccessDeniedException"
