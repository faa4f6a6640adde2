"""An AWS for all tests of the command, and a stack for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from localcloud.market.clock import system_clock
from localcloud.market.control import Control
from localcloud.market.model import Market
from localcloud.market.moto_surroundings import MotoSurroundings
from localcloud.market.offerings import default_offerings
from localcloud.market.server import MarketServer
from localcloud.market.settings import Settings
from tests.empty_aws import CREDENTIALS, client_of, empty_aws

_numbers = count(1)
QUICK = Settings(pending_seconds=0, status_check_seconds=0)


from tests.cli.site import Site, deployed


@pytest.fixture(scope="package")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with empty_aws(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture(scope="package")
def ec2() -> Iterator[tuple[str, Market]]:
    """A market whose machines start at once, and where it is served."""
    market = Market(
        clock=system_clock, offerings=default_offerings(), surroundings=MotoSurroundings("us-east-1"), settings=QUICK
    )
    server = MarketServer(market, Control(market, settings=QUICK))
    server.start()
    yield server.url, market
    server.stop()


@pytest.fixture
def site(aws_url: str, ec2: tuple[str, Market], monkeypatch: pytest.MonkeyPatch) -> Site:
    """A stack of its own, known to the command by name."""
    ec2_url, market = ec2
    Control(market, settings=QUICK).handle("POST", "/market/reset", {}, b"")
    stack = f"stack-{next(_numbers)}"
    environment = {
        **CREDENTIALS,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ENDPOINT_URL_EC2": ec2_url,
        "AWS_ENDPOINT_URL_PRICING": ec2_url,
        "SPOTPOOLS_STACK": stack,
        "COLUMNS": "200",
    }
    for name in ("SPOTPOOLS_MARKET_URL", "SPOTPOOLS_POOLS_TABLE", "SPOTPOOLS_STATUS_TABLE", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it would keep another test's credentials
    settings, outputs = deployed(stack, aws_url)
    data = {"ImageId": "ami-1"}
    client_of("ec2", ec2_url).create_launch_template(
        LaunchTemplateName=settings.default_launch_template,
        LaunchTemplateData=data,
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": [{"Key": "spotpools:stack", "Value": stack}]}],
    )

    def run(*arguments: str, **more: Any) -> Result:
        return CliRunner().invoke(app, list(arguments), **more)

    return Site(aws_url, ec2_url, market, settings, outputs, environment, run)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """Write a file; its name."""

    def write(text: str) -> str:
        path = tmp_path / "pools.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
