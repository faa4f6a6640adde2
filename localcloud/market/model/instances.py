"""An instance: its states (pending, running, shutting-down, terminated) and its description in EC2's form."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from localcloud.market.model.listing import Attributes, tag_attributes
from localcloud.market.model.settings import Boot
from localcloud.market.model.surroundings import TemplateVersion

State = Literal["pending", "running", "shutting-down", "terminated"]
Lifecycle = Literal["spot", "on-demand"]

LIVE: tuple[State, ...] = ("pending", "running")
"""States in which an instance uses capacity."""

STATE_CODES: dict[State, int] = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}


def described_state(state: State) -> dict[str, Any]:
    """Return a state in EC2's form."""
    return {"Code": STATE_CODES[state], "Name": state}


@dataclass(frozen=True)
class Ending:
    """Why an instance ends, in EC2's words."""

    code: str
    text: str
    initiator: str
    dated: bool = True
    """Whether EC2 writes the time after the initiator."""


BY_USER = Ending(
    code="Client.UserInitiatedShutdown",
    text="Client.UserInitiatedShutdown: User initiated shutdown",
    initiator="User initiated",
)
KEY_REFUSED = Ending(
    code="Client.InvalidKMSKey.InvalidState",
    text="Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state",
    initiator="Client.InternalError",
    dated=False,
)
BY_SPOT_MARKET = Ending(
    code="Server.SpotInstanceTermination",
    text="Server.SpotInstanceTermination: Spot instance termination",
    initiator="Service initiated",
)
_TEXTS = {
    "Client.InstanceInitiatedShutdown": "Instance initiated shutdown",
    "Client.InternalError": "Client error on launch",
    "Client.InvalidSnapshot.NotFound": "The specified snapshot was not found",
    "Client.VolumeLimitExceeded": "The volume limit was exceeded",
    "Server.InsufficientInstanceCapacity": "There was insufficient capacity available to satisfy the launch request",
    "Server.InternalError": "Internal error on launch",
}


def ending_by_itself(code: str, message: str | None = None) -> Ending:
    """Return the ending of an instance that nobody terminated: this code, with EC2's text or another ``message``."""
    text = message or f"{code}: {_TEXTS.get(code, 'Internal error on launch')}"
    return Ending(code=code, text=text, initiator=code)


@dataclass(frozen=True)
class Transition:
    """The instance entered this state at this moment."""

    at: datetime
    state: State


@dataclass(frozen=True)
class InterruptionNotice:
    """An interruption notice: EC2 takes the instance back at ``gone_at``."""

    at: datetime
    gone_at: datetime
    cause: str
    event: dict[str, Any]


@dataclass
class Instance:
    """An instance. ``max_price`` is the most that its owner pays. None: the on-demand price, as in EC2."""

    id: str
    number: int
    """The number of its launch. Listings have this order."""
    instance_type: str
    zone: str
    subnet_id: str
    vpc_id: str
    lifecycle: Lifecycle
    image_id: str
    reservation_id: str
    spot_request_id: str | None
    max_price: Decimal | None
    tags: dict[str, str]
    template: TemplateVersion | None = None
    """The launch template that it was launched from."""
    shows_tags: bool = False
    """Whether its metadata shows its tags."""
    boot: Boot | None = None
    """How its start fails, if it does."""
    transitions: list[Transition] = field(default_factory=list)
    protected: bool = False
    """Whether ``disableApiTermination`` prevents termination by a call."""
    ending: Ending | None = None
    notice: InterruptionNotice | None = None

    @property
    def state(self) -> State:
        """Return its current state."""
        return self.transitions[-1].state

    @property
    def live(self) -> bool:
        """Say whether it is pending or running."""
        return self.state in LIVE

    @property
    def launched_at(self) -> datetime:
        """Return when it was launched."""
        return self.transitions[0].at

    def state_at(self, moment: datetime) -> State | None:
        """Return its state at a moment. None before its launch."""
        for step in reversed(self.transitions):
            if step.at <= moment:
                return step.state
        return None

    def describe(self, state: State, account: str) -> dict[str, Any]:
        """Return it in the form of DescribeInstances, in the given state, which a lagging view may show late."""
        described: dict[str, Any] = {
            "InstanceId": self.id,
            "InstanceType": self.instance_type,
            "ImageId": self.image_id,
            "LaunchTime": self.launched_at.replace(microsecond=0),
            "Placement": {"AvailabilityZone": self.zone, "Tenancy": "default"},
            "State": described_state(state),
            "StateTransitionReason": "",
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
            "NetworkInterfaces": [],
        }
        if state in LIVE:  # EC2 does not show the network of an ending instance
            described |= {"SubnetId": self.subnet_id, "VpcId": self.vpc_id}
            described["NetworkInterfaces"] = [{"SubnetId": self.subnet_id, "VpcId": self.vpc_id, "OwnerId": account}]
        if self.template:
            described |= _from_template(self.template)
        if self.lifecycle == "spot":
            described |= {"InstanceLifecycle": "spot", "SpotInstanceRequestId": self.spot_request_id}
        if self.ending and state not in LIVE:
            ended_at = next(step.at for step in self.transitions if step.state not in LIVE)
            moment = f" ({ended_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} GMT)" if self.ending.dated else ""
            described["StateReason"] = {"Code": self.ending.code, "Message": self.ending.text}
            described["StateTransitionReason"] = f"{self.ending.initiator}{moment}"
        return described

    def running_at(self) -> datetime | None:
        """Return when it entered the state running. None: it never did."""
        return next((step.at for step in self.transitions if step.state == "running"), None)

    def attributes(self, state: State) -> Attributes:
        """Return the values for filters of DescribeInstances, in the given state."""
        return {
            "instance-id": (self.id,),
            "instance-type": (self.instance_type,),
            "instance-state-name": (state,),
            "availability-zone": (self.zone,),
            "subnet-id": (self.subnet_id,),
            "instance-lifecycle": ("spot",) if self.lifecycle == "spot" else (),
            **tag_attributes(self.tags),
        }


def _from_template(template: TemplateVersion) -> dict[str, Any]:
    """Return the parts of a launch template's data that DescribeInstances shows."""
    described: dict[str, Any] = {"SecurityGroups": [{"GroupId": one} for one in template.security_groups]}
    if template.key_name:
        described["KeyName"] = template.key_name
    if template.instance_profile:
        described["IamInstanceProfile"] = {"Arn": template.instance_profile}
    if options := template.data.get("MetadataOptions"):
        described["MetadataOptions"] = {"State": "applied", **options}
    return described
