"""EC2 as the control plane sees it: list by tag, launch with a token in one CreateFleet, terminate by id."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.aws.errors import NO_ANSWER, failure
from lambdas.domain.observed import (
    ATTEMPT_TAG,
    POOL_TAG,
    PROTECT_TAG,
    STACK_TAG,
    Instance,
    Offer,
    State,
    offering_key,
)
from lambdas.domain.pool import LaunchTemplate, Pool, format_price
from lambdas.domain.results import Failure, Launched, Terminated
from lambdas.domain.status import Attempt, Reason
from lambdas.ports import Clock, FleetError

PAGE = 1000
PLAIN_NAME = re.compile(r"[a-z0-9-]{1,63}")
TERMINATE_BATCH = 100
"""One bad id fails a whole TerminateInstances call, so its batches stay well below EC2's limit of 1,000."""

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
        default_subnets: Sequence[str],
        clock: Clock,
        launcher: Any = None,
    ) -> None:
        """``launcher`` is the client for launches, which must repeat nothing by itself; without one, ``client``."""
        self._ec2 = client
        self._launcher = launcher or client
        self._stack = stack
        self._default_template = LaunchTemplate(name=default_launch_template)
        self._default_subnets = tuple(default_subnets)
        self._clock = clock

    def instances(self, pool_name: str | None = None) -> list[Instance]:
        """List by one coarse tag: every further tag filter makes EC2 slower.

        To a filter * and ? stand for anything, so a key that is no pool's name is looked for among all the stack's.
        """
        by_pool = pool_name is not None and PLAIN_NAME.fullmatch(pool_name)
        tag, value = (POOL_TAG, pool_name) if by_pool else (STACK_TAG, self._stack)
        listed = self._listed([{"Name": f"tag:{tag}", "Values": [value]}])
        return [one for one in listed if pool_name in (None, one.pool_name)]

    def find(self, instance_ids: Iterable[str]) -> list[Instance]:
        """Ask by filter: by parameter, one unknown id would fail the whole call."""
        ids = sorted(set(instance_ids))
        return self._listed([{"Name": "instance-id", "Values": ids}]) if ids else []

    def offers(self, pool: Pool) -> list[Offer]:
        """One subnet a zone, that with the most free addresses; for spot, only offerings that have a price.

        A type that a zone does not offer has no spot price there, and would only be refused.
        """
        subnets = self._subnets(pool.subnet_ids or self._default_subnets)
        prices = self._spot_prices(pool) if pool.spot else {}
        offers = [
            Offer(instance_type, zone, subnet_id, prices.get(offering_key(instance_type, zone)))
            for instance_type in pool.instance_types
            for zone, subnet_id in subnets.items()
        ]
        return [offer for offer in offers if offer.spot_price is not None or not prices]

    def request(self, pool: Pool, count: int, offers: Iterable[Offer], attempt_id: str) -> str:
        """Build the CreateFleet request; its token is the attempt's id."""
        template = pool.launch_template or self._default_template
        tags = [
            {"Key": STACK_TAG, "Value": self._stack},
            {"Key": POOL_TAG, "Value": pool.pool_name},
            {"Key": ATTEMPT_TAG, "Value": attempt_id},
        ]
        options: dict[str, Any] = (
            {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
            if pool.spot
            else {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}
        )
        body = {
            "Type": "instant",
            "ClientToken": attempt_id,
            "LaunchTemplateConfigs": [
                {
                    "LaunchTemplateSpecification": {
                        **({"LaunchTemplateId": template.id} if template.id else {"LaunchTemplateName": template.name}),
                        "Version": template.version,
                    },
                    "Overrides": [_override(pool, offer) for offer in offers],
                }
            ],
            "TargetCapacitySpecification": {
                "TotalTargetCapacity": count,
                "DefaultTargetCapacityType": "spot" if pool.spot else "on-demand",
            },
            "TagSpecifications": [
                {"ResourceType": kind, "Tags": tags} for kind in ("fleet", "instance", "volume", "network-interface")
            ],
            **options,
        }
        return json.dumps(body, separators=(",", ":"))

    def launch(self, attempt: Attempt) -> Launched:
        """Send the attempt's request as it was written down."""
        try:
            request = json.loads(attempt.request)
            overrides = request["LaunchTemplateConfigs"][0]["Overrides"]
            asked_of = frozenset(offering_key(one["InstanceType"], one["AvailabilityZone"]) for one in overrides)
        except (ValueError, LookupError, TypeError, RecursionError) as error:  # no longer as it was written
            failed = Failure(Reason.UNKNOWN, "AttemptUnreadable", f"The launch request written down is none: {error!r}")
            return Launched(attempt, attempt.count, failures=(failed,), answered=False)
        try:
            answer = self._launcher.create_fleet(**request)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            failed = failure(code, error.response["Error"].get("Message", ""))
            return Launched(attempt, attempt.count, asked_of, failures=(failed,), answered=code not in NO_ANSWER)
        except BotoCoreError as error:
            failed = Failure(Reason.UNKNOWN, "NoAnswer", f"EC2 did not answer the launch: {error}")
            return Launched(attempt, attempt.count, asked_of, failures=(failed,), answered=False)
        return Launched(
            attempt,
            attempt.count,
            asked_of,
            instances=_launched(answer.get("Instances", [])),
            failures=tuple(_refusals(answer.get("Errors", []))),
            accepted=True,
        )

    def terminate(self, instance_ids: Iterable[str]) -> Terminated:
        """Terminate in batches; the others of a batch go even if one id is unknown to EC2 or not ours."""
        ids = sorted(set(instance_ids))
        ended: list[str] = []
        failures: list[Failure] = []
        for start in range(0, len(ids), TERMINATE_BATCH):
            batch = self._terminate_batch(ids[start : start + TERMINATE_BATCH])
            ended += batch.instance_ids
            failures += batch.failures
        return Terminated(tuple(ended), tuple(failures))

    def _terminate_batch(self, ids: list[str]) -> Terminated:
        try:
            self._ec2.terminate_instances(InstanceIds=ids)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
            if code not in (*NOT_FOUND, *FORBIDDEN):
                return Terminated(failures=(failure(code, message),))
            # With a tag condition in IAM a vanished id answers as forbidden: ask which of them EC2 still shows as ours.
            try:
                present = [one.id for one in self.find(ids) if one.state is not State.TERMINATED]
            except FleetError as unknown:  # not raised on: what was launched before must be remembered
                return Terminated(failures=(unknown.failure,))
            gone = tuple(id_ for id_ in ids if id_ not in present)
            if not gone:
                return Terminated(failures=(failure(code, message),))
            rest = self._terminate_batch(present) if present else Terminated()
            return Terminated((*gone, *rest.instance_ids), rest.failures)
        except BotoCoreError as error:
            return Terminated(failures=(Failure(Reason.UNKNOWN, "NoAnswer", f"EC2 did not answer: {error}"),))
        return Terminated(tuple(ids))

    def _listed(self, filters: list[dict[str, Any]]) -> list[Instance]:
        pages = self._pages(self._ec2.describe_instances, Filters=filters, MaxResults=PAGE)
        found = (
            instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]
        )
        tagged = ((instance, {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}) for instance in found)
        return [
            Instance(
                id=instance["InstanceId"],
                pool_name=tags.get(POOL_TAG, ""),
                state=State(instance["State"]["Name"]),
                instance_type=instance["InstanceType"],
                zone=instance["Placement"]["AvailabilityZone"],
                launched_at=instance["LaunchTime"],
                attempt_id=tags.get(ATTEMPT_TAG, ""),
                protected=tags.get(PROTECT_TAG, "").lower() == "true",
            )
            for instance, tags in tagged
            if tags.get(STACK_TAG) == self._stack
        ]

    def _subnets(self, subnet_ids: Sequence[str]) -> dict[str, str]:
        asked: dict[str, Any] = (
            {"SubnetIds": list(subnet_ids)}
            if subnet_ids
            else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
        )
        found = [one for page in self._pages(self._ec2.describe_subnets, **asked) for one in page["Subnets"]]
        best: dict[str, str] = {}
        for one in sorted(
            found, key=lambda subnet: (-int(subnet.get("AvailableIpAddressCount", 0)), subnet["SubnetId"])
        ):
            best.setdefault(one["AvailabilityZone"], one["SubnetId"])
        return dict(sorted(best.items()))

    def _spot_prices(self, pool: Pool) -> dict[str, Decimal]:
        """Present prices: the history from now on begins with what holds now."""
        pages = self._pages(
            self._ec2.describe_spot_price_history,
            InstanceTypes=list(pool.instance_types),
            ProductDescriptions=["Linux/UNIX"],
            StartTime=self._clock(),
            MaxResults=PAGE,
        )
        latest: dict[str, tuple[datetime, Decimal]] = {}
        for page in pages:
            for entry in page["SpotPriceHistory"]:
                key = offering_key(entry["InstanceType"], entry["AvailabilityZone"])
                if key not in latest or entry["Timestamp"] > latest[key][0]:
                    latest[key] = entry["Timestamp"], Decimal(entry["SpotPrice"])
        return {key: price for key, (_, price) in latest.items()}

    def _pages(self, call: Callable[..., Mapping[str, Any]], **asked: Any) -> Iterator[Mapping[str, Any]]:
        token: str | None = None
        while True:
            try:
                page = call(**asked, **({"NextToken": token} if token else {}))
            except ClientError as error:
                raise FleetError(
                    failure(error.response["Error"]["Code"], error.response["Error"].get("Message", ""))
                ) from error
            except BotoCoreError as error:
                raise FleetError(Failure(Reason.UNKNOWN, "NoAnswer", f"EC2 did not answer: {error}")) from error
            yield page
            token = page.get("NextToken")
            if not token:
                return


def _override(pool: Pool, offer: Offer) -> dict[str, str]:
    cap = pool.spot_max_price if pool.spot else None
    return {
        "InstanceType": offer.instance_type,
        "SubnetId": offer.subnet_id,
        # Redundant beside the subnet, but it makes EC2's errors name the zone.
        "AvailabilityZone": offer.zone,
        **({"MaxPrice": format_price(cap)} if cap is not None else {}),
    }


def _launched(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {
        id_: offering_key(entry["InstanceType"], entry["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"])
        for entry in entries
        for id_ in entry["InstanceIds"]
    }


def _refusals(entries: Iterable[Mapping[str, Any]]) -> Iterator[Failure]:
    for entry in entries:
        override = entry.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
        named = "InstanceType" in override and "AvailabilityZone" in override
        offering = offering_key(override["InstanceType"], override["AvailabilityZone"]) if named else None
        yield failure(entry.get("ErrorCode", "Unknown"), entry.get("ErrorMessage", ""), offering)
