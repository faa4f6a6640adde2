"""CreateFleet of type instant: checks the request, allocates its overrides, launches and answers.

A request that is wrong as a whole is an error and does not use up its client token. Any other request has an answer,
even without instances, and uses up the token. ``Errors`` says why each failed override failed.
"""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from localcloud.market.api import template_view
from localcloud.market.api.checks import Permit, PlannedLaunch, anything
from localcloud.market.api.tags import check_number, check_shown, check_tags
from localcloud.market.api.volumes import refusal_of
from localcloud.market.model.allocation import Candidate, Refusal, allocate
from localcloud.market.model.errors import EC2Error
from localcloud.market.model.instances import Lifecycle
from localcloud.market.model.limits import quota_group
from localcloud.market.model.market import POOL_TAG, Market
from localcloud.market.model.offerings import Offering
from localcloud.market.model.requests import Answer, Params, refuse_unknown, tags_by_kind
from localcloud.market.model.settings import FAULT_TEXT, Fault
from localcloud.market.model.surroundings import RESOLVE, Subnet, TemplateVersion, architecture_in

_TAGGABLE = {"fleet", "instance", "volume", "network-interface"}
_LEAST_MAX_PRICE = Decimal("0.001")
_SMALLEST_PRICE = Decimal("0.000001")
_MOST_TOKEN_CHARACTERS = 64
_MOST_UNITS = 10_000
_MOST_CONFIGS = 50
_MOST_OVERRIDES = 300
"""AWS's number for other types of fleet. For instant ones AWS says only that the body may be too large."""
_STRATEGIES = {
    "spot": {"price-capacity-optimized", "capacity-optimized", "lowest-price"},
    "on-demand": {"lowest-price", "prioritized"},
}


_NO_SPOT = (
    "The requested configuration is currently not supported. Please check the documentation for supported "
    "configurations."
)


@dataclass(frozen=True)
class _Order:
    """The part of the request that is common to all overrides."""

    wanted: int
    """Units. One instance is one unit unless overrides have a weight."""
    lifecycle: Lifecycle
    strategy: str
    tags: dict[str, dict[str, str]]
    """By kind of resource."""


@dataclass(frozen=True)
class _Launchable:
    """An override in a zone: what to launch, where, and the maximum price."""

    echo: dict[str, Any]
    """The override as in the answer."""
    template: TemplateVersion
    image_id: str
    weight: Decimal
    max_price: Decimal | None
    """USD per instance-hour."""
    subnet: Subnet
    offering: Offering
    key_refused: bool = False
    """Whether the root volume's key may not be used. EC2 launches the instance nevertheless."""


@dataclass(frozen=True)
class _Failed:
    """An override that cannot be launched: EC2's error code and text."""

    echo: dict[str, Any]
    code: str
    text: str


_Override = _Launchable | _Failed


def create_fleet(market: Market, params: Params, fault: Fault | None = None, permit: Permit = anything) -> Answer:
    """Launch up to the target capacity now. Return what was launched and what failed.

    ``permit`` is called for each override that could be launched. What it raises is the failure of that override.
    """
    token = params.get("ClientToken")
    if token and (len(token) > _MOST_TOKEN_CHARACTERS or not token.isascii()):
        raise EC2Error(
            "InvalidParameterValue", f"A client token is of at most {_MOST_TOKEN_CHARACTERS} ASCII characters"
        )
    if token in market.answered:
        asked_before, answer = market.answered[token]
        if asked_before != params:
            raise EC2Error(
                "IdempotentParameterMismatch",
                "The client token has been used before, with other parameters. Use a new token for a changed request.",
            )
        market.note_call("CreateFleet", token=token, repeated=True, launched=[])
        return answer
    order = _order(params)
    overrides = [_permitted(market, one, order, permit) for one in _overrides(market, params, order.lifecycle)]
    answer = _launch(market, order, overrides, fault)
    if token:
        market.answered[token] = (params, answer)
    market.note_call(
        "CreateFleet",
        token=token,
        repeated=False,
        lifecycle=order.lifecycle,
        pool=order.tags.get("instance", {}).get(POOL_TAG),
        wanted=order.wanted,
        launched=[one for entry in answer["Instances"] for one in entry["InstanceIds"]],
        errors=[entry["ErrorCode"] for entry in answer["Errors"]],
    )
    return answer


