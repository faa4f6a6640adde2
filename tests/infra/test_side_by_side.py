"""Two stacks of different names in one account and Region share no name.

CloudFormation names all other resources, and starts those names with the name of the stack too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.infra.conftest import Synthesize, Synthesized

WITHIN_ANOTHER = {"PolicyName", "MetricName"}
"""Names that must differ only within a role or a namespace."""


@pytest.fixture(scope="module")
def both(synthesize: Synthesize) -> tuple[Synthesized, Synthesized]:
    """Both stacks as deployed to AWS. One name is a prefix of the other."""
    return synthesize(stack="training"), synthesize(stack="training-2")


def fixed_names(stack: Synthesized) -> Iterator[tuple[str, str]]:
    """The type and name of every resource that the template names."""
    for resource in stack.resources.values():
        for key, value in resource.get("Properties", {}).items():
            if key.endswith(("Name", "Alias")) and key not in WITHIN_ANOTHER and isinstance(value, str):
                yield resource["Type"], value


def test_no_name_is_in_both_stacks(both: tuple[Synthesized, Synthesized]) -> None:
    first, second = (set(fixed_names(one)) for one in both)
    assert not first & second
    assert {kind for kind, _ in first} == {
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::EC2::LaunchTemplate",
        "AWS::Logs::QueryDefinition",
    }


def test_nothing_is_exported(both: tuple[Synthesized, Synthesized]) -> None:
    for one in both:
        assert not [name for name, output in one.template["Outputs"].items() if "Export" in output]


def test_each_stack_has_its_own_metric_namespace(both: tuple[Synthesized, Synthesized]) -> None:
    found = [set(re.findall(r"SpotPools/[\w-]+", json.dumps(one.template))) for one in both]
    assert found == [{"SpotPools/training"}, {"SpotPools/training-2"}]


def test_an_alarm_on_a_metric_of_aws_looks_at_its_own_stacks_resource(both: tuple[Synthesized, Synthesized]) -> None:
    looked = [
        (dimension["Value"], one)
        for one in both
        for alarm in one.of("AWS::CloudWatch::Alarm").values()
        if str(alarm["Properties"].get("Namespace", "")).startswith("AWS/")
        for dimension in alarm["Properties"]["Dimensions"]
    ]
    assert looked
    for value, one in looked:
        (kind, target), *_ = value.items()
        assert (target if kind == "Ref" else target[0]) in one.resources
