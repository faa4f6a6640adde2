"""The PoolStore and DueQueue contracts on DynamoDB and SQS, and on their fakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from lambdas.aws.due_queue import SqsDueQueue
from lambdas.aws.pool_table import PoolTable
from lambdas.aws.tables import to_attribute
from lambdas.ports import PoolStore
from tests.contract.emulators import EMULATORS, Emulators, new_table
from tests.support.fakes import MemoryPools

ITEM = {
    "pool_name": "p",
    "target_size": Decimal(6),
    "spot": True,
    "instance_types": ["g5.xlarge"],
    "launch_template": {"name": "x"},
}
Put = Callable[[dict[str, Any]], None]


@pytest.fixture(params=["memory", *EMULATORS])
def pools(request: pytest.FixtureRequest, emulators: Emulators) -> tuple[PoolStore, Put]:
    if request.param == "memory":
        memory = MemoryPools()
        return memory, lambda item: memory.items.update({item["pool_name"]: item})
    client = emulators.client(request.param)
    table = new_table(client)

    def put(item: dict[str, Any]) -> None:
        client.put_item(TableName=table, Item={name: to_attribute(value) for name, value in item.items()})

    return PoolTable(client, table), put


def test_an_item_is_read_as_it_was_put(pools: tuple[PoolStore, Put]) -> None:
    store, put = pools
    put(ITEM)
    assert store.get("p") == ITEM
    assert store.get("q") is None


def test_a_scan_reads_every_page(pools: tuple[PoolStore, Put]) -> None:
    store, put = pools
    padding = "x" * 300_000  # four such items are more than DynamoDB's 1 MB page
    for number in range(8):
        put({"pool_name": f"p{number}", "padding": padding})
    assert sorted(store.scan()) == [f"p{number}" for number in range(8)]


@pytest.mark.parametrize(
    "odd", [{"N": "1E+100"}, {"N": "9.9E+125"}, {"N": "1E-130"}, {"NS": ["1E+100", "-1"]}, {"B": b"x"}, {"BS": [b"x"]}]
)
def test_every_value_that_dynamodb_accepts_can_be_read(dynamodb: Any, table: str, odd: dict[str, Any]) -> None:
    """boto3's own reader raises for some values, so one item would fail the scan of all pools."""
    dynamodb.put_item(TableName=table, Item={"pool_name": {"S": "p"}, "odd": odd})
    (item,) = PoolTable(dynamodb, table).scan().values()
    assert str(item["odd"])


def test_a_missing_table_raises_instead_of_being_empty(dynamodb: Any) -> None:
    store = PoolTable(dynamodb, "absent")
    with pytest.raises(Exception, match="ResourceNotFoundException"):
        store.scan()
    with pytest.raises(Exception, match="ResourceNotFoundException"):
        store.get("p")


def test_every_pool_gets_its_message_in_order(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="due")["QueueUrl"]
    names = [f"p{number:02}" for number in range(23)]
    SqsDueQueue(sqs, url).send(dict.fromkeys(names, "it is new"))
    got: list[str] = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        got += [json.loads(message["Body"])["pool_name"] for message in messages]
    assert sorted(got) == names


def test_a_delayed_message_does_not_arrive_early(sqs: Any) -> None:
    url = sqs.create_queue(QueueName="later")["QueueUrl"]
    SqsDueQueue(sqs, url).send({"p": "its template settles"}, after=timedelta(seconds=2))
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"]
    assert json.loads(message["Body"])["pool_name"] == "p"


def test_a_missing_queue_raises(sqs: Any) -> None:
    with pytest.raises(Exception, match="NonExistentQueue"):
        SqsDueQueue(sqs, "http://127.0.0.1/000000000000/absent").send({"p": "it is new"})
