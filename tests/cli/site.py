"""A deployed stack for the command: ministack for AWS, the market for EC2, the control plane in this process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner, Result

from cli.deployment import FUNCTIONS
from cli.main import app
from lambdas import __version__
from lambdas.aws.drainer import EventsAndCommands
from lambdas.aws.due_queue import SqsDueQueue
from lambdas.aws.ec2_fleet import Ec2Fleet
from lambdas.aws.offerings import Offerings
from lambdas.aws.pool_table import PoolTable
from lambdas.aws.status_table import StatusTable
from lambdas.aws.tables import from_item, to_attribute
from lambdas.control_plane import ControlPlane
from lambdas.domain.record.backoff import BackoffPolicy
from lambdas.metrics import namespace
from lambdas.reconcile import reconcile
from lambdas.settings import Settings as StackSettings
from lambdas.wiring import utc_now
from localcloud.market.faces.control import Control
from localcloud.market.faces.moto_surroundings import MotoSurroundings
from localcloud.market.faces.server import MarketServer
from localcloud.market.model.clock import system_clock
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import default_offerings
from localcloud.market.model.settings import Settings
from tests.support.empty_aws import CREDENTIALS, client_of

_numbers = count(1)
QUICK = Settings(pending_seconds=0, status_check_seconds=0)


@dataclass
class Site:
    """A stack with its environment and its control plane."""

    aws_url: str
    ec2_url: str
    market: Market
    settings: StackSettings
    outputs: dict[str, str]
    environment: dict[str, str]
    clock: Callable[[], datetime] = utc_now
    plane: ControlPlane = field(init=False)

    def __post_init__(self) -> None:
        client, queue = self.client("ec2"), SqsDueQueue(self.client("sqs"), self.settings.due_queue_url)
        offerings = Offerings(client, self.client("pricing"), default_subnets=(), region="us-east-1", clock=self.clock)
        dynamodb = self.client("dynamodb")
        self.plane = ControlPlane(
            stack=self.settings.stack,
            pools=PoolTable(dynamodb, self.settings.pools_table),
            statuses=StatusTable(
                dynamodb,
                self.settings.status_table,
                lease_seconds=75,
                clock=self.clock,
                answered_at=lambda _: self.clock(),
            ),
            fleet=Ec2Fleet(
                client,
                stack=self.settings.stack,
                default_launch_template=self.settings.default_launch_template,
                offerings=offerings,
            ),
            drainer=EventsAndCommands(
                self.client("events"), self.client("ssm"), stack=self.settings.stack, clock=self.clock
            ),
            queue=queue,
            clock=self.clock,
            backoff_policy=BackoffPolicy(base=timedelta(seconds=60), longest=timedelta(seconds=900)),
            drain_grace=timedelta(seconds=300),
        )

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Point this process's environment to this site."""
        for name in ("SPOTPOOLS_MARKET_URL", "SPOTPOOLS_POOLS_TABLE", "SPOTPOOLS_STATUS_TABLE", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        for name, value in self.environment.items():
            patch.setenv(name, value)
        patch.setattr(boto3, "DEFAULT_SESSION", None)  # it would keep another site's credentials

    def client(self, service: str) -> Any:
        """A client of a service of this site."""
        return client_of(service, self.ec2_url if service in ("ec2", "pricing") else self.aws_url)

    def put(self, pool: str, **attributes: Any) -> None:
        """Write an item, as with the console, and reconcile the pool."""
        item = {"pool_name": pool, "instance_types": ["g5.xlarge"], **attributes}
        written = {name: to_attribute(value) for name, value in item.items()}
        self.client("dynamodb").put_item(TableName=self.settings.pools_table, Item=written)
        reconcile(pool, self.plane)

    def item(self, pool: str) -> dict[str, Any] | None:
        """Read a pool's item."""
        key = {"pool_name": {"S": pool}}
        found = self.client("dynamodb").get_item(TableName=self.settings.pools_table, Key=key).get("Item")
        return from_item(found) if found else None

    def run(self, *arguments: str, **more: Any) -> Result:
        """Run a command and return its output and exit status."""
        return CliRunner().invoke(app, list(arguments), **more)

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed, and return its JSON."""
        result = self.run(*arguments, "--output", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def log(self, output: str, *lines: dict[str, Any]) -> None:
        """Write lines into a function's log."""
        now = int(utc_now().timestamp() * 1000)
        group = f"/aws/lambda/{self.outputs[output]}"
        events = [{"timestamp": now, "message": json.dumps(line)} for line in lines]
        self.client("logs").put_log_events(logGroupName=group, logStreamName="s", logEvents=events)

    def calls(self, *arguments: str) -> Counter[str]:
        """Count a command's calls to EC2 by action."""
        self.market.calls.clear()
        self.json(*arguments)
        return Counter(self.market.calls)


@contextmanager
def served_market(
    clock: Callable[[], datetime] = system_clock, settings: Settings = QUICK
) -> Iterator[tuple[str, Market]]:
    """Serve a market whose machines by default start at once. Yields its URL and the market."""
    market = Market(
        clock=clock, offerings=default_offerings(), surroundings=MotoSurroundings("us-east-1"), settings=settings
    )
    server = MarketServer(market, Control(market, settings=settings))
    server.start()
    try:
        yield server.url, market
    finally:
        server.stop()


def new_site(aws_url: str, ec2_url: str, market: Market, machines: Settings = QUICK) -> Site:
    """Make a stack without pools on a reset market, on the market's clock."""
    Control(market, settings=machines).handle("POST", "/market/reset", {}, b"")
    stack = f"stack-{next(_numbers)}"
    settings, outputs = deployed(stack, aws_url)
    client_of("ec2", ec2_url).create_launch_template(
        LaunchTemplateName=settings.default_launch_template,
        LaunchTemplateData={"ImageId": "ami-1"},
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": [{"Key": "spotpools:stack", "Value": stack}]}],
    )
    environment = {
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ENDPOINT_URL_EC2": ec2_url,
        "AWS_ENDPOINT_URL_PRICING": ec2_url,
        "SPOTPOOLS_STACK": stack,
        "COLUMNS": "200",
    }
    return Site(aws_url, ec2_url, market, settings, outputs, environment, market.clock)


def deployed(stack: str, url: str) -> tuple[StackSettings, dict[str, str]]:
    """Create a stack with the outputs and resources that the command reads."""
    settings = StackSettings(
        stack=stack,
        pools_table=f"{stack}-pools",
        status_table=f"{stack}-status",
        due_queue_url=client_of("sqs", url).create_queue(QueueName=f"{stack}-due")["QueueUrl"],
        edited_queue_url=client_of("sqs", url).create_queue(QueueName=f"{stack}-edited")["QueueUrl"],
        notices_queue_url="unused",
        default_launch_template=f"{stack}-default",
        subnet_ids=(),
    )
    cloudformation = client_of("cloudformation", url)
    cloudformation.create_stack(StackName=stack, TemplateBody=json.dumps(template(settings)))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in found["Outputs"]}
    logs = client_of("logs", url)
    for name in FUNCTIONS:
        group = f"/aws/lambda/{outputs[name]}"
        logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName="s")
    return settings, outputs


