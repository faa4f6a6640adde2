"""A local cloud as a context manager.

It consists of ministack and the market, the stack, which the real CDK command line deploys into them, and the parts
that connect them: relay, ticks, launch template, alarm queue.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shlex
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import boto3
from botocore.config import Config

from localcloud.control import MarketControl
from localcloud.mirror import copy_launch_template
from localcloud.processes import HOST, Child, LocalCloudError, port_to_use
from localcloud.progress import Progress
from localcloud.relay import Relay
from localcloud.ticks import Ticks
from localcloud.topic_queue import subscribed_queue

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".localcloud"
CDK = ROOT / "node_modules" / ".bin" / "cdk"
DEFAULT_FAMILY = "local"

REGION = "us-east-1"
ACCOUNT = "000000000000"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,  # the name that boto3 reads
}
ENFORCED = {"AUTH": "true"}
"""Makes ministack enforce IAM, and the market too, for EC2."""

TEMPORARY_FOLDERS = ("tmp", "home", "cdk.out")
"""A cloud needs these while it runs and removes them at its end. Its logs stay."""

START_SECONDS = 30
STOP_SECONDS = 60
CDK_SECONDS = 300

MINISTACK_COMMAND = (sys.executable, "-m", "ministack")
MARKET_COMMAND = (sys.executable, "-m", "localcloud.market")


class LocalCloud:
    """AWS on this machine with the stack deployed. Use it in a ``with`` statement.

    ``name`` is the folder under ``.localcloud`` for state and logs. Default: the first of the family (local, local-2,
    …) that is not in use. ``.localcloud/env`` is the environment of the newest cloud of the family local. Default
    ports are free ones. ``tick_seconds`` goes to ``tick_every``, ``market_arguments`` to the market. ``pace`` divides
    the stack's waiting times. ``restart_aws`` needs ``keeps_state``. Raises LocalCloudError, which names the log.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        family: str = DEFAULT_FAMILY,
        port: int = 0,
        market_port: int = 0,
        tick_seconds: float | None = None,
        pace: float = 1,
        market_arguments: Sequence[str] = (),
        keeps_state: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.progress = progress or Progress()
        self.outputs: dict[str, str] = {}
        self.stack = ""
        self.alarm_queue_url = ""
        self.message_queue_url = ""
        self.ticks: Ticks | None = None
        self._given_name = name
        self._family = family
        self._given_ports = (port, market_port)
        self._tick_seconds = tick_seconds
        self._pace = pace
        self._market_arguments = market_arguments
        self._keeps_state = keeps_state
        self._clients: dict[str, Any] = {}
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._start(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._undo.close()

    def client(self, service: str) -> Any:
        """The boto3 client of a service of this cloud. All threads share it."""
        if service not in self._clients:
            url = self.market.url if service in ("ec2", "pricing") else self.endpoint_url
            self._clients[service] = client_of(service, url)
        return self._clients[service]

    def tick_every(self, seconds: float) -> None:
        """From now on, call the tick function at this interval, in addition to the schedule (once a minute)."""
        self._stop_ticks()
        self.ticks = Ticks(self.client, self.outputs["TickFunction"], seconds=seconds)
        self.ticks.start()

    @contextmanager
    def beside(self, stack: str) -> Iterator[Self]:
        """This cloud with a second stack of this name, which is deleted at the end.

        The object that this yields acts on the second stack. Both stacks share AWS and the market.
        """
        other = copy(self)
        other.ticks = None
        assembly = self.directory / "tmp" / f"cdk-{stack}"
        self._cdk("synth", "--quiet", *self._context(stack), "--output", str(assembly)).wait(seconds=CDK_SECONDS)
        other._deploy(assembly)  # noqa: SLF001 - another object of this class
        with ExitStack() as undo:
            other._connect(undo, alarms=False)  # noqa: SLF001 - another object of this class
            yield other
        self._cdk("destroy", "--app", str(assembly), "--force").wait(seconds=CDK_SECONDS)

    def restart_aws(self) -> None:
        """Stop ministack with all running functions, and start it from the state it saved. EC2 keeps running.

        Kept: tables, queues with messages, functions, rules, schedules, alarms, logs and the stream reader's position.
        Lost: the tables' stream records. So the reader sees no edit until there were as many as before.
        """
        if not self._keeps_state:
            raise LocalCloudError("this cloud does not keep its state; start it with keeps_state=True")
        self._end_ministack()
        self._children.remove(self._ministack)
        self._start_ministack()
        self._await_ministack()

    def exports(self) -> dict[str, str]:
        """The variables with which a shell, a command or a test uses this cloud. ``.localcloud/…/env`` has them too."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ENDPOINT_URL_EC2": self.market.url,
            "AWS_ENDPOINT_URL_PRICING": self.market.url,
            **CREDENTIALS,
            "SPOTPOOLS_STACK": self.stack,
            "SPOTPOOLS_POOLS_TABLE": self.outputs["PoolsTable"],
            "SPOTPOOLS_STATUS_TABLE": self.outputs["StatusTable"],
            "SPOTPOOLS_ALARM_TOPIC": self.outputs["AlarmTopic"],
            "SPOTPOOLS_MESSAGES_TOPIC": self.outputs["MessagesTopic"],
            "SPOTPOOLS_ALARM_QUEUE_URL": self.alarm_queue_url,
            "SPOTPOOLS_MESSAGE_QUEUE_URL": self.message_queue_url,
            "SPOTPOOLS_MARKET_URL": self.market.url,
        }

    def environment(self) -> dict[str, str]:
        """The environment of a command that uses this cloud and no other."""
        return isolated_environment() | self.exports()

    def _start(self, undo: ExitStack) -> None:
        self.directory = undo.enter_context(claim_directory(STATE, name=self._given_name, family=self._family))
        self.logs = self.directory / "logs"
        for folder in ("logs", *TEMPORARY_FOLDERS):
            shutil.rmtree(self.directory / folder, ignore_errors=True)
            (self.directory / folder).mkdir(parents=True)
        for folder in TEMPORARY_FOLDERS:
            undo.callback(shutil.rmtree, self.directory / folder, ignore_errors=True)
        undo.callback(self._stop_children)
        handler = logging.FileHandler(self.logs / "relay.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        package = logging.getLogger("localcloud")
        package.addHandler(handler)
        package.propagate = False  # the terminal shows the demo, not the relay's log
        undo.callback(package.removeHandler, handler)

        self._port, market_port = (port_to_use(port) for port in self._given_ports)
        self.endpoint_url = f"http://{HOST}:{self._port}"
        self.market = MarketControl(f"http://{HOST}:{market_port}")

        # Synthesis needs no cloud, so it runs during start and bootstrap.
        assembly = self.directory / "cdk.out"
        synth = self._cdk("synth", "--quiet", *self._context(), "--output", str(assembly))
        with self.progress.step("Starting AWS (ministack) and the EC2 market on free ports of this machine"):
            self._start_servers(market_port)
        # In a folder without cdk.json, so that bootstrap does not synthesize the app once more.
        bootstrap = self._cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}", directory=self.directory)
        with self.progress.step("cdk bootstrap and cdk synth", bootstrap.log, synth.log) as show:
            for service in ("cloudwatch", "ec2", "lambda", "logs", "sns", "sqs"):
                self.client(service)  # loads the service's model: almost a second for all
            bootstrap.wait(seconds=CDK_SECONDS, watch=show)
            synth.wait(seconds=CDK_SECONDS, watch=show)
        self._deploy(assembly)
        with self.progress.step("Connecting the launch template, the alarm queue and the metrics"):
            self._connect(undo)
        self._write_environment(undo)

    def _start_servers(self, market_port: int) -> None:
        market = self._child(
            "market",
            [*MARKET_COMMAND, "--port", str(market_port), "--account", ACCOUNT, *self._market_arguments],
            isolated_environment() | {"AWS_ENDPOINT_URL": self.endpoint_url, **ENFORCED} | CREDENTIALS,
        )
        self._start_ministack()
        self._await_ministack()
        market.wait_until(lambda: answers(f"{self.market.url}/market"), seconds=START_SECONDS)

    def _start_ministack(self) -> None:
        environment = ministack_environment(self._port, self.directory, ec2_url=self.market.url)
        if self._keeps_state:
            environment["PERSIST_STATE"] = "1"
        self._ministack = self._child("ministack", MINISTACK_COMMAND, environment)

    def _end_ministack(self) -> None:
        """End it without the time limit of ``Child.stop``: on a busy machine, saving the state takes longer."""
        leader = int((self.directory / "tmp" / f"ministack-{self._port}.pid").read_text())

        def end() -> None:
            # Repeated: until its end ministack starts functions, and then it waits for them.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGTERM)

        try:
            self._ministack.wait(seconds=STOP_SECONDS, watch=end)
        except LocalCloudError:
            if self._ministack.status != 128 + signal.SIGTERM:
                raise

    def _await_ministack(self) -> None:
        ready = f"{self.endpoint_url}/_ministack/ready"
        self._ministack.wait_until(lambda: answers(ready), seconds=START_SECONDS)

    def _deploy(self, assembly: Path) -> None:
        outputs = assembly / "outputs.json"
        deploy = self._cdk(
            "deploy",
            "--app",
            str(assembly),
            "--require-approval",
            "never",
            "--method",
            "direct",
            "--outputs-file",
            str(outputs),
        )
        with self.progress.step("cdk deploy", deploy.log) as show:
            deploy.wait(seconds=CDK_SECONDS, watch=show)
        ((self.stack, self.outputs),) = json.loads(outputs.read_text()).items()

    def _connect(self, undo: ExitStack, *, alarms: bool = True) -> None:
        template = self.outputs["DefaultLaunchTemplate"]
        copy_launch_template(template, client_of("ec2", self.endpoint_url), self.client("ec2"))
        self.alarm_queue_url = self._subscribe_queue("AlarmTopic", "alarm-messages")
        self.message_queue_url = self._subscribe_queue("MessagesTopic", "messages")
        functions = [value for key, value in self.outputs.items() if key.endswith("Function")]
        relay = Relay(self.client, functions, alarms=alarms)
        relay.start()
        undo.callback(relay.stop)
        undo.callback(self._stop_ticks)
        if self._tick_seconds is not None:
            self.tick_every(self._tick_seconds)

    def _subscribe_queue(self, output: str, name: str) -> str:
        return subscribed_queue(self.client, self.outputs[output], f"{self.stack}-{name}")

    def _stop_ticks(self) -> None:
        if self.ticks is not None:
            self.ticks.stop()

    def _write_environment(self, undo: ExitStack) -> None:
        text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.exports().items())
        self.env_files = [self.directory / "env"]
        if self._given_name is None and self._family == DEFAULT_FAMILY:
            self.env_files.insert(0, STATE / "env")
        for path in self.env_files:
            path.write_text(text)
            undo.callback(_remove_if_still, path, text)

    def _context(self, stack: str | None = None) -> list[str]:
        pace = ["-c", f"pace={self._pace:g}"] if self._pace != 1 else []
        named = ["-c", f"stack={stack}"] if stack else []
        return ["--app", f"{shlex.quote(sys.executable)} app.py", "-c", "stage=local", *pace, *named]

    def _cdk(self, command: str, *arguments: str, directory: Path = ROOT) -> Child:
        if not CDK.exists():
            raise LocalCloudError("the CDK command line is not installed; run: npm ci")
        environment = isolated_environment() | CREDENTIALS | {"AWS_ENDPOINT_URL": self.endpoint_url}
        return self._child(f"cdk {command}", [str(CDK), command, *arguments], environment, directory)

    def _child(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path = ROOT,
    ) -> Child:
        log = self.logs / f"{name.replace(' ', '-')}.log"
        child = Child(name, command, log=log, environment=environment, directory=directory)
        self._children.append(child)
        return child

    def _stop_children(self) -> None:
        """Stop them in the order of their start: the market first, because ministack receives its last events."""
        for child in self._children:
            child.stop()


@contextmanager
def claim_directory(state: Path, *, name: str | None, family: str) -> Iterator[Path]:
    """Lock a folder that no running cloud uses: the one of this name, or the first of the family."""
    names = [name] if name is not None else [family, *(f"{family}-{number}" for number in range(2, 100))]
    for each in names:
        directory = state / each
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("w") as lock:
            if _locked(lock):
                yield directory
                return
    raise LocalCloudError(f"the local cloud {names[0]} is already running; stop it, or choose another name")


def isolated_environment() -> dict[str, str]:
    """This process's environment without anything that points to a real account or to another cloud."""
    # With PYTHONDONTWRITEBYTECODE each child would compile everything.
    left_out = ("AWS_", "SPOTPOOLS_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
    }


def ministack_environment(port: int, directory: Path, *, ec2_url: str) -> dict[str, str]:
    """The environment in which ministack serves on a port of this machine and keeps its state under a folder."""
    state = directory / "tmp"
    return (
        isolated_environment()
        | CREDENTIALS
        | {
            **ENFORCED,
            "BIND_HOST": HOST,
            "GATEWAY_PORT": str(port),
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "MINISTACK_REGION": REGION,
            "TMPDIR": str(state),
            "HOME": str(directory / "home"),
            "STATE_DIR": str(state / "state"),
            "S3_DATA_DIR": str(state / "s3"),
            # Functions inherit ministack's environment. These addresses lead them to the market.
            "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
            "AWS_ENDPOINT_URL_EC2": ec2_url,
            "AWS_ENDPOINT_URL_PRICING": ec2_url,
            "AWS_ENDPOINT_URL_SSM": ec2_url,  # the market forwards what is not about commands
        }
    )


def client_of(service: str, url: str) -> Any:
    """A boto3 client of a service at an address, with the local cloud's credentials."""
    session: Any = boto3.Session(
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
    )
    # ministack cannot read compressed requests, and botocore compresses a large PutMetricData.
    config = Config(disable_request_compression=True, max_pool_connections=20)
    return session.client(service, endpoint_url=url, config=config)


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def answers(url: str) -> bool:
    """Whether a server answers at this address."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - a server we have just started
            return bool(response.status == 200)  # noqa: PLR2004 - OK
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _remove_if_still(path: Path, text: str) -> None:
    """Remove a file unless a newer cloud has overwritten it."""
    if path.exists() and path.read_text() == text:
        path.unlink()
