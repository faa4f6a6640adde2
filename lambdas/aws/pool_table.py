"""The Pools table: the users' items, read only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lambdas.aws.tables import from_item, scan_items


class PoolTable:
    """The PoolStore port over DynamoDB."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, pool_name: str) -> Mapping[str, Any] | None:
        """Read one item."""
        answer = self._client.get_item(TableName=self._table, Key={"pool_name": {"S": pool_name}}, ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else None

    def scan(self) -> Mapping[str, Mapping[str, Any]]:
        """Read all items: one for each pool."""
        return {item["pool_name"]: item for item in scan_items(self._client, self._table)}
