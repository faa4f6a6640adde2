"""``doctor``, and expected errors of every command: findings have remedies, and errors have no traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.main import get_command

from cli import doctor
from cli.aws_errors import expected_errors
from cli.doctor import State
from cli.exits import AwsFaultError
from cli.main import app
from lambdas.metrics import namespace
from lambdas.wiring import utc_now
from tests.cli.site import Site


def checks(site: Site, *, fails: bool) -> dict[str, dict[str, str]]:
    """Run doctor and return its checks by name."""
    result = site.run("doctor", "-o", "json")
    assert result.exit_code == (1 if fails else 0), result.output
    return {one["name"]: one for one in json.loads(result.stdout)["checks"]}


def beat(site: Site) -> None:
    """Publish a heartbeat of the tick."""
    datum = {"MetricName": "Heartbeat", "Value": 1, "Timestamp": utc_now()}
    site.client("cloudwatch").put_metric_data(Namespace=namespace(site.settings.stack), MetricData=[datum])


@pytest.fixture
def local(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site on the local cloud, which has no quotas and no service-linked roles."""
    monkeypatch.setenv("SPOTPOOLS_MARKET_URL", site.ec2_url)
    return site


def test_a_healthy_deployment_passes(local: Site) -> None:
    beat(local)
    found = checks(local, fails=False)
    assert {name for name, one in found.items() if one["state"] == "ok"} >= {
        "credentials", "stack", "version", "tables", "heartbeat", "functions", "dead letters", "alarms",
    }  # fmt: skip
    assert found["messages topic"]["state"] == "warn"
    assert "aws sns subscribe" in found["messages topic"]["remedy"]
    assert found["spot quotas"]["state"] == found["service-linked role"]["state"] == "skip"


def test_a_stopped_tick_fails(local: Site) -> None:
    found = checks(local, fails=True)
    assert (found["heartbeat"]["state"], found["heartbeat"]["found"]) == ("fail", "none in the last hour")
    assert found["heartbeat"]["remedy"]


def test_whatever_switched_the_tick_off_is_named(local: Site) -> None:
    function = local.outputs["TickFunction"]
    local.client("lambda").put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
    resources = local.client("cloudformation").describe_stack_resources(StackName=local.settings.stack)
    (name,) = [one["PhysicalResourceId"] for one in resources["StackResources"] if one["LogicalResourceId"] == "Tick"]
    scheduler = local.client("scheduler")
    asked = ("FlexibleTimeWindow", "ScheduleExpression", "Target")
    kept = {key: value for key, value in scheduler.get_schedule(Name=name).items() if key in asked}
    scheduler.update_schedule(Name=name, State="DISABLED", **kept)
    beat(local)
    found = checks(local, fails=True)
    assert found["heartbeat"]["state"] == "ok", "the last heartbeat is not late yet"
    assert f"schedule {name} is DISABLED" in found["schedule"]["found"]
    assert f"function {function} has a reserved concurrency of 0" in found["schedule"]["found"]
    assert found["schedule"]["remedy"]


def test_alarms_of_another_stack_are_ignored(local: Site) -> None:
    beat(local)
    cloudwatch, stack = local.client("cloudwatch"), local.settings.stack
    neighbours = f"{stack}-too-pool-below-target"
    asked = ("ComparisonOperator", "EvaluationPeriods", "MetricName", "Namespace", "Period", "Statistic", "Threshold")
    (ours,) = cloudwatch.describe_alarms(AlarmNames=[f"{stack}-pool-below-target"])["MetricAlarms"]
    cloudwatch.put_metric_alarm(AlarmName=neighbours, **{name: ours[name] for name in asked})
    cloudwatch.set_alarm_state(AlarmName=neighbours, StateValue="ALARM", StateReason="a test")
    assert checks(local, fails=False)["alarms"]["state"] == "ok"
    cloudwatch.set_alarm_state(AlarmName=ours["AlarmName"], StateValue="ALARM", StateReason="a test")
    assert checks(local, fails=False)["alarms"]["found"] == f"active: {stack}-pool-below-target"


def test_dead_letters_fail_and_a_function_error_is_quoted(local: Site) -> None:
    beat(local)
    resources = local.client("cloudformation").describe_stack_resources(StackName=local.settings.stack)
    (queue,) = [one for one in resources["StackResources"] if one["LogicalResourceId"] == "DueDead"]
    local.client("sqs").send_message(QueueUrl=queue["PhysicalResourceId"], MessageBody="x")
    function = local.outputs["PoolDueFunction"]
    datum: dict[str, Any] = {"MetricName": "Errors", "Value": 2, "Timestamp": utc_now()}
    datum["Dimensions"] = [{"Name": "FunctionName", "Value": function}]
    local.client("cloudwatch").put_metric_data(Namespace="AWS/Lambda", MetricData=[datum])
    line = {"level": "ERROR", "message": "reconcile failed", "exception": "Traceback\nValueError: seven"}
    local.log("PoolDueFunction", {"level": "INFO", "message": "reconciled"}, line)
    found = checks(local, fails=True)
    assert "DueDead: 1" in found["dead letters"]["found"]
    assert found["functions"]["state"] == "fail"
    assert "2 errors within the last hour (PoolDueFunction)" in found["functions"]["found"]
    assert found["functions"]["found"].endswith("reconcile failed: ValueError: seven")


