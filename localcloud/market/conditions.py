"""Control calls about what machines meet at and after their launch: what is missing, and how they fare."""

import json
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict

from localcloud.market.errors import ControlError
from localcloud.market.model import Market
from localcloud.market.settings import Boot


class Body(BaseModel):
    """The body of a control call; what it does not know is an error."""

    model_config = ConfigDict(extra="forbid")


class Missing(Body):
    """Body of ``PUT /market/missing``: images, security groups, key pairs and public parameters that do not exist."""

    ids: list[str]


class Parameters(Body):
    """Body of ``PUT /market/parameters``: what ``resolve:ssm:`` finds by name."""

    parameters: dict[str, str]


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
        case _:
            called = "/".join(["", "market", *path])
            raise ControlError(404, f"there is no {method} {called}; docs/market.md lists the calls")
    return answer


def described_boots(market: Market) -> list[dict[str, Any]]:
    """Return how some machines fare, as JSON."""
    return [one.model_dump(exclude_none=True) for one in market.boots]


def json_of(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds, money as decimals; an empty body holds an empty one."""
    parsed = json.loads(body or b"{}", parse_float=Decimal)
    if not isinstance(parsed, dict):
        raise ControlError(400, "the body must be a JSON object")
    return parsed
