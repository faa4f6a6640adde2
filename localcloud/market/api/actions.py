"""The EC2 actions that the market answers. Requests and answers are dictionaries in boto3's form.

The market refuses what it does not support with ``UnsupportedOperation``. It never ignores a part of a request.
"""

import copy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from localcloud.market.api.checks import Permit, anything
from localcloud.market.api.fleet import create_fleet
from localcloud.market.api.health import describe_instance_status
from localcloud.market.api.pricing import PRICING_ACTIONS
from localcloud.market.api.requirements import get_instance_types_from_instance_requirements
from localcloud.market.api.shapes import refuse_beyond_model
from localcloud.market.api.ssm import SSM_ACTIONS
from localcloud.market.api.tags import check_number, check_shown, check_tags
from localcloud.market.api.templates import TEMPLATE_ACTIONS
from localcloud.market.api.visible import all_visible, visible_or_error
from localcloud.market.model.errors import EC2Error
from localcloud.market.model.instances import BY_USER, described_state
from localcloud.market.model.listing import Attributes, filters_of, matching, page_of, shown_up_to, tag_attributes
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import Offering
from localcloud.market.model.requests import Actions, Answer, Params, refuse_unknown
from localcloud.market.model.settings import Fault
from localcloud.market.model.surroundings import Subnet, template_not_found

PRODUCT = "Linux/UNIX"
_PRICE_HISTORY = timedelta(days=90)
_MOST_TERMINATIONS = 1000


def carry_out(
    market: Market, action: str, params: Params, fault: Fault | None = None, permit: Permit = anything
) -> Answer:
    """Carry out an action and return its answer, a copy. Raises ``EC2Error``."""
    market.catch_up()
    asked = copy.deepcopy({key: value for key, value in params.items() if key != "DryRun"})
    service = next(name for name, actions in SERVICES.items() if action in actions)
    refuse_beyond_model(service, action, asked)
    if params.get("DryRun"):
        raise EC2Error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
    if action == "CreateFleet":
        return copy.deepcopy(create_fleet(market, asked, fault, permit))
    return copy.deepcopy(SERVICES[service][action](market, asked))


def describe_instances(market: Market, params: Params) -> Answer:
    """List instances by id or filters, in the order of their launch, as they were ``describe_lag_seconds`` ago."""
    refuse_unknown("DescribeInstances", params, {"InstanceIds", "Filters", "MaxResults", "NextToken"})
    if params.get("InstanceIds"):
        if params.get("MaxResults"):
            raise EC2Error(
                "InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults"
            )
        named = visible_or_error(market, "DescribeInstances", params["InstanceIds"])
        chosen = iter(sorted(named, key=lambda pair: pair[0].number))
    else:
        chosen = all_visible(market, "DescribeInstances", after=shown_up_to(params))
    filters = filters_of(
        params,
        {
            "instance-id",
            "instance-type",
            "instance-state-name",
            "availability-zone",
            "subnet-id",
            "instance-lifecycle",
            "tag-key",
        },
    )
    fits = matching(filters)
    page, token = page_of(
        chosen, params, key=lambda pair: pair[0].number, where=lambda pair: fits(pair[0].attributes(pair[1]))
    )
    answer: Answer = {
        "Reservations": [
            {
                "ReservationId": reservation_id,
                "OwnerId": market.account,
                "Groups": [],
                "Instances": [one.describe(state, market.account) for one, state in members],
            }
            for reservation_id, members in groupby(page, key=lambda pair: pair[0].reservation_id)
        ]
    }
    return {**answer, "NextToken": token} if token else answer


def terminate_instances(market: Market, params: Params) -> Answer:
    """Terminate all named instances or, if one is unknown, none. Naming an ending instance is no error.

    A protected instance is an error that names it: all instances of its zone stay, those of other zones are terminated.
    """
    refuse_unknown("TerminateInstances", params, {"InstanceIds"})
    if len(params["InstanceIds"]) > _MOST_TERMINATIONS:
        raise EC2Error("InvalidParameterValue", f"At most {_MOST_TERMINATIONS} instances can be terminated in one call")
    changes = []
    named = [instance for instance, _ in visible_or_error(market, "TerminateInstances", params["InstanceIds"])]
    protected = [one for one in named if one.protected and one.live]
    allowed = [one for one in named if one.zone not in {each.zone for each in protected}]
    for instance in allowed:
        before = instance.state
        market.end(instance, BY_USER, market.clock())
        changes.append(
            {
                "InstanceId": instance.id,
                "CurrentState": described_state(instance.state),
                "PreviousState": described_state(before),
            }
        )
    market.note_call("TerminateInstances", instance_ids=[one.id for one in allowed])
    if protected:
        raise EC2Error(
            "OperationNotPermitted",
            f"The instance '{protected[0].id}' may not be terminated. Modify its 'disableApiTermination' instance "
            "attribute and try again.",
        )
    return {"TerminatingInstances": changes}


