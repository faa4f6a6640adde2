"""Types of requests to the market, and the refusal of parameters that the market does not support."""

from collections.abc import Callable
from typing import Any

from localcloud.market.model.errors import EC2Error

Params = dict[str, Any]
Answer = dict[str, Any]
Actions = dict[str, Callable[[Any, Params], Answer]]
"""The functions that carry out actions on a market, by action name."""


def refuse_unknown(where: str, params: Params, known: set[str]) -> None:
    """Raise if a request has a parameter that the market would otherwise ignore."""
    for name in sorted(params.keys() - known):
        raise EC2Error("UnsupportedOperation", f"This market does not support {name} of {where}.")


def tags_by_kind(params: Params) -> dict[str, dict[str, str]]:
    """Return the tags of TagSpecifications, by kind of resource."""
    return {
        specification.get("ResourceType", ""): {
            tag["Key"]: tag.get("Value", "") for tag in specification.get("Tags", [])
        }
        for specification in params.get("TagSpecifications", [])
    }
