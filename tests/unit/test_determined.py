"""Determined's resource pools: what is taken over, what is named as not applied, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cli.files import FileFaultError, read_entries
from lambdas.domain.determined import import_pool
from lambdas.domain.pool import Pool, parse_pool

# Every field of an AWS pool of determined-ai/determined c1e9c6d; durations and JSON as users write them.
POOL_FIELDS = [
    "pool_name",
    "description",
    "provider",
    "scheduler",
    "max_aux_containers_per_agent",
    "max_cpu_containers_per_agent",
    "task_container_defaults",
    "agent_reattach_enabled",
    "agent_reconnect_wait",
]
PROVIDER_FIELDS = [
    "type",
    "master_url",
    "master_cert_name",
    "startup_script",
    "container_startup_script",
    "agent_docker_image",
    "agent_docker_network",
    "agent_docker_runtime",
    "agent_fluent_image",
    "agent_reconnect_attempts",
    "agent_reconnect_backoff",
    "agent_config_file_contents",
    "max_idle_agent_period",
    "max_agent_starting_period",
    "min_instances",
    "max_instances",
    "launch_error_timeout",
    "launch_error_retries",
    "region",
    "root_volume_size",
    "image_id",
    "tag_key",
    "tag_value",
    "custom_tags",
    "instance_name",
    "ssh_key_name",
    "iam_instance_profile_arn",
    "network_interface",
    "instance_type",
    "instance_slots",
    "cpu_slots_allowed",
    "log_group",
    "log_stream",
    "spot",
    "spot_max_price",
]

FRAGMENT = """
resource_pools:
  - pool_name: aws-spot-g4dn-metal
    provider:
      type: aws
      max_instances: 10
      instance_type: g4dn.metal
      spot: true
"""


def determined(**provider: Any) -> dict[str, Any]:
    return {"pool_name": "p", "provider": {"type": "aws", **provider}}


def test_the_documents_fragment_is_accepted_as_it_stands() -> None:
    (entry,) = read_entries(FRAGMENT)
    pool = parse_pool(entry.item)
    assert isinstance(pool, Pool)
    assert (pool.pool_name, pool.instance_types, pool.max_instances, pool.spot) == (
        "aws-spot-g4dn-metal",
        ("g4dn.metal",),
        10,
        True,
    )
    assert entry.not_applied == {}


def test_an_absent_spot_means_on_demand() -> None:
    assert import_pool(determined()).item["spot"] is False


def test_a_subnet_becomes_subnet_ids() -> None:
    interface = {"subnet_id": "subnet-1", "security_group_id": "sg-1", "public_ip": True}
    item = import_pool(determined(network_interface=interface)).item
    assert (item["subnet_ids"], item["security_group_ids"], item["associate_public_ip"]) == ("subnet-1", "sg-1", True)


def test_a_machine_is_taken_over_in_our_words() -> None:
    imported = import_pool(
        determined(
            image_id="ami-0abc",
            ssh_key_name="ops",
            root_volume_size=300,
            iam_instance_profile_arn="arn:aws:iam::123456789012:instance-profile/worker",
            startup_script="mount /data",
            instance_name="agent",
            custom_tags=[{"key": "team", "value": "ml"}],
            max_agent_starting_period="1h30m",
        )
    )
    pool = parse_pool(imported.item)
    assert isinstance(pool, Pool)
    assert imported.not_applied == {}
    assert pool.user_data == "#!/bin/bash\nmount /data"
    assert pool.tags == {"team": "ml", "Name": "agent"}
    assert (pool.image_id, pool.key_name, pool.root_volume_size_gib) == ("ami-0abc", "ops", 300)
    assert pool.iam_instance_profile == "arn:aws:iam::123456789012:instance-profile/worker"
    assert pool.ready_timeout_minutes == 90


@pytest.mark.parametrize(("duration", "minutes"), [("20m", 20), ("90s", 2), ("1h", 60), ("1h0m1s", 61)])
def test_durations_become_whole_minutes(duration: str, minutes: int) -> None:
    assert import_pool(determined(max_agent_starting_period=duration)).item["ready_timeout_minutes"] == minutes


@pytest.mark.parametrize("wrong", [{"max_agent_starting_period": "soon"}, {"custom_tags": [{"team": "ml"}]}])
def test_what_determined_would_refuse_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        import_pool(determined(**wrong))


def test_texts_that_are_empty_are_absent_as_they_are_to_determined() -> None:
    assert "iam_instance_profile" not in import_pool(determined(iam_instance_profile_arn="")).item


SAMPLES = {"custom_tags": [{"key": "x", "value": "x"}], "max_agent_starting_period": "7m"}


@pytest.mark.parametrize("name", sorted({*PROVIDER_FIELDS} - {"type", "network_interface"}))
def test_every_provider_field_is_taken_over_or_named(name: str) -> None:
    imported = import_pool(determined(**{name: SAMPLES.get(name, "x")}))
    taken_over = imported.item != import_pool(determined()).item
    assert taken_over != (f"provider.{name}" in imported.not_applied)


@pytest.mark.parametrize("name", sorted({*POOL_FIELDS} - {"pool_name", "provider"}))
def test_every_pool_field_is_named(name: str) -> None:
    assert list(import_pool({**determined(), name: "x"}).not_applied) == [name]


def test_a_misspelt_price_cap_is_refused_and_not_taken_for_none() -> None:
    with pytest.raises(ValueError, match="did you mean spot_max_price"):
        import_pool(determined(spot_max_pric="0.3"))


def test_other_clouds_are_refused() -> None:
    (entry,) = read_entries("resource_pools: [{pool_name: p, provider: {type: gcp}}]")
    (fault,) = entry.faults
    assert "provider.type must be aws" in fault.message


def test_a_price_in_a_file_does_not_pass_through_a_float() -> None:
    (entry,) = read_entries("{pool_name: p, instance_type: g5.xlarge, spot_max_price: 0.3}")
    assert str(entry.item["spot_max_price"]) == "0.3"


@pytest.mark.parametrize("text", ["", "7", "[]", "[1]", "resource_pools: 7", "a: [", "\t"])
def test_a_file_without_pools_is_told_in_one_line(text: str) -> None:
    with pytest.raises(FileFaultError) as told:
        read_entries(text)
    assert "\n" not in str(told.value)
