"""EC2 as the control plane sees it: list by tag, launch with a token in one CreateFleet, terminate by id."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.aws.asking import code_of, in_parts, named_in, pages
from lambdas.aws.launch_templates import LaunchTemplates
from lambdas.aws.offerings import Offerings
from lambdas.domain.item.fields import format_price
from lambdas.domain.item.pool import LaunchTemplate, Market, Pool
from lambdas.domain.model.cost import Prices
from lambdas.domain.model.errors import NO_ANSWER, failure
from lambdas.domain.model.instances import (
    ATTEMPT_TAG,
    MACHINE_TAG,
    POOL_TAG,
    STACK_TAG,
    Instance,
    Offer,
    State,
    offering_key,
)
from lambdas.domain.model.plan import Launch
from lambdas.domain.model.results import Failure, Launched, Terminated
from lambdas.domain.model.status import Attempt, Reason, Template
from lambdas.ports import FleetError

PAGE = 1000
TAGGED = "fleet instance volume network-interface"
"""The resource types that a launch tags."""

STATUS_BATCH = 100
"""DescribeInstanceStatus accepts no more ids in one call."""

PLAIN_NAME = re.compile(r"[a-z0-9-]{1,63}")
TERMINATE_BATCH = 100
"""One bad id fails a whole TerminateInstances call, so its batches stay well below EC2's limit of 1,000."""

MOST_LEFT_OUT = 20
"""Instances left out of one batch: each costs a call of its own. The next reconcile tries the rest."""

NOT_FOUND = ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")
FORBIDDEN = ("UnauthorizedOperation",)


