"""AWS clients with explicit time-outs and retries, all well below the functions' own time-out."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
from botocore.config import Config

STORE = Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 4})
"""DynamoDB and SQS: conditional writes and sends may be repeated."""

EC2 = Config(connect_timeout=3, read_timeout=12, retries={"mode": "standard", "total_max_attempts": 3})
"""EC2: reads and terminations may be repeated."""

PRICE_LIST_REGION = "us-east-1"
"""Serves the price list for all Regions of the partition ``aws``, as two other Regions do."""

PRICES = Config(connect_timeout=2, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2})
"""The price list: a tick must not reach its time limit because it waits for prices."""

LAUNCH = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 1})
"""CreateFleet: once. After an automatic retry an error would say nothing about what the first try launched."""


@cache  # a session reads a large file for it
def price_list_region(region: str) -> str | None:
    """The Region that serves the price list of a Region's partition; None for a partition without one (GovCloud)."""
    session = boto3.session.Session(region_name=region)
    served = session.get_available_regions("pricing", partition_name=session.get_partition_for_region(region))
    return next((candidate for candidate in (region, PRICE_LIST_REGION, *served) if candidate in served), None)


def client(service: str, config: Config = STORE, region: str | None = None) -> Any:
    """A client with the function's own role, in its own Region unless another one is given."""
    return boto3.client(service, config=config, region_name=region)
