"""Delivery of events to a bus, queue and functions of the local AWS, and SSM calls that are forwarded to it."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from localcloud.market.faces.control import Control
from localcloud.market.faces.events import EventBridge
from localcloud.market.faces.moto_surroundings import MotoSurroundings
from localcloud.market.faces.parameters import Parameters
from localcloud.market.faces.server import MarketServer
from localcloud.market.model.clock import ManualClock
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import default_offerings
from localcloud.market.model.settings import Settings
from tests.market.conftest import boto3_client
from tests.market.faces import Face, free_port, instances, launched, over_http, wait_until

REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}
WARNING_RULE = {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]}
STATE_RULE = {
    "source": ["aws.ec2"],
    "detail-type": ["EC2 Instance State-change Notification"],
    "detail": {"state": ["running", "terminated"]},
}


def event(kind: str, number: int = 1, **detail: str) -> dict[str, Any]:
    return {
        "version": "0",
        "id": f"00000000-0000-0000-0000-{number:012}",
        "detail-type": kind,
        "source": "aws.ec2",
        "account": "000000000000",
        "time": "2026-01-01T00:00:00Z",
        "region": REGION,
        "resources": [f"arn:aws:ec2:us-east-1a:instance/i-{number}"],
        "detail": {"instance-id": f"i-{number}", **detail},
    }


def warning(number: int = 1) -> dict[str, Any]:
    return event("EC2 Spot Instance Interruption Warning", number, **{"instance-action": "terminate"})


class Aws:
    """A local AWS with helpers for the tests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.events, self.sqs, self.functions, self.iam, self.logs = (
            boto3.client(
                service,
                endpoint_url=url,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
            for service in ("events", "sqs", "lambda", "iam", "logs")
        )

    def queue(self, name: str) -> tuple[str, str]:
        url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
        return str(url), str(attributes["QueueArn"])

    def rule(self, name: str, pattern: dict[str, Any], target: dict[str, Any]) -> None:
        self.events.put_rule(Name=name, EventPattern=json.dumps(pattern))
        self.events.put_targets(Rule=name, Targets=[{"Id": "1", **target}])

    def bodies(self, url: str) -> list[Any]:
        messages: list[Any] = []
        while got := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            messages.extend(json.loads(one["Body"]) for one in got)
            for one in got:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        return messages


@pytest.fixture(scope="module")
def running_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    """Run ministack in a separate folder."""
    folder = tmp_path_factory.mktemp("aws")
    port = free_port()
    places = {"HOME": folder, "TMPDIR": folder, "STATE_DIR": folder / "state", "S3_DATA_DIR": folder / "s3"}
    others = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0"}
    environment = os.environ | CREDENTIALS | others | {name: str(path) for name, path in places.items()}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "ministack"], env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{url}/_ministack/ready"), seconds=30, what="ministack answers")
        yield Aws(url)
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture
def aws(running_aws: Aws) -> Aws:
    """Empty the local AWS."""
    request = urllib.request.Request(f"{running_aws.url}/_ministack/reset", method="POST")  # noqa: S310  # its own URL
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310  # as above
    return running_aws


