"""The settings of an AWS account: quotas and defaults that decide what may be launched in it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field


class Account(BaseModel):
    """AWS's defaults, unless the control interface changes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    security_groups_per_interface: Annotated[int, Field(ge=1, le=16)] = 5
    """A quota, which AWS raises to 16 on request."""

    instance_metadata_tags: Literal["enabled", "disabled"] = "disabled"
    """The Region's default for launches that do not say whether the metadata shows the instance's tags."""

    volume_key: str = ""
    """ARN of the customer's key for volumes that name no key. Empty: a key of AWS."""
    image_keys: dict[str, str] = Field(default_factory=dict)
    """ARNs of the customers' keys that encrypt images, by image."""
    spot_key_grants: tuple[str, ...] = ()
    """ARNs of the keys that the account's service-linked role of EC2 Spot may use."""

    def changed(self, changes: dict[str, Any]) -> Self:
        """Return a changed copy. Unknown names and invalid values raise ``ValidationError``."""
        return type(self).model_validate({**self.model_dump(), **changes})
