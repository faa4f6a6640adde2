"""What `make deploy` says, in one line and with exit status 2, when something that it needs is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from infra import deploy
from infra.stages import AWS, Deployment
from tests.infra.conftest import ROOT

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
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
    """The one line that a deployment ended with."""
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


def program(path: Path, says: str) -> None:
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)


def test_no_credentials(tmp_path: Path) -> None:
    assert complaint(run(HOME=str(tmp_path))).startswith("deploy: no AWS credentials: set AWS_PROFILE")


def test_no_region(tmp_path: Path) -> None:
    assert complaint(run(HOME=str(tmp_path), **KEYS)).startswith("deploy: no AWS Region: set AWS_REGION")


def test_a_profile_that_does_not_exist(tmp_path: Path) -> None:
    assert "(absent)" in complaint(run(HOME=str(tmp_path), AWS_PROFILE="absent", AWS_REGION="us-east-1"))


def test_aws_out_of_reach(tmp_path: Path) -> None:
    nobody_listens = "http://127.0.0.1:9"
    done = run(HOME=str(tmp_path), AWS_REGION="us-east-1", AWS_ENDPOINT_URL=nobody_listens, **KEYS)
    assert complaint(done).startswith("deploy: AWS does not answer")


def test_a_choice_that_cannot_be_deployed() -> None:
    assert complaint(run("-c", "alarm_email=oncall")).startswith("deploy: alarm_email=oncall")
    assert complaint(run("-c", "alarm_email")).startswith("deploy: -c alarm_email: expected key=value")
    assert complaint(run("--stack", "my_pools")).startswith("deploy: stack=my_pools")


def test_node_missing_or_too_old_and_npm_missing(tmp_path: Path) -> None:
    assert complaint(run(PATH=str(tmp_path))).startswith("deploy: Node.js is missing")
    program(tmp_path / "node", says="v18.20.4")
    assert complaint(run(PATH=str(tmp_path))).startswith("deploy: Node.js v18.20.4 is too old")
    program(tmp_path / "node", says="v20.0.0")
    assert complaint(run(PATH=str(tmp_path))).startswith("deploy: npm is missing")


def test_cdk_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy, "CDK", tmp_path / "cdk")
    with pytest.raises(deploy.NotReadyError, match="npm ci"):
        deploy.check_tools(os.environ)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("account")
def test_an_account_that_is_not_bootstrapped_is_told_how() -> None:
    with mock_aws():
        with pytest.raises(deploy.NotReadyError, match=r"cdk bootstrap aws://\d{12}/eu-west-1"):
            deploy.check_account({"AWS_REGION": "eu-west-1"}, bootstrap_needed=True)
        boto3.client("ssm", region_name="eu-west-1").put_parameter(
            Name=deploy.BOOTSTRAP_VERSION, Value="30", Type="String"
        )
        assert deploy.check_account({"AWS_REGION": "eu-west-1"}, bootstrap_needed=True) == "eu-west-1"


def test_the_next_steps_are_commands_with_the_names_deployed() -> None:
    outputs = {"PoolsTable": "p-1", "StatusTable": "s-1", "AlarmTopic": "arn:topic"}
    text = deploy.next_steps(outputs, Deployment(stage=AWS, stack="spotpools"))
    assert "--table-name p-1 --item" in text
    assert "--table-name s-1 --key" in text
    assert "--topic-arn arn:topic" in text
    mailed = deploy.next_steps(outputs, Deployment(stage=AWS, stack="spotpools", alarm_email="oncall@example.com"))
    assert "confirm the e-mail that AWS has sent to oncall@example.com" in mailed
