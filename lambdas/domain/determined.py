"""Reads a Determined AI resource pool: what of it becomes a pool item, and what does not, by name and with the reason.

Fields and defaults: determined-ai/determined c1e9c6d, agent resource manager, AWS provider.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEFAULTS = {"instance_type": "g4dn.metal", "max_instances": 5, "min_instances": 0, "spot": False}
"""Determined's own, where they differ from ours or name the machine: an absent ``spot`` means on-demand there."""

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
"""Their name -> ours, where the value is taken over as it stands. Determined reads an empty text as absent."""

NETWORK = {"subnet_id": "subnet_ids", "security_group_id": "security_group_ids", "public_ip": "associate_public_ip"}
TURNED = ("startup_script", "instance_name", "custom_tags", "max_agent_starting_period")

MASTER = "serves Determined's master, which Spot Pools does not run"
IDLE = "Spot Pools keeps the size that target_size asks for; it does not watch for idle machines"
ONE_STACK = "instances carry the tag spotpools:stack"

DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
"""Determined writes durations as Go does, such as 1h30m."""

POOL_NOT_APPLIED = {
    "description": "pool items carry no description",
    "scheduler": MASTER,
    "max_aux_containers_per_agent": MASTER,
    "max_cpu_containers_per_agent": MASTER,
    "task_container_defaults": MASTER,
    "agent_reattach_enabled": MASTER,
    "agent_reconnect_wait": MASTER,
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
            "instance_slots",
            "cpu_slots_allowed",
            "log_group",
            "log_stream",
        ),
        MASTER,
    ),
    "max_idle_agent_period": IDLE,
    "launch_error_timeout": "each reason for a failed launch has its own pause; see docs/error-codes.md",
    "launch_error_retries": "a missing instance is tried for until it is there",
    "region": "a stack serves the Region it is deployed in",
    "tag_key": ONE_STACK,
    "tag_value": ONE_STACK,
}


@dataclass(frozen=True)
class Imported:
    """A pool item made of a Determined pool, and what was left out: field -> why."""

    item: dict[str, Any]
    not_applied: dict[str, str]


def import_pool(pool: Mapping[str, Any]) -> Imported:
    """Translate one entry of ``resource_pools``.

    Raises ValueError for one without an AWS provider, or with a field that Determined does not have: a misspelt price
    cap must not pass as none.
    """
    provider = pool.get("provider")
    if not isinstance(provider, Mapping) or provider.get("type") != "aws":
        name = pool.get("pool_name", "(unnamed)")
        raise ValueError(f"pool {name}: provider.type must be aws; Spot Pools launches EC2 instances only")
    item = dict(DEFAULTS)
    if "pool_name" in pool:
        item["pool_name"] = pool["pool_name"]
    network = provider.get("network_interface") or {}
    if not isinstance(network, Mapping):
        raise ValueError("provider.network_interface: must be a map, such as {subnet_id: subnet-0abc}")  # noqa: TRY004  as all faults here
    item |= {ours: provider[theirs] for theirs, ours in STRAIGHT.items() if provider.get(theirs, "") != ""}
    item |= {ours: network[theirs] for theirs, ours in NETWORK.items() if network.get(theirs, "") != ""}
    item |= _machine(provider)
    left_out = [
        *_left_out(pool, "", {"pool_name", "provider"}, POOL_NOT_APPLIED),
        *_left_out(provider, "provider.", {"type", "network_interface", *STRAIGHT, *TURNED}, PROVIDER_NOT_APPLIED),
        *_left_out(network, "provider.network_interface.", set(NETWORK), {}),
    ]
    return Imported(item, dict(left_out))


def _machine(provider: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the machine in other words than ours."""
    said: dict[str, Any] = {}
    tags = {tag["key"]: tag["value"] for tag in _pairs(provider.get("custom_tags"))}
    if provider.get("instance_name"):
        tags["Name"] = provider["instance_name"]
    if tags:
        said["tags"] = tags
    if script := provider.get("startup_script"):
        text = str(script)
        # Theirs is a part of a root shell script; EC2 runs only what says what it is.
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
    found = DURATION.fullmatch(duration)
    if not found or not any(found.groups()):
        raise ValueError(f"provider.max_agent_starting_period: {duration[:40]} is no duration such as 20m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 60 + minutes + (seconds + 59) // 60


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
