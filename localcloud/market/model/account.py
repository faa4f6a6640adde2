"""What an account has of its own: quotas and defaults that decide what may be launched in it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class Account(BaseModel):
    """As AWS makes it, unless the control interface says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    security_groups_per_interface: Annotated[int, Field(ge=1, le=16)] = 5
    """A quota, which AWS raises to 16 on request."""

    instance_metadata_tags: Literal["enabled", "disabled"] = "disabled"
    """The Region's default for instances whose launch does not say whether their metadata shows their tags."""

    volume_key: str = ""
    """ARN of the customer's key that encrypts volumes which name none; empty: a key of AWS's own."""
    image_keys: dict[str, str] = Field(default_factory=dict)
    """ARNs of the customers' keys with which images are encrypted, by image."""
    spot_key_grants: tuple[str, ...] = ()
    """ARNs of the keys that the account's service-linked role of EC2 Spot may use."""

    def changed(self, changes: dict[str, Any]) -> Self:
        """Return it with some of it changed; unknown names and impossible values raise ``ValidationError``."""
        return type(self).model_validate({**self.model_dump(), **changes})
