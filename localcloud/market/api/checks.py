"""The questions that EC2 asks IAM before it carries out a request: an action on resources, with their context.

``_OF`` and ``of_launch`` are the table. For an action that is not in it, the resource is ``*``, which a statement on a
kind of resource does not allow. So what is missing here is refused. Resources that a launch creates have no id yet;
their id is written ``*``, as in EC2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from localcloud.market.api import template_view
from localcloud.market.model.market import Market
from localcloud.market.model.requests import Params, tags_by_kind
from localcloud.market.model.surroundings import PUBLIC_PARAMETERS, RESOLVE, Subnet, TemplateVersion

Tags = Mapping[str, str]

UNAUTHORIZED = "UnauthorizedOperation"
ROLE_NOT_PERMITTED = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
SPOT = "spot.amazonaws.com"

_KINDS = {
    "i": "instance",
    "vol": "volume",
    "eni": "network-interface",
    "lt": "launch-template",
    "sir": "spot-instances-request",
    "fleet": "fleet",
    "subnet": "subnet",
    "sg": "security-group",
    "vpc": "vpc",
}
"""Kinds of resource, by the prefix of their ids."""


@dataclass(frozen=True)
class IamCheck:
    """A question to IAM: whether the caller may do this action on this resource."""

    action: str
    resource: str = "*"
    """An ARN."""
    request_tags: Tags = field(default_factory=dict)
    """Tags that the request adds to the resource."""
    resource_tags: Tags = field(default_factory=dict)
    """Tags that the resource has already."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Other condition keys."""
    refusal: str = UNAUTHORIZED
    """The error code if the answer is no."""


@dataclass(frozen=True)
class PlannedLaunch:
    """The launch of an override in a subnet, before EC2 carries it out."""

    template: TemplateVersion
    image: str
    """By id or ``resolve:ssm:``, as in the override or the template."""
    subnet: Subnet
    instance_type: str
    lifecycle: str
    """``spot`` or ``on-demand``."""
    tags: Mapping[str, Tags]
    """Tags of the request and of the template together, by kind of resource."""
    root_key: str = ""
    """ARN of the customer's key of the root volume, if there is one."""


class Rights(Protocol):
    """The rights of a caller."""

    def demand(self, checks: Iterable[IamCheck]) -> None:
        """Raise ``EC2Error`` for the first check that the caller's policies do not allow."""

    def allow(self, checks: Iterable[IamCheck]) -> bool:
        """Return whether the caller's policies allow all checks."""

    def roles_of_profile(self, profile: str) -> list[str]:
        """Return the ARNs of an instance profile's roles. ``EC2Error`` if there is no such profile."""

    def demand_spot_role(self, check: IamCheck) -> None:
        """Create the account's service-linked role for spot if it is missing. ``EC2Error`` if the caller may not."""


Permit = Callable[[PlannedLaunch], bool]
"""Raises ``EC2Error`` for a launch that is not allowed. False: the launch is, but not the use of the volume's key."""


def anything(_launch: PlannedLaunch) -> bool:
    """Allow every launch and the use of every key."""
    return True


def of_request(market: Market, action: str, params: Params) -> Iterator[IamCheck]:
    """Yield the checks for a request. Raises ``EC2Error`` if it names something that does not exist."""
    for check in _OF.get(action, _anywhere)(market, params):
        yield check if check.action else _named(check, action)


def of_launch(market: Market, launch: PlannedLaunch) -> Iterator[IamCheck]:
    """Yield the checks for an override. A fleet launches with its caller's rights."""
    template, tags = launch.template, launch.tags
    from_template = {"ec2:LaunchTemplate": _arn(market, "launch-template", template.id)}
    machine = {
        "ec2:InstanceType": launch.instance_type,
        "ec2:InstanceMarketType": launch.lifecycle,
        "ec2:AvailabilityZone": launch.subnet.zone,
    }
    created = ["instance", "volume", "network-interface"]
    if launch.lifecycle == "spot":
        created.append("spot-instances-request")
    used = [
        (_arn(market, "launch-template", template.id), template.tags),
        (_image(market, launch.image), {}),
        (_arn(market, "subnet", launch.subnet.id), {}),
        (_arn(market, "security-group"), {}),
    ]
    if launch.image.startswith(RESOLVE):
        yield IamCheck("ssm:GetParameters", _parameter(market, launch.image.removeprefix(RESOLVE)))
    for arn, resource_tags in used:
        yield IamCheck("ec2:RunInstances", arn, resource_tags=resource_tags, keys=from_template)
    for kind in created:
        keys = from_template | (machine if kind == "instance" else {})
        yield IamCheck("ec2:RunInstances", _arn(market, kind), request_tags=tags.get(kind, {}), keys=keys)
    for kind in created:
        yield from _tagged_at_creation(market, kind, tags.get(kind, {}), by="RunInstances")


def of_key(market: Market, key: str) -> Iterator[IamCheck]:
    """Yield the checks before a volume with a customer's key is created.

    Source of the first and the last: a capture; of those for an image encrypted with the key: the EBS User Guide.
    """
    by_ec2 = {"kms:ViaService": f"ec2.{market.region}.amazonaws.com"}
    actions = ["GenerateDataKeyWithoutPlaintext"]
    if key in market.surroundings.account.image_keys.values():
        actions += ["DescribeKey", "Decrypt", "ReEncryptFrom", "ReEncryptTo"]
    for action in actions:
        yield IamCheck(f"kms:{action}", key, keys=by_ec2)
    yield IamCheck("kms:CreateGrant", key, keys={**by_ec2, "kms:GrantIsForAWSResource": "true"})


