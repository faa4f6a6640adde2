"""The market's two faces for the contract suite, with builders that by default request g4dn.metal in zones a to d."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from localcloud.market.model.clock import ManualClock

TYPE = "g4dn.metal"
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d")
PRICE = "3.8338"
"""The default offerings' spot price of g4dn.metal. Their capacity is 8, 6, 6 and 4."""


@dataclass
class Face:
    """An EC2 client of a market, the market's clock, and its control interface."""

    ec2: Any
    clock: ManualClock
    control: Callable[[str, str, dict[str, Any] | None], tuple[int, Any]]
    template: str = "default"
    pricing: Any = None
    ssm: Any = None
    add_subnet: Callable[[str], str] = str
    """Creates another subnet in a zone and returns its id."""

    def tell(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Make a control call that must succeed."""
        status, answer = self.control(method, path, body)
        assert status == 200, answer
        return answer

    def offer(self, zone: str, instance_type: str = TYPE, **change: Any) -> None:
        """Change an offering, or several with *."""
        self.tell("PUT", f"/market/offerings/{instance_type}/{zone}", change)

    def settle(self, seconds: float = 2) -> None:
        """Wait until launched instances run."""
        self.clock.forward(seconds)

    def subnet(self, zone: str) -> str:
        """Return the id of a zone's default subnet."""
        answer = self.ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": [zone]}])
        return str(answer["Subnets"][0]["SubnetId"])

    def request(
        self,
        wanted: int,
        *,
        zones: tuple[str, ...] = ZONES,
        types: tuple[str, ...] = (TYPE,),
        max_price: str | None = None,
        token: str | None = None,
        lifecycle: str = "spot",
        pool: str = "p",
        template: dict[str, str] | None = None,
        weights: Mapping[str, float] | None = None,
        strategy: str | None = None,
    ) -> dict[str, Any]:
        """Build a CreateFleet request like those of the control plane."""
        overrides = [
            {"InstanceType": kind, "SubnetId": self.subnet(zone), "AvailabilityZone": zone}
            | ({"MaxPrice": max_price} if max_price else {})
            | ({"WeightedCapacity": weights[kind]} if weights else {})
            for kind in types
            for zone in zones
        ]
        tags = [{"Key": "spotpools:pool", "Value": pool}]
        strategy = strategy or ("price-capacity-optimized" if lifecycle == "spot" else "lowest-price")
        return {
            "Type": "instant",
            "LaunchTemplateConfigs": [
                {
                    "LaunchTemplateSpecification": template
                    or {"LaunchTemplateName": self.template, "Version": "$Default"},
                    "Overrides": overrides,
                }
            ],
            "TargetCapacitySpecification": {"TotalTargetCapacity": wanted, "DefaultTargetCapacityType": lifecycle},
            "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("fleet", "instance", "volume")],
            f"{'Spot' if lifecycle == 'spot' else 'OnDemand'}Options": {"AllocationStrategy": strategy},
            **({"ClientToken": token} if token else {}),
        }

    def launch(self, wanted: int, **more: Any) -> dict[str, Any]:
        """Send such a request and return the answer."""
        return dict(self.ec2.create_fleet(**self.request(wanted, **more)))

    def states(self, **params: Any) -> dict[str, str]:
        """Return the state of each instance that DescribeInstances shows."""
        answer = self.ec2.describe_instances(**params)
        return {one["InstanceId"]: one["State"]["Name"] for one in instances(answer)}


def instances(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the instances of a DescribeInstances answer."""
    return [one for reservation in answer["Reservations"] for one in reservation["Instances"]]


def launched(answer: dict[str, Any]) -> list[str]:
    """Return the ids in a CreateFleet answer."""
    return [one for entry in answer["Instances"] for one in entry["InstanceIds"]]


def by_zone(answer: dict[str, Any]) -> dict[str, int]:
    """Return how many instances a CreateFleet answer has in each zone."""
    return {entry["AvailabilityZone"]: len(entry["InstanceIds"]) for entry in answer["Instances"]}


def by_type(answer: dict[str, Any]) -> dict[str, int]:
    """Return how many instances a CreateFleet answer has of each type."""
    return {entry["InstanceType"]: len(entry["InstanceIds"]) for entry in answer["Instances"]}


def codes(answer: dict[str, Any]) -> list[str]:
    """Return the error codes of a CreateFleet answer."""
    return [entry["ErrorCode"] for entry in answer["Errors"]]


def over_http(url: str, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Make a control call over HTTP."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, method=method)  # noqa: S310  # the market's own URL
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  # as above
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait for a condition in another process, checked every 50 ms. Fail if it is not met in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)
