"""The steps that only AWS can play: their requests fit the services' models, and each answer gives its verdict."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest

from acceptance.claims import Verdict
from acceptance.instances import OWN_TAG
from acceptance.run import NothingWorksError, NotSeenError, Run
from acceptance.steps import account, alarms, fleets, letters, stack, story, telemetry
from infra.synthesis import template
from lambdas.domain.model.instances import POOL_TAG, STACK_TAG
from tests.acceptance.aws import OUTPUTS, STACK, PlayedAws, RefusedByAws

NOW = datetime.now(UTC)


def verdict(run: Run, claim: str) -> str:
    return run.state.findings[claim].verdict


def instance(id_: str, **more: Any) -> dict[str, Any]:
    tags = {STACK_TAG: STACK, POOL_TAG: story.POOL, "spotpools:attempt": "a"}
    return {
        "InstanceId": id_,
        "State": {"Name": "running"},
        "LaunchTime": NOW,
        "InstanceType": "t3.nano",
        "InstanceLifecycle": "spot",
        "ImageId": "ami-1",
        "Placement": {"AvailabilityZone": "eu-west-1a"},
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        **more,
    }


def listing(*instances: dict[str, Any]) -> dict[str, Any]:
    return {"Reservations": [{"Instances": list(instances)}]}


def quota(name: str, value: float) -> dict[str, Any]:
    return {"QuotaName": name, "Value": value}


@pytest.fixture
def allowed(aws: PlayedAws) -> PlayedAws:
    listed = {
        "ec2": [quota("All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 64), quota("Other", 0)],
        "fis": [quota("Parallel actions per experiment", 10), quota("Actions per experiment", 20)],
    }
    aws.answers["service-quotas.ListServiceQuotas"] = lambda asked: {"Quotas": listed[asked["ServiceCode"]]}
    aws.answers["iam.GetRole"] = {"Role": {"Arn": "arn:aws:iam::123456789012:role/x"}}
    return aws


@pytest.mark.usefixtures("allowed")
def test_an_account_with_a_quota_and_the_role_may_begin(run: Run) -> None:
    assert "64 vCPUs" in account.ready(run)
    for claim in ("quota-names", "spot-role", "drill-quota"):
        assert verdict(run, claim) == Verdict.SEEN


def test_an_account_whose_quota_is_too_small_ends_the_run_before_it_makes_anything(
    run: Run, allowed: PlayedAws
) -> None:
    allowed.answers["service-quotas.ListServiceQuotas"] = {
        "Quotas": [quota("All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 4)]
    }
    with pytest.raises(NothingWorksError, match="4 vCPUs, and 4 instances need up to 8"):
        account.ready(run)


def test_a_quota_with_another_name_differs_from_the_claim(run: Run, allowed: PlayedAws) -> None:
    allowed.answers["service-quotas.ListServiceQuotas"] = {"Quotas": [quota("All F Spot Instance Requests", 64)]}
    account.ready(run)
    assert verdict(run, "quota-names") == Verdict.DIFFERS
    assert verdict(run, "drill-quota") == Verdict.NOT_SEEN


def test_an_account_without_the_role_ends_the_run_with_the_command_that_makes_it(run: Run, allowed: PlayedAws) -> None:
    def missing(_: object) -> dict[str, Any]:
        raise RefusedByAws("NoSuchEntity")

    allowed.answers["iam.GetRole"] = missing
    with pytest.raises(NothingWorksError, match="create-service-linked-role"):
        account.ready(run)


def test_tables_and_key_are_looked_at(run: Run, aws: PlayedAws) -> None:
    aws.answers |= {
        "dynamodb.DescribeTable": {"Table": {"DeletionProtectionEnabled": True}},
        "sns.GetTopicAttributes": {"Attributes": {"KmsMasterKeyId": "key"}},
        "kms.DescribeKey": {"KeyMetadata": {"KeyId": "key", "KeyState": "Enabled", "KeyManager": "AWS"}},
    }
    stack.data(run)
    assert verdict(run, "deletion-protection") == Verdict.SEEN
    assert verdict(run, "topic-key") == Verdict.DIFFERS


def test_a_bundle_that_cannot_be_imported_differs_and_fails_its_step(run: Run, aws: PlayedAws) -> None:
    said = io.BytesIO(b'{"errorType": "Runtime.ImportModuleError"}')
    aws.answers["lambda.Invoke"] = {"FunctionError": "Unhandled", "Payload": said}
    with pytest.raises(NotSeenError, match="ImportModuleError"):
        stack.code(run)
    assert verdict(run, "bundle-imports") == Verdict.DIFFERS


def test_a_filled_pool_shows_its_image_and_the_tags_of_its_requests(run: Run, aws: PlayedAws) -> None:
    aws.answers |= {
        "ec2.DescribeInstances": listing(instance("i-1"), instance("i-2", ImageId="ami-2")),
        "dynamodb.PutItem": {},
        "dynamodb.GetItem": {"Item": {"running": {"N": "2"}}},
        "ssm.GetParameter": {"Parameter": {"Value": "ami-1"}},
        "ec2.DescribeSpotInstanceRequests": {"SpotInstanceRequests": [{"Tags": []}, {}]},
    }
    story.fill(run)
    assert verdict(run, "spot-launches") == Verdict.SEEN
    assert verdict(run, "image-parameter") == Verdict.DIFFERS
    assert "2 requests, with the tags [[], []]" in run.state.findings["spot-request-tags"].text


def test_where_fis_is_not_allowed_an_instance_is_terminated_instead_and_the_report_says_so(
    run: Run, aws: PlayedAws
) -> None:
    def refused(_: object) -> dict[str, Any]:
        raise RefusedByAws("AccessDenied", "User is not authorized to perform: iam:CreateRole on resource: x")

    def terminated(_: object) -> dict[str, Any]:
        aws.answers["ec2.DescribeInstances"] = listing(instance("i-2"), instance("i-3"))
        return {}

    aws.answers |= {
        "ec2.DescribeInstances": listing(instance("i-1"), instance("i-2")),
        "iam.CreateRole": refused,
        "ec2.TerminateInstances": terminated,
    }
    assert "i-1 interrupted by an ordinary termination, replaced by i-3" in story.interrupt(run)
    assert aws.asked("ec2.TerminateInstances") == [{"InstanceIds": ["i-1"]}]
    for claim in ("drill", "drill-without-template", "event-latency"):
        assert verdict(run, claim) == Verdict.NOT_SEEN
        assert "lack the permission iam:CreateRole" in run.state.findings[claim].text


def test_a_drill_is_an_experiment_that_ends_without_its_template(run: Run, aws: PlayedAws) -> None:
    def started(_: object) -> dict[str, Any]:
        aws.answers["ec2.DescribeInstances"] = listing(instance("i-1"), instance("i-2"), instance("i-3"))
        return {"experiment": {"id": "EXP1"}}

    def logged(_: object) -> dict[str, Any]:
        lines = [{"message": "event", "instance": id_, "notes": "interruption"} for id_ in ("i-1", "i-2")]
        at = int(datetime.now(UTC).timestamp() * 1000)
        return {"events": [{"message": json.dumps(one), "timestamp": at} for one in lines]}

    aws.answers |= {
        "ec2.DescribeInstances": listing(instance("i-1"), instance("i-2")),
        "iam.CreateRole": {"Role": {"Arn": "arn:aws:iam::123456789012:role/spotpools-accept-accept-drill"}},
        "iam.PutRolePolicy": {},
        "dynamodb.GetItem": {"Item": {"pool_name": {"S": story.POOL}}},
        "fis.CreateExperimentTemplate": {"experimentTemplate": {"id": "EXT1"}},
        "fis.StartExperiment": started,
        "fis.DeleteExperimentTemplate": {},
        "fis.GetExperiment": {"experiment": {"state": {"status": "completed"}}},
        "logs.FilterLogEvents": logged,
    }
    story.interrupt(run)
    assert aws.asked("fis.DeleteExperimentTemplate") == [{"id": "EXT1"}]
    for claim in ("drill", "drill-without-template", "event-latency"):
        assert verdict(run, claim) == Verdict.SEEN


def test_a_token_that_launches_a_second_instance_differs_and_both_are_ended(run: Run, aws: PlayedAws) -> None:
    ids = iter(["i-1", "i-2"])

    def launched(asked: dict[str, Any]) -> dict[str, Any]:
        assert {"Key": OWN_TAG, "Value": STACK} in asked["TagSpecifications"][0]["Tags"]
        return {"Instances": [{"InstanceIds": [next(ids)]}]}

    gone = [instance(id_, State={"Name": "terminated"}) for id_ in ("i-1", "i-2")]
    aws.answers |= {
        "ec2.DescribeSubnets": {"Subnets": [{"SubnetId": "subnet-1", "AvailabilityZone": "eu-west-1a"}]},
        "ec2.CreateFleet": launched,
        "ec2.TerminateInstances": {},
        "ec2.DescribeInstances": listing(*gone),
    }
    fleets.token(run)
    first, second = aws.asked("ec2.CreateFleet")
    assert first == second
    assert aws.asked("ec2.TerminateInstances") == [{"InstanceIds": ["i-1", "i-2"]}]
    assert verdict(run, "token-repeated") == Verdict.DIFFERS


def test_the_kinds_of_resource_that_a_fleet_needs_are_those_whose_denial_is_refused(
    run: Run, aws: PlayedAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies: list[str] = []

    def assumed(asked: dict[str, Any]) -> dict[str, Any]:
        policies.append(asked["Policy"])
        return {"Credentials": {"AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c"}}

    needed = ('"ec2:CreateFleet", "Resource": "arn:*:ec2:*:*:fleet/*"', '"ec2:CreateAction": "RunInstances"')

    def dry(asked: dict[str, Any]) -> dict[str, Any]:
        if "ssm:GetParameter*" in policies[-1]:
            assert "DryRun" not in asked
            return {"Errors": [{"ErrorCode": "UnauthorizedOperation", "ErrorMessage": "not allowed to ssm"}]}
        assert asked["DryRun"] is True
        raise RefusedByAws("UnauthorizedOperation" if any(x in policies[-1] for x in needed) else "DryRunOperation")

    aws.answers |= {
        "ec2.DescribeSubnets": {"Subnets": [{"SubnetId": "subnet-1", "AvailabilityZone": "eu-west-1a"}]},
        "iam.CreateRole": {"Role": {"Arn": "arn:aws:iam::123456789012:role/spotpools-accept-accept-rights"}},
        "iam.PutRolePolicy": {},
        "sts.AssumeRole": assumed,
        "ec2.CreateFleet": dry,
    }
    monkeypatch.setattr("acceptance.steps.fleets.boto3", SimpleNamespace(Session=lambda **_: aws))
    fleets.rights(run)
    text = run.state.findings["fleet-resources"].text
    assert "ec2:CreateFleet: fleet; ec2:RunInstances: no kind; ec2:CreateTags: no kind" in text
    assert "by RunInstances" in run.state.findings["create-action"].text
    assert "launch template: False" in run.state.findings["template-right"].text
    assert "UnauthorizedOperation: not allowed to ssm" in run.state.findings["parameter-right"].text
    assert all(len(policy) <= 2048 for policy in policies)


@pytest.mark.parametrize(
    ("attributes", "says"), [({"pool": alarms.POOL}, Verdict.SEEN), ({"pool": "other"}, Verdict.DIFFERS)]
)
def test_the_contributors_of_a_query_alarm_are_its_pools(
    run: Run, aws: PlayedAws, attributes: dict[str, str], says: Verdict
) -> None:
    one = {"ContributorId": "1", "ContributorAttributes": attributes, "StateReason": "x"}
    at = "2026-01-01T12:00:07.500Z"
    body = json.dumps({"Subject": f"{alarms.POOL}: its item has 1 fault", "Timestamp": at})
    received = iter([{"Messages": [{"Body": body, "ReceiptHandle": "r"}]}])
    aws.answers |= {
        "sqs.CreateQueue": {"QueueUrl": "https://sqs/accept"},
        "sns.Subscribe": {},
        "dynamodb.PutItem": {},
        "dynamodb.DeleteItem": {},
        "cloudwatch.DescribeAlarms": {
            "MetricAlarms": [
                {
                    "StateValue": "ALARM",
                    "StateReason": "x",
                    "StateUpdatedTimestamp": datetime(2026, 1, 1, 12, tzinfo=UTC),
                }
            ]
        },
        "cloudwatch.DescribeAlarmContributors": {"AlarmContributors": [one]},
        "sqs.ReceiveMessage": lambda _: next(received, {}),
        "sqs.DeleteMessage": {},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alarms, "AGAIN_SECONDS", 0.1)
        alarms.alarm(run)
    assert verdict(run, "alarm-contributors") == says
    for claim in ("query-alarm", "message-time", "message-once", "message-key"):
        assert verdict(run, claim) == Verdict.SEEN
    assert "was sent 7.5 s after" in run.state.findings["message-time"].text
    assert aws.asked("dynamodb.DeleteItem")


@pytest.mark.parametrize(("arn", "says"), [("PendingConfirmation", Verdict.SEEN), ("arn:aws:sns:x", Verdict.DIFFERS)])
def test_a_subscription_that_no_one_confirms_has_no_arn(run: Run, aws: PlayedAws, arn: str, says: Verdict) -> None:
    listed = [
        {"SubscriptionArn": "arn:aws:sns:y", "Endpoint": "other"},
        {"SubscriptionArn": arn, "Endpoint": stack.SIMULATOR},
    ]
    aws.answers |= {"sns.Subscribe": {}, "sns.ListSubscriptionsByTopic": {"Subscriptions": listed}}
    stack.subscription(run)
    assert verdict(run, "pending-subscription") == says


@pytest.mark.parametrize(("apart", "says"), [(14, Verdict.SEEN), (17, Verdict.DIFFERS)])
def test_the_clocks_of_dynamodb_differ_by_the_spread_of_its_dates(
    run: Run, aws: PlayedAws, monkeypatch: pytest.MonkeyPatch, apart: int, says: Verdict
) -> None:
    dates = cycle([NOW + timedelta(seconds=seconds) for seconds in (100, 100 + apart)])
    aws.dates = lambda: format_datetime(next(dates), usegmt=True)
    aws.answers["dynamodb.GetItem"] = {}
    monkeypatch.setattr(run, "now", lambda: NOW)
    stack.clock(run)
    assert verdict(run, "dynamodb-clock") == says


@pytest.mark.parametrize(("status", "says"), [("COMPLETED", Verdict.SEEN), ("FAILED", Verdict.DIFFERS)])
def test_a_dead_letter_is_moved_by_a_task(run: Run, aws: PlayedAws, status: str, says: Verdict) -> None:
    arn = "arn:aws:sqs:eu-west-1:123456789012:q"
    resources = [
        {
            "LogicalResourceId": "QueuesDueDead1",
            "PhysicalResourceId": "https://sqs/dead",
            "ResourceType": "AWS::SQS::Queue",
        }
    ]
    aws.answers |= {
        "cloudformation.DescribeStackResources": {"StackResources": resources},
        "sqs.SendMessage": {},
        "sqs.GetQueueAttributes": {"Attributes": {"QueueArn": arn}},
        "sqs.StartMessageMoveTask": {"TaskHandle": "t"},
        "sqs.ListMessageMoveTasks": {"Results": [{"Status": status}]},
    }
    letters.move(run)
    assert verdict(run, "dead-letter-move") == says


def test_logs_show_cold_starts_and_modules_that_cannot_be_imported(run: Run, aws: PlayedAws) -> None:
    def found(asked: dict[str, Any]) -> dict[str, Any]:
        texts = {
            '"Init Duration"': "REPORT RequestId: x Duration: 3 ms Init Duration: 1234.56 ms",
            telemetry.BROKEN: "Runtime.ImportModuleError: Unable to import module",
        }
        text = texts.get(asked["filterPattern"], '{"pool": "accept-story"}')
        if asked["filterPattern"] == telemetry.BROKEN and not asked["logGroupName"].endswith("alarm"):
            return {"events": []}
        return {"events": [{"message": text, "timestamp": 1}]}

    aws.answers["logs.FilterLogEvents"] = found
    telemetry.logs(run)
    assert verdict(run, "log-star") == verdict(run, "cold-starts") == Verdict.SEEN
    assert "1 cold starts, at most 1235 ms" in run.state.findings["cold-starts"].text
    assert verdict(run, "bundle-imports") == Verdict.DIFFERS
    assert "AlarmFunction" in run.state.findings["bundle-imports"].text


@pytest.mark.parametrize(("status", "says"), [("Complete", Verdict.SEEN), ("Failed", Verdict.DIFFERS)])
def test_each_saved_query_runs_to_its_end(run: Run, aws: PlayedAws, status: str, says: Verdict) -> None:
    kept = {"name": f"{STACK}/why", "queryString": "fields x | filter pool = 'NAME'", "logGroupNames": ["g"]}
    aws.answers |= {
        "logs.DescribeQueryDefinitions": {"queryDefinitions": [kept]},
        "logs.StartQuery": {"queryId": "q"},
        "logs.GetQueryResults": {"status": status, "results": [[]]},
    }
    telemetry.saved_queries(run)
    assert story.POOL in aws.asked("logs.StartQuery")[0]["queryString"]
    assert verdict(run, "saved-queries") == says


def test_traces_of_the_tick_are_asked_of_x_ray(run: Run, aws: PlayedAws) -> None:
    aws.answers["xray.GetTraceSummaries"] = {"TraceSummaries": [{"Id": "1"}]}
    telemetry.traces(run)
    assert aws.asked("xray.GetTraceSummaries")[0]["FilterExpression"] == 'service("tick")'
    assert verdict(run, "traces") == Verdict.SEEN


@cache
def dashboard_of_the_stack() -> str:
    """The dashboard of the stage aws as CloudFormation would make it."""
    (one,) = [res for res in template()["Resources"].values() if res["Type"] == "AWS::CloudWatch::Dashboard"]
    parts = one["Properties"]["DashboardBody"]["Fn::Join"][1]
    return "".join(part if isinstance(part, str) else "x" for part in parts)


@pytest.mark.parametrize(("answers", "says"), [(True, Verdict.SEEN), (False, Verdict.DIFFERS)])
def test_each_line_of_the_dashboard_is_asked_for_and_queries_must_return_data(
    run: Run, aws: PlayedAws, answers: bool, says: Verdict
) -> None:
    def data(asked: dict[str, Any]) -> dict[str, Any]:
        queries = asked["MetricDataQueries"]
        full = answers or len(queries) > 1
        return {"MetricDataResults": [{"Id": one["Id"], "Values": [1.0] if full else []} for one in queries]}

    aws.answers |= {
        "cloudwatch.GetDashboard": {"DashboardBody": dashboard_of_the_stack()},
        "cloudwatch.GetMetricData": data,
    }
    telemetry.dashboard(run)
    asked = [query for call in aws.asked("cloudwatch.GetMetricData") for query in call["MetricDataQueries"]]
    expressions = [query["Expression"] for query in asked if "Expression" in query]
    assert len(asked) > 25
    assert len(expressions) == 3
    assert all(one.startswith("SELECT MAX(") for one in expressions)
    assert verdict(run, "dashboard-data") == says


@pytest.mark.parametrize(("rate", "says"), [(15.0, Verdict.SEEN), (60.0, Verdict.DIFFERS)])
def test_empty_polls_are_compared_with_what_the_costs_assume(
    run: Run, aws: PlayedAws, rate: float, says: Verdict
) -> None:
    aws.answers["cloudwatch.GetMetricStatistics"] = {"Datapoints": [{"Sum": rate}]}
    telemetry.polls(run)
    assert {one["Dimensions"][0]["Value"] for one in aws.asked("cloudwatch.GetMetricStatistics")} == {
        url.rpartition("/")[2] for name, url in OUTPUTS.items() if name.endswith("QueueUrl")
    }
    assert verdict(run, "empty-polls") == says
