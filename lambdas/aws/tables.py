"""Converts DynamoDB items to plain Python values, and reads all pages of a scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer


class _AnyDeserializer(TypeDeserializer):  # type: ignore[misc]  # boto3 has no types
    """Reads all that DynamoDB can store: one unusual attribute of one item must not fail the scan of a table.

    boto3's own class refuses a number with more than 38 digits before its point, such as 1E+100, which DynamoDB accepts
    and returns. Its Binary fails when it is shown as text.
    """

    def _deserialize_n(self, value: str) -> Decimal:
        return Decimal(value)

    def _deserialize_b(self, value: bytes) -> bytes:
        return value


_serializer = TypeSerializer()
_deserializer = _AnyDeserializer()


def to_attribute(value: Any) -> dict[str, Any]:
    """One value as DynamoDB writes it."""
    attribute: dict[str, Any] = _serializer.serialize(value)
    return attribute


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as plain values; numbers become Decimal."""
    return {name: _deserializer.deserialize(attribute) for name, attribute in item.items()}


def scan_items(client: Any, table: str) -> Iterator[dict[str, Any]]:
    """Every item of a small table, strongly consistent, page by page."""
    start: dict[str, Any] = {}
    while True:
        page = client.scan(TableName=table, ConsistentRead=True, **start)
        yield from (from_item(item) for item in page["Items"])
        if "LastEvaluatedKey" not in page:
            return
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