def _order(params: Params) -> _Order:
    refuse_unknown(
        "CreateFleet",
        params,
        {
            "Type",
            "ClientToken",
            "LaunchTemplateConfigs",
            "SpotOptions",
            "OnDemandOptions",
            "TargetCapacitySpecification",
            "TagSpecifications",
        },
    )
    if params.get("Type") != "instant":
        raise EC2Error(
            "UnsupportedOperation", "This market supports only fleets of type instant; EC2's default is maintain."
        )
    target = params["TargetCapacitySpecification"]
    refuse_unknown("TargetCapacitySpecification", target, {"TotalTargetCapacity", "DefaultTargetCapacityType"})
    wanted = target["TotalTargetCapacity"]
    if not 1 <= wanted <= _MOST_UNITS:
        raise EC2Error("InvalidParameterValue", f"TotalTargetCapacity must be 1 to {_MOST_UNITS}, not {wanted}")
    lifecycle = target.get("DefaultTargetCapacityType", "on-demand")
    if lifecycle not in ("spot", "on-demand"):
        raise EC2Error("InvalidParameterValue", f"DefaultTargetCapacityType cannot be {lifecycle}")
    spot, on_demand = params.get("SpotOptions", {}), params.get("OnDemandOptions", {})
    refuse_unknown("SpotOptions", spot, {"AllocationStrategy", "InstanceInterruptionBehavior"})
    refuse_unknown("OnDemandOptions", on_demand, {"AllocationStrategy"})
    if spot.get("InstanceInterruptionBehavior", "terminate") != "terminate":
        raise EC2Error("InvalidParameterValue", "An instant fleet's interrupted instances can only be terminated")
    strategy = (spot if lifecycle == "spot" else on_demand).get("AllocationStrategy", "lowest-price")
    if strategy not in _STRATEGIES[lifecycle]:
        raise EC2Error("UnsupportedOperation", f"This market does not support the strategy {strategy} for {lifecycle}.")
    return _Order(wanted=wanted, lifecycle=lifecycle, strategy=strategy, tags=_tags(params))


def _tags(params: Params) -> dict[str, dict[str, str]]:
    tags = tags_by_kind(params)
    for kind in tags:
        if kind not in _TAGGABLE:
            raise EC2Error("InvalidParameterValue", f"A fleet cannot tag {kind}, only {', '.join(sorted(_TAGGABLE))}")
        check_tags(tags[kind])
    return tags


def _overrides(market: Market, params: Params, lifecycle: Lifecycle) -> list[_Override]:
    if not params["LaunchTemplateConfigs"]:
        raise EC2Error("MissingParameter", "The request must contain the parameter LaunchTemplateConfigs")
    if len(params["LaunchTemplateConfigs"]) > _MOST_CONFIGS:
        raise EC2Error("InvalidParameterValue", f"A fleet has at most {_MOST_CONFIGS} launch template configurations")
    if sum(len(config.get("Overrides", [])) for config in params["LaunchTemplateConfigs"]) > _MOST_OVERRIDES:
        raise EC2Error(
            "InvalidInput", "The request failed because the payload for the body of the request is too large."
        )
    _refuse_duplicates(market, params)
    overrides: list[_Override] = []
    images: dict[str, str | None] = {}
    for config in params["LaunchTemplateConfigs"]:
        specification = config.get("LaunchTemplateSpecification", {})
        template_id, name = specification.get("LaunchTemplateId"), specification.get("LaunchTemplateName")
        if bool(template_id) == bool(name) or "Version" not in specification:
            raise EC2Error(
                "InvalidParameterValue", "Give a launch template's id or its name, not both, and its version"
            )
        template = template_view.template(market, template_id=template_id, name=name, version=specification["Version"])
        repeated = {"LaunchTemplateId": template.id, "Version": specification["Version"]}
        for asked in config.get("Overrides") or [{}]:
            refuse_unknown(
                "Overrides",
                asked,
                {"InstanceType", "MaxPrice", "SubnetId", "AvailabilityZone", "WeightedCapacity", "Priority", "ImageId"},
            )
            echo = {"LaunchTemplateSpecification": repeated, "Overrides": asked}
            named = asked.get("ImageId") or template.image_id
            if named not in images:
                images[named] = market.surroundings.image(named)
            if lacking := _lacking(market, template, named, images[named]):
                placed: list[_Override] = [_Failed(echo, *lacking)]
            else:
                placed = _placed(market, echo, template, images[named] or "", lifecycle)
            overrides.extend(placed)
    return overrides


