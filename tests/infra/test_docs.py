"""The documents about the stack match the template."""

from __future__ import annotations

import dataclasses
import json
import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from cli.costs import FIGURES
from docs.make.architecture import PICTURE, picture
from docs.make.costs import COSTS, Stack, figures, looks_at, page
from infra.choices import CHOICES
from infra.stages import Deployment
from tests.bench.usage import AT_SIZE, Measured, measure
from tests.infra.conftest import ROOT, Synthesized
from tests.support.documents import blocks

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesize

DEPLOYING = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def plain(synthesize: Synthesize) -> Synthesized:
    """The stage aws with the default choices."""
    return synthesize()


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure()


def test_the_costs_are_up_to_date(plain: Synthesized, measured: Measured) -> None:
    expected = page(Stack.of(plain.template), measured)
    assert COSTS.read_text(encoding="utf-8") == expected, "run python -m docs.make.costs"
    assert FIGURES.read_text(encoding="utf-8") == figures(Stack.of(plain.template), measured)


def test_a_pool_at_its_size_costs_only_its_metrics_and_log_lines(measured: Measured) -> None:
    used = measured.pools[AT_SIZE]
    assert (used.others, used.reads, used.writes, used.messages) == (0, 0, 0, 0)
    assert {name for name, _ in used.metrics} == {"Wanted", "Running"}


@pytest.mark.parametrize(("reason", "alarms"), [("NO_CAPACITY", 2), ("PRICE_ABOVE_MAX", 2), ("STARTING", 2)])
def test_a_pool_in_trouble_has_the_alarm_of_its_cause_and_the_one_for_hours(
    plain: Synthesized, reason: str, alarms: int
) -> None:
    trouble = ("SecondsInTrouble", "training", reason)
    assert sum(looks_at(query, trouble) for query in Stack.of(plain.template).queries) == alarms


def test_the_picture_is_up_to_date(plain: Synthesized) -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(plain.template), "run python -m docs.make.architecture"


def without_the_stream(template: Any) -> None:
    (name,) = [
        name
        for name, one in template["Resources"].items()
        if one["Type"] == "AWS::Lambda::EventSourceMapping" and "StartingPosition" in one["Properties"]
    ]
    del template["Resources"][name]


def with_another_queue(template: Any) -> None:
    template["Resources"]["QueuesLate0123ABCD"] = {"Type": "AWS::SQS::Queue"}


@pytest.mark.parametrize("change", [without_the_stream, with_another_queue])
def test_a_picture_of_another_stack_is_refused(plain: Synthesized, change: Any) -> None:
    changed = deepcopy(dict(plain.template))
    change(changed)
    with pytest.raises(ValueError, match=r"change docs/make/architecture\.py"):
        picture(changed)


def test_the_recipe_adds_the_stack_to_another_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDK_CONTEXT_JSON", json.dumps({"aws:cdk:bundling-stacks": []}))
    (block,) = [one for one in blocks() if one.document == "docs/recipes.md" and one.language == "python"]
    names: dict[str, Any] = {}
    exec(block.text, names)  # noqa: S102  what our own documents say
    made = Synthesized(names["app"].synth().get_stack_by_name("ml-pools").template)
    assert {"Key": "team", "Value": "ml"} in made.properties("AWS::DynamoDB::GlobalTable", "Pools")["Replicas"][0][
        "Tags"
    ]
    assert all(
        one["Properties"]["AlarmName"].startswith("ml-pools-") for one in made.of("AWS::CloudWatch::Alarm").values()
    )


def test_every_kind_of_resource_of_the_stack_is_named(aws: Synthesized) -> None:
    assert set(re.findall(r"`(AWS::\w+::\w+)`", DEPLOYING)) == {one["Type"] for one in aws.resources.values()}


def test_every_choice_of_a_deployment_is_in_the_table() -> None:
    table = DEPLOYING.partition("| context |")[2].partition("\n\n")[0]
    choices = {one.name for one in dataclasses.fields(Deployment)} - {"stage"}
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == choices
    for key, choice in CHOICES.items():
        assert f"| `{key}` | {choice.meaning} | {choice.default} |" in table
