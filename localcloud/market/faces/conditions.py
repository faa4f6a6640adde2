"""Control calls about launches: what does not exist, which machines fail, and results of commands."""

import json
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from localcloud.market.api.ssm import describe_commands
from localcloud.market.model.commands import CommandResult
from localcloud.market.model.errors import ControlError
from localcloud.market.model.market import Market
from localcloud.market.model.settings import Boot, Seconds


class Body(BaseModel):
    """The body of a control call. Unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class Missing(Body):
    """Body of ``PUT /market/missing``: images, security groups, key pairs and public parameters that do not exist."""

    ids: list[str]


class ParameterValues(Body):
    """Body of ``PUT /market/parameters``: values by name, for ``resolve:ssm:``."""

    parameters: dict[str, str]


class Addresses(Body):
    """Body of ``PUT /market/subnets/{id}``: the number of free addresses."""

    free_addresses: Annotated[int, Field(ge=0)]


class Maintenance(Body):
    """Body of ``POST /market/maintenance``."""

    instance_ids: Annotated[list[str], Field(min_length=1)]
    event_type_code: Annotated[str, Field(min_length=1)] = "AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED"
    category: Literal["scheduledChange", "issue", "accountNotification"] = "scheduledChange"
    starts_in_seconds: Seconds = 14 * 24 * 3600
    status: Literal["upcoming", "open", "closed"] = "upcoming"
    entity_status: Literal["PENDING", "RESOLVED", "IMPAIRED", "UNIMPAIRED", "UNKNOWN"] = "PENDING"
    event_arn: str | None = None
    """The ARN of an earlier event, which gets this status."""


def change_conditions(market: Market, method: str, path: list[str], body: dict[str, Any]) -> Any:
    """Carry out a control call and return its answer. ``ControlError`` if there is no such call."""
    answer: Any
    match method, path:
        case "POST", ["boots"]:
            market.boots.append(Boot.model_validate(body))
            answer = {"boots": described_boots(market)}
        case "DELETE", ["boots"]:
            market.boots.clear()
            answer = {"boots": []}
        case "PUT", ["missing" | "parameters" | "subnets" | "account" as what, *which]:
            answer = _change_surroundings(market, what, which, body)
        case "POST", ["maintenance"]:
            answer = _announce(market, Maintenance.model_validate(body))
        case "GET", ["commands"]:
            answer = {"commands": describe_commands(market)}
        case "POST", ["commands"]:
            market.command_results.append(CommandResult.model_validate(body))
            answer = {"results": [one.model_dump(exclude_defaults=True) for one in market.command_results]}
        case "DELETE", ["commands"]:
            market.command_results.clear()
            answer = {"results": []}
        case _:
            raise _no_such_call(method, path)
    return answer


def _change_surroundings(market: Market, what: str, which: list[str], body: dict[str, Any]) -> Any:
    surroundings = market.surroundings
    match what, which:
        case "missing", []:
            surroundings.missing = set(Missing.model_validate(body).ids)
            return {"missing": sorted(surroundings.missing)}
        case "parameters", []:
            surroundings.parameters = ParameterValues.model_validate(body).parameters
            return {"parameters": surroundings.parameters}
        case "account", []:
            surroundings.account = surroundings.account.changed(body)
            return surroundings.account.model_dump()
        case "subnets", [subnet_id]:
            return _leave_addresses(market, subnet_id, Addresses.model_validate(body).free_addresses)
        case _:
            raise _no_such_call("PUT", [what, *which])


def _no_such_call(method: str, path: list[str]) -> ControlError:
    called = "/".join(["", "market", *path])
    return ControlError(404, f"there is no {method} {called}; docs/market.md lists the calls")


def _leave_addresses(market: Market, subnet_id: str, free: int) -> dict[str, Any]:
    if subnet_id not in market.free_addresses():
        raise ControlError(404, f"there is no subnet {subnet_id}")
    market.surroundings.addresses[subnet_id] = free + market.addresses_used()[subnet_id]
    return {"subnet_id": subnet_id, "free_addresses": free}


def _announce(market: Market, wanted: Maintenance) -> dict[str, Any]:
    affected = market.named(wanted.instance_ids)
    starts_at = market.clock() + market.lasting(wanted.starts_in_seconds)
    arns = [
        market.announce_maintenance(
            instance,
            wanted.event_type_code,
            wanted.category,
            starts_at,
            status=wanted.status,
            entity_status=wanted.entity_status,
            event_arn=wanted.event_arn,
        )
        for instance in affected
    ]
    return {"instance_ids": [instance.id for instance in affected], "event_arns": arns}


def described_boots(market: Market) -> list[dict[str, Any]]:
    """Return the failing starts as JSON."""
    return [one.model_dump(exclude_none=True) for one in market.boots]


def json_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body, with numbers as decimals. An empty body is an empty object."""
    parsed = json.loads(body or b"{}", parse_float=Decimal)
    if not isinstance(parsed, dict):
        raise ControlError(400, "the body must be a JSON object")
    return parsed