def test_an_older_stack_is_a_warning(local: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    beat(local)
    monkeypatch.setattr(doctor, "__version__", "9.0.0")
    found = checks(local, fails=False)
    assert found["version"]["state"] == "warn"
    assert "the command is 9.0.0" in found["version"]["found"]


def test_the_missing_service_linked_role_fails_with_its_command(site: Site) -> None:
    beat(site)
    found = checks(site, fails=True)["service-linked role"]
    assert found["state"] == "fail"
    assert "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com" in found["remedy"]


QUOTAS = {
    "Standard (A, C, D, H, I, M, R, T, Z)": 640.0,
    "G and VT": 0.0,
    "P4, P3 and P2": 64.0,
    "P5": 0.0,
    "Inf": 0.0,
    "F": 0.0,
}


@pytest.mark.parametrize(
    ("instance_type", "family"),
    [
        ("m5.large", "Standard (A, C, D, H, I, M, R, T, Z)"),
        ("c7gn.large", "Standard (A, C, D, H, I, M, R, T, Z)"),
        ("im4gn.large", "Standard (A, C, D, H, I, M, R, T, Z)"),
        ("g5.xlarge", "G and VT"),
        ("g4dn.metal", "G and VT"),
        ("vt1.3xlarge", "G and VT"),
        ("p3.2xlarge", "P4, P3 and P2"),
        ("p5.48xlarge", "P5"),
        ("inf1.xlarge", "Inf"),
        ("f1.2xlarge", "F"),
    ],
)
def test_each_type_counts_against_one_quota(instance_type: str, family: str) -> None:
    assert [one for one in QUOTAS if doctor.counts_for(one, instance_type)] == [family]


def test_a_family_without_quota_fails_and_the_others_are_listed() -> None:
    check = doctor.Check("spot quotas", *doctor.judged(QUOTAS, ["g5.xlarge", "m5.large"]))
    assert check.state is State.FAIL
    assert check.found == "no spot vCPUs for G and VT (for g5.xlarge)"
    assert "Service Quotas" in check.remedy
    assert doctor.judged(QUOTAS, ["m5.large"]) == (State.OK, "Standard (A, C, D, H, I, M, R, T, Z): 640 vCPUs")


SIGNED_OUT = {"AWS_CONFIG_FILE": "", "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
"""With the file below: a profile whose sign-in has expired."""
CONFIG = """
[profile work]
region = us-east-1
sso_session = work
sso_account_id = 123456789012
sso_role_name = admin
[sso-session work]
sso_region = us-east-1
sso_start_url = https://example.awsapps.com/start
"""


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "No AWS credentials were found"),
        ({"AWS_REGION": None, "AWS_DEFAULT_REGION": None}, "No AWS Region is set"),
        ({"AWS_REGION": "in the west"}, "Give --region, or export AWS_REGION"),
        ({"AWS_PROFILE": "nobody"}, "The config profile (nobody) could not be found"),
        (SIGNED_OUT | {"AWS_PROFILE": "work"}, "run aws sso login --profile work."),
        ({"AWS_SECRET_ACCESS_KEY": None}, "Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY"),
        ({"SPOTPOOLS_STACK": "nothing"}, "make deploy"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS could not be reached"),
    ],
)
def test_missing_settings_are_reported_in_one_line(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str | None], says: str
) -> None:
    (tmp_path / "config").write_text(CONFIG)
    if "AWS_CONFIG_FILE" in environment:
        environment = environment | {"AWS_CONFIG_FILE": str(tmp_path / "config")}
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name, value in environment.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    for command, status in ((["list"], 3), (["explain", "a"], 3), (["doctor"], 1)):
        result = site.run(*command)
        assert result.exit_code == status
        assert says in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("code", "message", "says"),
    [
        (
            "AccessDeniedException",
            "User: arn:aws:iam::1:user/x is not authorized to perform: dynamodb:Scan on resource: y",
            "lack the permission dynamodb:Scan",
        ),
        (
            "AccessDenied",
            "User: arn:aws:sts::1:x is not authorized to perform: iam:GetRole on",
            "the permission iam:GetRole",
        ),
        (
            "UnauthorizedOperation",
            "You are not authorized to perform this operation.",
            "the permission DescribeInstances",
        ),
        ("ExpiredTokenException", "The security token included in the request is expired", "get-caller-identity"),
        ("ResourceNotFoundException", "Requested resource not found", "Is the stack deployed"),
        ("InternalServerError", "oh", "AWS answered InternalServerError: oh"),
    ],
)
def test_a_refusal_says_what_to_do(code: str, message: str, says: str) -> None:
    with pytest.raises(AwsFaultError, match=says), expected_errors():
        raise ClientError({"Error": {"Code": code, "Message": message}}, "DescribeInstances")


def test_every_command_that_asks_aws_takes_a_region() -> None:
    group: Any = get_command(app)
    commands = group.commands
    assert set(commands) > {"list", "doctor"}
    for name, command in commands.items():
        taken = {option for one in command.params for option in one.opts}
        assert ({"--stack", "--region"} <= taken) == (name not in ("validate", "cost")), name


def test_a_region_option_overrides_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert site.json("list")["pools"]  # AWS_REGION is us-east-1
    monkeypatch.setenv("SPOTPOOLS_POOLS_TABLE", site.settings.pools_table)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert site.json("list", "--region", "us-east-1")["pools"]
    result = site.run("list", "--region", "eu-west-2")
    assert (result.exit_code, "its Region with --region" in result.stderr) == (3, True)


def test_wrong_usage_exits_with_two(site: Site) -> None:
    assert site.run("list", "--frobnicate").exit_code == 2
