"""The synthesized template: tables, queues, functions, triggers and the launch template."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from lambdas.settings import Settings

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesize, Synthesized

FUNCTIONS = {
    "OnTick": "lambdas.handlers.on_tick.handler",
    "OnPoolEdit": "lambdas.handlers.on_pool_edit.handler",
    "OnPoolDue": "lambdas.handlers.on_pool_due.handler",
    "OnSpotNotice": "lambdas.handlers.on_spot_notice.handler",
}
OUTPUTS = {
    "Choices",
    "DashboardUrl",
    "PoolsTable",
    "StatusTable",
    "AlarmTopic",
    "MessagesTopic",
    "AlarmFunction",
    "DefaultLaunchTemplate",
    "Dashboard",
    "DueQueueUrl",
    "EditedQueueUrl",
    "NoticesQueueUrl",
    "TickFunction",
    "Version",
    "PoolEditFunction",
    "PoolDueFunction",
    "SpotNoticeFunction",
}


def logical_id(value: Any) -> str:
    """The resource that a Ref or GetAtt points to."""
    found: str = value["Ref"] if "Ref" in value else value["Fn::GetAtt"][0]
    return found


def target(template: Synthesized, function: str) -> str:
    return next(name for name in template.of("AWS::Lambda::Function") if name.startswith(f"Functions{function}"))


def mapping(template: Synthesized, function: str, source: str = "") -> dict[str, Any]:
    """The event source mapping of a function; if there are several, the one from this source."""
    found = [
        one["Properties"]
        for one in template.of("AWS::Lambda::EventSourceMapping").values()
        if logical_id(one["Properties"]["FunctionName"]) == target(template, function)
        and logical_id(one["Properties"]["EventSourceArn"]).startswith(source)
    ]
    assert len(found) == 1
    properties: dict[str, Any] = found[0]
    return properties


def test_outputs_have_stable_names(aws: Synthesized, local: Synthesized) -> None:
    assert set(aws.template["Outputs"]) == OUTPUTS
    assert set(local.template["Outputs"]) == OUTPUTS


def test_each_output_says_what_it_is(aws: Synthesized) -> None:
    assert all(len(output["Description"]) > 10 for output in aws.template["Outputs"].values())


def test_tables_survive_the_stack_on_aws_and_not_locally(aws: Synthesized, local: Synthesized) -> None:
    for template, kept in ((aws, True), (local, False)):
        tables = template.of("AWS::DynamoDB::GlobalTable")
        assert len(tables) == 2
        for table in tables.values():
            properties = table["Properties"]
            assert properties["BillingMode"] == "PAY_PER_REQUEST"
            assert properties["KeySchema"] == [{"AttributeName": "pool_name", "KeyType": "HASH"}]
            (replica,) = properties["Replicas"]
            assert replica["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
            assert replica.get("DeletionProtectionEnabled", False) is kept
            assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == ("Retain" if kept else "Delete")


def test_only_the_pools_table_has_a_stream_and_it_carries_only_keys(aws: Synthesized) -> None:
    pools = aws.properties("AWS::DynamoDB::GlobalTable", "DataPoolsB")
    status = aws.properties("AWS::DynamoDB::GlobalTable", "DataPoolStatus")
    assert pools["StreamSpecification"] == {"StreamViewType": "KEYS_ONLY"}
    assert "StreamSpecification" not in status


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_run_this_package_with_valid_settings(aws: Synthesized, function: str) -> None:
    properties = aws.properties("AWS::Lambda::Function", f"Functions{function}")
    assert properties["Handler"] == FUNCTIONS[function]
    assert (properties["Runtime"], properties["Architectures"]) == ("python3.13", ["arm64"])
    assert (properties["MemorySize"], properties["Timeout"]) == (512, 60)
    assert properties["TracingConfig"] == {"Mode": "Active"}
    # The format Text leaves the JSON lines of Powertools (logs and metrics) unchanged.
    assert properties["LoggingConfig"]["LogFormat"] == "Text"
    environment = {
        name: value if isinstance(value, str) else f"<{logical_id(value)}>"
        for name, value in properties["Environment"]["Variables"].items()
    }
    settings = Settings.load(environment)
    assert settings.stack == "spotpools"
    assert settings.pools_table.startswith("<DataPoolsB")
    assert settings.status_table.startswith("<DataPoolStatus")
    assert settings.due_queue_url.startswith("<QueuesDue")
    assert settings.notices_queue_url.startswith("<QueuesNotices")
    assert settings.default_launch_template == "spotpools-default"
    version = properties["Environment"]["Variables"]["SPOTPOOLS_DEFAULT_LAUNCH_TEMPLATE_VERSION"]
    assert version["Fn::GetAtt"][1] == "LatestVersionNumber", "CloudFormation adds versions and moves no default"
    assert version["Fn::GetAtt"][0] in aws.of("AWS::EC2::LaunchTemplate")
    assert settings.subnet_ids == ("subnet-0123456789abcdef0", "subnet-0fedcba9876543210")
    assert settings.lease_seconds > properties["Timeout"]
    assert environment["POWERTOOLS_TRACE_DISABLED"] == "false"


def test_locally_tracing_is_off(local: Synthesized) -> None:
    for function in local.of("AWS::Lambda::Function").values():
        assert "TracingConfig" not in function["Properties"]
        assert function["Properties"]["Environment"]["Variables"]["POWERTOOLS_TRACE_DISABLED"] == "true"


def test_all_functions_share_one_bundle(aws: Synthesized) -> None:
    assert len({str(one["Properties"]["Code"]) for one in aws.of("AWS::Lambda::Function").values()}) == 1


def test_logs_have_a_retention_time(aws: Synthesized) -> None:
    groups = aws.of("AWS::Logs::LogGroup")
    assert {one["Properties"]["RetentionInDays"] for one in groups.values()} == {30}
    used = {
        logical_id(one["Properties"]["LoggingConfig"]["LogGroup"]) for one in aws.of("AWS::Lambda::Function").values()
    }
    assert used == set(groups)


def test_only_the_function_that_sends_to_its_own_queue_may_loop(aws: Synthesized) -> None:
    loops = {
        name: one["Properties"].get("RecursiveLoop")
        for name, one in aws.of("AWS::Lambda::Function").items()
        if "RecursiveLoop" in one["Properties"]
    }
    assert loops == {target(aws, "OnPoolDue"): "Allow"}


def test_queues_are_encrypted_and_refuse_plain_http(aws: Synthesized) -> None:
    protected = {
        logical_id(queue)
        for policy in aws.of("AWS::SQS::QueuePolicy").values()
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        for queue in policy["Properties"]["Queues"]
    }
    queues = aws.of("AWS::SQS::Queue")
    assert protected == set(queues)
    assert all(one["Properties"]["SqsManagedSseEnabled"] is True for one in queues.values())


@pytest.mark.parametrize(
    ("queue", "dead", "function", "timeouts"),
    [
        ("QueuesDue", "QueuesDueDead", "OnPoolDue", 6),
        ("QueuesEdited", "QueuesDueDead", "OnPoolDue", 6),
        ("QueuesNotices", "QueuesNoticesDead", "OnSpotNotice", 1),
    ],
)
@pytest.mark.parametrize("stage", ["aws", "local"])
def test_work_queues_hide_a_message_long_enough_and_have_dead_letter_queues(
    request: pytest.FixtureRequest, stage: str, queue: str, dead: str, *, function: str, timeouts: int
) -> None:
    """Notices return as soon as Lambda allows: a queue must hide a message for at least the function's time limit."""
    template: Synthesized = request.getfixturevalue(stage)
    source = mapping(template, function, queue)
    properties = template.resources[logical_id(source["EventSourceArn"])]["Properties"]
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 2 <= source["ScalingConfig"]["MaximumConcurrency"] <= 1000
    timeout = template.properties("AWS::Lambda::Function", f"Functions{function}")["Timeout"]
    assert properties["VisibilityTimeout"] == timeouts * timeout
    assert logical_id(properties["RedrivePolicy"]["deadLetterTargetArn"]).startswith(dead)


