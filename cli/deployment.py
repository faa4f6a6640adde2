"""One deployment of the stack: its names, and adapters that use the caller's own credentials.

Names come from SPOTPOOLS_* variables (the local cloud sets them), otherwise from the stack's outputs. Each is read when
it is first needed.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import cached_property
from threading import RLock
from typing import Any

from cli.exits import AwsFaultError
from cli.pool_items import PoolItems
from lambdas.aws.clients import EC2, STORE, client, price_list_region
from lambdas.aws.drainer import EventsAndCommands
from lambdas.aws.ec2_fleet import Ec2Fleet
from lambdas.aws.offerings import Offerings
from lambdas.aws.status_table import StatusTable
from lambdas.settings import Settings

DEFAULT_STACK = "spotpools"
FUNCTIONS = ("TickFunction", "PoolEditFunction", "PoolDueFunction", "SpotNoticeFunction", "AlarmFunction")


class Deployment:
    """A stack in a Region. The name defaults to SPOTPOOLS_STACK, then to ``spotpools``.

    The Region defaults to AWS_REGION, as for the AWS CLI and the CDK, then to what boto3 finds: AWS_DEFAULT_REGION,
    then the Region of the profile.
    """

    def __init__(self, stack: str | None = None, region: str | None = None) -> None:
        self.stack = stack or os.environ.get("SPOTPOOLS_STACK", DEFAULT_STACK)
        # The tables that the environment names belong to its own stack and Region.
        self._elsewhere = stack is not None or region is not None
        self._region = region or os.environ.get("AWS_REGION") or None
        self._clients: dict[str, Any] = {}
        self._functions: dict[str, dict[str, Any]] = {}
        self._making = RLock()

    def client(self, service: str) -> Any:
        """Return the client of a service. All threads share it."""
        with self._making:  # boto3's default session makes one client at a time
            if service not in self._clients:
                region = price_list_region(self.region) if service == "pricing" else self._region
                self._clients[service] = client(service, EC2 if service == "ec2" else STORE, region)
        return self._clients[service]

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    @property
    def market_url(self) -> str | None:
        """The URL of the local cloud's market; None on AWS."""
        return os.environ.get("SPOTPOOLS_MARKET_URL")

    @property
    def region(self) -> str:
        """The Region of the stack."""
        return str(self.client("dynamodb").meta.region_name)

    @cached_property
    def description(self) -> dict[str, Any]:
        """The stack as CloudFormation describes it."""
        (found,) = self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"]
        return dict(found)

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        return {one["OutputKey"]: one["OutputValue"] for one in self.description.get("Outputs", [])}

    def output(self, name: str) -> str:
        """Return one output. Raises AwsFaultError if the stack has no such output."""
        if name not in self.outputs:
            raise AwsFaultError(
                f"Stack {self.stack} is not a Spot Pools stack of this version: it has no output {name}. "
                "Name yours with --stack, or deploy it again."
            )
        return self.outputs[name]

    @cached_property
    def pools(self) -> PoolItems:
        """The Pools table."""
        return PoolItems(self.client("dynamodb"), self._table("SPOTPOOLS_POOLS_TABLE", "PoolsTable"))

    @cached_property
    def statuses(self) -> StatusTable:
        """The control plane's items; only read."""
        table = self._table("SPOTPOOLS_STATUS_TABLE", "StatusTable")
        return StatusTable(self.client("dynamodb"), table, lease_seconds=0, clock=self.now)

    @property
    def reconciler(self) -> dict[str, Any]:
        """The configuration of the function that reconciles."""
        return self.function("PoolDueFunction")

    @cached_property
    def settings(self) -> Settings:
        """The settings that the deployment gave to the functions."""
        return Settings.load(self.reconciler["Environment"]["Variables"])

    def resources(self, kind: str) -> dict[str, str]:
        """Return the physical ids of the stack's resources of a CloudFormation type, by logical id."""
        found = self.client("cloudformation").describe_stack_resources(StackName=self.stack)["StackResources"]
        return {one["LogicalResourceId"]: one["PhysicalResourceId"] for one in found if one["ResourceType"] == kind}

    def function(self, output: str) -> dict[str, Any]:
        """Return the configuration of the function that an output names; it is read once."""
        if output not in self._functions:
            name = self.output(output)
            self._functions[output] = dict(self.client("lambda").get_function_configuration(FunctionName=name))
        return self._functions[output]

    def log_group(self, output: str) -> str:
        """Return the name of a function's log group."""
        configuration = self.function(output)
        default = f"/aws/lambda/{configuration['FunctionName']}"
        return str(configuration.get("LoggingConfig", {}).get("LogGroup", default))

    def offerings(self, default_subnets: tuple[str, ...] = ()) -> Offerings:
        """Return the adapter for what EC2 offers, and for its prices."""
        return Offerings(
            self.client("ec2"),
            self.client("pricing") if price_list_region(self.region) else None,
            default_subnets=default_subnets,
            region=str(self.client("ec2").meta.region_name),
            clock=self.now,
        )

    def fleet(self, settings: Settings | None = None) -> Ec2Fleet:
        """Return the EC2 adapter. Without settings it may only list instances."""
        return Ec2Fleet(
            self.client("ec2"),
            stack=settings.stack if settings else self.stack,
            default_launch_template=settings.default_launch_template if settings else "unknown",
            offerings=self.offerings(settings.subnet_ids if settings else ()),
        )

    def drainer(self) -> EventsAndCommands:
        """Return the adapter that reads the states of drain commands."""
        return EventsAndCommands(self.client("events"), self.client("ssm"), stack=self.stack, clock=self.now)

    def _table(self, variable: str, output: str) -> str:
        named = None if self._elsewhere else os.environ.get(variable)
        return named or self.output(output)
