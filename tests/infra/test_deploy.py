"""Errors of `make deploy` when a requirement is missing: one line, exit status 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.session
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from cli.deployment import Deployment
from infra import deploy
from infra.choices import CHOICES
from infra.stages import AWS
from infra.stages import Deployment as Deployed
from tests.infra.conftest import ROOT

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesize

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
SSO_PROFILE = """
[profile work]
region = eu-west-1
sso_session = work
sso_account_id = 123456789012
sso_role_name = admin
[sso-session work]
sso_region = eu-west-1
sso_start_url = https://example.awsapps.com/start
"""
NO_ACCOUNT = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(  # noqa: S603  this Python and our own module
        [sys.executable, "-m", "infra.deploy", *arguments],
        cwd=ROOT,
        env={**clean, **NO_ACCOUNT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that the deployment printed at its end."""
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


def program(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)


def test_missing_credentials_are_reported(tmp_path: Path) -> None:
    assert complaint(run(HOME=str(tmp_path))).startswith("deploy: no AWS credentials: set AWS_PROFILE")


def test_a_missing_region_is_reported(tmp_path: Path) -> None:
    assert complaint(run(HOME=str(tmp_path), **KEYS)).startswith("deploy: no AWS Region: set AWS_REGION")


def test_an_unknown_profile_is_reported(tmp_path: Path) -> None:
    assert "(absent)" in complaint(run(HOME=str(tmp_path), AWS_PROFILE="absent", AWS_REGION="us-east-1"))


def test_an_unreachable_aws_is_reported(tmp_path: Path) -> None:
    nobody_listens = "http://127.0.0.1:9"
    done = run(HOME=str(tmp_path), AWS_REGION="us-east-1", AWS_ENDPOINT_URL=nobody_listens, **KEYS)
    assert complaint(done).startswith("deploy: AWS does not answer")


def test_an_invalid_choice_is_reported() -> None:
    assert complaint(run("-c", "alarm_email=oncall")).startswith("deploy: alarm_email=oncall")
    assert complaint(run("-c", "alarm_email")).startswith("deploy: -c alarm_email: expected key=value")
    assert complaint(run("--stack", "my_pools")).startswith("deploy: stack=my_pools")


def test_a_missing_or_old_node_and_a_missing_npm_are_reported(tmp_path: Path) -> None:
    assert complaint(run(PATH=str(tmp_path))).startswith("deploy: Node.js is missing")
    program(tmp_path / "node", says="v18.20.4")
    assert complaint(run(PATH=str(tmp_path))).startswith("deploy: Node.js v18.20.4 is too old")
    program(tmp_path / "node", says="v20.0.0")
    assert complaint(run(PATH=str(tmp_path))).startswith("deploy: npm is missing")