def modify_instance_attribute(market: Market, params: Params) -> Answer:
    """Switch an on-demand instance's termination protection. No other attribute is supported."""
    refuse_unknown("ModifyInstanceAttribute", params, {"InstanceId", "DisableApiTermination"})
    ((instance, _),) = visible_or_error(market, "ModifyInstanceAttribute", [params["InstanceId"]])
    if instance.lifecycle == "spot":
        raise EC2Error("UnsupportedOperation", "Modifying 'disableApiTermination' is not supported for spot instances.")
    instance.protected = bool(params["DisableApiTermination"]["Value"])
    return {}


def create_tags(market: Market, params: Params) -> Answer:
    """Tag instances and launch templates."""
    refuse_unknown("CreateTags", params, {"Resources", "Tags"})
    new = {tag["Key"]: tag.get("Value", "") for tag in params["Tags"]}
    check_tags(new)
    tagged = _tags_of_all(market, params["Resources"])
    if any(market.instances[one].shows_tags for one in params["Resources"] if one in market.instances):
        check_shown(new)
    for tags in tagged:
        check_number({**tags, **new})
    for tags in tagged:
        tags.update(new)
    market.note_call("CreateTags", instance_ids=params["Resources"])
    return {}


def delete_tags(market: Market, params: Params) -> Answer:
    """Remove tags. A tag named with a value is removed only if it has this value. No names: all but AWS's own."""
    refuse_unknown("DeleteTags", params, {"Resources", "Tags"})
    for tags in _tags_of_all(market, params["Resources"]):
        named = params.get("Tags") or [{"Key": key} for key in tags if not key.startswith("aws:")]
        for tag in named:
            if "Value" not in tag or tags.get(tag["Key"]) == tag["Value"]:
                tags.pop(tag["Key"], None)
    market.note_call("DeleteTags", instance_ids=params["Resources"])
    return {}


def _tags_of_all(market: Market, resource_ids: list[str]) -> list[dict[str, str]]:
    """Return the tags of instances and launch templates, for changes. An error if one does not exist."""
    templates = [one for one in resource_ids if one.startswith("lt-")]
    for resource_id in templates:
        if resource_id not in market.surroundings.templates:
            raise template_not_found(resource_id, None)
    instances = visible_or_error(market, "CreateTags", [one for one in resource_ids if one not in templates])
    return [market.surroundings.templates[one].tags for one in templates] + [one.tags for one, _ in instances]


def describe_spot_price_history(market: Market, params: Params) -> Answer:
    """List spot prices, newest first: for each offering the price at ``StartTime`` and all changes to ``EndTime``."""
    refuse_unknown(
        "DescribeSpotPriceHistory",
        params,
        {
            "InstanceTypes",
            "ProductDescriptions",
            "AvailabilityZone",
            "StartTime",
            "EndTime",
            "Filters",
            "MaxResults",
            "NextToken",
        },
    )
    now = market.clock()
    # For a start in the future, EC2 returns the current price, and so does the market.
    start = min(now, max(_utc(params.get("StartTime")) or now - _PRICE_HISTORY, now - _PRICE_HISTORY))
    end = _utc(params.get("EndTime")) or now
    filters = filters_of(params, {"instance-type", "availability-zone", "product-description"})
    for name, values in (
        ("instance-type", params.get("InstanceTypes")),
        ("product-description", params.get("ProductDescriptions")),
        ("availability-zone", [params["AvailabilityZone"]] if params.get("AvailabilityZone") else None),
    ):
        if values:
            filters.setdefault(name, []).extend(values)
    fits = matching(filters)
    rows: list[tuple[datetime, dict[str, Any]]] = [
        (
            at,
            {
                "InstanceType": offering.instance_type,
                "AvailabilityZone": offering.zone,
                "ProductDescription": PRODUCT,
                "SpotPrice": f"{price:.6f}",
                "Timestamp": at.replace(microsecond=0),
            },
        )
        for offering in market.offerings.values()
        if offering.spot and fits(_price_attributes(offering))
        for at, price in _prices(offering, start, end)
    ]
    rows.sort(key=lambda row: (row[1]["InstanceType"], row[1]["AvailabilityZone"]))
    rows.sort(key=lambda row: row[0], reverse=True)  # also of those within one second
    numbered = [(number, row) for number, (_, row) in enumerate(rows, 1)]
    page, token = page_of(numbered, params, key=lambda pair: pair[0])
    # Unlike other actions, this one ends with an empty token.
    return {"SpotPriceHistory": [row for _, row in page], "NextToken": token or ""}


