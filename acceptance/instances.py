"""The instances of a run in EC2: all with the stack's tag, and those that the run launches itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lambdas.domain.model.instances import POOL_TAG, STACK_TAG

OWN_TAG = "spotpools-accept:stack"
"""On the instances that the run launches without a pool. The control plane does not know this tag."""

ENDED = ("terminated",)
GOING = ("shutting-down", "terminated")


@dataclass(frozen=True)
class Seen:
    """An instance as EC2 lists it. ``answer`` is EC2's whole description."""

    id: str
    state: str
    launched: datetime
    tags: Mapping[str, str]
    answer: Mapping[str, Any]

    @property
    def pool(self) -> str:
        """The pool's name; empty for an instance that the run launched itself."""
        return self.tags.get(POOL_TAG, "")

    @property
    def alive(self) -> bool:
        """Whether it counts against the limit. Shutting down counts: only a terminated one is gone."""
        return self.state not in ENDED


def listed(ec2: Any, stack: str) -> list[Seen]:
    """All instances with the stack's tag or with the run's own, ended ones that EC2 still shows included."""
    found = {one.id: one for tag in (STACK_TAG, OWN_TAG) for one in _tagged(ec2, tag, stack)}
    return list(found.values())


def alive(instances: Iterable[Seen]) -> list[Seen]:
    """Those that are not terminated."""
    return [one for one in instances if one.alive]


def _tagged(ec2: Any, tag: str, value: str) -> Iterator[Seen]:
    pages = ec2.get_paginator("describe_instances").paginate(Filters=[{"Name": f"tag:{tag}", "Values": [value]}])
    for page in pages:
        for reservation in page["Reservations"]:
            for one in reservation["Instances"]:
                tags = {each["Key"]: each["Value"] for each in one.get("Tags", [])}
                yield Seen(one["InstanceId"], one["State"]["Name"], one["LaunchTime"], tags, one)
