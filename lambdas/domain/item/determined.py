"""Converts a Determined AI resource pool to a pool item, and names what is left out, with the reason.

Fields, meanings and defaults: determined-ai/determined c1e9c6d, agent resource manager, AWS provider; fields of other
versions from that repository's history.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

DEFAULTS = {"instance_type": "g4dn.metal", "max_instances": 5, "min_instances": 0, "spot": False}
"""Determined's defaults where they differ from ours or name the machine: an absent ``spot`` means on demand there."""

MACHINE_DEFAULTS = {"root_volume_size": 200, "network_interface.public_ip": True}
"""Determined's defaults for the machines of a pool that does not set them."""

ROOT_DEVICE = {"root_device_name": "/dev/sda1", "root_volume_type": "gp2"}
"""The device that Determined gives root_volume_size, whatever the image. Our default is another device."""

NO_CAP = "OnDemand"
"""Determined's word for no spot_max_price; its configuration is printed with it."""

STRAIGHT = {
    "instance_type": "instance_type",
    "max_instances": "max_instances",
    "min_instances": "min_instances",
    "spot": "spot",
    "spot_max_price": "spot_max_price",
    "image_id": "image_id",
    "ssh_key_name": "key_name",
    "root_volume_size": "root_volume_size_gib",
    "iam_instance_profile_arn": "iam_instance_profile",
}
"""Their name -> ours, where the value is used unchanged. Determined reads an empty text as absent."""

OLD_NAMES = {"provider": "type", "spot_instance_enabled": "spot"}
"""Former names of a provider's fields -> names of today."""

NETWORK = {"subnet_id": "subnet_ids", "security_group_id": "security_group_ids", "public_ip": "associate_public_ip"}
TURNED = ("startup_script", "instance_name", "custom_tags", "max_agent_starting_period")

OTHER_MANAGERS = ("kubernetes", "slurm", "pbs")
OTHER_PROVIDERS = ("gcp", "hpc", "launcher")
MASK = re.compile(r"\*{3,}")
"""What Determined prints in place of a secret: ********."""

ONLY_EC2 = "provider.type must be aws: Spot Pools launches EC2 instances only"
MASTER = "serves Determined's master, which Spot Pools does not run"
IDLE = "Spot Pools keeps the size that target_size asks for; it does not watch for idle machines"
ONE_STACK = "instances carry the tag spotpools:stack"
PAUSES = "each reason for a failed launch has its own pause; see docs/error-codes.md"
TRIED_ON = "a missing instance is requested until it runs"

SECONDS = {
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ns": Decimal("1e-9"),
}
DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(h|ms|m|s|us|µs|ns)")
"""A part of a duration as Go writes it, such as 1h30m, 20m0s or 1.5h."""

POOL_NOT_APPLIED = {
    "description": "pool items carry no description",
    "kubernetes_namespace": "it concerns Kubernetes pools only",
    **dict.fromkeys(
        (
            "scheduler",
            "max_aux_containers_per_agent",
            "max_cpu_containers_per_agent",
            "max_zero_slot_containers_per_agent",
            "task_container_defaults",
            "agent_reattach_enabled",
            "agent_reconnect_wait",
        ),
        MASTER,
    ),
}
PROVIDER_NOT_APPLIED = {
    **dict.fromkeys(
        (
            "master_url",
            "master_cert_name",
            "container_startup_script",
            "agent_docker_image",
            "agent_docker_network",
            "agent_docker_runtime",
            "agent_fluent_image",
            "agent_reconnect_attempts",
            "agent_reconnect_backoff",
            "agent_config_file_contents",
            "base_resource_pool",
            "instance_slots",
            "cpu_slots",
            "cpu_slots_allowed",
            "log_group",
            "log_stream",
        ),
        MASTER,
    ),
    "max_idle_agent_period": IDLE,
    **dict.fromkeys(("launch_error_timeout", "error_timeout"), PAUSES),
    **dict.fromkeys(
        ("launch_error_retries", "error_timeout_retries", "num_retries", "max_provision_retries"), TRIED_ON
    ),
    "region": "a stack serves the Region it is deployed in",
    "tag_key": ONE_STACK,
    "tag_value": ONE_STACK,
}


