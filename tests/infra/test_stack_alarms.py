"""Every alarm says what to do and reaches the topic, and the topic can be reached by alarms alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.domain.guide import GUIDE, Trouble
from lambdas.metrics import POOL_DIMENSION, REASON_DIMENSION, Metric, namespace

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesized

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
OWN = namespace("spotpools")
FUNCTIONS = ("on-tick", "on-pool-edit", "on-pool-due", "on-spot-notice")


def alarms(template: Synthesized) -> dict[str, dict[str, Any]]:
    return {
        one["Properties"]["AlarmName"].removeprefix("spotpools-"): one["Properties"]
        for one in template.of("AWS::CloudWatch::Alarm").values()
    }


def test_these_are_the_alarms(aws: Synthesized, local: Synthesized) -> None:
    expected = {
        "pool-below-target",
        "pool-waiting-long",
        "interruption-rate",
        "ec2-throttles",
        "price-above-cap",
        "pool-item-invalid",
        "status-unreadable",
        "quota-reached",
        "launches-refused",
        "terminations-refused",
        "drains-refused",
        "heartbeat-missing",
        *(f"{function}-{what}" for function in FUNCTIONS for what in ("errors", "throttles")),
        *(f"dead-{what}" for what in ("ticks", "pool-edits", "due-pools", "spot-notices")),
        "due-pools-waiting",
        "edited-pools-waiting",
        "notices-waiting",
    }
    assert set(alarms(aws)) == expected
    assert set(alarms(local)) == expected


@pytest.mark.parametrize("stage", ["aws", "local"])
def test_each_alarm_explains_itself_and_reports_both_ways(request: pytest.FixtureRequest, stage: str) -> None:
    template: Synthesized = request.getfixturevalue(stage)
    (topic,) = template.of("AWS::SNS::Topic")
    sections = re.findall(r"^## (.*)$", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name, alarm in alarms(template).items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": topic}], name
        text, _, link = alarm["AlarmDescription"].partition(" Runbook: docs/runbook.md#")
        assert 100 < len(text) <= 1000, name
        assert link in sections, name
        assert alarm["TreatMissingData"] != "missing", name


def test_the_words_of_an_alarm_are_those_of_the_guide(aws: Synthesized) -> None:
    assert alarms(aws)["quota-reached"]["AlarmDescription"].startswith(GUIDE[Trouble.QUOTA].text)


OWN_ALARM = {
    "price-above-cap": "PRICE_ABOVE_MAX",
    "quota-reached": "QUOTA",
    "launches-refused": "CONFIG",
    "pool-item-invalid": "INVALID_ITEM",
    "ec2-throttles": "THROTTLED",
}
QUERIES = {
    "pool-below-target": ("MAX(SecondsInTrouble)", {*OWN_ALARM.values()}, 600),
    "pool-waiting-long": ("MAX(SecondsInTrouble)", set(), 14_400),
    **{name: ("MAX(SecondsInTrouble)", {reason}, 1) for name, reason in OWN_ALARM.items()},
    "ec2-throttles": ("MAX(SecondsInTrouble)", {"THROTTLED"}, 300),
    "interruption-rate": ("SUM(InterruptionNotices)", set(), 10),
}


@pytest.mark.parametrize(("name", "expected"), QUERIES.items(), ids=QUERIES)
def test_pools_have_alarms_by_query_with_a_contributor_each(aws: Synthesized, name: str, expected: Any) -> None:
    alarm = alarms(aws)[name]
    (query,) = alarm["Metrics"]
    value, reasons, threshold = expected
    found = parse(query["Expression"])
    assert found["value"] == value
    assert set(found["reasons"]) == reasons
    reason = f", {REASON_DIMENSION}" if value == f"MAX({Metric.SECONDS_IN_TROUBLE})" else ""
    assert found["dimensions"] == f", {POOL_DIMENSION}{reason}"
    assert found["group"] == POOL_DIMENSION
    assert found["namespace"] == OWN
    assert query["ReturnData"]
    assert alarm["Threshold"] == threshold
    assert alarm["TreatMissingData"] == "notBreaching"  # a pool without trouble publishes none


def test_each_reason_for_trouble_rings_one_alarm_at_once(aws: Synthesized) -> None:
    """What has an alarm of its own does not ring the one of pools below target as well."""
    (query,) = alarms(aws)["pool-below-target"]["Metrics"]
    assert set(parse(query["Expression"])["reasons"]) == set(OWN_ALARM.values())
    assert query["Expression"].count("!=") == len(OWN_ALARM)


def test_the_dashboards_queries_are_of_the_same_grammar_and_ask_for_what_is_published(aws: Synthesized) -> None:
    (dashboard,) = aws.of("AWS::CloudWatch::Dashboard").values()
    parts = dashboard["Properties"]["DashboardBody"]["Fn::Join"][1]
    body = json.loads("".join(part if isinstance(part, str) else "reference" for part in parts))
    series = [one for widget in body["widgets"] for one in widget["properties"]["metrics"]]
    queries = [one[0]["expression"] for one in series if isinstance(one[0], dict)]
    assert {parse(query)["value"]: parse(query)["dimensions"] for query in queries} == {
        f"MAX({Metric.RUNNING})": f", {POOL_DIMENSION}",
        f"MAX({Metric.WANTED})": f", {POOL_DIMENSION}",
        f"MAX({Metric.SECONDS_IN_TROUBLE})": f", {POOL_DIMENSION}, {REASON_DIMENSION}",
    }
    assert {one[1] for one in series if one[0] == OWN} <= {metric.value for metric in Metric}


GRAMMAR = re.compile(
    r'SELECT (?P<value>(?:MAX|SUM)\(\w+\)) FROM SCHEMA\("(?P<namespace>[\w/]+)"(?P<dimensions>(?:, \w+)+)\)'
    r"(?: WHERE (?P<where>\w+ !?= '\w+'(?: AND \w+ !?= '\w+')*))?"
    r" GROUP BY (?P<group>\w+) ORDER BY (?:MAX|SUM)\(\) DESC"
)
"""The part of CloudWatch Metrics Insights that we use (CloudWatch User Guide, query components and syntax)."""


def parse(query: str) -> dict[str, Any]:
    """A query's parts; fails for one that is not in the grammar."""
    found = GRAMMAR.fullmatch(query)
    assert found, query
    assert len(query) <= 2048
    return {**found.groupdict(), "reasons": re.findall(r"'(\w+)'", found["where"] or "")}


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("pool-below-target", Metric.SECONDS_BELOW_TARGET),
        ("pool-waiting-long", Metric.SECONDS_WAITING),
        ("price-above-cap", Metric.POOLS_PRICE_ABOVE_MAX),
        ("pool-item-invalid", Metric.POOLS_INVALID),
        ("status-unreadable", Metric.STATUSES_UNREADABLE),
        ("quota-reached", Metric.POOLS_QUOTA),
        ("ec2-throttles", Metric.POOLS_THROTTLED),
        ("launches-refused", Metric.POOLS_LAUNCH_REFUSED),
    ],
)
def test_the_local_cloud_judges_the_fleet_by_its_worst(local: Synthesized, name: str, metric: Metric) -> None:
    alarm = alarms(local)[name]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == (OWN, metric.value, "Maximum")
    assert "Dimensions" not in alarm
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    # Silence proves nothing; the heartbeat tells of it.
    assert alarm["TreatMissingData"] == "ignore"


