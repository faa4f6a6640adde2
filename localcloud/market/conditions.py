"""Control calls about what machines meet at and after their launch: what is missing, and how they fare."""

import json
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from localcloud.market.commands import CommandResult
from localcloud.market.errors import ControlError
from localcloud.market.model import Market
from localcloud.market.settings import Boot, Seconds
from localcloud.market.ssm import describe_commands


class Body(BaseModel):
    """The body of a control call; what it does not know is an error."""

    model_config = ConfigDict(extra="forbid")


class Missing(Body):
    """Body of ``PUT /market/missing``: images, security groups, key pairs and public parameters that do not exist."""

    ids: list[str]


class Parameters(Body):
    """Body of ``PUT /market/parameters``: what ``resolve:ssm:`` finds by name."""

    parameters: dict[str, str]


class Maintenance(Body):
    """Body of ``POST /market/maintenance``."""

    instance_ids: Annotated[list[str], Field(min_length=1)]
    event_type_code: Annotated[str, Field(min_length=1)] = "AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED"
    category: Literal["scheduledChange", "issue", "accountNotification"] = "scheduledChange"
    starts_in_seconds: Seconds = 14 * 24 * 3600


def change_conditions(market: Market, method: str, path: list[str], body: dict[str, Any]) -> Any:
    """Carry out a control call and answer it; ``ControlError`` when there is none such."""
    answer: Any
    match method, path:
        case "POST", ["boots"]:
            market.boots.append(Boot.model_validate(body))
            answer = {"boots": described_boots(market)}
        case "DELETE", ["boots"]:
            market.boots.clear()
            answer = {"boots": []}
        case "PUT", ["missing"]:
            market.surroundings.missing = set(Missing.model_validate(body).ids)
            answer = {"missing": sorted(market.surroundings.missing)}
        case "PUT", ["parameters"]:
            market.surroundings.parameters = Parameters.model_validate(body).parameters
            answer = {"parameters": market.surroundings.parameters}
        case "PUT", ["account"]:
            market.surroundings.account = market.surroundings.account.changed(body)
            answer = market.surroundings.account.model_dump()
        case "POST", ["maintenance"]:
            answer = {"instance_ids": _announce(market, Maintenance.model_validate(body))}
        case "GET", ["commands"]:
            answer = {"commands": describe_commands(market)}
        case "POST", ["commands"]:
            market.command_results.append(CommandResult.model_validate(body))
            answer = {"results": [one.model_dump(exclude_defaults=True) for one in market.command_results]}
        case "DELETE", ["commands"]:
            market.command_results.clear()
            answer = {"results": []}
        case _:
            called = "/".join(["", "market", *path])
            raise ControlError(404, f"there is no {method} {called}; docs/market.md lists the calls")
    return answer


def _announce(market: Market, wanted: Maintenance) -> list[str]:
    affected = market.named(wanted.instance_ids)
    starts_at = market.clock() + market.lasting(wanted.starts_in_seconds)
    for instance in affected:
        market.announce_maintenance(instance, wanted.event_type_code, wanted.category, starts_at)
    return [one.id for one in affected]


def described_boots(market: Market) -> list[dict[str, Any]]:
    """Return how some machines fare, as JSON."""
    return [one.model_dump(exclude_none=True) for one in market.boots]


def json_of(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds, money as decimals; an empty body holds an empty one."""
    parsed = json.loads(body or b"{}", parse_float=Decimal)
    if not isinstance(parsed, dict):
        raise ControlError(400, "the body must be a JSON object")
    return parsed