def _price_attributes(offering: Offering) -> Attributes:
    return {
        "instance-type": (offering.instance_type,),
        "availability-zone": (offering.zone,),
        "product-description": (PRODUCT,),
    }


def _prices(offering: Offering, start: datetime, end: datetime) -> list[tuple[datetime, Decimal]]:
    at_start = [change for change in offering.history if change.at <= start][-1:]
    later = [change for change in offering.history if start < change.at <= end]
    return [(change.at, change.price) for change in at_start + later]


def describe_instance_type_offerings(market: Market, params: Params) -> Answer:
    """List the types sold in the Region or in its zones. It does not say whether they are sold as spot."""
    refuse_unknown("DescribeInstanceTypeOfferings", params, {"LocationType", "Filters", "MaxResults", "NextToken"})
    where = params.get("LocationType", "region")
    if where not in ("region", "availability-zone"):
        raise EC2Error("UnsupportedOperation", f"This market does not support the location type {where}.")
    filters = filters_of(params, {"instance-type", "location"}, tags=False)
    in_region = where == "region"
    sold = sorted({(name, market.region if in_region else zone) for name, zone in market.offerings})
    fits = matching(filters)
    page, token = page_of(
        enumerate(sold, 1),
        params,
        key=lambda pair: pair[0],
        where=lambda pair: fits({"instance-type": (pair[1][0],), "location": (pair[1][1],)}),
    )
    answer: Answer = {
        "InstanceTypeOfferings": [
            {"InstanceType": name, "LocationType": where, "Location": place} for _, (name, place) in page
        ]
    }
    return {**answer, "NextToken": token} if token else answer


def describe_subnets(market: Market, params: Params) -> Answer:
    """List subnets by id or filters."""
    refuse_unknown("DescribeSubnets", params, {"SubnetIds", "Filters", "MaxResults", "NextToken"})
    subnets = {subnet.id: subnet for subnet in market.surroundings.subnets()}
    for subnet_id in params.get("SubnetIds") or []:
        if subnet_id not in subnets:
            raise EC2Error("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist")
    filters = filters_of(params, {"subnet-id", "availability-zone", "default-for-az", "vpc-id", "tag-key"})
    if params.get("SubnetIds"):
        filters.setdefault("subnet-id", []).extend(params["SubnetIds"])
    fits, free = matching(filters), market.free_addresses()
    page, token = page_of(
        enumerate(subnets.values(), 1),
        params,
        key=lambda pair: pair[0],
        where=lambda pair: fits(_subnet_attributes(pair[1])),
    )
    answer: Answer = {"Subnets": [_described_subnet(market, one, free[one.id]) for _, one in page]}
    return {**answer, "NextToken": token} if token else answer


def _subnet_attributes(subnet: Subnet) -> Attributes:
    return {
        "subnet-id": (subnet.id,),
        "availability-zone": (subnet.zone,),
        "default-for-az": (str(subnet.default_for_az).lower(),),
        "vpc-id": (subnet.vpc_id,),
        **tag_attributes(subnet.tags),
    }


def _described_subnet(market: Market, subnet: Subnet, free: int) -> dict[str, Any]:
    return {
        "SubnetId": subnet.id,
        "SubnetArn": f"arn:aws:ec2:{market.region}:{market.account}:subnet/{subnet.id}",
        "OwnerId": market.account,
        "AvailabilityZone": subnet.zone,
        "VpcId": subnet.vpc_id,
        "CidrBlock": subnet.cidr,
        "AvailableIpAddressCount": free,
        "DefaultForAz": subnet.default_for_az,
        "State": "available",
        "Tags": [{"Key": key, "Value": value} for key, value in subnet.tags.items()],
    }


ACTIONS: Actions = {
    "CreateFleet": create_fleet,
    "DescribeInstances": describe_instances,
    "DescribeInstanceStatus": describe_instance_status,
    "TerminateInstances": terminate_instances,
    "ModifyInstanceAttribute": modify_instance_attribute,
    "CreateTags": create_tags,
    "DeleteTags": delete_tags,
    "DescribeSpotPriceHistory": describe_spot_price_history,
    "DescribeSubnets": describe_subnets,
    "DescribeInstanceTypeOfferings": describe_instance_type_offerings,
    "GetInstanceTypesFromInstanceRequirements": get_instance_types_from_instance_requirements,
    **TEMPLATE_ACTIONS,
}
"""Actions of EC2."""

SERVICES: dict[str, Actions] = {"ec2": ACTIONS, "pricing": PRICING_ACTIONS, "ssm": SSM_ACTIONS}
"""The supported actions of each service, by botocore's name of the service."""


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
