"""AWS clients with explicit time-outs and retries; each well inside the functions' own time-out."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

STORE = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 4})
"""DynamoDB and SQS: conditional writes and sends may be repeated."""

EC2 = Config(connect_timeout=3, read_timeout=12, retries={"mode": "standard", "total_max_attempts": 3})
"""EC2: questions and terminations may be repeated."""

LAUNCH = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 1})
"""CreateFleet: once. After a repeat behind our back an error would say nothing of what the first try launched."""


PRICE_LIST_REGION = "us-east-1"
"""The price list of all Regions is served from a few of them."""


def client(service: str, config: Config = STORE, region: str | None = None) -> Any:
    """A client of the function's own role, in its own Region unless told."""
    return boto3.client(service, config=config, region_name=region)