def _refuse_duplicates(market: Market, params: Params) -> None:
    """Refuse a type that is named twice for a zone, even with different subnets."""
    zones = {subnet.id: subnet.zone for subnet in market.surroundings.subnets()}
    asked = [override for config in params["LaunchTemplateConfigs"] for override in config.get("Overrides") or []]
    placed = [
        (override.get("InstanceType"), zones.get(override.get("SubnetId", ""), override.get("AvailabilityZone")))
        for override in asked
    ]
    pools = [pool for pool in placed if None not in pool]
    if len(pools) > len(set(pools)):
        raise EC2Error("InvalidFleetConfig", "The fleet configuration contains duplicate instance pools.")


def _permitted(market: Market, override: _Override, order: _Order, permit: Permit) -> _Override:
    if isinstance(override, _Failed):
        return override
    template, account = override.template, market.surroundings.account
    root_key = template.root_key(override.image_id, account)
    launch = PlannedLaunch(
        template=template,
        image=override.echo["Overrides"].get("ImageId") or template.image_id,
        subnet=override.subnet,
        instance_type=override.offering.instance_type,
        lifecycle=order.lifecycle,
        tags={kind: _tags_of(kind, order, template) for kind in {*order.tags, *template.launch_tags}},
        root_key=root_key,
    )
    instance_tags = _tags_of("instance", order, template)
    try:
        may_use_key = permit(launch)
        check_number(instance_tags)
        if template.shows_tags(account):
            check_shown(instance_tags)
    except EC2Error as error:
        return _Failed(override.echo, error.code, error.message)
    granted = order.lifecycle == "on-demand" or not root_key or root_key in account.spot_key_grants
    return replace(override, key_refused=not (may_use_key and granted))


def _tags_of(kind: str, order: _Order, template: TemplateVersion) -> dict[str, str]:
    """Return the tags of what is launched: the template's, overridden by the request's."""
    return template.launch_tags.get(kind, {}) | order.tags.get(kind, {})


def _weight(asked: dict[str, Any]) -> Decimal:
    # By its text, because over HTTP it is a floating-point number.
    weight = Decimal(str(asked.get("WeightedCapacity", 1)))
    if not 0 < weight < Decimal("Infinity"):
        raise EC2Error("InvalidParameterValue", f"WeightedCapacity must be above 0, not {weight}")
    return weight


def _max_price(asked: dict[str, Any], weight: Decimal) -> Decimal | None:
    """Return the cap per instance-hour. The request has it per unit-hour."""
    text = asked.get("MaxPrice")
    if text is None:
        return None
    if not re.fullmatch(r"\d+(\.\d+)?", text) or Decimal(text) <= _LEAST_MAX_PRICE:
        raise EC2Error(
            "InvalidParameterValue", f"MaxPrice must be a decimal number above {_LEAST_MAX_PRICE}, not '{text}'"
        )
    return Decimal(text) * weight


def _placed(
    market: Market, echo: dict[str, Any], template: TemplateVersion, image_id: str, lifecycle: Lifecycle
) -> list[_Override]:
    """Return an override once per allowed subnet: the named one, or the default ones of its zone or of all zones."""
    asked = echo["Overrides"]
    instance_type, weight = _type(asked, template), _weight(asked)
    max_price = _max_price(asked, weight)
    subnet_id, zone = asked.get("SubnetId"), asked.get("AvailabilityZone")
    subnets = _subnets(market, instance_type, subnet_id, zone)
    if not subnets and subnet_id:
        return [_Failed(echo, "InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")]
    if not subnets:
        return [_Failed(echo, "MissingInput", f"No default subnet for availability zone: '{zone}'.")]
    placed: list[_Override] = []
    for subnet in subnets:
        offering = market.offerings.get((instance_type, subnet.zone))
        if zone not in (None, subnet.zone):
            text = f"The subnet {subnet.id} is in {subnet.zone}, not in {zone}"
            placed.append(_Failed(echo, "InvalidParameterValue", text))
        elif offering is None:
            elsewhere = sorted(there for name, there in market.offerings if name == instance_type)
            text = (
                f"Your requested instance type ({instance_type}) is not supported in your requested "
                f"Availability Zone ({subnet.zone}). Please retry your request by not specifying an Availability Zone "
                f"or choosing {', '.join(elsewhere)}."
            )
            placed.append(_Failed(echo, "InvalidFleetConfiguration", text))
        elif text := _other_architecture(offering, asked.get("ImageId") or template.image_id):
            placed.append(_Failed(echo, "InvalidParameterValue", text))
        elif lifecycle == "spot" and not offering.spot:
            placed.append(_Failed(echo, "Unsupported", _NO_SPOT))
        elif lifecycle == "spot" and (text := _too_expensive(offering, max_price, weight)):
            placed.append(_Failed(echo, "SpotMaxPriceTooLow", text))
        else:
            placed.append(_Launchable(echo, template, image_id, weight, max_price, subnet, offering))
    return placed