class Ec2Fleet:
    """The Fleet port over a boto3 EC2 client."""

    def __init__(
        self,
        client: Any,
        *,
        stack: str,
        default_launch_template: str,
        default_launch_template_version: str = "$Default",
        offerings: Offerings,
        launcher: Any = None,
    ) -> None:
        """``launcher`` is the client for launches, which must not retry by itself; without one, ``client``."""
        self._ec2 = client
        self._launcher = launcher or client
        self._stack = stack
        self._default_template = LaunchTemplate(name=default_launch_template, version=default_launch_template_version)
        self._offerings = offerings
        self._templates = LaunchTemplates(client, stack=stack)

    def instances(self, pool_name: str | None = None) -> list[Instance]:
        """List by one coarse tag: every further tag filter makes EC2 slower.

        Filters read * and ? as wildcards, so for a key that is not a valid pool name all the stack's instances are
        listed.
        """
        by_pool = pool_name is not None and PLAIN_NAME.fullmatch(pool_name)
        tag, value = (POOL_TAG, pool_name) if by_pool else (STACK_TAG, self._stack)
        listed = self._listed([{"Name": f"tag:{tag}", "Values": [value]}])
        return [instance for instance in listed if pool_name in (None, instance.pool_name)]

    def find(self, instance_ids: Iterable[str]) -> Mapping[str, Instance | None]:
        """Ask by filter: with ids as a parameter, one unknown id would fail the whole call."""
        found: dict[str, Instance | None] = {}
        for ids in in_parts(sorted(set(instance_ids))):
            found |= self._described([{"Name": "instance-id", "Values": ids}])
        return found

    def healthy(self, instance_ids: Iterable[str]) -> frozenset[str]:
        """Ids of the instances that passed both of EC2's checks: of the instance and of its host."""
        batches = in_parts(sorted(set(instance_ids)), STATUS_BATCH)
        return frozenset(status["InstanceId"] for ids in batches for status in self._statuses(ids) if _passed(status))

    def _statuses(self, ids: list[str]) -> list[Mapping[str, Any]]:
        """One id that EC2 does not know (yet) fails the whole call, so the ids that EC2 names are left out."""
        while ids:
            try:
                answers = list(pages(self._ec2.describe_instance_status, InstanceIds=ids))
            except FleetError as error:
                named = named_in(error.failure.message, ids) if error.failure.code in NOT_FOUND else []
                if not named:
                    raise
                ids = [id_ for id_ in ids if id_ not in named]
            else:
                return [status for page in answers for status in page["InstanceStatuses"]]
        return []

    def offers(self, pool: Pool, full: Collection[str] = ()) -> list[Offer]:
        """What may be launched where, at what price."""
        return self._offerings.of(pool, full)

    def unsold(self, pool: Pool) -> tuple[str, ...]:
        """The pool's types that the Region does not sell."""
        return self._offerings.unsold(pool.instance_types)

    def prices(self, instances: Iterable[Instance]) -> Prices:
        """What the given instances cost now."""
        return self._offerings.prices_of(instances)

    def template(self, pool: Pool, known: Template | None) -> Template | None:
        """The version of the pool's own launch template; None if it needs none."""
        return self._templates.version(pool, known)

    def forget_template(self, pool_name: str) -> None:
        """Delete the pool's own launch template; a key that is not a valid pool name never had one."""
        if PLAIN_NAME.fullmatch(pool_name):
            self._templates.forget(pool_name)

    def request(self, pool: Pool, launch: Launch, attempt_id: str, template: Template | None) -> str:
        """Build the CreateFleet request; its token is the attempt's id.

        The saved request lists the tags once for all resource types, because there may be forty long ones.
        """
        tags = {
            **({"Name": pool.pool_name} if pool.described and "Name" not in pool.tags else {}),
            **pool.tags,
            STACK_TAG: self._stack,
            POOL_TAG: pool.pool_name,
            ATTEMPT_TAG: attempt_id,
            MACHINE_TAG: pool.machine_digest,
        }
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        spot = launch.market is Market.SPOT
        options: dict[str, Any] = (
            {"SpotOptions": {"AllocationStrategy": pool.allocation}}
            if spot
            else {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}
        )
        body = {
            "Type": "instant",
            "ClientToken": attempt_id,
            "LaunchTemplateConfigs": [
                {
                    "LaunchTemplateSpecification": self._template_named(pool, template),
                    "Overrides": [_override(pool, offer, launch.weight) for offer in launch.offers],
                }
            ],
            "TargetCapacitySpecification": {
                "TotalTargetCapacity": -(-launch.count // launch.weight),
                "DefaultTargetCapacityType": str(launch.market),
            },
            "TagSpecifications": [{"ResourceType": TAGGED, "Tags": listed}],
            **options,
        }
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False)

    def _template_named(self, pool: Pool, own: Template | None) -> dict[str, str]:
        if own is not None:
            return {"LaunchTemplateId": own.id, "Version": str(own.version)}
        ready = pool.launch_template or self._default_template
        named = {"LaunchTemplateId": ready.id} if ready.id else {"LaunchTemplateName": str(ready.name)}
        return {**named, "Version": ready.version}

    def launch(self, attempt: Attempt) -> Launched:
        """Send the attempt's request as it was saved."""
        try:
            request = json.loads(attempt.request)
            request["TagSpecifications"] = [
                {"ResourceType": kind, "Tags": tagged["Tags"]}
                for tagged in request["TagSpecifications"]
                for kind in tagged["ResourceType"].split()
            ]
            overrides = request["LaunchTemplateConfigs"][0]["Overrides"]
            weights = {entry["InstanceType"]: int(entry.get("WeightedCapacity", attempt.weight)) for entry in overrides}
            places = [(entry["InstanceType"], entry["AvailabilityZone"]) for entry in overrides]
            asked_of = frozenset(offering_key(*place, attempt.market) for place in places)
        except (ValueError, LookupError, TypeError, RecursionError) as error:  # the saved request was changed
            failed = Failure(Reason.UNKNOWN, "AttemptUnreadable", f"The saved launch request is unreadable: {error!r}")
            return Launched(attempt, attempt.count, failures=(failed,), answered=False, market=attempt.market)
        nothing = Launched(attempt, attempt.count, asked_of, market=attempt.market)
        try:
            answer = self._launcher.create_fleet(**request)
        except ClientError as error:
            failed = failure(code_of(error), error.response["Error"].get("Message", ""))
            return replace(nothing, failures=(failed,), answered=failed.code not in NO_ANSWER)
        except BotoCoreError as error:
            failed = Failure(Reason.UNKNOWN, "NoAnswer", f"EC2 did not answer the launch: {error}")
            return replace(nothing, failures=(failed,), answered=False)
        entries = answer.get("Instances", [])
        return replace(
            nothing,
            instances=_launched(entries, attempt.market),
            failures=tuple(_refusals(answer.get("Errors", []), attempt.market)),
            accepted=True,
            units=sum(weights.get(entry["InstanceType"], 1) * len(entry["InstanceIds"]) for entry in entries),
        )

    def terminate(self, instance_ids: Iterable[str]) -> Terminated:
        """Terminate in batches. If EC2 does not know one id, or it is not ours, the others are still terminated."""
        answers = [self._terminate_batch(ids) for ids in in_parts(sorted(set(instance_ids)), TERMINATE_BATCH)]
        return Terminated(
            tuple(id_ for answer in answers for id_ in answer.instance_ids),
            tuple(failed for answer in answers for failed in answer.failures),
            tuple(id_ for answer in answers for id_ in answer.unknown),
            tuple(id_ for answer in answers for id_ in answer.unanswered),
            tuple(id_ for answer in answers for id_ in answer.refused),
            tuple(id_ for answer in answers for id_ in answer.forbidden),
        )

    def _terminate_batch(self, ids: list[str]) -> Terminated:
        """One id fails the call, or its zone's part. The ids that EC2 names are left out, the others terminated."""
        going, refused, unknown = ids, list[Failure](), list[str]()
        shielded, forbidden = list[str](), list[str]()
        while going and (failed := self._end(going)):
            if failed.code in (*NO_ANSWER, "NoAnswer"):
                return Terminated(failures=(*refused, failed), unknown=tuple(unknown), unanswered=tuple(going))
            named = named_in(failed.message, going)
            gone: list[str] = []
            if failed.code in NOT_FOUND and named:
                gone = named
            elif failed.code in (*NOT_FOUND, *FORBIDDEN):
                # With a tag condition, IAM reports an ended instance as forbidden: ask which EC2 still shows as ours.
                try:
                    found = self.find(going).values()
                except FleetError as error:  # not raised: the launch before it must be recorded
                    return Terminated(failures=(*refused, error.failure), unknown=tuple(unknown))
                shown = {instance.id for instance in found if instance and instance.state is not State.TERMINATED}
                gone = [id_ for id_ in going if id_ not in shown]
            unknown += gone
            refused += [] if gone else [failed]
            shielded += [] if gone else named
            forbidden += named if failed.code in FORBIDDEN and not gone else []
            left_out = gone or (named if len(refused) <= MOST_LEFT_OUT else []) or going
            going = [id_ for id_ in going if id_ not in left_out]
        return Terminated(
            tuple(going), tuple(refused), tuple(unknown), refused=tuple(shielded), forbidden=tuple(forbidden)
        )

    def _end(self, ids: list[str]) -> Failure | None:
        try:
            self._ec2.terminate_instances(InstanceIds=ids)
        except ClientError as error:
            return failure(code_of(error), error.response["Error"].get("Message", ""))
        except BotoCoreError as error:
            return Failure(Reason.UNKNOWN, "NoAnswer", f"EC2 did not answer: {error}")
        return None

    def _listed(self, filters: list[dict[str, Any]]) -> list[Instance]:
        return [instance for instance in self._described(filters).values() if instance is not None]

    def _described(self, filters: list[dict[str, Any]]) -> dict[str, Instance | None]:
        """What EC2 shows, by id; None for an instance that is not this stack's."""
        listed = pages(self._ec2.describe_instances, Filters=filters, MaxResults=PAGE)
        found = (
            instance for page in listed for reservation in page["Reservations"] for instance in reservation["Instances"]
        )
        tagged = ((instance, {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}) for instance in found)
        return {
            instance["InstanceId"]: _instance(instance, tags) if tags.get(STACK_TAG) == self._stack else None
            for instance, tags in tagged
        }


