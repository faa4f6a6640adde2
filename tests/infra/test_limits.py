"""Limits of AWS on lengths and sizes, tested with the longest stack name and the largest choices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from infra.choices import ContextError
from infra.stages import Deployment
from tests.infra.conftest import INSTANCE_ROLE
from tests.infra.judge import deployed

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesize, Synthesized

LONGEST = {
    ("AWS::CloudWatch::Alarm", "AlarmName"): 255,
    ("AWS::CloudWatch::Alarm", "AlarmDescription"): 1024,
    ("AWS::CloudWatch::Alarm", "Namespace"): 255,
    ("AWS::CloudWatch::Dashboard", "DashboardName"): 255,
    ("AWS::EC2::LaunchTemplate", "LaunchTemplateName"): 128,
    ("AWS::EC2::LaunchTemplate", "VersionDescription"): 255,
    ("AWS::Events::Rule", "Description"): 512,
    ("AWS::IAM::Policy", "PolicyName"): 128,
    ("AWS::IAM::Role", "Description"): 1000,
    ("AWS::KMS::Key", "Description"): 8192,
    ("AWS::Lambda::Function", "Description"): 256,
    ("AWS::Logs::QueryDefinition", "Name"): 255,
    ("AWS::Logs::QueryDefinition", "QueryString"): 10_000,
    ("AWS::Scheduler::Schedule", "Description"): 512,
}
"""Characters (CloudFormation's and the services' own models). Names that the template leaves out CloudFormation makes
from the stack's name, and shortens as each service needs."""

ROLE_POLICIES = 10_240
"""Most characters in all inline policies of a role."""

APP_ID = 50
"""Most characters in AWS_SDK_UA_APP_ID."""


@pytest.fixture(scope="module")
def longest(synthesize: Synthesize) -> Synthesized:
    return synthesize(
        stack="s" * 63,
        alarm_email="oncall@example.com",
        instance_role_arns=[f"{INSTANCE_ROLE}-{'r' * 40}-{number}" for number in range(10)],
        runbook="https://example.com/" + "r" * 205,
    )


def test_names_and_descriptions_are_within_the_limits_of_aws(longest: Synthesized) -> None:
    named = {"Name", "Description", "QueryString", "Namespace"}
    for name, one in longest.resources.items():
        for key, value in one.get("Properties", {}).items():
            if isinstance(value, str) and any(key.endswith(end) for end in named) and key != "MetricName":
                limit = LONGEST[one["Type"], key]
                assert len(value) <= limit, f"{name}.{key} has {len(value)} characters, of {limit}"


def test_the_policies_of_each_role_are_within_the_limit(longest: Synthesized) -> None:
    sizes: dict[str, int] = {}
    for one in longest.of("AWS::IAM::Policy").values():
        text = json.dumps(deployed(one["Properties"]["PolicyDocument"]), separators=(",", ":"))
        for role in one["Properties"]["Roles"]:
            sizes[role["Ref"]] = sizes.get(role["Ref"], 0) + len(text)
    assert max(sizes.values()) <= ROLE_POLICIES, sizes


def test_the_sdks_name_of_a_function_fits_its_header(longest: Synthesized) -> None:
    names = [
        one["Properties"]["Environment"]["Variables"]["AWS_SDK_UA_APP_ID"]
        for one in longest.of("AWS::Lambda::Function").values()
    ]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= APP_ID


def test_the_template_is_within_the_limits_of_cloudformation(longest: Synthesized) -> None:
    template: dict[str, Any] = dict(longest.template)
    assert len(json.dumps(template)) <= 1_000_000
    assert len(template["Resources"]) <= 500
    assert len(template["Outputs"]) <= 200


def test_a_runbook_url_too_long_for_a_description_is_refused_in_one_line() -> None:
    context = {"runbook": "https://example.com/" + "r" * 206}
    with pytest.raises(ContextError, match=r"^runbook=.+at most 225 characters"):
        Deployment.from_context(context)
