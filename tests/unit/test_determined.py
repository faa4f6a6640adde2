"""Determined's resource pools: what is converted, what is named as not applied, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from cli.files import FileFaultError, read_entries
from lambdas.domain.item.determined import import_pool
from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Pool

# Every field that an AWS pool had in any version of determined-ai/determined up to c1e9c6d.
POOL_FIELDS = [
    "pool_name",
    "description",
    "provider",
    "scheduler",
    "max_aux_containers_per_agent",
    "max_cpu_containers_per_agent",
    "max_zero_slot_containers_per_agent",
    "kubernetes_namespace",
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
    # Of other versions, from the repository's history.
    "base_resource_pool",
    "cpu_slots",
    "error_timeout",
    "error_timeout_retries",
    "max_provision_retries",
    "num_retries",
    "spot_instance_enabled",
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


def test_the_fragment_in_the_document_is_accepted_unchanged() -> None:
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


def test_a_missing_disk_or_address_has_determineds_default() -> None:
    imported = import_pool(determined(image_id="ami-0abc"))
    assert imported.item["root_volume_size_gib"] == 200
    assert imported.item["associate_public_ip"] is True
    (remark,) = imported.absent
    for text in ("spot false (on demand)", "instance_type g4dn.metal", "root_volume_size 200", "public_ip true"):
        assert text in remark
    said = determined(
        image_id="ami-0abc",
        instance_type="g5.xlarge",
        max_instances=1,
        spot=True,
        root_volume_size=300,
        network_interface={"public_ip": False},
    )
    assert import_pool(said).absent == ()
    assert import_pool(said).item["associate_public_ip"] is False


def test_a_disk_is_attached_where_determined_and_our_image_expect_it() -> None:
    """Determined maps /dev/sda1, the root of its images. On Amazon Linux, our image, it is a second disk."""
    item = import_pool(determined(image_id="ami-0abc", root_volume_size=300)).item
    assert (item["root_device_name"], item["root_volume_type"]) == ("/dev/sda1", "gp2")
    without_image = import_pool(determined(root_volume_size=300))
    assert "root_device_name" not in without_image.item
    assert any("image_id is absent" in remark for remark in without_image.absent)


@pytest.mark.parametrize("none", ["OnDemand", "", None])
def test_each_word_for_no_price_cap_means_no_cap(none: str | None) -> None:
    assert "spot_max_price" not in import_pool(determined(spot=True, spot_max_price=none)).item


@pytest.mark.parametrize(
    "masked",
    [
        {"startup_script": "********"},
        {"startup_script": "********\n"},
        {"ssh_key_name": "****"},
        {"network_interface": {"security_group_id": "********"}},
        {"custom_tags": [{"key": "token", "value": "********"}]},
    ],
)
def test_a_masked_value_is_refused_and_not_used_as_the_value(masked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^provider\.\w+(\.\w+)?: \*{8} is what Determined prints"):
        import_pool(determined(**masked))


def test_masked_values_for_determineds_master_are_left_out() -> None:
    assert (
        "provider.container_startup_script" in import_pool(determined(container_startup_script="********")).not_applied
    )


def test_a_subnet_becomes_subnet_ids() -> None:
    interface = {"subnet_id": "subnet-1", "security_group_id": "sg-1", "public_ip": True}
    item = import_pool(determined(network_interface=interface)).item
    assert (item["subnet_ids"], item["security_group_ids"], item["associate_public_ip"]) == ("subnet-1", "sg-1", True)


def test_a_machine_is_converted_to_our_attributes() -> None:
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


@pytest.mark.parametrize(
    ("duration", "minutes"),
    [("20m", 20), ("90s", 2), ("1h", 60), ("1h0m1s", 61), ("20m0s", 20), ("1.5h", 90), ("600000ms", 10), (".5h", 30)],
)
def test_durations_become_whole_minutes(duration: str, minutes: int) -> None:
    assert import_pool(determined(max_agent_starting_period=duration)).item["ready_timeout_minutes"] == minutes


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_agent_starting_period": "soon"},
        {"max_agent_starting_period": "20"},
        {"max_agent_starting_period": "20m x"},
        {"custom_tags": [{"team": "ml"}]},
    ],
)
def test_values_that_determined_would_refuse_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        import_pool(determined(**wrong))


def test_empty_texts_count_as_missing_as_in_determined() -> None:
    assert "iam_instance_profile" not in import_pool(determined(iam_instance_profile_arn="")).item


SAMPLES = {"custom_tags": [{"key": "x", "value": "x"}], "max_agent_starting_period": "7m"}
"""Values of fields that do not accept free text."""


@pytest.mark.parametrize("name", sorted({*PROVIDER_FIELDS} - {"type", "network_interface"}))
def test_every_provider_field_is_converted_or_named(name: str) -> None:
    imported = import_pool(determined(**{name: SAMPLES.get(name, "x")}))
    taken_over = imported.item != import_pool(determined()).item
    assert taken_over != (f"provider.{name}" in imported.not_applied)


@pytest.mark.parametrize("name", sorted({*POOL_FIELDS} - {"pool_name", "provider"}))
def test_every_pool_field_is_named(name: str) -> None:
    assert list(import_pool({**determined(), name: "x"}).not_applied) == [name]


def test_a_misspelt_price_cap_is_refused_and_not_ignored() -> None:
    with pytest.raises(ValueError, match="did you mean spot_max_price"):
        import_pool(determined(spot_max_pric="0.3"))


def test_other_clouds_are_refused() -> None:
    (entry,) = read_entries("resource_pools: [{pool_name: p, provider: {type: gcp}}]")
    (fault,) = entry.faults
    assert "provider.type must be aws" in fault.message


# The output of `det master config`: every field, missing ones as null or empty, secrets masked.
PRINTED = """
resource_manager:
  type: agent
  cluster_name: default
  default_aux_resource_pool: aux-pool
  default_compute_resource_pool: compute-pool
  scheduler: {type: fair_share, fitting_policy: best}