def _instance(described: Mapping[str, Any], tags: Mapping[str, str]) -> Instance:
    return Instance(
        id=described["InstanceId"],
        pool_name=tags.get(POOL_TAG, ""),
        state=State(described["State"]["Name"]),
        instance_type=described["InstanceType"],
        zone=described["Placement"]["AvailabilityZone"],
        launched_at=described["LaunchTime"],
        market=Market.SPOT if described.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND,
        subnet_id=described.get("SubnetId", ""),
        ended=_why_ended(described),
        tags=tags,
    )


def _passed(status: Mapping[str, Any]) -> bool:
    return all(status.get(kind, {}).get("Status") == "ok" for kind in ("InstanceStatus", "SystemStatus"))


def _why_ended(instance: Mapping[str, Any]) -> str:
    reason = instance.get("StateReason") or {}
    code, message = reason.get("Code", ""), reason.get("Message", "")
    return message if message.startswith(code) else f"{code}: {message}"


def _override(pool: Pool, offer: Offer, weight: int) -> dict[str, Any]:
    override: dict[str, Any] = {
        "InstanceType": offer.instance_type,
        "SubnetId": offer.subnet_id,
        # Redundant beside the subnet, but it makes EC2's errors name the zone.
        "AvailabilityZone": offer.zone,
    }
    counted = offer.units if weight == 1 else 1
    if pool.weights and weight == 1:
        override["WeightedCapacity"] = counted
    cap = pool.unit_cap(offer.on_demand_price, counted) if offer.market is Market.SPOT else None
    if cap is not None:
        override["MaxPrice"] = format_price(cap)
    return override


def _launched(entries: Iterable[Mapping[str, Any]], market: Market) -> dict[str, str]:
    return {
        id_: offering_key(
            entry["InstanceType"], entry["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"], market
        )
        for entry in entries
        for id_ in entry["InstanceIds"]
    }


def _refusals(entries: Iterable[Mapping[str, Any]], market: Market) -> Iterator[Failure]:
    for entry in entries:
        override = entry.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
        named = "InstanceType" in override and "AvailabilityZone" in override
        offering = offering_key(override["InstanceType"], override["AvailabilityZone"], market) if named else None
        failed = failure(entry.get("ErrorCode", "Unknown"), entry.get("ErrorMessage", ""), offering)
        yield replace(failed, subnet=override.get("SubnetId"))
