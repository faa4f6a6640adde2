"""Two independent emulators of DynamoDB, so that the adapters do not rely on one emulator's behaviour."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from localcloud.processes import HOST, Child, port_to_use
from tests.support.empty_aws import client_of, empty_aws

ROOT = Path(__file__).parents[2]
EMULATORS = ("ministack", "dynalite")
_numbers = count(1)


class Emulators:
    """Starts each emulator when its first client is needed, and keeps it until the end."""

    def __init__(self, folder: Callable[[str], Path]) -> None:
        self._folder = folder
        self._running = ExitStack()
        self._made: dict[str, Callable[[str], Any]] = {}

    def client(self, emulator: str, service: str = "dynamodb") -> Any:
        """Return a client of a service of one emulator."""
        if emulator not in self._made:
            start = {"ministack": empty_aws, "dynalite": dynalite}[emulator]
            url = self._running.enter_context(start(self._folder(emulator)))
            self._made[emulator] = lambda name: client_of(name, url)
        made = self._made[emulator](service)
        return AddsStoredItem(made) if emulator == "dynalite" else made

    def stop(self) -> None:
        """Stop the running emulators."""
        self._running.close()


@contextmanager
def dynalite(folder: Path) -> Iterator[str]:
    """Start dynalite, an in-memory emulator of DynamoDB only, and return its URL."""
    port = port_to_use(0)
    command = ["node", str(ROOT / "node_modules" / "dynalite" / "cli.js"), "--host", HOST, "--port", str(port)]
    command += ["--createTableMs", "0"]  # the time that a table is CREATING
    server = Child("dynalite", command, log=folder / "log", environment=dict(os.environ), directory=folder)
    url = f"http://{HOST}:{port}"
    try:
        server.wait_until(lambda: listens(url), seconds=30)
        yield url
    finally:
        server.stop()


def listens(url: str) -> bool:
    try:
        client_of("dynamodb", url).list_tables()
    except (OSError, ClientError):
        return False
    return True


class AddsStoredItem:
    """A client of dynalite, which lacks ReturnValuesOnConditionCheckFailure: a second call reads the stored item.

    On AWS the refusal carries the item, so no write can come between. In these tests there is no such write.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def update_item(self, **asked: Any) -> Any:
        """Make the call, and add the stored item to a refusal."""
        try:
            return self._client.update_item(**asked)
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                key = {name: asked[name] for name in ("TableName", "Key")}
                stood = self._client.get_item(**key, ConsistentRead=True).get("Item")
                error.response.update({"Item": stood} if stood else {})
            raise


def new_table(client: Any) -> str:
    """Make an empty table keyed by pool_name and return its name."""
    name = f"table-{next(_numbers)}"
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pool_name", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pool_name", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 1000})
    return name
