"""Edits pool items like their owner, with plain DynamoDB calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from boto3.dynamodb.types import TypeSerializer

from localcloud.cloud import LocalCloud

Item = Mapping[str, Any]


def put_pool(cloud: LocalCloud, item: Item) -> None:
    """Write a whole pool item."""
    write = TypeSerializer().serialize
    cloud.client("dynamodb").put_item(
        TableName=cloud.outputs["PoolsTable"], Item={name: write(value) for name, value in item.items()}
    )


def resize_pool(cloud: LocalCloud, pool: str, size: int) -> None:
    """Change only target_size."""
    cloud.client("dynamodb").update_item(
        TableName=cloud.outputs["PoolsTable"],
        Key={"pool_name": {"S": pool}},
        UpdateExpression="SET target_size = :size",
        ExpressionAttributeValues={":size": {"N": str(size)}},
    )


def delete_pool(cloud: LocalCloud, pool: str) -> None:
    """Delete the item."""
    cloud.client("dynamodb").delete_item(TableName=cloud.outputs["PoolsTable"], Key={"pool_name": {"S": pool}})
