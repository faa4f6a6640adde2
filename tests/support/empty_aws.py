"""An empty AWS: ministack as a process of this machine."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

from localcloud.processes import HOST, Child, port_to_use

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@contextmanager
def empty_aws(folder: Path, **more: str) -> Iterator[str]:
    """Start it, with ``more`` in its environment. Yields its URL."""
    port = port_to_use(0)
    url = f"http://{HOST}:{port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "TMPDIR": str(folder),
        **more,
    }
    command = [sys.executable, "-m", "ministack"]
    server = Child("ministack", command, log=folder / "log", environment=environment, directory=folder)
    try:
        server.wait_until(lambda: answers(f"{url}/_ministack/ready"), seconds=30)
        yield url
    finally:
        server.stop()


def client_of(service: str, url: str) -> Any:
    """A client of a service of it."""
    return boto3.client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310  our own server
            return bool(answer.status == 200)
    except OSError:
        return False
