"""The policies in docs/security.md do what the page says."""

from __future__ import annotations

import json
import re
from textwrap import dedent
from typing import Any

import pytest

from tests.infra.conftest import ROOT
from tests.infra.judge import decision
from tests.infra.rights_table import faults

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
GUARD, READY = (json.loads(dedent(text)) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
INSTANCES = "arn:aws:ec2:us-east-1:123456789012:instance/"


def test_the_policies_use_only_names_that_aws_knows() -> None:
    assert [*faults(GUARD), *faults(READY)] == []


@pytest.mark.parametrize(
    ("context", "allowed"),
    [
        ({"aws:TagKeys": ["spotpools:stack"]}, False),
        ({"aws:TagKeys": ["Name", "spotpools:pool"]}, False),
        ({"aws:TagKeys": ["spotpools:protect"]}, True),
        ({"aws:TagKeys": ["Name"]}, True),
        ({"aws:TagKeys": ["spotpools:stack", "spotpools:pool"], "ec2:CreateAction": "RunInstances"}, True),
        ({"aws:TagKeys": ["spotpools:stack", "spotpools:pool"], "ec2:CreateAction": "CreateFleet"}, True),
    ],
)
@pytest.mark.parametrize("action", ["ec2:CreateTags", "ec2:DeleteTags"])
def test_the_guard_stops_everyone_from_adding_an_instance_to_a_pool(
    action: str, context: dict[str, Any], *, allowed: bool
) -> None:
    verdict = decision([EVERYTHING, GUARD], action, f"{INSTANCES}i-1", context)
    assert verdict == ("Allow" if allowed else "Deny")


MINE = {"ec2:SourceInstanceARN": f"{INSTANCES}i-1"}


@pytest.mark.parametrize(
    ("target", "context", "allowed"),
    [
        ("i-1", {"aws:RequestTag/ready": "true", "aws:TagKeys": ["ready"]}, True),
        ("i-2", {"aws:RequestTag/ready": "true", "aws:TagKeys": ["ready"]}, False),
        ("i-1", {"aws:RequestTag/ready": "maybe", "aws:TagKeys": ["ready"]}, False),
        ("i-1", {"aws:RequestTag/ready": "true", "aws:TagKeys": ["ready", "spotpools:pool"]}, False),
    ],
)
def test_a_workload_may_mark_only_itself_ready(target: str, context: dict[str, Any], *, allowed: bool) -> None:
    context = {**MINE, **context, "ec2:InstanceID": target}
    verdict = decision([READY], "ec2:CreateTags", f"{INSTANCES}{target}", context)
    assert verdict == ("Allow" if allowed else "ImplicitDeny")