@pytest.fixture
def bus(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> EventBridge:
    """Return the bus, created from the environment as in the server."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": aws.url}.items():
        monkeypatch.setenv(name, value)
    made = EventBridge.from_environment(REGION)
    assert made
    return made


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  # the local AWS
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_an_event_reaches_the_queues_of_the_rules_it_matches_and_no_other(aws: Aws, bus: EventBridge) -> None:
    warnings, warnings_arn = aws.queue("warnings")
    states, states_arn = aws.queue("states")
    aws.rule("warnings", WARNING_RULE, {"Arn": warnings_arn})
    aws.rule("states", STATE_RULE, {"Arn": states_arn})
    change = "EC2 Instance State-change Notification"
    pending, running = event(change, state="pending"), event(change, state="running")
    bus.deliver([pending, warning(), running])
    assert aws.bodies(warnings) == [warning()]
    assert aws.bodies(states) == [running]
    counts = {name: number for name, number in bus.counts().items() if name != "to"}
    assert counts == {"seen": 3, "matched": 2, "delivered": 2, "failed": 0, "last_error": None}


def test_more_events_than_a_batch_holds_all_arrive(aws: Aws, bus: EventBridge) -> None:
    url, arn = aws.queue("warnings")
    aws.rule("warnings", WARNING_RULE, {"Arn": arn})
    bus.deliver([warning(number) for number in range(23)])
    assert sorted(body["detail"]["instance-id"] for body in aws.bodies(url)) == sorted(f"i-{n}" for n in range(23))


def test_a_disabled_rule_gets_nothing_and_a_constant_input_replaces_the_event(aws: Aws, bus: EventBridge) -> None:
    off, off_arn = aws.queue("off")
    constant, constant_arn = aws.queue("constant")
    aws.rule("off", WARNING_RULE, {"Arn": off_arn})
    aws.events.disable_rule(Name="off")
    aws.rule("constant", WARNING_RULE, {"Arn": constant_arn, "Input": '{"fixed": true}'})
    bus.deliver([warning()])
    assert (aws.bodies(off), aws.bodies(constant)) == ([], [{"fixed": True}])


def test_a_function_is_invoked_with_the_event(aws: Aws, bus: EventBridge, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    source = f"import json\ndef handler(event, context):\n    open({str(seen)!r}, 'w').write(json.dumps(event))\n"
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("index.py", source)
    made = aws.functions.create_function(
        FunctionName="listener",
        Runtime="python3.13",
        Role="arn:aws:iam::000000000000:role/listener",
        Handler="index.handler",
        Code={"ZipFile": archive.getvalue()},
    )
    aws.rule("to-function", WARNING_RULE, {"Arn": made["FunctionArn"]})
    bus.deliver([warning()])
    wait_until(lambda: seen.exists() and seen.read_text() != "", seconds=20, what="the function was invoked")
    assert json.loads(seen.read_text()) == warning()


@pytest.mark.parametrize(
    "target",
    [
        {"Arn": "arn:aws:sns:us-east-1:000000000000:topic"},
        {"Arn": "arn:aws:sqs:us-east-1:000000000000:here", "InputPath": "$.detail"},
        {"Arn": "arn:aws:sqs:us-east-1:000000000000:absent"},
    ],
)
def test_failed_deliveries_are_counted_and_reported(aws: Aws, bus: EventBridge, target: dict[str, str]) -> None:
    aws.queue("here")
    aws.rule("broken", WARNING_RULE, target)
    bus.deliver([warning(), warning(2)])
    counts = bus.counts()
    assert (counts["delivered"], counts["failed"]) == (0, 2)
    assert "broken" in counts["last_error"]


def test_an_unreachable_aws_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    bus = EventBridge.at(f"http://127.0.0.1:{free_port()}", REGION)
    bus.deliver([warning()])
    assert bus.counts()["failed"] == 1


# With a market


@pytest.fixture
def beside(bus: EventBridge) -> Iterator[Face]:
    """Serve a market that sends its events to the local AWS."""
    clock = ManualClock()
    surroundings = MotoSurroundings(REGION, Parameters(REGION))
    market = Market(clock=clock, offerings=default_offerings(), surroundings=surroundings)
    server = MarketServer(market, Control(market, settings=Settings()), sink=bus.deliver)
    server.start()
    ssm = boto3_client(server.url, service="ssm")
    yield Face(boto3_client(server.url), clock, partial(over_http, server.url), ssm=ssm)
    server.stop()


def test_ssm_calls_that_the_market_does_not_support_go_to_the_local_aws(beside: Face) -> None:
    face = beside
    face.ssm.put_parameter(Name="/ours/image", Value="ami-42", Type="String")
    assert face.ssm.get_parameter(Name="/ours/image")["Parameter"]["Value"] == "ami-42"
    with pytest.raises(ClientError, match="ParameterNotFound"):
        face.ssm.get_parameter(Name="/absent")
    face.ec2.create_launch_template(
        LaunchTemplateName="by-parameter", LaunchTemplateData={"ImageId": "resolve:ssm:/ours/image"}
    )
    template = {"LaunchTemplateName": "by-parameter", "Version": "$Latest"}
    (shown,) = instances(face.ec2.describe_instances(InstanceIds=launched(face.launch(1, template=template))))
    assert shown["ImageId"] == "ami-42"


def test_maintenance_reaches_the_rule_for_scheduled_changes(beside: Face, aws: Aws, bus: EventBridge) -> None:
    face = beside
    face.ec2.create_launch_template(LaunchTemplateName="any", LaunchTemplateData={"ImageId": "ami-1"})
    face.template = "any"
    url, arn = aws.queue("maintenance")
    wanted = {"service": ["EC2"], "eventTypeCategory": ["scheduledChange"]}
    aws.rule("maintenance", {"source": ["aws.health"], "detail": wanted}, {"Arn": arn})
    one, two = launched(face.launch(2, lifecycle="on-demand"))
    code = "AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED"
    face.tell("POST", "/market/maintenance", {"instance_ids": [two], "event_type_code": code})
    face.tell("POST", "/market/maintenance", {"instance_ids": [one], "category": "issue"})
    wait_until(lambda: bus.counts()["seen"] == 4, seconds=10, what="two launches and two announcements are seen")
    wait_until(lambda: bus.counts()["delivered"] == 1, seconds=10, what="one announcement is delivered")
    (heard,) = aws.bodies(url)
    assert (heard["detail-type"], heard["resources"]) == ("AWS Health Event", [two])
    (entity,) = heard["detail"]["affectedEntities"]
    assert (entity["entityValue"], entity["status"]) == (two, "PENDING")
    assert (heard["detail"]["eventTypeCode"], heard["detail"]["eventRegion"]) == (code, REGION)
    assert face.control("POST", "/market/maintenance", {"instance_ids": ["i-1"]})[0] == 404