def _type(asked: dict[str, Any], template: TemplateVersion) -> str:
    instance_type = asked.get("InstanceType") or template.instance_type
    if not instance_type:
        raise EC2Error("InvalidParameterValue", "Neither the override nor the launch template names an instance type")
    if instance_type == "mac1.metal":
        raise EC2Error("InvalidParameterValue", "mac1.metal is not supported as a launch template override.")
    return str(instance_type)


def _subnets(market: Market, instance_type: str, subnet_id: str | None, zone: str | None) -> list[Subnet]:
    subnets = [
        subnet
        for subnet in market.surroundings.subnets()
        if (subnet.id == subnet_id if subnet_id else subnet.default_for_az and zone in (None, subnet.zone))
    ]
    if subnet_id is None and zone is None:
        # If EC2 chooses the zone, it ignores zones without the type, unless there is no other.
        offered = [subnet for subnet in subnets if (instance_type, subnet.zone) in market.offerings]
        return offered or subnets[:1]
    return subnets


def _other_architecture(offering: Offering, image: str) -> str:
    """Return EC2's text if a type cannot run an image, judged by the image's name. Empty if it can."""
    ours, needed = offering.machine.architecture, architecture_in(image)
    if needed in (None, ours):
        return ""
    return (
        f"The architecture '{ours}' of the specified instance type does not match the architecture '{needed}' of the "
        "specified AMI."
    )


def _lacking(market: Market, template: TemplateVersion, named: str, resolved: str | None) -> tuple[str, str] | None:
    """Return EC2's code and text if something that a launch refers to does not exist. None: all exists."""
    if not named:
        return "MissingParameter", "The request must contain the parameter ImageId"
    missing = market.surroundings.missing
    if resolved is None:
        return "InvalidParameterValue", f"The parameter {named.removeprefix(RESOLVE)} could not be resolved."
    if not resolved.startswith("ami-"):
        return "InvalidAMIID.Malformed", f'Invalid id: "{resolved}" (expecting "ami-...")'
    name, groups = template.key_name, template.security_groups
    needed = [
        (resolved, "InvalidAMIID.NotFound", f"The image id '[{resolved}]' does not exist"),
        *((one, "InvalidGroup.NotFound", f"The security group '{one}' does not exist") for one in groups),
        (name, "InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist"),
    ]
    if template.data.get("NetworkInterfaces") and template.data.get("SecurityGroupIds"):
        text = "Network interfaces and an instance-level security groups may not be specified on the same request"
        return "InvalidParameterCombination", text
    lacking = next(((code, text) for id_, code, text in needed if id_ in missing), None)
    if lacking is None and len(groups) > market.surroundings.account.security_groups_per_interface:
        return (
            "SecurityGroupsPerInterfaceLimitExceeded",
            "The maximum number of security groups per interface has been reached.",
        )
    return lacking or next(filter(None, (refusal_of(ebs, root=root) for root, ebs in template.volumes)), None)


def _too_expensive(offering: Offering, max_price: Decimal | None, weight: Decimal) -> str:
    """Return EC2's text if the spot price is above the maximum price. Empty if it is not."""
    would_pay = offering.on_demand_price if max_price is None else max_price
    if offering.spot_price <= would_pay:
        return ""
    return (
        f"Your Spot request price of {_text(would_pay / weight)} is lower than the minimum required Spot request "
        f"fulfillment price of {_text(offering.spot_price / weight)}."
    )


