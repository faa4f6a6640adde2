"""The stack's tables, for people: found by name, read and written with the caller's own credentials."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from lambdas.aws.tables import scan_items, to_attribute
from lambdas.domain.pool import KNOWN_NAMES

CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
DEFAULT_STACK = "spotpools"


class AwsFaultError(RuntimeError):
    """AWS did not do what was asked; the text says what to do next."""


@dataclass(frozen=True)
class Tables:
    """The two tables of one deployment."""

    client: Any
    pools: str
    statuses: str

    def put(self, item: Mapping[str, Any]) -> None:
        """Write a whole pool item."""
        with _told_plainly():
            self.client.put_item(TableName=self.pools, Item={name: to_attribute(value) for name, value in item.items()})

    def merge(self, item: Mapping[str, Any]) -> None:
        """Write a pool item but for its target_size, which stays as it is."""
        given = {name: value for name, value in item.items() if name != "pool_name"}
        absent = sorted(set(KNOWN_NAMES) - given.keys() - {"pool_name", "target_size"})
        with _told_plainly():
            self.client.update_item(
                TableName=self.pools,
                Key={"pool_name": to_attribute(item["pool_name"])},
                UpdateExpression="SET "
                + ", ".join(f"#{name} = :{name}" for name in given)
                + " REMOVE "
                + ", ".join(f"#{name}" for name in absent),
                ExpressionAttributeNames={f"#{name}": name for name in (*given, *absent)},
                ExpressionAttributeValues={f":{name}": to_attribute(value) for name, value in given.items()},
            )

    def all_items(self) -> dict[str, dict[str, Any]]:
        """Every pool item by name."""
        return self._all(self.pools)

    def all_statuses(self) -> dict[str, dict[str, Any]]:
        """Every status by pool name."""
        return self._all(self.statuses)

    def _all(self, table: str) -> dict[str, dict[str, Any]]:
        with _told_plainly():
            return {item["pool_name"]: item for item in scan_items(self.client, table)}


def find_tables(stack: str | None) -> Tables:
    """Find the tables: from SPOTPOOLS_POOLS_TABLE and SPOTPOOLS_STATUS_TABLE, else from the stack's outputs."""
    with _told_plainly():
        names = _table_names(stack or os.environ.get("SPOTPOOLS_STACK", DEFAULT_STACK), from_environment=stack is None)
        return Tables(boto3.client("dynamodb", config=CONFIG), *names)


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Turn whatever AWS or its SDK says into one line that names the next step."""
    try:
        yield
    except NoCredentialsError:
        raise AwsFaultError("No AWS credentials were found: run aws configure or aws sso login.") from None
    except NoRegionError:
        raise AwsFaultError("No AWS Region is set: export AWS_REGION, for example us-east-1.") from None
    except ClientError as error:
        raise AwsFaultError(_explained(error)) from None
    except BotoCoreError as error:
        raise AwsFaultError(f"AWS could not be reached: {error}") from None


def _table_names(stack: str, *, from_environment: bool) -> tuple[str, str]:
    pools, statuses = os.environ.get("SPOTPOOLS_POOLS_TABLE"), os.environ.get("SPOTPOOLS_STATUS_TABLE")
    if from_environment and pools and statuses:
        return pools, statuses
    stacks = boto3.client("cloudformation", config=CONFIG).describe_stacks(StackName=stack)["Stacks"]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in stacks[0].get("Outputs", [])}
    if "PoolsTable" not in outputs:
        raise AwsFaultError(
            f"Stack {stack} is not a Spot Pools stack: it has no output PoolsTable. Name yours with --stack."
        )
    return outputs["PoolsTable"], outputs["StatusTable"]


def _explained(error: ClientError) -> str:
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code == "ResourceNotFoundException":
        return f"The table does not exist ({message}). Is the stack deployed in this Region and account?"
    if code == "ValidationError" and "does not exist" in message:
        return f"{message}. Deploy it with make deploy, or name yours with --stack."
    if code in ("AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "ExpiredTokenException"):
        return f"AWS refused: {message}. Check the credentials in use with aws sts get-caller-identity."
    return f"AWS answered {code}: {message}"