class ElsewhereError(ValueError):
    """A pool that does not run on EC2 instances that Determined launches."""


@dataclass(frozen=True)
class Imported:
    """A pool item made from a Determined pool. ``not_applied``: field -> why it is left out; ``absent``: sentences."""

    item: dict[str, Any]
    not_applied: dict[str, str]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A pool of a configuration: its place, as names and numbers with dots between, and its resource manager's type.

    ``bare``: the oldest form, where only a provider has this place.
    """

    place: str
    pool: object
    manager: str = "agent"
    bare: bool = False


def find_pools(configuration: Mapping[str, Any]) -> list[Found]:
    """Every pool of a master's configuration, or of a part of it; empty if Determined would find none there."""
    found: list[Found] = []
    for place, owner in _owners(configuration):
        manager = owner.get("resource_manager", owner)
        kind = manager.get("type", "agent") if isinstance(manager, Mapping) else "agent"
        listed = owner.get("resource_pools")
        if isinstance(listed, list):
            found += [Found(f"{place}resource_pools.{n}", pool, str(kind)) for n, pool in enumerate(listed)]
        elif listed is not None:
            found.append(Found(f"{place}resource_pools", listed, str(kind)))
        if isinstance(provider := owner.get("provisioner"), Mapping):
            found.append(Found(f"{place}provisioner", {"pool_name": "default", "provider": provider}, bare=True))
    return found