def _text(price: Decimal) -> str:
    """Write a price as a plain decimal number, without the extra digits of a division."""
    return f"{price.quantize(_SMALLEST_PRICE).normalize():f}"


def _launch(market: Market, order: _Order, overrides: list[_Override], fault: Fault | None) -> Answer:
    wanted, lifecycle = order.wanted, order.lifecycle
    launchable = {number: override for number, override in enumerate(overrides) if isinstance(override, _Launchable)}
    candidates = [
        Candidate(
            number=number,
            offering=override.offering.key,
            price=override.offering.spot_price if lifecycle == "spot" else override.offering.on_demand_price,
            vcpus=override.offering.vcpus,
            quota_group=quota_group(override.offering.instance_type),
            subnet=override.subnet.id,
            weight=override.weight,
            priority=Decimal(str(override.echo["Overrides"].get("Priority", "Infinity"))),
        )
        for number, override in launchable.items()
    ]
    failures = {number: (one.code, one.text) for number, one in enumerate(overrides) if isinstance(one, _Failed)}
    room = market.room(lifecycle, {one.offering for one in candidates})
    if fault and fault.where == "inside":
        wanted = min(wanted, fault.launches)
        failures = dict.fromkeys(range(len(overrides)), (fault.error or "", fault.message or FAULT_TEXT))
    allocation = allocate(wanted, candidates, order.strategy, room)
    for candidate, refusal in allocation.refused:
        failures.setdefault(candidate.number, _refused(refusal, candidate, lifecycle))
    fleet_id = f"fleet-{market.new_uuid()}"
    launched = [
        _launch_override(market, order, launchable[candidate.number], count, fleet_id)
        for candidate, count in allocation.taken
    ]
    errors: list[dict[str, Any]] = []
    for number in sorted(failures):
        code, text = failures[number]
        entry = {
            "LaunchTemplateAndOverrides": overrides[number].echo,
            "Lifecycle": lifecycle,
            "ErrorCode": code,
            "ErrorMessage": text,
        }
        if entry not in errors:
            errors.append(entry)
    return {"FleetId": fleet_id, "Errors": errors, "Instances": launched}


def _refused(refusal: Refusal, candidate: Candidate, lifecycle: Lifecycle) -> tuple[str, str]:
    instance_type, zone = candidate.offering
    match refusal, lifecycle:
        case Refusal.CAPACITY, "spot":
            return "InsufficientInstanceCapacity", "There is no Spot capacity available that matches your request."
        case Refusal.CAPACITY, "on-demand":
            text = (
                f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested "
                f"({zone}). Our system will be working on provisioning additional capacity."
            )
            return "InsufficientInstanceCapacity", text
        case Refusal.QUOTA, "spot":
            return "MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"
        case Refusal.QUOTA, "on-demand":
            text = (
                "You have requested more vCPU capacity than your current vCPU limit allows for the instance bucket "
                "that the specified instance type belongs to."
            )
            return "VcpuLimitExceeded", text
        case Refusal.ADDRESSES, _:
            text = (
                f"There are not enough free addresses in subnet '{candidate.subnet}' to satisfy the requested number "
                "of instances."
            )
            return "InsufficientFreeAddressesInSubnet", text
        case _:
            return "RequestLimitExceeded", "Request limit exceeded."


def _launch_override(market: Market, order: _Order, override: _Launchable, count: int, fleet_id: str) -> dict[str, Any]:
    offering, subnet, template = override.offering, override.subnet, override.template
    reservation_id = market.new_id("r")
    all_tags = {
        "aws:ec2:fleet-id": fleet_id,
        "aws:ec2launchtemplate:id": template.id,
        "aws:ec2launchtemplate:version": str(template.version),
        **_tags_of("instance", order, template),
    }
    instances = [
        market.launch(
            offering,
            subnet=subnet,
            lifecycle=order.lifecycle,
            max_price=override.max_price if order.lifecycle == "spot" else None,
            image_id=override.image_id,
            template=template,
            reservation_id=reservation_id,
            tags=dict(all_tags),
            key_refused=override.key_refused,
        )
        for _ in range(count)
    ]
    return {
        "LaunchTemplateAndOverrides": override.echo,
        "Lifecycle": order.lifecycle,
        "InstanceIds": [one.id for one in instances],
        "InstanceType": offering.instance_type,
        "AvailabilityZone": offering.zone,
        "SubnetId": subnet.id,
    }
