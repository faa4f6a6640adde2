"""The Pools table, read and written. An item is written only if it is still as it was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from cli.exits import ChangedMeanwhileError, NoSuchPoolError
from lambdas.aws.tables import from_item, to_attribute
from lambdas.domain.item.faults import KNOWN_NAMES

Attributes = Mapping[str, Any]
"""An item in DynamoDB's format: each value with its type."""


@dataclass(frozen=True)
class Stored:
    """A pool item in the table: plain values, and DynamoDB's own format, with which a later write compares."""

    item: Mapping[str, Any]
    attributes: Attributes


@dataclass(frozen=True)
class PoolItems:
    """Reads and writes the Pools table."""

    client: Any
    table: str

    def get(self, pool_name: str) -> Stored:
        """Read one item. Raises NoSuchPoolError with the nearest names."""
        if (found := self.find(pool_name)) is None:
            raise self.no_such(pool_name)
        return found

    def find(self, pool_name: str) -> Stored | None:
        """Read one item, or return None."""
        key = {"pool_name": {"S": pool_name}}
        answer = self.client.get_item(TableName=self.table, Key=key, ConsistentRead=True)
        return _stored(answer["Item"]) if "Item" in answer else None

    def all(self) -> dict[str, Stored]:
        """Read every item, by pool name."""
        return {stored.item["pool_name"]: stored for stored in map(_stored, self._scan())}

    def names(self) -> list[str]:
        """Return the sorted names of all pools that have an item."""
        found = self._scan(ProjectionExpression="pool_name")
        return sorted(str(from_item(one)["pool_name"]) for one in found)

    def no_such(self, pool_name: str) -> NoSuchPoolError:
        """Make the error for an unknown pool, with the nearest names if the caller may read them."""
        try:
            return NoSuchPoolError(pool_name, self.names())
        except ClientError:
            return NoSuchPoolError(pool_name, ())

    def write(self, item: Mapping[str, Any], before: Stored | None) -> None:
        """Replace an item if it is still as it was read. Otherwise raises ChangedMeanwhileError."""
        attributes = {name: to_attribute(value) for name, value in item.items()}
        self.put(attributes, before.attributes if before else None)

    def put(self, attributes: Attributes, before: Attributes | None) -> None:
        """Do the same as ``write``, with attributes in DynamoDB's format."""
        try:
            self.client.put_item(TableName=self.table, Item=dict(attributes), **_unchanged(before))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            raise ChangedMeanwhileError(str(attributes["pool_name"]["S"])) from None

    def delete(self, pool_name: str, before: Stored) -> None:
        """Delete an item if it is still as it was read. Otherwise raises ChangedMeanwhileError."""
        try:
            key = {"pool_name": {"S": pool_name}}
            self.client.delete_item(TableName=self.table, Key=key, **_unchanged(before.attributes))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            raise ChangedMeanwhileError(pool_name) from None

    def _scan(self, **asked: Any) -> Iterator[Attributes]:
        pages = self.client.get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True, **asked)
        return (item for page in pages for item in page["Items"])


def _stored(attributes: Attributes) -> Stored:
    return Stored(from_item(attributes), attributes)


MOST_UNKNOWN = 60
"""Most unknown attributes in a condition: DynamoDB allows 4,096 bytes and 300 operators in one expression."""


def _unchanged(before: Attributes | None) -> dict[str, Any]:
    """Make the condition that an item is still as it was read. It does not see an unknown attribute that was added.

    Of hundreds of unknown attributes it compares only the first ones; such an item is not a pool.
    """
    if before is None:
        return {"ConditionExpression": "attribute_not_exists(pool_name)"}
    known = [name for name in before if name in KNOWN_NAMES and name != "pool_name"]
    held = [*known, *[name for name in before if name not in KNOWN_NAMES][:MOST_UNKNOWN]]
    absent = [name for name in KNOWN_NAMES if name not in before]
    names = {f"#{number}": name for number, name in enumerate((*held, *absent))}
    equal = [f"#{number} = :{number}" for number in range(len(held))]
    free = [f"attribute_not_exists(#{number})" for number in range(len(held), len(names))]
    values = {f":{number}": before[name] for number, name in enumerate(held)}
    return {
        "ConditionExpression": " AND ".join(["attribute_exists(pool_name)", *equal, *free]),
        "ExpressionAttributeNames": names,
        **({"ExpressionAttributeValues": values} if values else {}),
    }