def may_launch(market: Market, rights: Rights) -> Permit:
    """Return the permit of a caller."""

    def permit(launch: PlannedLaunch) -> bool:
        rights.demand(of_launch(market, launch))
        if profile := launch.template.instance_profile:
            to_ec2 = {"iam:PassedToService": "ec2.amazonaws.com"}
            rights.demand(IamCheck("iam:PassRole", role, keys=to_ec2) for role in rights.roles_of_profile(profile))
        if launch.lifecycle == "spot":
            rights.demand_spot_role(_spot_role(market))
        return not launch.root_key or rights.allow(of_key(market, launch.root_key))

    return permit


# The table


def _create_fleet(market: Market, params: Params) -> Iterator[IamCheck]:
    """Check CreateFleet itself, on its resources in the Service Authorization Reference."""
    tags = tags_by_kind(params)
    for kind in ("fleet", "instance", "volume"):
        yield IamCheck("", _arn(market, kind), request_tags=tags.get(kind, {}))
    for config in params["LaunchTemplateConfigs"]:
        named = config.get("LaunchTemplateSpecification", {})
        template = template_view.template(
            market,
            template_id=named.get("LaunchTemplateId"),
            name=named.get("LaunchTemplateName"),
            version=named.get("Version", "$Default"),
        )
        yield IamCheck("", _arn(market, "launch-template", template.id), resource_tags=template.tags)
        for override in config.get("Overrides") or [{}]:
            yield IamCheck("", _image(market, override.get("ImageId") or template.image_id))
            if "SubnetId" in override:
                yield IamCheck("", _arn(market, "subnet", override["SubnetId"]))
    yield from _tagged_at_creation(market, "fleet", tags.get("fleet", {}), by="CreateFleet")


def _on_instances(market: Market, params: Params) -> Iterator[IamCheck]:
    """Check each instance. A missing one has no tags, so a condition on tags refuses it before EC2 reports it."""
    for instance_id in params["InstanceIds"]:
        yield IamCheck("", _arn(market, "instance", instance_id), resource_tags=_tags_of(market, instance_id))


def _on_tagged(market: Market, params: Params) -> Iterator[IamCheck]:
    tags = {tag["Key"]: tag.get("Value", "") for tag in params.get("Tags", [])}
    for resource_id in params["Resources"]:
        kind = _KINDS.get(resource_id.split("-")[0], "*")
        arn = _arn(market, kind, resource_id)
        yield IamCheck("", arn, request_tags=tags, resource_tags=_tags_of(market, resource_id))


def _create_template(market: Market, params: Params) -> Iterator[IamCheck]:
    tags = tags_by_kind(params).get("launch-template", {})
    yield IamCheck("", _arn(market, "launch-template"), request_tags=tags)
    yield from _tagged_at_creation(market, "launch-template", tags, by="CreateLaunchTemplate")


def _on_template(market: Market, params: Params) -> Iterator[IamCheck]:
    template_id, name = params.get("LaunchTemplateId"), params.get("LaunchTemplateName")
    template = market.surroundings.launch_template(template_id=template_id, name=name)
    tags = next((one.tags for one in template_view.shown(market) if one.id == template.id), {})
    yield IamCheck("", _arn(market, "launch-template", template.id), resource_tags=tags)


def _anywhere(_market: Market, _params: Params) -> Iterator[IamCheck]:
    yield IamCheck("")


_OF: Mapping[str, Callable[[Market, Params], Iterator[IamCheck]]] = {
    "CreateFleet": _create_fleet,
    "TerminateInstances": _on_instances,
    "StartInstances": _on_instances,
    "StopInstances": _on_instances,
    "RebootInstances": _on_instances,
    "CreateTags": _on_tagged,
    "DeleteTags": _on_tagged,
    "CreateLaunchTemplate": _create_template,
    "CreateLaunchTemplateVersion": _on_template,
    "ModifyLaunchTemplate": _on_template,
    "DeleteLaunchTemplate": _on_template,
    "DeleteLaunchTemplateVersions": _on_template,
    # Describe* and all others: on *
}
"""The checks by action. A check without an action is about the requested action."""


def _tagged_at_creation(market: Market, kind: str, tags: Tags, *, by: str) -> Iterator[IamCheck]:
    if tags:
        yield IamCheck("ec2:CreateTags", _arn(market, kind), request_tags=tags, keys={"ec2:CreateAction": by})


def _spot_role(market: Market) -> IamCheck:
    role = f"arn:aws:iam::{market.account}:role/aws-service-role/{SPOT}/AWSServiceRoleForEC2Spot"
    keys = {"iam:AWSServiceName": SPOT}
    return IamCheck("iam:CreateServiceLinkedRole", role, keys=keys, refusal=ROLE_NOT_PERMITTED)


def _named(check: IamCheck, action: str) -> IamCheck:
    return IamCheck(f"ec2:{action}", check.resource, check.request_tags, check.resource_tags, check.keys, check.refusal)


def _tags_of(market: Market, resource_id: str) -> Tags:
    tagged = market.instances.get(resource_id) or market.surroundings.templates.get(resource_id)
    return tagged.tags if tagged else {}


def _arn(market: Market, kind: str, resource_id: str = "*") -> str:
    return f"arn:aws:ec2:{market.region}:{market.account}:{kind}/{resource_id}"


def _image(market: Market, named: str) -> str:
    """Return an image's ARN, which has no account. If the id is looked up at launch, it is ``*``."""
    image_id = "*" if named.startswith(RESOLVE) else named
    return f"arn:aws:ec2:{market.region}::image/{image_id}"


def _parameter(market: Market, name: str) -> str:
    """Return a parameter's ARN. AWS's public parameters have no account."""
    account = "" if name.startswith(PUBLIC_PARAMETERS) else market.account
    return f"arn:aws:ssm:{market.region}:{account}:parameter{name}"
