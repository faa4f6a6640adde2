"""Emulators of DynamoDB and SQS for the contracts of the adapters, each started once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.emulators import EMULATORS, Emulators, new_table


@pytest.fixture(scope="package")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    made = Emulators(tmp_path_factory.mktemp)
    yield made
    made.stop()


@pytest.fixture(params=EMULATORS)
def dynamodb(request: pytest.FixtureRequest, emulators: Emulators) -> Any:
    """A client of DynamoDB, once for each emulator."""
    return emulators.client(request.param)


@pytest.fixture
def table(dynamodb: Any) -> str:
    """The name of an empty table in that emulator."""
    return new_table(dynamodb)


@pytest.fixture
def sqs(emulators: Emulators) -> Any:
    """A client of SQS."""
    return emulators.client("ministack", "sqs")