CONSOLE = "https://us-east-1.console.aws.amazon.com"


def template(settings: StackSettings) -> dict[str, Any]:
    def table(name: str) -> dict[str, Any]:
        return {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": name,
                "KeySchema": [{"AttributeName": "pool_name", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "pool_name", "AttributeType": "S"}],
                "BillingMode": "PAY_PER_REQUEST",
                "StreamSpecification": {"StreamViewType": "KEYS_ONLY"},
            },
        }

    function = {
        "Type": "AWS::Lambda::Function",
        "Properties": {
            "Runtime": "python3.13",
            "Handler": "index.handler",
            "Role": "arn:aws:iam::000000000000:role/none",
            "Code": {"ZipFile": "def handler(event, context):\n    return None\n"},
            "Environment": {"Variables": settings.environment()},
        },
    }
    schedule = {
        "Type": "AWS::Scheduler::Schedule",
        "Properties": {
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ScheduleExpression": "rate(1 day)",
            "Target": {
                "Arn": {"Fn::GetAtt": ["TickFunctionItself", "Arn"]},
                "RoleArn": "arn:aws:iam::000000000000:role/none",
            },
        },
    }
    resources = {
        "Pools": table(settings.pools_table),
        "Status": table(settings.status_table),
        "Topic": {"Type": "AWS::SNS::Topic"},
        "DueDead": {"Type": "AWS::SQS::Queue"},
        "Tick": schedule,
        "Alarm": {
            "Type": "AWS::CloudWatch::Alarm",
            "Properties": {
                "AlarmName": f"{settings.stack}-pool-below-target",
                "ComparisonOperator": "GreaterThanThreshold",
                "EvaluationPeriods": 1,
                "MetricName": "SecondsBelowTarget",
                "Namespace": namespace(settings.stack),
                "Period": 60,
                "Statistic": "Maximum",
                "Threshold": 600,
            },
        },
        **{f"{name}Itself": function for name in FUNCTIONS},
    }
    outputs = {
        "Version": __version__,
        "PoolsTable": settings.pools_table,
        "StatusTable": settings.status_table,
        "MessagesTopic": {"Ref": "Topic"},
        "DashboardUrl": f"{CONSOLE}/cloudwatch/home?region=us-east-1#dashboards/dashboard/{settings.stack}-fleet",
        **{name: {"Ref": f"{name}Itself"} for name in FUNCTIONS},
    }
    return {"Resources": resources, "Outputs": {name: {"Value": value} for name, value in outputs.items()}}
