"""Pools for real workloads on the deployed stack: templates, many types, updates, drains, schedules, fallback.

A minute of a pool item takes three seconds on the local cloud.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cli.files import read_entries
from localcloud.cloud import ACCOUNT, REGION
from tests.e2e.conftest import Site

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[2] / "examples"


def instances_of(site: Site, pool: str) -> list[dict[str, Any]]:
    """Pending and running instances of a pool in EC2's description."""
    filters = [
        {"Name": "tag:spotpools:pool", "Values": [pool]},
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
    ]
    answer = site.cloud.client("ec2").describe_instances(Filters=filters)
    return [one for group in answer["Reservations"] for one in group["Instances"]]


def until_ready(site: Site, pool: str, size: int, seconds: float = 45) -> None:
    site.watcher.until(lambda: site.status(pool).get("ready") == size, f"{pool}: {size} ready", seconds=seconds)


def machine_tags(site: Site, pool: str) -> set[str]:
    """The machine digests of the pool's instances."""
    return {
        tag["Value"] for one in instances_of(site, pool) for tag in one["Tags"] if tag["Key"] == "spotpools:machine"
    }


def test_a_machine_described_in_the_item_comes_from_the_pools_own_template(site: Site) -> None:
    site.put("inline", target_size=1, user_data="#!/bin/sh\ntrue\n", root_volume_size_gib=50, tags={"team": "ml"})
    until_ready(site, "inline", 1)
    (one,) = instances_of(site, "inline")
    tags = {tag["Key"]: tag["Value"] for tag in one["Tags"]}
    assert (tags["team"], tags["Name"]) == ("ml", "inline")
    versions = site.cloud.client("ec2").describe_launch_template_versions(
        LaunchTemplateName=f"{site.cloud.stack}/inline"
    )["LaunchTemplateVersions"]
    (data,) = [version["LaunchTemplateData"] for version in versions]
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 50


def test_sizes_count_units_and_a_cap_is_a_share_of_the_on_demand_price(site: Site) -> None:
    site.put(
        "units",
        instance_types=["m5.large", "m5.xlarge"],
        weights={"m5.large": 1, "m5.xlarge": 2},
        target_size=6,
        max_instances=7,
        spot_max_price="95%",
    )
    site.watcher.until(lambda: site.status("units").get("running", 0) >= 6, "six units", seconds=45)
    weights = {"m5.large": 1, "m5.xlarge": 2}
    assert 6 <= sum(weights[one["InstanceType"]] for one in instances_of(site, "units")) <= 7


def test_types_are_found_by_requirements_and_spread_over_zones(site: Site) -> None:
    site.put(
        "found",
        instance_types=None,
        requirements={"vcpus": {"min": 2, "max": 4}, "memory_gib": {"min": 8, "max": 16}},
        spread_zones=True,
        target_size=4,
        max_instances=6,
    )
    site.until_running("found", 4, seconds=60)
    zones = [one["Placement"]["AvailabilityZone"] for one in instances_of(site, "found")]
    assert len(set(zones)) == 4


def test_a_changed_description_is_rolled_out_and_never_too_many_are_missing(site: Site) -> None:
    item = {"target_size": 6, "max_instances": 8, "update": "rolling", "max_unavailable": 2}
    site.put("rolls", user_data="#!/bin/sh\n: one\n", **item)
    until_ready(site, "rolls", 6)
    (old,) = machine_tags(site, "rolls")
    fewest: list[int] = []
    site.put("rolls", user_data="#!/bin/sh\n: two\n", **item)

    def rolled() -> bool:
        fewest.append(len(site.instances("rolls", "running")))
        return old not in machine_tags(site, "rolls") and site.status("rolls").get("ready") == 6

    site.watcher.until(rolled, "all six are new and ready", seconds=120)
    assert min(fewest) >= 4
    assert "rollout" not in site.status("rolls")


def test_a_broken_description_stops_the_rollout_and_the_old_instances_stay(site: Site) -> None:
    item = {"target_size": 3, "max_instances": 5, "update": "rolling", "ready_timeout_minutes": 5}
    site.put("breaks", user_data="#!/bin/sh\n: sound\n", **item)
    until_ready(site, "breaks", 3)
    since = datetime.now(UTC)
    site.market.boot("dies", user_data_contains=": broken", after_seconds=1)
    try:
        site.put("breaks", user_data="#!/bin/sh\n: broken\n", **item)
        rollout = site.watcher.until(
            lambda: (found := site.status("breaks").get("rollout")) and found["state"] == "STOPPED" and found,
            "the rollout is stopped",
            seconds=60,
        )
        assert "ended before they were ready" in rollout["message"]
        site.watcher.until(lambda: site.watcher.alarm("launches-refused", since=since), "its alarm", seconds=45)
        assert len(site.instances("breaks", "running")) >= 3
        site.put("breaks", user_data="#!/bin/sh\n: fixed\n", **item)
        site.watcher.until(lambda: "rollout" not in site.status("breaks"), "the fixed one rolls", seconds=120)
    finally:
        site.market.boot_well()


