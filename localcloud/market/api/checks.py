"""What EC2 asks IAM before it carries out a request: for each action the resources, each with its context.

``_OF`` and ``of_launch`` are the table. An action that is not in it is asked for on ``*``, which no statement on a kind
of resource allows: what is missing here is refused, never let through. What a launch creates has no id yet when IAM is
asked and is written ``*``, as EC2 does.
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
"""Kinds of resource by the beginning of their ids."""


@dataclass(frozen=True)
class IamCheck:
    """One question to IAM: whether the caller may do this action on this resource."""

    action: str
    resource: str = "*"
    """An ARN."""
    request_tags: Tags = field(default_factory=dict)
    """Tags that the request puts on the resource."""
    resource_tags: Tags = field(default_factory=dict)
    """Tags that it has already."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Further condition keys."""
    refusal: str = UNAUTHORIZED
    """The error code of a no."""


@dataclass(frozen=True)
class PlannedLaunch:
    """What a fleet is about to launch of one override in one subnet."""

    template: TemplateVersion
    image: str
    """As the override or the template names it: by id or ``resolve:ssm:``."""
    subnet: Subnet
    instance_type: str
    lifecycle: str
    """``spot`` or ``on-demand``."""
    tags: Mapping[str, Tags]
    """By kind of resource, those of the fleet's request and of its template together."""
    root_key: str = ""
    """ARN of the customer's key of its root volume, if it has one."""


class Rights(Protocol):
    """One caller before IAM."""

    def demand(self, checks: Iterable[IamCheck]) -> None:
        """Raise ``EC2Error`` for the first check that the caller's policies do not allow."""

    def allow(self, checks: Iterable[IamCheck]) -> bool:
        """Return whether the caller's policies allow all of this."""

    def roles_of_profile(self, profile: str) -> list[str]:
        """Return the ARNs of an instance profile's roles; ``EC2Error`` if there is no such profile."""

    def demand_spot_role(self, check: IamCheck) -> None:
        """Create the account's service-linked role for spot unless it is there: ``EC2Error`` if the caller may not."""


Permit = Callable[[PlannedLaunch], bool]
"""Raises ``EC2Error`` for a launch that its caller may not make; False: it may, but not use its root volume's key."""


def anything(_launch: PlannedLaunch) -> bool:
    """Permit every launch, and the use of every key."""
    return True


def of_request(market: Market, action: str, params: Params) -> Iterator[IamCheck]:
    """Yield what is asked when a request arrives. Raises ``EC2Error`` for one that names what does not exist."""
    for check in _OF.get(action, _anywhere)(market, params):
        yield check if check.action else _named(check, action)


def of_launch(market: Market, launch: PlannedLaunch) -> Iterator[IamCheck]:
    """Yield what is asked for each override of a fleet, which launches with its caller's rights."""
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
    """Yield what is asked of the caller before a volume is made with a customer's key.

    The first and the last is what a capture shows; of an image that is encrypted with the key the EBS User Guide tells.
    """
    by_ec2 = {"kms:ViaService": f"ec2.{market.region}.amazonaws.com"}
    actions = ["GenerateDataKeyWithoutPlaintext"]
    if key in market.surroundings.account.image_keys.values():
        actions += ["DescribeKey", "Decrypt", "ReEncryptFrom", "ReEncryptTo"]
    for action in actions:
        yield IamCheck(f"kms:{action}", key, keys=by_ec2)
    yield IamCheck("kms:CreateGrant", key, keys={**by_ec2, "kms:GrantIsForAWSResource": "true"})


def may_launch(market: Market, rights: Rights) -> Permit:
    """Return the permit of one caller."""

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
    """Ask for CreateFleet itself, on the kinds of resource that the Service Authorization Reference gives it."""
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
    """Ask for each instance. One that is gone has no tags, so a condition on tags refuses it before EC2 misses it."""
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
"""For each action, what it is asked on; a check without an action is of the one that is asked for."""


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
    """Return an image's ARN, which names no account; of one that is only looked up at launch the id is open."""
    image_id = "*" if named.startswith(RESOLVE) else named
    return f"arn:aws:ec2:{market.region}::image/{image_id}"


def _parameter(market: Market, name: str) -> str:
    """Return a parameter's ARN; AWS's public ones belong to no account."""
    account = "" if name.startswith(PUBLIC_PARAMETERS) else market.account
    return f"arn:aws:ssm:{market.region}:{account}:parameter{name}"
