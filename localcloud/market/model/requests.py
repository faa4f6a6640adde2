"""What requests to the market have in common: their types, and the refusal of what the market does not play."""

from collections.abc import Callable
from typing import Any

from localcloud.market.model.errors import EC2Error

Params = dict[str, Any]
Answer = dict[str, Any]
Actions = dict[str, Callable[[Any, Params], Answer]]
"""By an action's name, what carries it out on a market."""


def refuse_unknown(where: str, params: Params, known: set[str]) -> None:
    """Raise when a request carries a parameter that the market would have to pass over in silence."""
    for name in sorted(params.keys() - known):
        raise EC2Error("UnsupportedOperation", f"This market does not play {name} of {where}.")


def tags_by_kind(params: Params) -> dict[str, dict[str, str]]:
    """Return the tags that TagSpecifications name, by kind of resource."""
    return {
        specification.get("ResourceType", ""): {
            tag["Key"]: tag.get("Value", "") for tag in specification.get("Tags", [])
        }
        for specification in params.get("TagSpecifications", [])
    }