def test_an_instance_that_never_becomes_ready_is_replaced(site: Site) -> None:
    site.put("tells", target_size=1, max_instances=3, ready_tag="app=up", ready_timeout_minutes=3)
    first = site.watcher.until(lambda: site.ever_launched("tells"), "a launch", seconds=30)[0]
    second = site.watcher.until(
        lambda: next((id_ for id_ in site.ever_launched("tells") if id_ != first), None), "another", seconds=60
    )
    assert site.status("tells").get("ready", 0) == 0
    site.cloud.client("ec2").create_tags(Resources=[second], Tags=[{"Key": "app", "Value": "up"}])
    until_ready(site, "tells", 1)


def test_an_instance_at_risk_is_replaced_first(site: Site) -> None:
    site.put("risky", target_size=2, max_instances=4, on_rebalance="replace_first")
    until_ready(site, "risky", 2)
    before = {one["instance_id"] for one in site.instances("risky", "running")}
    first, second = sorted(before)
    site.market.rebalance(first)
    site.market.maintenance(second)
    site.watcher.until(
        lambda: (
            not before & {one["instance_id"] for one in site.instances("risky")}
            and site.status("risky").get("ready") == 2
        ),
        "both are replaced",
        seconds=60,
    )


@pytest.fixture
def announced(site: Site) -> Iterator[str]:
    """A queue that gets the events of draining instances, by a rule like a user's own."""
    sqs, events = site.cloud.client("sqs"), site.cloud.client("events")
    url = sqs.create_queue(QueueName="draining")["QueueUrl"]
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:draining"
    events.put_rule(Name="draining", EventPattern=json.dumps({"source": ["spotpools"]}))
    events.put_targets(Rule="draining", Targets=[{"Id": "queue", "Arn": arn}])
    yield url
    events.remove_targets(Rule="draining", Ids=["queue"])
    events.delete_rule(Name="draining")
    sqs.delete_queue(QueueUrl=url)


def test_a_noticed_instance_is_announced_and_drained(site: Site, announced: str) -> None:
    site.put("drains", target_size=1, max_instances=2, drain_command="checkpoint --now")
    until_ready(site, "drains", 1)
    (interrupted,) = [one["instance_id"] for one in site.instances("drains", "running")]
    site.market.interrupt(interrupted, notice_seconds=60)
    drained = site.watcher.until(
        lambda: [one for one in site.status("drains").get("drains", []) if one["status"] == "Success"],
        "the drain's result",
        seconds=45,
    )
    assert [one["instance_id"] for one in drained] == [interrupted]
    (message,) = site.cloud.client("sqs").receive_message(QueueUrl=announced, WaitTimeSeconds=5)["Messages"]
    event = json.loads(message["Body"])
    assert event["detail-type"] == "Pool Instance Draining"
    assert (event["detail"]["pool"], event["detail"]["instance-id"]) == ("drains", interrupted)


def test_a_smaller_size_waits_and_a_schedule_sets_it(site: Site) -> None:
    site.put("calm", target_size=3, scale_in_after_minutes=4)
    site.until_running("calm", 3)
    every_minute = [{"cron": "* * * * *", "timezone": "Europe/Berlin", "target_size": 1}]
    site.put("calm", target_size=3, scale_in_after_minutes=4, schedule=every_minute)
    site.watcher.until(lambda: site.status("calm").get("wanted") == 1, "the schedule holds", seconds=30)
    assert len(site.instances("calm", "running")) == 3
    site.until_running("calm", 1, seconds=60)


def test_on_demand_replaces_missing_spot_and_returns_to_spot(site: Site) -> None:
    site.market.offer("r6i.xlarge", "*", capacity=0)
    site.put(
        "lends",
        instance_types=["r6i.xlarge"],
        target_size=3,
        max_instances=6,
        on_demand_base=1,
        fallback={"to": "on_demand", "after_minutes": 2},
    )

    def by_market() -> tuple[int, int]:
        spot = [one.get("InstanceLifecycle") == "spot" for one in instances_of(site, "lends")]
        return spot.count(True), spot.count(False)

    site.watcher.until(lambda: by_market() == (0, 1), "its base is on demand", seconds=30)
    site.watcher.until(lambda: by_market() == (0, 3), "the rest is bought on demand", seconds=60)
    site.market.offer("r6i.xlarge", "*", capacity=10)
    site.watcher.until(lambda: by_market() == (2, 1), "spot is back, the temporary ones are returned", seconds=90)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_run(site: Site, path: Path) -> None:
    (entry,) = read_entries(path.read_text(encoding="utf-8"))
    pool, attributes = entry.item["pool_name"], {key: one for key, one in entry.item.items() if key != "pool_name"}
    if entry.imported:
        attributes["target_size"] = 1
    site.put(pool, **{"instance_types": None, **attributes})
    site.watcher.until(lambda: site.instances(pool) and site.status(pool).get("wanted"), f"{pool} launches", seconds=60)
    assert site.status(pool)["spec_errors"] == []
