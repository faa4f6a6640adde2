"""Alarms: each says what to do and reaches the topic, and only alarms can publish to the topic."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.domain.guide import GUIDE, Trouble
from lambdas.metrics import POOL_DIMENSION, REASON_DIMENSION, Metric, namespace
from tests.infra.insights import RefusedError, parse
from tests.infra.judge import decision

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesize, Synthesized

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
OWN = namespace("spotpools")
FUNCTIONS = ("on-tick", "on-pool-edit", "on-pool-due", "on-spot-notice", "on-alarm")
DIRECT = ("heartbeat-missing", "on-alarm-errors", "on-alarm-throttles", "dead-alarm-events", "alarm-events-waiting")
"""Alarms that may mean that nothing is explained."""


def alarms(template: Synthesized) -> dict[str, dict[str, Any]]:
    return {
        one["Properties"]["AlarmName"].removeprefix("spotpools-"): one["Properties"]
        for one in template.of("AWS::CloudWatch::Alarm").values()
    }


def topics_of(template: Synthesized) -> tuple[str, str]:
    """The topic for machines, and the one for people."""
    (people,) = [name for name in template.of("AWS::SNS::Topic") if "Messages" in name]
    (machines,) = [name for name in template.of("AWS::SNS::Topic") if name != people]
    return machines, people


def test_the_stack_has_exactly_these_alarms(aws: Synthesized, local: Synthesized) -> None:
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
        *(f"dead-{what}" for what in ("ticks", "pool-edits", "due-pools", "spot-notices", "alarm-events")),
        "alarm-events-waiting",
        "due-pools-waiting",
        "edited-pools-waiting",
        "notices-waiting",
    }
    assert set(alarms(aws)) == expected
    assert set(alarms(local)) == expected


@pytest.mark.parametrize("stage", ["aws", "local"])
def test_each_alarm_explains_itself_and_reports_both_ways(request: pytest.FixtureRequest, stage: str) -> None:
    template: Synthesized = request.getfixturevalue(stage)
    machines, people = topics_of(template)
    sections = re.findall(r"^## (.*)$", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name, alarm in alarms(template).items():
        assert alarm["OKActions"] == [{"Ref": machines}], name
        assert alarm["AlarmActions"] == [{"Ref": machines}, *([{"Ref": people}] if name in DIRECT else [])], name
        text, _, link = alarm["AlarmDescription"].partition(" Runbook: docs/runbook.md#")
        assert 100 < len(text) <= 750, name  # it must fit with the longest runbook URL
        assert link in sections, name
        assert alarm["TreatMissingData"] != "missing", name


def test_the_text_of_an_alarm_comes_from_the_guide(aws: Synthesized) -> None:
    assert alarms(aws)["quota-reached"]["AlarmDescription"].startswith(GUIDE[Trouble.QUOTA].text)


OWN_ALARM = {
    "price-above-cap": "PRICE_ABOVE_MAX",
    "quota-reached": "QUOTA",
    "launches-refused": "CONFIG",
    "pool-item-invalid": "INVALID_ITEM",
    "ec2-throttles": "THROTTLED",
}
QUERIES = {
    "pool-below-target": ("MAX", Metric.SECONDS_IN_TROUBLE, {*OWN_ALARM.values()}, 600),
    "pool-waiting-long": ("MAX", Metric.SECONDS_IN_TROUBLE, set(), 14_400),
    **{name: ("MAX", Metric.SECONDS_IN_TROUBLE, {reason}, 1) for name, reason in OWN_ALARM.items()},
    "ec2-throttles": ("MAX", Metric.SECONDS_IN_TROUBLE, {"THROTTLED"}, 300),
    "price-above-cap": ("MAX", Metric.SECONDS_IN_TROUBLE, {"PRICE_ABOVE_MAX"}, 900),
    "interruption-rate": ("SUM", Metric.INTERRUPTION_NOTICES, set(), 10),
}


@pytest.mark.parametrize(("name", "expected"), QUERIES.items(), ids=QUERIES)
def test_pools_have_alarms_by_query_with_a_contributor_each(aws: Synthesized, name: str, expected: Any) -> None:
    alarm = alarms(aws)[name]
    (query,) = alarm["Metrics"]
    function, metric, reasons, threshold = expected
    found = parse(query["Expression"])
    assert (found.function, found.metric, found.namespace) == (function, metric, OWN)
    assert {value for _, _, value in found.conditions} == reasons
    reason = (REASON_DIMENSION,) if metric is Metric.SECONDS_IN_TROUBLE else ()
    assert found.dimensions == (POOL_DIMENSION, *reason)
    assert found.group == POOL_DIMENSION
    assert query["ReturnData"]
    assert alarm["Threshold"] == threshold
    assert alarm["TreatMissingData"] == "notBreaching"  # a healthy pool publishes no data
    # CloudWatch refuses shorter periods for an alarm on a query, and reads at most three hours of data.
    assert query["Period"] >= 60
    assert query["Period"] * alarm["EvaluationPeriods"] <= 3 * 3600


def test_each_reason_for_trouble_activates_one_alarm(aws: Synthesized) -> None:
    """A reason with its own alarm does not also activate the alarm of pools below target."""
    (query,) = alarms(aws)["pool-below-target"]["Metrics"]
    found = parse(query["Expression"])
    assert {*found.conditions} == {(REASON_DIMENSION, "!=", reason) for reason in OWN_ALARM.values()}


def expressions(template: Synthesized) -> dict[str, list[str]]:
    """All queries of the stack, from alarms and dashboard."""
    (dashboard,) = template.of("AWS::CloudWatch::Dashboard").values()
    parts = dashboard["Properties"]["DashboardBody"]["Fn::Join"][1]
    body = json.loads("".join(part if isinstance(part, str) else "reference" for part in parts))
    series = [one[0] for widget in body["widgets"] for one in widget["properties"].get("metrics", ())]
    return {
        "alarms": [
            one["Expression"]
            for alarm in template.of("AWS::CloudWatch::Alarm").values()
            for one in alarm["Properties"].get("Metrics", ())
        ],
        "dashboard": [one["expression"] for one in series if isinstance(one, dict)],
    }


def test_the_dashboards_queries_ask_for_what_is_published(aws: Synthesized) -> None:
    found = [parse(query) for query in expressions(aws)["dashboard"]]
    assert {(one.function, one.metric): one.dimensions for one in found} == {
        ("MAX", Metric.RUNNING): (POOL_DIMENSION,),
        ("MAX", Metric.WANTED): (POOL_DIMENSION,),
        ("MAX", Metric.SECONDS_IN_TROUBLE): (POOL_DIMENSION, REASON_DIMENSION),
    }
    assert {one.namespace for one in found} == {OWN}


def test_no_query_relies_on_a_name_that_is_not_quoted(synthesize: Synthesize) -> None:
    """CloudWatch may change the reserved words, so all names are quoted. The longest stack name must fit too."""
    found = expressions(synthesize(stack="Select-" + "x" * 56))
    assert (len(found["alarms"]), len(found["dashboard"])) == (len(QUERIES), 3)
    for query in (*found["alarms"], *found["dashboard"]):
        parse(query)
        without_names = re.sub(r'"[^"]+"|\'[^\']*\'', "", query)
        assert not set(re.findall(r"\w+", without_names)) - SYNTAX, query


SYNTAX = {"SELECT", "MAX", "SUM", "FROM", "SCHEMA", "WHERE", "AND", "GROUP", "BY", "ORDER", "DESC"}


@pytest.mark.parametrize("word", ["Running", "RUNNING", "Value", "zone", "Limit", "Usage"])
def test_a_reserved_word_that_is_not_quoted_is_refused_as_cloudwatch_does(word: str) -> None:
    query = 'SELECT MAX({}) FROM SCHEMA("S/x", {}) GROUP BY {} ORDER BY MAX() DESC'
    for place in range(3):
        names = ["Pool"] * 3
        names[place] = word
        with pytest.raises(RefusedError, match="reserved"):
            parse(query.format(*names))
        names[place] = f'"{word}"'
        parse(query.format(*names))


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
def test_on_the_local_cloud_one_alarm_watches_the_worst_pool(local: Synthesized, name: str, metric: Metric) -> None:
    alarm = alarms(local)[name]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Statistic"]) == (OWN, metric.value, "Maximum")
    assert "Dimensions" not in alarm
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    # Missing data proves nothing. The heartbeat alarm covers it.
    assert alarm["TreatMissingData"] == "ignore"


def test_below_target_waits_as_long_as_the_stage_says(local: Synthesized) -> None:
    assert (alarms(local)["pool-below-target"]["Threshold"], alarms(local)["pool-below-target"]["Period"]) == (15, 10)


def test_a_missing_heartbeat_is_an_alarm(aws: Synthesized) -> None:
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
def test_an_unread_queue_is_an_alarm_even_if_the_tick_runs(aws: Synthesized, name: str, queue: str) -> None:
    alarm = alarms(aws)[name]
    assert alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0].startswith(queue)
    assert (alarm["MetricName"], alarm["Statistic"]) == ("ApproximateAgeOfOldestMessage", "Maximum")
    properties = aws.resources[alarm["Dimensions"][0]["Value"]["Fn::GetAtt"][0]]["Properties"]
    # A message that fails on every try reaches this age before it goes to the dead letters.
    assert alarm["Threshold"] == properties["RedrivePolicy"]["maxReceiveCount"] * properties["VisibilityTimeout"]


def of_cloudwatch(policy: dict[str, Any]) -> dict[str, Any]:
    """The only statement that allows something to CloudWatch."""
    (found,) = [
        one
        for one in policy["Statement"]
        if one["Principal"] == {"Service": "cloudwatch.amazonaws.com"} and one["Effect"] == "Allow"
    ]
    return dict(found)


@pytest.mark.parametrize("which", [0, 1], ids=["machines", "people"])
def test_the_topics_are_encrypted_and_alarms_can_still_publish(aws: Synthesized, which: int) -> None:
    """With the AWS managed key, or without the second statement, alarms would be lost without an error."""
    topic_id = topics_of(aws)[which]
    (key_id,) = aws.of("AWS::KMS::Key")
    assert aws.resources[topic_id]["Properties"]["KmsMasterKeyId"] == {"Fn::GetAtt": [key_id, "Arn"]}
    assert aws.resources[key_id]["Properties"]["EnableKeyRotation"] is True
    (policy,) = [
        one for one in aws.of("AWS::SNS::TopicPolicy").values() if {"Ref": topic_id} in one["Properties"]["Topics"]
    ]
    document = policy["Properties"]["PolicyDocument"]
    publish = of_cloudwatch(document)
    assert publish["Action"] == "sns:Publish"
    assert publish["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert any(
        one["Effect"] == "Deny" and one["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for one in document["Statement"]
    )


@pytest.mark.parametrize("action", ["kms:Decrypt", "kms:GenerateDataKey"])
@pytest.mark.parametrize(
    ("topic", "allowed"), [("spotpools-{topic}-Xq3TtV0bLw8K", True), ("spotpools-{topic}", False), ("others", False)]
)
def test_the_key_policy_conditions_are_those_that_cloudwatch_is_known_to_send(
    aws: Synthesized, action: str, topic: str, *, allowed: bool
) -> None:
    """An alarm that published sent the topic's ARN to KMS; the alarm's account was never seen in the request."""
    (key,) = aws.of("AWS::KMS::Key").values()
    statement = of_cloudwatch(key["Properties"]["KeyPolicy"])
    for topic_id in topics_of(aws):
        arn = f"arn:aws:sns:us-east-1:123456789012:{topic.format(topic=topic_id)}"
        context = {"kms:encryptioncontext:aws:sns:topicarn": arn}
        verdict = decision([statement], action, "arn:aws:kms:us-east-1:123456789012:key/k", context)
        assert verdict == ("Allow" if allowed else "ImplicitDeny")


def test_the_function_that_explains_may_publish_to_people_only(aws: Synthesized) -> None:
    machines, people = topics_of(aws)
    published = [one for one in aws.statements("OnAlarm") if one["Action"] == "sns:Publish"]
    assert [one["Resource"] for one in published] == [{"Ref": people}]
    assert machines not in json.dumps(aws.statements("OnAlarm"))


def test_how_long_a_price_may_be_above_the_cap_is_chosen(synthesize: Synthesize) -> None:
    assert alarms(synthesize(price_above_cap_minutes="60"))["price-above-cap"]["Threshold"] == 3600


def test_a_given_email_is_subscribed(aws: Synthesized, local: Synthesized) -> None:
    (subscription,) = aws.of("AWS::SNS::Subscription").values()
    assert subscription["Properties"]["TopicArn"] == {"Ref": topics_of(aws)[1]}
    assert (subscription["Properties"]["Protocol"], subscription["Properties"]["Endpoint"]) == (
        "email",
        "oncall@example.com",
    )
    assert local.of("AWS::SNS::Subscription") == {}
