"""A DynamoDB and an SQS that behave, for the adapters' contracts: ministack, started once."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest

from localcloud.processes import HOST, Child, port_to_use


@pytest.fixture(scope="package")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Make clients of an empty AWS."""
    folder: Path = tmp_path_factory.mktemp("ministack")
    port = port_to_use(0)
    url = f"http://{HOST}:{port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "TMPDIR": str(folder),
    }
    command = [sys.executable, "-m", "ministack"]
    server = Child("ministack", command, log=folder / "log", environment=environment, directory=folder)
    try:
        server.wait_until(lambda: answers(f"{url}/_ministack/ready"), seconds=30)
        yield lambda service: boto3.client(
            service,
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
    finally:
        server.stop()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310  the server just started
            return bool(answer.status == 200)
    except OSError:
        return False


_numbers = count(1)


@pytest.fixture
def new_table(aws: Callable[[str], Any]) -> Callable[[], str]:
    """Make an empty table keyed by pool_name and return its name."""

    def make() -> str:
        name = f"table-{next(_numbers)}"
        aws("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pool_name", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pool_name", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        return name

    return make
