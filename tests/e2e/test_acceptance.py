"""``make accept`` on the local cloud: whole, refused, killed at each step and removed, killed and resumed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from acceptance.claims import CLAIMS
from acceptance.instances import OWN_TAG
from acceptance.plan import STEPS
from acceptance.state import load
from lambdas.domain.model.instances import STACK_TAG
from localcloud.cloud import ROOT, LocalCloud

STACK = "spotpools-accept-test"
NOTICE_SECONDS = 5
LONGEST = 400
ON_THE_LOCAL_CLOUD = [step for step in STEPS if not step.only_aws]


class Acceptance:
    """Runs the command against the cloud of these tests, and looks at what it left."""

    def __init__(self, cloud: LocalCloud, folder: Path) -> None:
        self.cloud = cloud
        self.folder = folder
        self.report = folder / "report"

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "acceptance", "--local", "--stack", STACK, "--folder", str(self.folder)]
        return subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--report", str(self.report), *options],
            cwd=ROOT,
            env=self.cloud.environment() | {"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str) -> tuple[int, str]:
        """Run it to its end; returns the exit status and the output."""
        process = self.start(*options)
        try:
            output, _ = process.communicate(timeout=LONGEST)
        finally:
            process.kill()
        return process.returncode, output

    def read(self) -> dict[str, Any]:
        return dict(json.loads(self.report.with_suffix(".json").read_text()))

    def outcome(self, step: str) -> str:
        """What the state on disk says of a step."""
        for path in self.folder.glob("*.json"):
            state = load(path) if path.name != "report.json" else None
            if state and step in state.steps:
                return state.steps[step].outcome
        return ""

    def kill(self, process: subprocess.Popen[str], when: Callable[[], bool], later: float = 0) -> None:
        """Wait for the moment and kill the command without a warning, some seconds later."""
        begun = monotonic()
        while not when():
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            assert monotonic() - begun < LONGEST
            sleep(0.02)
        sleep(later)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def left(self) -> dict[str, list[str]]:
        """Everything that AWS still has of the stack, found without the code that removes it."""
        client = self.cloud.client
        filters = [{"Name": "instance-state-name", "Values": ["pending", "running", "shutting-down", "stopped"]}]
        instances = [
            one["InstanceId"]
            for reservation in client("ec2").describe_instances(Filters=filters)["Reservations"]
            for one in reservation["Instances"]
            if {STACK_TAG: STACK}.items() & _tags(one).items() or {OWN_TAG: STACK}.items() & _tags(one).items()
        ]
        stacks = client("cloudformation").list_stacks()["StackSummaries"]
        groups = client("logs").describe_log_groups()["logGroups"]
        templates = client("ec2").describe_launch_templates()["LaunchTemplates"]
        alarms = client("cloudwatch").describe_alarms()["MetricAlarms"]
        found = {
            "instances": instances,
            "stacks": [
                one["StackName"]
                for one in stacks
                if one["StackName"] == STACK and one["StackStatus"] != "DELETE_COMPLETE"
            ],
            "tables": _ours(client("dynamodb").list_tables()["TableNames"]),
            "log groups": _ours(one["logGroupName"] for one in groups),
            "launch templates": _ours(one["LaunchTemplateName"] for one in templates),
            "queues": _ours(client("sqs").list_queues().get("QueueUrls", [])),
            "roles": _ours(one["RoleName"] for one in client("iam").list_roles()["Roles"]),
            "functions": _ours(one["FunctionName"] for one in client("lambda").list_functions()["Functions"]),
            "alarms": _ours(one["AlarmName"] for one in alarms),
            "states": [path.name for path in self.folder.glob("*-spotpools-*.json")],
        }
        return {kind: names for kind, names in found.items() if names}


def _tags(instance: dict[str, Any]) -> dict[str, str]:
    return {one["Key"]: one["Value"] for one in instance.get("Tags", [])}


def _ours(names: Any) -> list[str]:
    return [name for name in names if STACK in name]


@pytest.fixture
def acceptance(cloud: LocalCloud, tmp_path: Path) -> Iterator[Acceptance]:
    """The command, on the cloud of all these tests with short notices meanwhile."""
    notice = cloud.market.state()["settings"]["notice_seconds"]
    cloud.market.settings(notice_seconds=NOTICE_SECONDS)
    yield Acceptance(cloud, tmp_path)
    cloud.market.settings(notice_seconds=notice)


@pytest.mark.long
def test_a_step_that_could_start_too_many_instances_is_refused_and_nothing_is_left(acceptance: Acceptance) -> None:
    status, output = acceptance.run("--only", "price", "fill", "--most-instances", "2")
    assert status == 1, output
    steps = acceptance.read()["steps"]
    assert steps["price"]["outcome"] == "done", output
    assert steps["fill"]["outcome"] == "refused"
    assert "at most 2 are allowed" in steps["fill"]["seen"]
    assert acceptance.read()["instances"] == 0
    assert acceptance.left() == {}


def test_a_run_that_could_exceed_its_budget_makes_nothing(acceptance: Acceptance) -> None:
    status, output = acceptance.run("--budget", "0.30")
    assert status == 2
    assert "above the budget of 0.300 USD" in output
    assert acceptance.left() == {}


@pytest.mark.long
def test_a_whole_run_says_of_each_claim_what_it_saw_and_leaves_nothing(acceptance: Acceptance) -> None:
    status, output = acceptance.run()
    assert status == 0, output
    report = acceptance.read()
    assert report["place"] == "the local cloud"
    assert list(report["claims"]) == list(CLAIMS)
    for name, said in report["claims"].items():
        assert said["verdict"] == ("not seen" if CLAIMS[name].only_aws else "seen"), name
        assert ("only AWS can answer this" in said["seen"]) == bool(CLAIMS[name].only_aws)
    assert {step.name for step in ON_THE_LOCAL_CLOUD} == {
        name for name, one in report["steps"].items() if one["outcome"] == "done"
    }
    assert report["left"] == []
    assert acceptance.left() == {}


@pytest.mark.long
def test_instances_that_it_did_not_expect_count_too_and_are_removed_with_the_rest(acceptance: Acceptance) -> None:
    ec2 = acceptance.cloud.client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    template = {"LaunchTemplateName": acceptance.cloud.outputs["DefaultLaunchTemplate"], "Version": "$Latest"}
    ec2.create_fleet(
        Type="instant",
        LaunchTemplateConfigs=[
            {
                "LaunchTemplateSpecification": template,
                "Overrides": [{"InstanceType": "t3.micro", "SubnetId": subnet}],
            }
        ],
        TargetCapacitySpecification={"TotalTargetCapacity": 3, "DefaultTargetCapacityType": "spot"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": OWN_TAG, "Value": STACK}]}],
    )
    assert len(acceptance.left()["instances"]) == 3
    status, output = acceptance.run("--only", "token")
    assert status == 1, output
    assert "may start 2 and 3 are alive, but at most 4 are allowed" in acceptance.read()["steps"]["token"]["seen"]
    assert acceptance.left() == {}


@pytest.mark.long
@pytest.mark.parametrize("step", [step.name for step in ON_THE_LOCAL_CLOUD if step.name != "prices"])
def test_a_run_killed_at_any_step_is_removed_as_a_whole(acceptance: Acceptance, step: str) -> None:
    process = acceptance.start("--only", "fill", step)
    acceptance.kill(process, lambda: acceptance.outcome(step) == "started")
    status, output = acceptance.run("--clean")
    assert status == 0, output
    assert acceptance.left() == {}, output


@pytest.mark.long
@pytest.mark.parametrize("seconds", [3, 8, 12])
def test_a_deployment_that_is_killed_in_its_middle_is_removed(acceptance: Acceptance, seconds: float) -> None:
    process = acceptance.start("--only", "deploy")
    acceptance.kill(process, lambda: acceptance.outcome("deploy") == "started", seconds)
    status, output = acceptance.run("--clean")
    assert status == 0, output
    assert acceptance.left() == {}, output


@pytest.mark.long
@pytest.mark.parametrize("seconds", [0.5, 3, 6])
def test_a_removal_that_is_killed_is_finished_by_the_next(acceptance: Acceptance, seconds: float) -> None:
    process = acceptance.start("--only", "token")
    acceptance.kill(process, (acceptance.folder / STACK / "destroy.log").exists, seconds)
    status, output = acceptance.run("--clean")
    assert status == 0, output
    assert acceptance.left() == {}, output


@pytest.mark.long
def test_a_killed_run_is_resumed_and_ends_as_if_nothing_had_happened(acceptance: Acceptance) -> None:
    process = acceptance.start("--only", "fill", "price", "shrink")
    acceptance.kill(process, lambda: acceptance.outcome("fill") == "started", random.uniform(0, 5))  # noqa: S311 - any moment
    status, output = acceptance.run()
    assert status == 2
    assert "--resume" in output
    status, output = acceptance.run("--resume", "--only", "fill", "price", "shrink")
    assert status == 0, output
    assert "The stack is deployed: played before" in output
    assert {one["outcome"] for one in acceptance.read()["steps"].values()} == {"done"}
    assert acceptance.left() == {}


@pytest.mark.long
def test_ctrl_c_removes_everything(acceptance: Acceptance) -> None:
    process = acceptance.start("--only", "fill")
    begun = monotonic()
    while acceptance.outcome("fill") != "started":
        assert monotonic() - begun < LONGEST
        sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=LONGEST)
    assert process.returncode == 1, output
    assert acceptance.read()["ended_by"] == "it was stopped"
    assert acceptance.left() == {}, output
