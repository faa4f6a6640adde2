"""What the market stands in but does not sell: subnets and launch templates. Here a plain version, without a server."""

from dataclasses import dataclass, field
from typing import Protocol

from localcloud.market.errors import EC2Error


@dataclass(frozen=True)
class Subnet:
    """A subnet: where in a zone an instance is put."""

    id: str
    zone: str
    vpc_id: str
    default_for_az: bool = True


@dataclass(frozen=True)
class Template:
    """One version of a launch template, as far as a launch needs it."""

    id: str
    name: str
    version: int
    instance_type: str = ""
    image_id: str = ""
    launch_tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """The tags it puts on what it launches, by kind of resource."""
    tags: dict[str, str] = field(default_factory=dict)
    """Its own."""
    instance_profile: str = ""
    """Name or ARN."""


class Surroundings(Protocol):
    """Where the market looks up what is not its own."""

    def subnets(self) -> list[Subnet]:
        """Return all subnets."""

    def template(self, *, template_id: str | None, name: str | None, version: str) -> Template:
        """Return a version of a template (a number, ``$Latest`` or ``$Default``) or raise EC2's error."""


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


def version_not_found(template_id: str, version: str) -> EC2Error:
    """Return EC2's error for a version that a launch template does not have."""
    return EC2Error(
        "InvalidLaunchTemplateId.VersionNotFound",
        f"Could not find the specified version {version} for the launch template with ID {template_id}.",
    )


class PlainSurroundings:
    """A default subnet in each zone, and the launch templates it is told about."""

    def __init__(self, zones: str = "us-east-1a us-east-1b us-east-1c us-east-1d us-east-1e us-east-1f") -> None:
        self._subnets = [
            Subnet(id=f"subnet-{n:017x}", zone=zone, vpc_id="vpc-1") for n, zone in enumerate(zones.split(), 1)
        ]
        self._templates: list[Template] = []

    def subnets(self) -> list[Subnet]:
        """Return all subnets."""
        return list(self._subnets)

    def add_subnet(self, zone: str) -> Subnet:
        """Add a subnet that is not its zone's default."""
        subnet = Subnet(id=f"subnet-{len(self._subnets) + 1:017x}", zone=zone, vpc_id="vpc-1", default_for_az=False)
        self._subnets.append(subnet)
        return subnet

    def add_template(self, name: str, *, instance_type: str = "", tags: dict[str, str] | None = None) -> Template:
        """Add a launch template (or, under a name already known, its next version)."""
        versions = [template for template in self._templates if template.name == name]
        template_id = versions[0].id if versions else f"lt-{len(self._templates) + 1:017x}"
        template = Template(
            id=template_id,
            name=name,
            version=len(versions) + 1,
            instance_type=instance_type,
            image_id="ami-1",
            launch_tags={"instance": tags or {}},
        )
        self._templates.append(template)
        return template

    def template(self, *, template_id: str | None, name: str | None, version: str) -> Template:
        """Return a version of a template (the default version is the first) or raise EC2's error."""
        versions = [one for one in self._templates if one.id == template_id or (name and one.name == name)]
        if not versions:
            raise template_not_found(template_id, name)
        wanted = {"$Latest": len(versions), "$Default": 1}.get(version, version)
        for one in versions:
            if str(one.version) == str(wanted):
                return one
        raise version_not_found(versions[0].id, version)
