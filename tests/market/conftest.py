"""The two faces of the market as a parametrized fixture: ``face``."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import boto3
import pytest
from botocore.config import Config

from localcloud.market.faces.client import MarketClient
from localcloud.market.faces.control import Control
from localcloud.market.faces.moto_surroundings import MotoSurroundings
from localcloud.market.faces.server import MarketServer
from localcloud.market.model.clock import ManualClock
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import default_offerings
from localcloud.market.model.settings import Settings
from localcloud.market.model.surroundings import PLAIN, PlainSurroundings
from tests.market.faces import Face, over_http


def in_process() -> Face:
    """Return the face in the same process."""
    clock = ManualClock()
    surroundings = PlainSurroundings()
    surroundings.add_template("default")
    market = Market(clock=clock, offerings=default_offerings(), surroundings=surroundings)
    control = Control(market, settings=Settings())

    def call(method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        path, _, query = path.partition("?")
        pairs = dict(part.split("=") for part in query.split("&") if part)
        return control.handle(method, path, pairs, b"" if body is None else json.dumps(body).encode())

    pricing, ssm = (MarketClient(market, service=service) for service in ("pricing", "ssm"))
    return Face(
        MarketClient(market, sleep=clock.forward),
        clock,
        call,
        pricing=pricing,
        ssm=ssm,
        add_subnet=lambda zone: surroundings.add_subnet(zone).id,
    )


def boto3_client(url: str, attempts: int = 1, service: str = "ec2") -> Any:
    """Return a real client, by default of EC2, with a limited number of attempts."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}, read_timeout=10),
    )


@pytest.fixture(scope="session")
def served() -> Iterator[tuple[MarketServer, Face]]:
    """Serve a market over HTTP, on a clock that only the test moves."""
    clock = ManualClock()
    market = Market(clock=clock, offerings=default_offerings(), surroundings=MotoSurroundings("us-east-1"))
    server = MarketServer(market, Control(market, settings=Settings()))
    server.start()
    client = boto3_client(server.url)
    client.create_launch_template(LaunchTemplateName="default", LaunchTemplateData=PLAIN)
    pricing, ssm = (boto3_client(server.url, service=service) for service in ("pricing", "ssm"))

    def add_subnet(zone: str) -> str:
        (default,) = client.describe_subnets(
            Filters=[{"Name": "availability-zone", "Values": [zone]}, {"Name": "default-for-az", "Values": ["true"]}]
        )["Subnets"]
        made = client.create_subnet(VpcId=default["VpcId"], CidrBlock="172.31.240.0/24", AvailabilityZone=zone)
        return str(made["Subnet"]["SubnetId"])

    yield (
        server,
        Face(client, clock, partial(over_http, server.url), pricing=pricing, ssm=ssm, add_subnet=add_subnet),
    )
    server.stop()


@pytest.fixture(params=["in process", "over HTTP"])
def face(request: pytest.FixtureRequest) -> Face:
    """Return the face of a new market: in the same process, and over HTTP with a real boto3 client."""
    if request.param == "in process":
        return in_process()
    _, served_face = request.getfixturevalue("served")
    assert isinstance(served_face, Face)
    served_face.tell("POST", "/market/reset")
    return served_face
