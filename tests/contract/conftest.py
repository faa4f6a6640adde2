"""A DynamoDB and an SQS that behave, for the adapters' contracts: ministack, started once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from tests.empty_aws import client_of, empty_aws


@pytest.fixture(scope="package")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Make clients of an empty AWS."""
    with empty_aws(tmp_path_factory.mktemp("ministack")) as url:
        yield lambda service: client_of(service, url)


_numbers = count(1)


@pytest.fixture
def new_table(aws: Callable[[str], Any]) -> Callable[[], str]:
    """Make an empty table keyed by pool_name and return its name."""

    def make() -> str:
        name = f"table-{next(_numbers)}"
        aws("dynamodb").create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "pool_name", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pool_name", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        return name

    return make
