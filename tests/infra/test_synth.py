"""Synthesis needs no account and no network, and what it makes passes cfn-lint and cdk-nag."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import Validations
from aws_cdk import aws_sqs as sqs
from cdk_nag import AwsSolutionsChecks
from cfnlint.api import lint  # type: ignore[import-untyped]  # cfn-lint ships no types
from cfnlint.config import ManualArgs  # type: ignore[import-untyped]  # cfn-lint ships no types

from infra.synthesis import build, flags
from tests.infra.conftest import INSTANCE_ROLE, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.conftest import Synthesized

NO_CONNECTIONS_PYTHON = """
import socket
def refuse(*arguments):
    raise RuntimeError(f"a connection was tried: {arguments[1:]}")
socket.socket.connect = socket.socket.connect_ex = refuse
"""
NO_CONNECTIONS_NODE = """
require("net").Socket.prototype.connect = (...to) => { throw new Error(`a connection was tried: ${to}`); };
require("dns").lookup = (name) => { throw new Error(`a name was looked up: ${name}`); };
"""


def run_app(tmp_path: Path, context: dict[str, object]) -> subprocess.CompletedProcess[str]:
    """Run app.py as the CDK does, both processes without AWS settings and connections."""
    (tmp_path / "sitecustomize.py").write_text(NO_CONNECTIONS_PYTHON)
    (tmp_path / "refuse.js").write_text(NO_CONNECTIONS_NODE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    environment |= {
        "AWS_CONFIG_FILE": str(tmp_path / "absent"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "absent"),
        "PYTHONPATH": str(tmp_path),
        "NODE_OPTIONS": f"--require {tmp_path / 'refuse.js'}",
        "CDK_OUTDIR": str(tmp_path / "cdk.out"),
        "CDK_CONTEXT_JSON": json.dumps({**flags(), **context}),
    }
    return subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_synthesis_needs_no_account_and_no_network(tmp_path: Path) -> None:
    done = run_app(tmp_path, {})
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "cdk.out" / "manifest.json").read_text())
    assert manifest["artifacts"]["spotpools"]["environment"] == "aws://unknown-account/unknown-region"
    assert "missing" not in manifest  # nothing to look up


def test_an_invalid_choice_is_reported_in_one_line(tmp_path: Path) -> None:
    done = run_app(tmp_path, {"stage": "prod"})
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["context: stage=prod: there is no such stage; choose aws or local"]


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("alarm_mail", "did you mean alarm_email?"),
        ("alarm-email", "did you mean alarm_email?"),
        ("Subnets", "did you mean subnet_ids?"),
        ("colour", "choose from stack, alarm_email, subnet_ids, "),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_with_the_nearest_one(tmp_path: Path, key: str, answer: str) -> None:
    done = run_app(tmp_path, {key: "x"})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"context: {key}: there is no such choice; {answer}")


def test_keys_of_the_cdk_itself_are_no_choices(tmp_path: Path) -> None:
    done = run_app(tmp_path, {"cli-telemetry": True, "availability-zones:account=1:region=eu-west-1": ["a"]})
    assert done.returncode == 0, done.stderr


def test_without_its_packages_the_app_says_in_one_line_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text((ROOT / "app.py").read_text())
    done = subprocess.run([sys.executable, "-S", "app.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "app: the Python packages are not installed. Run `make check` once, or deploy with `make deploy`."
    ]


def nag(tmp_path: Path, *, add_bare_queue: bool = False) -> list[str]:
    """The findings of cdk-nag in a stack of stage aws with every choice made."""
    app, stack = build(tmp_path, alarm_email="oncall@example.com", instance_role_arns=INSTANCE_ROLE)
    if add_bare_queue:
        sqs.Queue(stack, "Bare")
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    try:
        app.synth()
    except RuntimeError as error:  # jsii turns a failed validation into this
        assert str(error).startswith("ValidationFailed")  # noqa: PT017  the report has the details
    report: dict[str, Any] = json.loads((tmp_path / "validation-report.json").read_text())
    return [
        f"{violation['ruleName']} {construct['constructPath']}"
        for plugin in report["pluginReports"]
        for violation in plugin["violations"]
        for construct in violation["violatingConstructs"]
    ]


def test_cdk_nag_finds_nothing_that_is_not_acknowledged(tmp_path: Path) -> None:
    assert nag(tmp_path) == []


def test_cdk_nag_finds_a_new_problem(tmp_path: Path) -> None:
    assert nag(tmp_path, add_bare_queue=True) == [
        "AwsSolutions-SQS3 spotpools/Bare/Resource",
        "AwsSolutions-SQS4 spotpools/Bare/Resource",
    ]


def test_cfn_lint_finds_nothing(aws: Synthesized) -> None:
    # W3005: CDK adds a dependency on the role although the function already depends on the role's policies.
    config = ManualArgs(ignore_checks=["W3005"])
    assert [str(match) for match in lint(json.dumps(aws.template), config=config)] == []


def test_the_command_line_is_pinned_where_no_registry_is_named() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    assert package["devDependencies"] == {
        "aws-cdk": "2.1148.1",
        "axe-core": "4.14.1",
        "dynalite": "4.0.0",
        "uplot": "1.6.32",
    }
    assert package["engines"] == {"node": ">=20"}
    assert "resolved" not in (ROOT / "package-lock.json").read_text()
