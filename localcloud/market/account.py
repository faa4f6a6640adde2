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

    def changed(self, changes: dict[str, Any]) -> Self:
        """Return it with some of it changed; unknown names and impossible values raise ``ValidationError``."""
        return type(self).model_validate({**self.model_dump(), **changes})