def test_below_target_waits_as_long_as_the_stage_says(local: Synthesized) -> None:
    assert (alarms(local)["pool-below-target"]["Threshold"], alarms(local)["pool-below-target"]["Period"]) == (15, 10)


def test_silence_is_an_alarm(aws: Synthesized) -> None:
    alarm = alarms(aws)["heartbeat-missing"]
    assert (alarm["Namespace"], alarm["MetricName"]) == (OWN, Metric.HEARTBEAT.value)
    assert alarm["TreatMissingData"] == "breaching"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert (alarm["Period"], alarm["EvaluationPeriods"]) == (60, 3)


def test_the_missing_service_role_is_named_with_its_remedy(aws: Synthesized) -> None:
    description = alarms(aws)["launches-refused"]["AlarmDescription"]
    assert "AuthFailure.ServiceLinkedRoleCreationNotPermitted" in description
    assert "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com" in description


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_function_has_its_own_alarms(aws: Synthesized, function: str) -> None:
    for what in ("errors", "throttles"):
        alarm = alarms(aws)[f"{function}-{what}"]
        assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == ("AWS/Lambda", what.title(), "Sum")
        ((name, reference),) = [(one["Name"], one["Value"]["Ref"]) for one in alarm["Dimensions"]]
        handler = aws.resources[reference]["Properties"]["Handler"]
        assert (name, handler) == ("FunctionName", f"lambdas.handlers.{function.replace('-', '_')}.handler")
        assert (alarm["Threshold"], alarm["TreatMissingData"]) == (1, "notBreaching")


