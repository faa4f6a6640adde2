"""What launches refer to: subnets, launch templates, parameters that name images; and what is declared missing.

Launch templates are kept here for both faces. ``templates`` carries out EC2's actions on them. ``PlainSurroundings``
needs no server.
"""

import base64
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

from localcloud.market.model.account import Account
from localcloud.market.model.errors import EC2Error
from localcloud.market.model.requests import Answer, Params, tags_by_kind

_KEPT_ADDRESSES = 5
PUBLIC_PARAMETERS = "/aws/service/"
RESOLVE = "resolve:ssm:"
ROOT_DEVICES = ("/dev/xvda", "/dev/sda1")
"""Names of root devices: of Amazon Linux, and of most other images."""


@dataclass(frozen=True)
class Subnet:
    """A subnet of a zone."""

    id: str
    zone: str
    vpc_id: str
    default_for_az: bool = True
    cidr: str = "172.31.0.0/20"
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def addresses(self) -> int:
        """Return its number of addresses for instances. AWS reserves five addresses of the block."""
        return ip_network(self.cidr).num_addresses - _KEPT_ADDRESSES


@dataclass(frozen=True)
class TemplateVersion:
    """A version of a launch template, with all that a launch needs."""

    id: str
    name: str
    version: int
    data: Params = field(default_factory=dict)
    """LaunchTemplateData as it was sent."""
    tags: dict[str, str] = field(default_factory=dict)
    """The tags of the template itself."""

    @property
    def instance_type(self) -> str:
        """Return its instance type, or an empty text."""
        return str(self.data.get("InstanceType", ""))

    @property
    def image_id(self) -> str:
        """Return its image, by id or ``resolve:ssm:``, or an empty text."""
        return str(self.data.get("ImageId", ""))

    @property
    def launch_tags(self) -> dict[str, dict[str, str]]:
        """Return the tags of what it launches, by kind of resource."""
        return tags_by_kind(self.data)

    @property
    def instance_profile(self) -> str:
        """Return the name or ARN of its instance profile, or an empty text."""
        profile = self.data.get("IamInstanceProfile") or {}
        return str(profile.get("Arn") or profile.get("Name") or "")

    @property
    def security_groups(self) -> list[str]:
        """Return the ids of its security groups, including those of its network interfaces."""
        interfaces = self.data.get("NetworkInterfaces") or []
        groups = [*self.data.get("SecurityGroupIds", []), *(id_ for one in interfaces for id_ in one.get("Groups", []))]
        return list(dict.fromkeys(groups))

    @property
    def key_name(self) -> str:
        """Return the name of its key pair, or an empty text."""
        return str(self.data.get("KeyName", ""))

    def shows_tags(self, account: Account) -> bool:
        """Say whether the metadata of its instances shows their tags."""
        options = self.data.get("MetadataOptions") or {}
        return bool(options.get("InstanceMetadataTags", account.instance_metadata_tags) == "enabled")

    @property
    def volumes(self) -> list[tuple[bool, dict[str, Any]]]:
        """Return its volumes, each with whether it is the root volume."""
        mappings = self.data.get("BlockDeviceMappings") or []
        return [(one.get("DeviceName") in ROOT_DEVICES, one["Ebs"]) for one in mappings if one.get("Ebs")]

    def root_key(self, image_id: str, account: Account) -> str:
        """Return the ARN of the customer's key of its root volume. Empty: AWS's own key."""
        own = next((str(ebs["KmsKeyId"]) for root, ebs in self.volumes if root and ebs.get("KmsKeyId")), "")
        return own or account.image_keys.get(image_id, account.volume_key)

    @property
    def user_data(self) -> str:
        """Return its user data as text."""
        return base64.b64decode(self.data.get("UserData", "")).decode(errors="replace")


@dataclass(frozen=True)
class Version:
    """The content of a version of a launch template."""

    number: int
    data: Params
    description: str
    created_at: datetime


@dataclass
class LaunchTemplate:
    """A launch template with its versions. A version's number is never used again."""

    id: str
    name: str
    created_at: datetime
    tags: dict[str, str] = field(default_factory=dict)
    versions: dict[int, Version] = field(default_factory=dict)
    default: int = 1
    used_numbers: int = 0

    @property
    def latest(self) -> int:
        """Return the number of the latest version."""
        return max(self.versions)

    def add(self, data: Params, *, description: str, at: datetime) -> Version:
        """Add the next version."""
        self.used_numbers += 1
        version = self.versions[self.used_numbers] = Version(self.used_numbers, data, description, at)
        return version

    def version(self, text: str) -> Version:
        """Return the version with this number, ``$Latest`` or ``$Default``, or raise EC2's error."""
        number = {"$Latest": self.latest, "$Default": self.default}.get(text)
        if number is None:
            number = int(text) if text.isdecimal() else 0
        if not number:
            raise EC2Error(
                "InvalidParameterValue",
                "Invalid launch template version: either '$Default', '$Latest', or a numeric version are allowed.",
            )
        if number not in self.versions:
            raise EC2Error(
                "InvalidLaunchTemplateId.VersionNotFound",
                f"Could not find the specified version {text} for the launch template with ID {self.id}.",
            )
        return self.versions[number]


