"""Where a run takes place: a real account, or the local cloud, and what differs between the two."""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import ClientError

from cli.deployment import Deployment
from infra.deploy import CDK, ROOT, environment_of_cdk
from localcloud.cloud import client_of
from localcloud.mirror import copy_launch_template
from localcloud.processes import Child
from localcloud.progress import Progress
from localcloud.relay import Relay
from localcloud.ticks import Ticks

CDK_OUT = "cdk.out"
DEPLOY_SECONDS = 1200
DESTROY_SECONDS = 1200
TICK_SECONDS = 2.0
"""Additional ticks on the local cloud. On AWS only the schedule ticks, once a minute."""


UNEXPECTED = (LookupError, TypeError, ValueError, AttributeError)
"""What reading an answer raises if AWS answers in another shape than its documentation says. On a first contact with a
real account that is a result like others: it must neither end the run nor keep the rest from being removed."""


class Place:
    """The account and Region of a run, through which its steps act.

    ``folder`` keeps the logs and the CDK's output. ``deployment`` has the clients, all with time limits.
    """

    def __init__(self, stack: str, region: str | None, *, folder: Path, progress: Progress) -> None:
        self.stack = stack
        self.deployment = Deployment(stack, region)
        self.local = self.deployment.market_url is not None
        self.progress = progress
        self._region = region
        self._folder = folder

    @property
    def name(self) -> str:
        """What the report calls it."""
        return "the local cloud" if self.local else "AWS"

    @property
    def poll_seconds(self) -> float:
        """The time between two looks."""
        return 0.5 if self.local else 5.0

    def client(self, service: str) -> Any:
        """The client of a service."""
        return self.deployment.client(service)

    def account(self) -> str:
        """The account's id."""
        return str(self.client("sts").get_caller_identity()["Account"])

    def exists(self) -> bool:
        """Whether the stack exists, in any state but deleted."""
        return self.status() is not None

    def status(self) -> str | None:
        """CloudFormation's state of the stack; None if there is no such stack."""
        try:
            (found,) = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"]
        except ClientError as error:
            if "does not exist" in error.response["Error"].get("Message", ""):
                return None
            raise
        status = str(found["StackStatus"])
        return None if status == "DELETE_COMPLETE" else status

    def deploy(self) -> None:
        """Deploy the stack as ``make deploy`` does. Raises LocalCloudError, which names the log."""
        region = ["--region", self._region] if self._region else []
        self._run("deploy", [sys.executable, "-m", "infra.deploy", "--yes", *region, *self._choices()], DEPLOY_SECONDS)

    def destroy(self) -> None:
        """Delete the stack with the CDK, as docs/deploying.md says. Raises LocalCloudError, which names the log."""
        command = [str(CDK), "destroy", "--force", "--app", f"'{sys.executable}' app.py", *self._choices()]
        self._run("destroy", command, DESTROY_SECONDS)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """On the local cloud: connect the stack's parts, as its own stack is connected. On AWS there is nothing to do.

        Without it the local cloud turns no log line into a metric and its market lacks the launch template.
        """
        if not self.local:
            yield
            return
        outputs = Deployment(self.stack, self._region).outputs
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        self._copy_template(outputs["DefaultLaunchTemplate"], endpoint)
        # The cloud's own relay looks after all alarms. A second one would send each of their events again.
        functions = [value for name, value in outputs.items() if name.endswith("Function")]
        relay = Relay(self.client, functions, alarms=False)
        ticks = Ticks(lambda service: client_of(service, endpoint), outputs["TickFunction"], seconds=TICK_SECONDS)
        relay.start()
        ticks.start()
        try:
            yield
        finally:
            ticks.stop()
            relay.stop()

    def note_fault(self, what: str) -> Path:
        """Append the traceback of the current exception to a log, and return its path."""
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / "faults.log"
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{what}\n{traceback.format_exc()}\n")
        return log

    def tidy(self) -> None:
        """Remove the CDK's output. The logs stay."""
        shutil.rmtree(self._folder / CDK_OUT, ignore_errors=True)

    def _copy_template(self, name: str, endpoint: str) -> None:
        market = self.client("ec2")
        known = market.describe_launch_templates(Filters=[{"Name": "launch-template-name", "Values": [name]}])
        if not known["LaunchTemplates"]:
            copy_launch_template(name, client_of("ec2", endpoint), market)

    def _choices(self) -> list[str]:
        stage = ["-c", "stage=local"] if self.local else []
        return ["-c", f"stack={self.stack}", *stage]

    def _run(self, name: str, command: list[str], seconds: float) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # The CDK reads each of its options from such a variable too; so two runs do not share a folder.
        environment = {
            **environment_of_cdk(botocore.session.get_session(), self.deployment.region, os.environ),
            "CDK_OUTPUT": str(self._folder / CDK_OUT),
            "PYTHONUNBUFFERED": "1",
        }
        log = self._folder / f"{name}.log"
        child = Child(name, command, log=log, environment=environment, directory=ROOT)
        with self.progress.step(f"{name} of stack {self.stack}", log) as show:
            try:
                child.wait(seconds=seconds, watch=show)
            finally:
                child.stop()