resource_pools:
  - pool_name: aux-pool
    description: ""
    max_aux_containers_per_agent: 100
    agent_reattach_enabled: false
    agent_reconnect_wait: 25s
    task_container_defaults: null
    provider:
      type: aws
      master_url: http://10.0.0.1:8080
      master_cert_name: ""
      startup_script: ""
      container_startup_script: "********"
      agent_docker_network: default
      agent_docker_runtime: runc
      agent_docker_image: determinedai/determined-agent:0.38.1
      agent_fluent_image: ""
      agent_reconnect_attempts: 5
      agent_reconnect_backoff: 5
      agent_config_file_contents: null
      max_idle_agent_period: 20m0s
      max_agent_starting_period: 20m0s
      min_instances: 0
      max_instances: 5
      launch_error_timeout: null
      launch_error_retries: 0
      region: us-east-1
      root_volume_size: 200
      image_id: ami-07329961c2a161c61
      tag_key: managed_by
      tag_value: i-0123456789abcdef0
      instance_name: determined-ai-agent
      ssh_key_name: ops
      network_interface: {public_ip: true, subnet_id: "", security_group_id: sg-0123456789abcdef0}
      iam_instance_profile_arn: ""
      instance_type: m5.large
      log_group: ""
      log_stream: ""
      spot: true
      spot_max_price: OnDemand
      custom_tags: null
      cpu_slots_allowed: false
  - pool_name: lab
    description: machines under the desk
    provider: null
"""
OLDEST = """
scheduler: {fit: best, type: fair_share}
provisioner:
  provider: aws
  max_idle_agent_period: 5m
  image_id: ami-0abc
  ssh_key_name: ops
  instance_type: p2.8xlarge
  num_retries: 3
  error_timeout: 5m
"""
SEVERAL = """
resource_pools:
  - pool_name: on-aws
    provider: {type: aws, image_id: ami-0abc, spot: true}
  - pool_name: static
  - pool_name: on-gcp
    provider: {type: gcp, base_config: {zone: us-west1-b}, instance_type: {machine_type: n1-standard-32, gpu_num: 4}}
  - pool_name: on-slurm
    provider: {type: hpc, partition: defq}
additional_resource_managers:
  - resource_manager: {type: kubernetes, name: west, max_slots_per_pod: 4}
    resource_pools:
      - pool_name: on-kubernetes
        kubernetes_namespace: ml
"""


def names(text: str) -> tuple[list[str], list[str]]:
    """The pools of a file, all valid, and those that are skipped."""
    entries = read_entries(text)
    assert [fault for entry in entries for fault in entry.faults] == []
    return [one.name for one in entries if not one.skipped], [one.name for one in entries if one.skipped]


@pytest.mark.parametrize(
    ("text", "made", "skipped"),
    [
        (PRINTED, ["aux-pool"], ["lab"]),
        (f"config:\n{PRINTED.replace(chr(10), chr(10) + '  ')}", ["aux-pool"], ["lab"]),
        (OLDEST, ["default"], []),
        (SEVERAL, ["on-aws"], ["static", "on-gcp", "on-slurm", "on-kubernetes"]),
        ("resource_manager:\n  type: agent\n" + FRAGMENT.replace("\n", "\n  "), ["aws-spot-g4dn-metal"], []),
        ("db: {host: db}\ncheckpoint_storage: {type: s3}\n" + FRAGMENT, ["aws-spot-g4dn-metal"], []),
    ],
)
def test_each_form_of_a_configuration_is_accepted_unchanged(text: str, made: list[str], skipped: list[str]) -> None:
    assert names(text) == (made, skipped)


def test_a_pool_of_the_oldest_form_is_converted_and_its_faults_have_line_numbers() -> None:
    (entry,) = read_entries(OLDEST)
    assert (entry.item["instance_types" if "instance_types" in entry.item else "instance_type"]) == "p2.8xlarge"
    assert {"provider.num_retries", "provider.error_timeout", "provider.max_idle_agent_period"} == set(
        entry.not_applied
    )
    (broken,) = read_entries(OLDEST.replace("num_retries", "retries"))
    assert [(fault.line, "no such field" in fault.message) for fault in broken.faults] == [(9, True)]


def test_the_reason_for_skipping_a_pool_names_its_provider() -> None:
    skipped = {entry.name: entry.skipped for entry in read_entries(SEVERAL) if entry.skipped}
    assert "no provider" in skipped["static"]
    assert "on gcp" in skipped["on-gcp"]
    assert "on hpc" in skipped["on-slurm"]
    assert "kubernetes" in skipped["on-kubernetes"]


@pytest.mark.parametrize("text", ["resource_manager: {type: kubernetes}", "resource_pools: []", "provisioner: x"])
def test_a_masters_configuration_without_pools_is_reported(text: str) -> None:
    with pytest.raises(FileFaultError, match="without resource_pools"):
        read_entries(text)


def test_a_price_in_a_file_does_not_pass_through_a_float() -> None:
    (entry,) = read_entries("{pool_name: p, instance_type: g5.xlarge, spot_max_price: 0.3}")
    assert str(entry.item["spot_max_price"]) == "0.3"


@pytest.mark.parametrize("text", ["", "7", "[]", "[1]", "resource_pools: 7", "a: [", "\t"])
def test_a_file_without_pools_is_reported_in_one_line(text: str) -> None:
    with pytest.raises(FileFaultError) as error:
        read_entries(text)
    assert "\n" not in str(error.value)
