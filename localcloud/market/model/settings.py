"""Settings of the market: durations, lag and limits; also failing starts and injected faults."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from localcloud.market.model.errors import ControlError

FAULT_TEXT = "This is an injected fault of the market."

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _in_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the shortest time comes first")
    return bounds


Span = Seconds | Annotated[tuple[Seconds, Seconds], AfterValidator(_in_order)]
"""A duration, or two bounds between which it is drawn for each instance."""


class Settings(BaseModel):
    """Durations in seconds of market time. ``pace`` is the seconds of market time per second of the clock.

    The defaults are short, for tests and demos. ``aws`` returns those of a real account.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pending_seconds: Span = 1.5
    notice_seconds: Seconds = 120
    shutting_down_seconds: Span = 2
    status_check_seconds: Span = 2
    """From running until the status checks pass or fail."""
    agent_seconds: Span = 0
    """From running until an instance accepts SSM commands."""
    terminated_visible_seconds: Seconds = 3600
    describe_lag_seconds: Seconds = 0
    """How old the instance states are that DescribeInstances and similar actions show."""
    lag_varies: bool = False
    """Whether the lag is drawn for each instance and action: an id may appear late, and a state may go back."""
    template_lag_seconds: Seconds = 0
    """How long launches, listings and IAM do not see new launch templates, their versions and tags."""
    pace: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    throttling: bool = False
    """Whether calls and launches use EC2's token buckets (``limits.BUCKETS``)."""
    quotas: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """vCPUs allowed per lifecycle and family group, such as ``{"spot:g": 384}``. Others are unlimited."""

    @classmethod
    def aws(cls) -> Self:
        """Return the times measured on a real account (sources: docs/market.md)."""
        return cls(
            pending_seconds=(3, 9),
            shutting_down_seconds=(27, 32),
            status_check_seconds=(118, 146),
            agent_seconds=(5, 20),
            describe_lag_seconds=6,
            lag_varies=True,
        )

    def changed(self, changes: dict[str, Any]) -> Self:
        """Return a changed copy. Unknown names and invalid values raise ``ValidationError``.

        A ``profile`` (``quick`` or ``aws``) is applied before the other changes.
        """
        profile = changes.get("profile")
        if profile not in (None, *PROFILES):
            raise ControlError(400, f"there is no profile {profile}, only {' and '.join(PROFILES)}")
        before = PROFILES[profile]() if profile else self
        return type(self).model_validate(
            {**before.model_dump(), **{name: value for name, value in changes.items() if name != "profile"}}
        )


PROFILES: dict[str, Callable[[], Settings]] = {"quick": Settings, "aws": Settings.aws}
"""The profiles by name."""

TIMES = ("pending_seconds", "notice_seconds", "shutting_down_seconds", "describe_lag_seconds")
"""Times that the command line can set."""


class Boot(BaseModel):
    """How machines of an image, or with a text in their user data, fail after their launch.

    ``dies``: the instance ends by itself ``after_seconds`` (default 0) with this code. ``impaired``: its instance
    status check fails ``after_seconds`` (default: at the first check). ``never_ready``: its checks never finish.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_id: Annotated[str, Field(min_length=1)] | None = None
    """As in the launch template, or the id that this resolves to."""
    user_data_contains: Annotated[str, Field(min_length=1)] | None = None
    outcome: Literal["dies", "impaired", "never_ready"]
    after_seconds: Seconds | None = None
    code: Annotated[str, Field(min_length=1)] = "Client.InternalError"
    message: str | None = None

    @model_validator(mode="after")
    def _of_some(self) -> Self:
        if self.image_id is None and self.user_data_contains is None:
            raise ValueError('give "image_id" or "user_data_contains"')
        return self

    def concerns(self, image_ids: set[str], user_data: str) -> bool:
        """Say whether it applies to a machine with these names of its image and this user data."""
        return self.image_id in {None, *image_ids} and (self.user_data_contains or "") in user_data


class Fault(BaseModel):
    """An injected fault of the next ``times`` calls of an action.

    ``before``: the call has no effect. ``after``: the call takes effect, but its answer is replaced, delayed or lost.
    ``inside`` (CreateFleet): the call succeeds and launches at most ``launches`` instances; its ``Errors`` has an entry
    with the error for each override.
    """

    model_config = ConfigDict(extra="forbid")

    action: Annotated[str, Field(min_length=1)]
    error: str | None = None
    message: str | None = None
    times: Annotated[int, Field(ge=1)] = 1
    where: Literal["before", "after", "inside"] = "before"
    drop_connection: bool = False
    delay_seconds: Seconds = 0
    launches: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.error or self.drop_connection or self.delay_seconds):
            raise ValueError("a fault needs error, drop_connection or delay_seconds")
        if self.error and self.drop_connection:
            raise ValueError("error and drop_connection exclude each other: a dropped connection has no answer")
        if self.where == "inside" and (self.action != "CreateFleet" or not self.error):
            raise ValueError('"inside" is for CreateFleet and needs an error')
        return self