def test_simultaneous_notices_arrive_in_one_batch(aws: Synthesized) -> None:
    notices = mapping(aws, "OnSpotNotice")
    assert (notices["BatchSize"], notices["MaximumBatchingWindowInSeconds"]) == (10, 1)
    assert {mapping(aws, "OnPoolDue", queue)["BatchSize"] for queue in ("QueuesDue", "QueuesEdited")} == {1}


def test_a_record_that_cannot_be_handled_does_not_block_the_stream(aws: Synthesized) -> None:
    stream = mapping(aws, "OnPoolEdit")
    assert stream["StartingPosition"] == "TRIM_HORIZON"
    assert stream["BisectBatchOnFunctionError"] is True
    assert 0 < stream["MaximumRetryAttempts"] < 10
    assert 0 < stream["MaximumRecordAgeInSeconds"] <= 3600
    assert logical_id(stream["DestinationConfig"]["OnFailure"]["Destination"]).startswith("QueuesEditsDead")


def test_the_tick_runs_every_minute_and_late_ones_are_dropped(aws: Synthesized) -> None:
    (schedule,) = aws.of("AWS::Scheduler::Schedule").values()
    properties = schedule["Properties"]
    assert properties["ScheduleExpression"] == "rate(1 minute)"
    assert properties["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert logical_id(properties["Target"]["Arn"]) == target(aws, "OnTick")
    assert properties["Target"]["RetryPolicy"] == {"MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 2}
    assert logical_id(properties["Target"]["DeadLetterConfig"]["Arn"]).startswith("QueuesTickDead")
    # The Scheduler only starts the function. Lambda sends later failures to the dead letters.
    (invoke,) = aws.of("AWS::Lambda::EventInvokeConfig").values()
    assert logical_id(invoke["Properties"]["FunctionName"]) == target(aws, "OnTick")
    assert invoke["Properties"]["MaximumRetryAttempts"] == 0
    assert logical_id(invoke["Properties"]["DestinationConfig"]["OnFailure"]["Destination"]).startswith(
        "QueuesTickDead"
    )


def matches(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Match as EventBridge does for the patterns used here: each named field has one of the listed values."""
    return all(
        matches(wanted, event.get(name, {})) if isinstance(wanted, dict) else event.get(name) in wanted
        for name, wanted in pattern.items()
    )


def ec2_event(detail_type: str, **detail: str) -> dict[str, Any]:
    """The event as EC2 sends it (EC2 User Guide, events-ref-ec2)."""
    return {
        "version": "0",
        "id": "1e5527d7-bb36-4607-3370-4164db56a40e",
        "detail-type": detail_type,
        "source": "aws.ec2",
        "account": "123456789012",
        "time": "2026-11-23T12:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:ec2:us-east-1a:instance/i-0b662ef9931388ba0"],
        "detail": {"instance-id": "i-0b662ef9931388ba0", **detail},
    }


WARNING = ec2_event("EC2 Spot Instance Interruption Warning", **{"instance-action": "terminate"})
REBALANCE = ec2_event("EC2 Instance Rebalance Recommendation")


@pytest.mark.parametrize(
    ("event", "rules"),
    [
        (WARNING, {"InterruptionWarnings"}),
        (REBALANCE, {"RebalanceRecommendations"}),
        *(
            (ec2_event("EC2 Instance State-change Notification", state=state), {"StateChanges"})
            for state in ("running", "stopping", "stopped", "shutting-down", "terminated")
        ),
        (ec2_event("EC2 Instance State-change Notification", state="pending"), set()),
        (ec2_event("EC2 Instance Launch Successful"), set()),
        ({**WARNING, "source": "demo.ec2"}, set()),
    ],
)
def test_rules_match_the_events_that_the_functions_handle(
    aws: Synthesized, event: dict[str, Any], rules: set[str]
) -> None:
    matched = {
        re.sub(r"^Triggers|[0-9A-F]{8}$", "", name)
        for name, one in aws.of("AWS::Events::Rule").items()
        if matches(one["Properties"]["EventPattern"], event)
    }
    assert matched == rules


def test_events_reach_the_notices_queue_or_a_dead_letter_queue(aws: Synthesized) -> None:
    rules = {name: one for name, one in aws.of("AWS::Events::Rule").items() if "AlarmChanges" not in name}
    assert len(rules) == 4
    for rule in rules.values():
        (only,) = rule["Properties"]["Targets"]
        assert logical_id(only["Arn"]).startswith("QueuesNotices")
        assert "Dead" not in logical_id(only["Arn"])
        assert logical_id(only["DeadLetterConfig"]["Arn"]).startswith("QueuesNoticesDead")
        assert only["RetryPolicy"]["MaximumEventAgeInSeconds"] == 300
        assert only["RetryPolicy"]["MaximumRetryAttempts"] > 0


def test_changes_of_alarms_reach_their_queue_or_a_dead_letter_queue(aws: Synthesized) -> None:
    ((_, rule),) = [(name, one) for name, one in aws.of("AWS::Events::Rule").items() if "AlarmChanges" in name]
    pattern = rule["Properties"]["EventPattern"]
    assert pattern["source"] == ["aws.cloudwatch"]
    assert set(pattern["detail-type"]) == {
        "CloudWatch Alarm State Change",
        "CloudWatch Alarm Contributor State Change",
    }
    (only,) = rule["Properties"]["Targets"]
    assert logical_id(only["Arn"]).startswith("QueuesAlarms")
    assert logical_id(only["DeadLetterConfig"]["Arn"]).startswith("QueuesAlarmsDead")


def test_the_default_launch_template_fits_any_vpc_and_is_tagged_for_this_stack(synthesize: Synthesize) -> None:
    (template,) = synthesize(stack="team-a").of("AWS::EC2::LaunchTemplate").values()
    properties = template["Properties"]
    assert properties["LaunchTemplateName"] == "team-a-default"
    assert properties["TagSpecifications"] == [
        {"ResourceType": "launch-template", "Tags": [{"Key": "spotpools:stack", "Value": "team-a"}]}
    ]
    data = properties["LaunchTemplateData"]
    assert data["ImageId"] == "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
    assert not {"SecurityGroupIds", "SecurityGroups", "NetworkInterfaces", "InstanceMarketOptions"} & set(data)


def test_two_deployments_share_no_name(synthesize: Synthesize, aws: Synthesized) -> None:
    """Every fixed name starts with the stack's name; so do the names that CloudFormation makes."""

    def names(template: Synthesized) -> set[str]:
        return {
            value
            for one in template.resources.values()
            for key, value in one.get("Properties", {}).items()
            if key in {"AlarmName", "LaunchTemplateName", "TableName", "QueueName", "FunctionName", "RoleName", "Name"}
            and isinstance(value, str)
        }

    other = names(synthesize(stack="team-a"))
    assert not names(aws) & other
    assert all(name.startswith(("team-a-", "team-a/")) for name in other)


def test_the_dashboards_first_screen_says_what_is_wrong_how_large_the_pools_are_and_why_they_wait(
    aws: Synthesized,
) -> None:
    (dashboard,) = aws.of("AWS::CloudWatch::Dashboard").values()
    parts = dashboard["Properties"]["DashboardBody"]["Fn::Join"][1]
    body = "".join(part if isinstance(part, str) else next(iter(part.values()))[0] for part in parts)
    first = [one for one in json.loads(body)["widgets"] if one["y"] + one["height"] <= 14]
    assert [one["type"] for one in first] == ["text", "alarm", "metric", "metric", "log"]
    head, alarms, sizes, cost, decisions = (one["properties"] for one in first)
    assert len(alarms["alarms"]) == len(aws.of("AWS::CloudWatch::Alarm"))
    assert [one[0]["label"] for one in sizes["metrics"]] == ["wanted", "running"]
    assert "HourlyCost" in json.dumps(cost)
    assert "waiting.reason" in decisions["query"]
    assert decisions["query"].count("SOURCE") == 2, "of both functions that decide"
    assert head["markdown"].count("](https://") == 3
    assert "runbook" not in head["markdown"], "a path in the repository is no link in a browser"


def test_a_runbook_with_an_address_is_a_link_on_the_dashboard(synthesize: Synthesize) -> None:
    (dashboard,) = synthesize(runbook="https://wiki.example.com/runbook").of("AWS::CloudWatch::Dashboard").values()
    assert "[runbook](https://wiki.example.com/runbook)" in json.dumps(dashboard, ensure_ascii=False)


def test_the_dashboard_shows_what_the_machinery_does(aws: Synthesized) -> None:
    (dashboard,) = aws.of("AWS::CloudWatch::Dashboard").values()
    body = json.dumps(dashboard["Properties"]["DashboardBody"])
    assert dashboard["Properties"]["DashboardName"] == "spotpools-fleet"
    for shown in (
        "SpotInstancesLaunched",
        "InterruptionNotices",
        "Ec2Calls",
        "ApproximateAgeOfOldestMessage",
        "Duration",
    ):
        assert shown in body, shown


def test_saved_log_queries_exist(aws: Synthesized) -> None:
    queries = [one["Properties"] for one in aws.of("AWS::Logs::QueryDefinition").values()]
    assert {one["Name"] for one in queries} == {
        "spotpools/why did a pool do that",
        "spotpools/what EC2 refused",
        "spotpools/errors of the functions",
    }
    assert all(len(one["LogGroupNames"]) == 5 for one in queries)
