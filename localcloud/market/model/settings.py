"""What can be turned at the market: durations, lag, limits; and the faults that can be laid in its way."""

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
"""A duration, or between which two it is drawn for each instance."""


class Settings(BaseModel):
    """Durations in seconds of market time; ``pace`` is how many of them pass in one second of the clock.

    The defaults are quick, for tests and demos; ``aws`` are those of a real account.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pending_seconds: Span = 1.5
    notice_seconds: Seconds = 120
    shutting_down_seconds: Span = 2
    status_check_seconds: Span = 2
    """From running until the status checks are passed or failed."""
    agent_seconds: Span = 0
    """From running until an instance takes commands of SSM."""
    terminated_visible_seconds: Seconds = 3600
    describe_lag_seconds: Seconds = 0
    """DescribeInstances and its like know the instances as they were so long ago."""
    lag_varies: bool = False
    """Whether they do for each instance and action anew: an id comes up to so late, a state may step back."""
    template_lag_seconds: Seconds = 0
    """Launches, listings and IAM know launch templates, their versions and tags only so long after they were made."""
    pace: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    throttling: bool = False
    """Whether calls and launches draw on EC2's token buckets (``limits.BUCKETS``)."""
    quotas: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """vCPUs allowed per lifecycle and family group, such as ``{"spot:g": 384}``; what is not named is unlimited."""

    @classmethod
    def aws(cls) -> Self:
        """Return the times that were seen on a real account (docs/market.md says where)."""
        return cls(
            pending_seconds=(3, 9),
            shutting_down_seconds=(27, 32),
            status_check_seconds=(118, 146),
            agent_seconds=(5, 20),
            describe_lag_seconds=6,
            lag_varies=True,
        )

    def changed(self, changes: dict[str, Any]) -> Self:
        """Return these settings with some changed; unknown names and impossible values raise ``ValidationError``.

        A ``profile`` is changed to first: ``quick`` or ``aws``.
        """
        profile = changes.get("profile")
        if profile not in (None, *PROFILES):
            raise ControlError(400, f"there is no profile {profile}, only {' and '.join(PROFILES)}")
        before = PROFILES[profile]() if profile else self
        return type(self).model_validate(
            {**before.model_dump(), **{name: value for name, value in changes.items() if name != "profile"}}
        )


PROFILES: dict[str, Callable[[], Settings]] = {"quick": Settings, "aws": Settings.aws}
"""Times by name."""

TIMES = ("pending_seconds", "notice_seconds", "shutting_down_seconds", "describe_lag_seconds")
"""Those that the command line can set one by one."""


class Boot(BaseModel):
    """How machines of an image, or with a text in their user data, fare after their launch.

    ``dies``: the instance ends by itself ``after_seconds`` (0) with this code. ``impaired``: its instance status check
    fails ``after_seconds``, without them as soon as it is made. ``never_ready``: its checks never come to an end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_id: Annotated[str, Field(min_length=1)] | None = None
    """As the launch template has it, or the id that it stands for."""
    user_data_contains: Annotated[str, Field(min_length=1)] | None = None
    outcome: Literal["dies", "impaired", "never_ready"]
    after_seconds: Seconds | None = None
    code: Annotated[str, Field(min_length=1)] = "Client.InternalError"
    message: str | None = None

    @model_validator(mode="after")
    def _of_some(self) -> Self:
        if self.image_id is None and self.user_data_contains is None:
            raise ValueError('state "image_id" or "user_data_contains"')
        return self

    def concerns(self, image_ids: set[str], user_data: str) -> bool:
        """Say whether it is about a machine of these names of its image and this user data."""
        return self.image_id in {None, *image_ids} and (self.user_data_contains or "") in user_data


class Fault(BaseModel):
    """One thing that goes wrong with the next ``times`` calls of an action.

    ``before`` the effect: nothing happens at EC2. ``after``: the call takes effect, only its answer is replaced, held
    back or lost. ``inside`` (CreateFleet): the answer is a success that launches at most ``launches`` instances and
    carries the error as an entry of ``Errors`` for each override.
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
            raise ValueError("error and drop_connection exclude each other: a dropped connection carries no answer")
        if self.where == "inside" and (self.action != "CreateFleet" or not self.error):
            raise ValueError('"inside" is for CreateFleet and needs an error')
        return self
