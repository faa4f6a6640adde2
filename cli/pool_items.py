"""The Pools table, for people: an item is written only if it still is as it was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from cli.exits import ChangedMeanwhileError, NoSuchPoolError
from lambdas.aws.tables import from_item, to_attribute
from lambdas.domain.item.faults import KNOWN_NAMES

Attributes = Mapping[str, Any]
"""An item in DynamoDB's own words."""


@dataclass(frozen=True)
class Stored:
    """A pool item as it stands: as plain values, and as DynamoDB wrote it, which a later write compares with."""

    item: Mapping[str, Any]
    attributes: Attributes


@dataclass(frozen=True)
class PoolItems:
    """The Pools table."""

    client: Any
    table: str

    def get(self, pool_name: str) -> Stored:
        """One item. Raises NoSuchPoolError with the nearest names."""
        if (found := self.find(pool_name)) is None:
            raise self.no_such(pool_name)
        return found

    def find(self, pool_name: str) -> Stored | None:
        """One item, or None."""
        key = {"pool_name": {"S": pool_name}}
        answer = self.client.get_item(TableName=self.table, Key=key, ConsistentRead=True)
        return _stored(answer["Item"]) if "Item" in answer else None

    def all(self) -> dict[str, Stored]:
        """Every item by pool name."""
        return {stored.item["pool_name"]: stored for stored in map(_stored, self._scan())}

    def names(self) -> list[str]:
        """The names of all pools that have an item."""
        found = self._scan(ProjectionExpression="pool_name")
        return sorted(str(from_item(one)["pool_name"]) for one in found)

    def no_such(self, pool_name: str) -> NoSuchPoolError:
        """That there is no such pool; with the nearest names, if the caller may see them."""
        try:
            return NoSuchPoolError(pool_name, self.names())
        except ClientError:
            return NoSuchPoolError(pool_name, ())

    def write(self, item: Mapping[str, Any], before: Stored | None) -> None:
        """Write an item whole, if it still is as it was. Raises ChangedMeanwhileError if not."""
        attributes = {name: to_attribute(value) for name, value in item.items()}
        self.put(attributes, before.attributes if before else None)

    def put(self, attributes: Attributes, before: Attributes | None) -> None:
        """The same with DynamoDB's own words."""
        try:
            self.client.put_item(TableName=self.table, Item=dict(attributes), **_unchanged(before))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            raise ChangedMeanwhileError(str(attributes["pool_name"]["S"])) from None

    def _scan(self, **asked: Any) -> Iterator[Attributes]:
        pages = self.client.get_paginator("scan").paginate(TableName=self.table, ConsistentRead=True, **asked)
        return (item for page in pages for item in page["Items"])


def _stored(attributes: Attributes) -> Stored:
    return Stored(from_item(attributes), attributes)


MOST_UNKNOWN = 60
"""Attributes that nobody knows, of which a condition asks: DynamoDB takes 4,096 bytes and 300 operators of one."""


def _unchanged(before: Attributes | None) -> dict[str, Any]:
    """The condition that an item is still the one that was read; an attribute that nobody knows may have come.

    Of an item with hundreds of attributes that nobody knows, which is no pool, the first ones stand for all.
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