class Surroundings(ABC):
    """What launches refer to. Everything exists unless it is declared ``missing``."""

    def __init__(self, parameter: Callable[[str], str | None] = lambda _: None) -> None:
        self.templates: dict[str, LaunchTemplate] = {}
        self.answered: dict[tuple[str, str], tuple[Params, Answer]] = {}
        """(action, ClientToken) -> a request on launch templates, and its answer."""
        self.parameters: dict[str, str] = {}
        """Parameters by name, set by the control interface."""
        self.addresses: dict[str, int] = {}
        """Numbers of addresses by subnet, set by the control interface. Others follow from the subnet's block."""
        self.missing: set[str] = set()
        """Images, security groups, key pairs and parameters that do not exist."""
        self.account = Account()
        self._parameter = parameter

    @abstractmethod
    def subnets(self) -> list[Subnet]:
        """Return all subnets."""

    def addresses_of(self, subnet: Subnet) -> int:
        """Return a subnet's number of addresses for instances, including those in use."""
        return self.addresses.get(subnet.id, subnet.addresses)

    def launch_template(self, *, template_id: str | None, name: str | None) -> LaunchTemplate:
        """Return a launch template by id or name, or raise EC2's error."""
        return found_template(self.templates.values(), template_id=template_id, name=name)

    def template(self, *, template_id: str | None, name: str | None, version: str) -> TemplateVersion:
        """Return a version of a template (a number, ``$Latest`` or ``$Default``) or raise EC2's error."""
        return of_version(self.launch_template(template_id=template_id, name=name), version)

    def image(self, named: str) -> str | None:
        """Return the id of an image named by id or ``resolve:ssm:``. None: there is no such parameter.

        AWS's public parameters all exist, and each names another image.
        """
        if not named.startswith(RESOLVE):
            return named
        # A version or label after the name is ignored.
        name = named.removeprefix(RESOLVE).split(":")[0]
        if name in self.missing:
            return None
        found = self.parameters.get(name) or self._parameter(name)
        if found is None and name.startswith(PUBLIC_PARAMETERS):
            return f"ami-{zlib.crc32(name.encode()):017x}"
        return found


def found_template(templates: Iterable[LaunchTemplate], *, template_id: str | None, name: str | None) -> LaunchTemplate:
    """Return the launch template with this id or name, or raise EC2's error."""
    for template in templates:
        if template.id == template_id or (name and template.name == name):
            return template
    raise template_not_found(template_id, name)


def of_version(found: LaunchTemplate, version: str) -> TemplateVersion:
    """Return a version of a launch template for a launch, or raise EC2's error."""
    wanted = found.version(version)
    return TemplateVersion(id=found.id, name=found.name, version=wanted.number, data=wanted.data, tags=found.tags)


def architecture_in(image: str) -> str | None:
    """Return the architecture in the name of an image's parameter. None: the name has none."""
    return next((one for one in ("arm64", "x86_64") if image.startswith(RESOLVE) and one in image), None)


def template_not_found(template_id: str | None, name: str | None) -> EC2Error:
    """Return EC2's error for a launch template that does not exist."""
    if template_id:
        return EC2Error(
            "InvalidLaunchTemplateId.NotFound",
            f"The specified launch template, with template ID {template_id}, does not exist.",
        )
    return EC2Error(
        "InvalidLaunchTemplateName.NotFoundException",
        f"The specified launch template, with template name {name}, does not exist.",
    )


PLAIN: Params = {"ImageId": "ami-1", "MetadataOptions": {"InstanceMetadataTags": "enabled"}}
"""Data of a launch template without customisation, like that of our stacks."""


class PlainSurroundings(Surroundings):
    """A default subnet in each zone, and the launch templates that were added."""

    def __init__(self, zones: str = "us-east-1a us-east-1b us-east-1c us-east-1d us-east-1e us-east-1f") -> None:
        super().__init__()
        self._subnets = [
            Subnet(id=f"subnet-{n:017x}", zone=zone, vpc_id="vpc-1", cidr=_block(n))
            for n, zone in enumerate(zones.split(), 1)
        ]

    def subnets(self) -> list[Subnet]:
        """Return all subnets."""
        return list(self._subnets)

    def add_subnet(self, zone: str) -> Subnet:
        """Add a subnet that is not its zone's default."""
        number = len(self._subnets) + 1
        subnet = Subnet(f"subnet-{number:017x}", zone, "vpc-1", default_for_az=False, cidr=_block(number))
        self._subnets.append(subnet)
        return subnet

    def add_template(
        self, name: str, *, instance_type: str = "", tags: dict[str, str] | None = None
    ) -> TemplateVersion:
        """Add a launch template, or the next version if the name exists."""
        began = datetime(2026, 1, 1, tzinfo=UTC)
        known = next((one for one in self.templates.values() if one.name == name), None)
        template = known or LaunchTemplate(f"lt-{len(self.templates) + 1:017x}", name, began)
        self.templates[template.id] = template
        data: dict[str, Any] = {**PLAIN}
        if instance_type:
            data["InstanceType"] = instance_type
        if tags:
            given = [{"Key": key, "Value": value} for key, value in tags.items()]
            data["TagSpecifications"] = [{"ResourceType": "instance", "Tags": given}]
        version = template.add(data, description="", at=began)
        return self.template(template_id=template.id, name=None, version=str(version.number))


def _block(number: int) -> str:
    return f"10.{number // 16}.{number % 16 * 16}.0/20"