def test_every_dead_letter_queue_has_an_alarm(aws: Synthesized) -> None:
    watched = {
        alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0]
        for name, alarm in alarms(aws).items()
        if name.startswith("dead-")
        and (alarm["MetricName"], alarm["Statistic"]) == ("ApproximateNumberOfMessagesVisible", "Maximum")
    }
    assert watched == {name for name in aws.of("AWS::SQS::Queue") if "Dead" in name}


@pytest.mark.parametrize(("name", "queue"), [("due-pools-waiting", "QueuesDue"), ("notices-waiting", "QueuesNotices")])
def test_a_queue_that_nobody_reads_is_an_alarm_although_the_tick_runs(aws: Synthesized, name: str, queue: str) -> None:
    alarm = alarms(aws)[name]
    assert alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0].startswith(queue)
    assert (alarm["MetricName"], alarm["Statistic"]) == ("ApproximateAgeOfOldestMessage", "Maximum")
    properties = aws.resources[alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0]]["Properties"]
    # A message that fails on every try is as old as this before it is dead.
    assert alarm["Threshold"] == properties["RedrivePolicy"]["maxReceiveCount"] * properties["VisibilityTimeout"]


def test_the_topic_is_encrypted_and_alarms_can_still_publish(aws: Synthesized) -> None:
    """Under the key that AWS manages, or without the second statement, alarms would be lost in silence."""
    (topic,) = aws.of("AWS::SNS::Topic").values()
    (key_id,) = aws.of("AWS::KMS::Key")
    assert topic["Properties"]["KmsMasterKeyId"] == {"Fn::GetAtt": [key_id, "Arn"]}
    ours = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}

    def of_cloudwatch(policy: dict[str, Any]) -> list[tuple[Any, Any]]:
        return [
            (one["Action"], one["Condition"])
            for one in policy["Statement"]
            if one["Principal"] == {"Service": "cloudwatch.amazonaws.com"} and one["Effect"] == "Allow"
        ]

    key = aws.resources[key_id]["Properties"]
    assert of_cloudwatch(key["KeyPolicy"]) == [(["kms:Decrypt", "kms:GenerateDataKey*"], ours)]
    assert key["EnableKeyRotation"] is True
    (policy,) = aws.of("AWS::SNS::TopicPolicy").values()
    document = policy["Properties"]["PolicyDocument"]
    assert of_cloudwatch(document) == [("sns:Publish", ours)]
    assert any(
        one["Effect"] == "Deny" and one["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for one in document["Statement"]
    )


def test_the_email_is_subscribed_if_given(aws: Synthesized, local: Synthesized) -> None:
    (subscription,) = aws.of("AWS::SNS::Subscription").values()
    assert (subscription["Properties"]["Protocol"], subscription["Properties"]["Endpoint"]) == (
        "email",
        "oncall@example.com",
    )
    assert local.of("AWS::SNS::Subscription") == {}