def _owners(configuration: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What may list pools, each with the path before them. The master's API wraps everything in ``config``."""
    further = configuration.get("additional_resource_managers")
    owners = {
        "": configuration,
        "config.": configuration.get("config"),
        "resource_manager.": configuration.get("resource_manager"),
        **{
            f"additional_resource_managers.{n}.": manager
            for n, manager in enumerate(further if isinstance(further, list) else ())
        },
    }
    return ((place, owner) for place, owner in owners.items() if isinstance(owner, Mapping))


def import_pool(pool: Mapping[str, Any], manager: str = "agent") -> Imported:
    """Convert one entry of ``resource_pools`` of a resource manager of this type.

    Raises ElsewhereError for a pool without an AWS provider, and ValueError for a masked value or a field that
    Determined does not have: a misspelt price cap must not count as no cap.
    """
    provider = _given(_aws(pool, manager))
    network = provider.get("network_interface", {})
    if not isinstance(network, Mapping):
        raise ValueError("provider.network_interface: must be a map, such as {subnet_id: subnet-0abc}")  # noqa: TRY004  as all faults here
    network = _given(network)
    left_out = dict(
        [
            *_left_out(_given(pool), "", {"pool_name", "provider"}, POOL_NOT_APPLIED),
            *_left_out(provider, "provider.", {"type", "network_interface", *STRAIGHT, *TURNED}, PROVIDER_NOT_APPLIED),
            *_left_out(network, "provider.network_interface.", set(NETWORK), {}),
        ]
    )
    said = {**provider, **{f"network_interface.{name}": value for name, value in network.items()}}
    _refuse_masked({name: value for name, value in said.items() if f"provider.{name}" not in left_out})
    absent = {name: value for name, value in {**DEFAULTS, **MACHINE_DEFAULTS}.items() if name not in said}
    said |= absent
    if said.get("spot_max_price") == NO_CAP:
        del said["spot_max_price"]
    ours = STRAIGHT | {f"network_interface.{name}": attribute for name, attribute in NETWORK.items()}
    item: dict[str, Any] = {"pool_name": pool["pool_name"]} if "pool_name" in pool else {}
    item |= {attribute: said[name] for name, attribute in ours.items() if name in said}
    item |= _machine(provider) | (ROOT_DEVICE if "image_id" in said else {})
    return Imported(item, left_out, tuple(_in_words(absent, has_image="image_id" in said)))


def _in_words(absent: Mapping[str, Any], *, has_image: bool) -> Iterator[str]:
    """What the pool leaves out, and what that means to Determined or to Spot Pools."""
    shown = (f"{name} {str(value).lower()}" for name, value in absent.items() if name not in ("min_instances", "spot"))
    on_demand = ["spot false (on demand)"] if "spot" in absent else []
    if assumed := [*on_demand, *shown]:
        yield f"absent, so Determined's defaults apply: {', '.join(assumed)}"
    if not has_image:
        yield "image_id is absent: Determined then uses an image of its own, Spot Pools current Amazon Linux 2023"


def _aws(pool: Mapping[str, Any], manager: str) -> dict[str, Any]:
    """The provider of a pool on AWS, with today's field names."""
    given = pool.get("provider")
    if manager in OTHER_MANAGERS:
        raise ElsewhereError(f"its resource manager is {manager}; {ONLY_EC2}")
    if given is None:
        raise ElsewhereError(f"it has no provider: someone else starts its agents; {ONLY_EC2}")
    named: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    provider = {OLD_NAMES.get(name, name): value for name, value in named.items()}
    if (kind := provider.get("type")) in OTHER_PROVIDERS:
        raise ElsewhereError(f"it is on {kind}; {ONLY_EC2}")
    if kind != "aws":
        raise ValueError(ONLY_EC2)
    return provider


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are set. Determined reads an empty text as absent, and prints an absent value as null."""
    return {name: value for name, value in values.items() if value is not None and value != ""}


def _refuse_masked(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if any(MASK.fullmatch(text.strip()) for text in _texts(value)):
            raise ValueError(
                f"provider.{name}: ******** is what Determined prints in place of a secret; write the value itself, as "
                "master.yaml has it, or remove the field"
            )


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for part in value.values():
                yield from _texts(part)
        case list():
            for part in value:
                yield from _texts(part)


def _machine(provider: Mapping[str, Any]) -> dict[str, Any]:
    """What the provider says about the machine in other words than a pool item."""
    said: dict[str, Any] = {}
    tags = {tag["key"]: tag["value"] for tag in _pairs(provider.get("custom_tags"))}
    if provider.get("instance_name"):
        tags["Name"] = provider["instance_name"]
    if tags:
        said["tags"] = tags
    if script := provider.get("startup_script"):
        text = str(script)
        # Determined's script is part of a root shell script; EC2 runs only text that begins with a known head.
        said["user_data"] = text if text.startswith(("#!", "#cloud-config")) else f"#!/bin/bash\n{text}"
    if period := provider.get("max_agent_starting_period"):
        said["ready_timeout_minutes"] = _minutes(str(period))
    return said


def _pairs(tags: object) -> list[Mapping[str, Any]]:
    sound = isinstance(tags, list) and all(isinstance(tag, Mapping) and {"key", "value"} <= tag.keys() for tag in tags)
    if tags is not None and not sound:
        raise ValueError("provider.custom_tags: must be a list of {key, value}")
    return list(tags) if isinstance(tags, list) else []


def _minutes(duration: str) -> int:
    """A duration in whole minutes, rounded up."""
    parts = DURATION.findall(duration[:100])
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"provider.max_agent_starting_period: {duration[:40]} is not a duration such as 20m or 1h30m")
    seconds = sum((Decimal(number) * SECONDS[unit] for number, unit in parts), Decimal(0))
    return int((seconds / 60).to_integral_value(ROUND_CEILING))


def _left_out(
    given: Mapping[str, Any], where: str, applied: set[str], reasons: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for name in given:
        if name not in applied:
            if name not in reasons:
                nearest = difflib.get_close_matches(str(name), [*applied, *reasons], n=1)
                hint = f"; did you mean {nearest[0]}?" if nearest else ""
                raise ValueError(f"{where}{name}: a Determined pool has no such field{hint}")
            yield f"{where}{name}", reasons[name]