def test_a_missing_cdk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "CDK", tmp_path / "cdk")
    with pytest.raises(deploy.NotReadyError, match="npm ci"):
        deploy.check_tools(os.environ)


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account with the CDK bootstrap only in Dublin, and two profiles for it."""
    config = tmp_path / "config"
    config.write_text(
        "[profile one]\nregion=eu-west-1\naws_access_key_id=test\naws_secret_access_key=test\n"
        "[profile two]\nregion=us-west-2\naws_access_key_id=test\naws_secret_access_key=test\n"
    )
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**NO_ACCOUNT, "AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": "absent"}.items():
        monkeypatch.setenv(name, value)
    with mock_aws(config={"core": {"mock_credentials": False}}):
        put = boto3.client("ssm", region_name="eu-west-1", **KEYS_GIVEN).put_parameter
        put(Name=deploy.BOOTSTRAP_VERSION, Value="30", Type="String")
        yield


KEYS_GIVEN = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
REGIONS: tuple[tuple[list[str], dict[str, str], str], ...] = (
    ([], {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-west-2", **KEYS}, "eu-west-1"),
    ([], {"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-1", **KEYS}, "eu-west-1"),
    ([], {"AWS_PROFILE": "one"}, "eu-west-1"),
    ([], {"AWS_PROFILE": "two", "AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
    (["--region", "eu-west-1"], {"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "us-east-2", **KEYS}, "eu-west-1"),
    ([], {"AWS_PROFILE": "two"}, "us-west-2"),
    ([], {"AWS_REGION": "us-west-2", "AWS_PROFILE": "one"}, "us-west-2"),
)
"""Options, environment and the resulting Region: the CDK and the command spotpools must agree."""


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(("options", "environment", "region"), REGIONS)
def test_the_cdk_and_the_command_go_to_the_same_region(
    options: list[str],
    environment: dict[str, str],
    region: str,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = cdk_that_tells(tmp_path, monkeypatch)
    monkeypatch.setattr(deploy, "last_choices", lambda *_, **__: {})  # moto has no CloudFormation here
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    command = Deployment(None, *options[1:])
    assert (command.region, command.client("cloudformation").meta.region_name) == (region, region)
    if region == "eu-west-1":
        assert deploy.main(options) == 1
        assert cdks_region(seen()) == region
    else:
        assert deploy.main(options) == deploy.NOT_READY
        assert f"cdk bootstrap aws://123456789012/{region}" in capsys.readouterr().err


def cdk_that_tells(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """Install a CDK that deploys nothing, and return the environment that it ran in."""
    cdk, seen = folder / "cdk", folder / "seen"
    cdk.write_text(f"#!/bin/sh\nenv > {seen}\nexit 1\n")
    cdk.chmod(0o755)
    monkeypatch.setattr(deploy, "CDK", cdk)
    return lambda: dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)


def cdks_region(environment: Mapping[str, str]) -> str | None:
    """The Region that the CDK's command line uses. No profile may change it."""
    names = ("AWS_REGION", "AMAZON_REGION", "AWS_DEFAULT_REGION", "AMAZON_DEFAULT_REGION")
    return next((environment[name] for name in names if environment.get(name)), None)


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("environment", "profile"),
    [
        # The CDK would use AWS_PROFILE in each case; boto3 and the AWS CLI would not.
        ({"AWS_PROFILE": "two", **KEYS}, None),
        ({"AWS_PROFILE": "two", "AWS_DEFAULT_PROFILE": "one"}, "one"),
        ({"AWS_PROFILE": "one"}, "one"),
    ],
)
def test_the_cdk_uses_the_credentials_that_were_checked(
    environment: dict[str, str], profile: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = cdk_that_tells(tmp_path, monkeypatch)
    monkeypatch.setattr(deploy, "last_choices", lambda *_, **__: {})  # moto has no CloudFormation here
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert deploy.main(["--region", "eu-west-1"]) == 1
    assert (seen().get("AWS_PROFILE"), seen().get("AWS_DEFAULT_PROFILE")) == (profile, None)


def test_an_expired_sign_in_names_the_command_to_renew_it(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(SSO_PROFILE)
    said = complaint(run(HOME=str(tmp_path), AWS_CONFIG_FILE=str(config), AWS_PROFILE="work"))
    assert "run aws sso login --profile work (" in said


def test_the_next_steps_name_the_deployed_stack_and_region() -> None:
    outputs = {"DashboardUrl": "https://dashboard", "MessagesTopic": "arn:topic"}
    text = deploy.next_steps(outputs, Deployed(stage=AWS, stack="spotpools"), "eu-west-1")
    assert "spotpools apply examples/first.yaml --region eu-west-1\n" in text
    assert "spotpools explain first --region eu-west-1\n" in text
    assert "subscribe --region eu-west-1 " in text
    assert "--topic-arn arn:topic" in text
    assert "https://dashboard" in text
    other = deploy.next_steps(outputs, Deployed(stage=AWS, stack="other"), "eu-west-1")
    assert "spotpools doctor --region eu-west-1 --stack other\n" in other
    by_mail = Deployed(stage=AWS, stack="spotpools", alarm_email="oncall@example.com")
    assert "confirm the e-mail that AWS has sent to oncall@example.com" in deploy.next_steps(outputs, by_mail, "x")


MAIL, SUBNET = "oncall@example.com", "subnet-0123456789abcdef0"


def last(outputs: Mapping[str, str] | None, *, given: bool = False, denied: bool = False) -> dict[str, str]:
    """What a deployment reads of a stack with these outputs, or of none; the answers are checked by AWS's own model."""
    client = botocore.session.get_session().create_client(
        "cloudformation", region_name="eu-west-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    listed = [{"OutputKey": name, "OutputValue": value} for name, value in (outputs or {}).items()]
    stack = {
        "StackName": "spotpools",
        "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
        "StackStatus": "CREATE_COMPLETE",
    }
    with Stubber(client) as answers:
        if denied:
            answers.add_client_error("describe_stacks", "AccessDenied", "not authorized")
        elif outputs is None:
            answers.add_client_error("describe_stacks", "ValidationError", "Stack with id spotpools does not exist")
        else:
            answers.add_response("describe_stacks", {"Stacks": [{**stack, "Outputs": listed}]})
        return deploy.last_choices(client, "spotpools", given=given)


def test_a_second_deployment_keeps_the_choices_of_the_first(synthesize: Synthesize) -> None:
    first = synthesize(alarm_email=MAIL, subnet_ids=f"{SUBNET},{SUBNET[:-1]}1", interruptions_per_hour="3").template
    outputs = {"Choices": first["Outputs"]["Choices"]["Value"], "PoolsTable": "p"}
    again = dict(pair.split("=", 1) for pair in deploy.kept(last(outputs), []))
    assert synthesize(**again).template == first


def test_a_choice_given_anew_replaces_the_last_one_and_an_empty_one_unsets_it() -> None:
    choices = {"alarm_email": MAIL, "subnet_ids": SUBNET, "runbook": "https://example.com"}
    known = last({"Choices": json.dumps(choices)})
    pairs = ["alarm_email=new@example.com", "runbook="]
    now = deploy.check_context([*pairs, *deploy.kept(known, pairs)])
    assert now.chosen == {"alarm_email": "new@example.com", "subnet_ids": SUBNET}
    assert deploy.changed_choices(known, now.chosen).splitlines() == [
        "Choices:",
        f"  alarm_email = new@example.com  (was {MAIL})",
        f"  subnet_ids = {SUBNET}  (as before)",
        "  runbook  (was https://example.com; the default again)",
    ]


def test_a_first_deployment_has_no_choices_to_keep() -> None:
    assert last(None) == {}
    assert deploy.changed_choices({}, {}) == "Choices: all defaults.\n"
    assert "alarm_email = a@b.c  (new)" in deploy.changed_choices({}, {"alarm_email": "a@b.c"})


def test_a_stack_that_recorded_no_choices_is_not_reset_without_a_word() -> None:
    with pytest.raises(deploy.NotReadyError, match="did not record its choices: give them once more"):
        last({"PoolsTable": "p"})
    assert last({"PoolsTable": "p"}, given=True) == {}


def test_choices_that_cannot_be_read_are_not_dropped() -> None:
    with pytest.raises(deploy.NotReadyError, match="allow cloudformation:DescribeStacks, or give all choices"):
        last({}, denied=True)


def test_the_help_names_every_choice() -> None:
    done = run("--help")
    assert all(f"\n  {key}\n" in done.stdout for key in CHOICES)
