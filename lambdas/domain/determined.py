"""Reads a Determined AI resource pool: what of it becomes a pool item, and what does not, by name and with the reason.

Fields and defaults: determined-ai/determined c1e9c6d, agent resource manager, AWS provider.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEFAULTS = {"instance_type": "g4dn.metal", "max_instances": 5, "min_instances": 0, "spot": False}
"""Determined's own, where they differ from ours or name the machine: an absent ``spot`` means on-demand there."""

STRAIGHT = ("instance_type", "max_instances", "min_instances", "spot", "spot_max_price")

TEMPLATE = "belongs to the machine: put it into an EC2 launch template and name that in launch_template"
MASTER = "serves Determined's master, which Spot Pools does not run"
IDLE = "Spot Pools keeps the size that target_size asks for; it does not watch for idle machines"

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
            "root_volume_size",
            "image_id",
            "instance_name",
            "ssh_key_name",
            "iam_instance_profile_arn",
            "custom_tags",
            "startup_script",
        ),
        TEMPLATE,
    ),
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
    "max_agent_starting_period": "instances that do not start are not told apart yet",
    "launch_error_timeout": "each reason for a failed launch has its own pause; see docs/error-codes.md",
    "launch_error_retries": "a missing instance is tried for until it is there",
    "region": "a stack serves the Region it is deployed in",
    "tag_key": "instances carry the tag spotpools:stack",
    "tag_value": "instances carry the tag spotpools:stack",
}
NETWORK_NOT_APPLIED = dict.fromkeys(("public_ip", "security_group_id"), TEMPLATE)


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
    item = {**DEFAULTS, **{name: provider[name] for name in STRAIGHT if name in provider}}
    if "pool_name" in pool:
        item["pool_name"] = pool["pool_name"]
    network = provider.get("network_interface") or {}
    if not isinstance(network, Mapping):
        raise ValueError("provider.network_interface: must be a map, such as {subnet_id: subnet-0abc}")  # noqa: TRY004  as all faults here
    if "subnet_id" in network:
        item["subnet_ids"] = [network["subnet_id"]]
    left_out = [
        *_left_out(pool, "", {"pool_name", "provider"}, POOL_NOT_APPLIED),
        *_left_out(provider, "provider.", {"type", "network_interface", *STRAIGHT}, PROVIDER_NOT_APPLIED),
        *_left_out(network, "provider.network_interface.", {"subnet_id"}, NETWORK_NOT_APPLIED),
    ]
    return Imported(item, dict(left_out))


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
