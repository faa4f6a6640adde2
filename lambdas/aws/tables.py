"""DynamoDB items as plain Python values, and pages as one sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


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
