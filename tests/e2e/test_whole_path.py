"""From a pool item to instances, status and alarms: the deployed stack, its own roles, real processes and queues."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from localcloud.cloud import LocalCloud
from tests.e2e.conftest import TICK_SECONDS, Site

QUIET_LOOKS = 30


def invoke_tick(cloud: LocalCloud) -> None:
    """Run a tick and wait for its end."""
    answer = cloud.client("lambda").invoke(FunctionName=cloud.outputs["TickFunction"], Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()


@contextmanager
def without_fast_ticks(cloud: LocalCloud) -> Iterator[None]:
    """Only the schedule ticks, so that calls can be counted."""
    assert cloud.ticks is not None
    cloud.ticks.stop()
    try:
        yield
    finally:
        cloud.tick_every(TICK_SECONDS)


def workers_of(cloud: LocalCloud, function: str) -> list[int]:
    """Process ids of a function's execution environments on this cloud."""
    folder = str(cloud.directory)
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes().decode()
            except OSError:
                continue  # it has ended meanwhile
            if folder in command and function in command and "_worker.py" in command:
                found.append(int(process.name))
    return found


def test_twenty_steady_pools_cost_one_listing_a_tick_and_no_write(site: Site) -> None:
    """This is the first test, because failed messages of later tests come back from the queues for minutes."""
    names = [f"steady-{number}" for number in range(20)]
    for name in names:
        site.put(name, target_size=1)
    for name in names:
        site.until_running(name, 1, seconds=60)
    # Until then each tick asks for their health.
    site.watcher.until(lambda: all(site.status(name).get("ready") == 1 for name in names), "all are ready", seconds=60)
    with without_fast_ticks(site.cloud):
        until_quiet(site)
        invoke_tick(site.cloud)
        calls, statuses = site.market.state()["calls"], stored(site.cloud, names)
        for _ in range(10):
            invoke_tick(site.cloud)
        after = site.market.state()["calls"]
        made = {action: after[action] - calls.get(action, 0) for action in after if after[action] != calls.get(action)}
        # From time to time a tick computes the fleet's cost. A scheduled tick may come in between.
        assert made.keys() - {"DescribeSpotPriceHistory", "GetProducts"} == {"DescribeInstances"}
        assert made["DescribeInstances"] in (10, 11)
        assert made.get("DescribeSpotPriceHistory", 0) <= made["DescribeInstances"], "at most one price question a tick"
        assert stored(site.cloud, names) == statuses


def test_an_item_becomes_running_instances_and_a_status(site: Site) -> None:
    site.put("plain", target_size=2)
    site.until_running("plain", 2)
    status = site.status("plain")
    assert (status["wanted"], status["running"], status["starting"], status["noticed"]) == (2, 2, 0, 0)
    assert status["spec_errors"] == []
    assert "waiting" not in status
    assert datetime.fromisoformat(status["updated_at"]).tzinfo is not None


def test_an_invalid_item_is_answered_and_alarms_at_the_subscribed_queue(site: Site) -> None:
    since = datetime.now(UTC)
    site.put("bad", target_size="many")
    (fault,) = site.watcher.until(lambda: site.status("bad").get("spec_errors"), "spec_errors", seconds=15)
    assert (fault["field"], fault["value"]) == ("target_size", "many")
    assert fault["rule"]
    assert fault["remedy"]
    alarm = site.watcher.until(
        lambda: site.watcher.alarm("pool-item-invalid", since=since), "the alarm's message", seconds=30
    )
    assert "spec_errors" in alarm.description


def test_a_role_without_one_permission_fails_with_an_alarm(site: Site) -> None:
    """So IAM is enforced: without UpdateItem nothing is launched, and an alarm says that the function fails."""
    cloudwatch, name = site.cloud.client("cloudwatch"), f"{site.cloud.stack}-on-pool-due-errors"
    site.watcher.until(
        lambda: cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"] != "ALARM",
        "no error of earlier tests rings any more",
        seconds=90,
    )
    since = datetime.now(UTC)
    with denied(site.cloud, site.cloud.outputs["PoolDueFunction"], "dynamodb:UpdateItem"):
        site.put("denied", target_size=1)
        alarm = site.watcher.until(
            lambda: site.watcher.alarm("on-pool-due-errors", since=since), "the alarm's message", seconds=60
        )
        assert alarm.state == "ALARM"
        assert site.ever_launched("denied") == []
    site.until_running("denied", 1, seconds=60)


def test_a_due_message_delivered_again_and_again_launches_once(site: Site) -> None:
    site.put("repeated", target_size=3)
    sqs, url = site.cloud.client("sqs"), site.cloud.outputs["DueQueueUrl"]
    for _ in range(5):
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"pool_name": "repeated"}))
    site.until_running("repeated", 3)
    assert len(site.ever_launched("repeated")) == 3


def test_a_notice_delivered_twice_replaces_once(site: Site) -> None:
    site.put("noticed", target_size=3, max_instances=9)
    site.until_running("noticed", 3)
    instance_id = site.instances("noticed")[0]["instance_id"]
    site.market.interrupt(instance_id, notice_seconds=60)
    site.market.interrupt(instance_id, notice_seconds=60)
    site.watcher.until(lambda: len(site.instances("noticed", "running")) == 4, "one replacement", seconds=15)
    site.market.interrupt(instance_id)
    site.watcher.until(lambda: site.status("noticed").get("noticed") == 1, "the notice in the status", seconds=15)
    site.watcher.until(lambda: site.status("noticed").get("running") == 3, "three that count", seconds=15)
    assert len(site.ever_launched("noticed")) == 4


@pytest.mark.long
def test_a_function_killed_between_create_fleet_and_its_record_launches_once(site: Site) -> None:
    site.market.fault(action="CreateFleet", where="after", delay_seconds=15)
    site.put("killed", target_size=3)
    site.watcher.until(lambda: len(site.ever_launched("killed")) == 3, "EC2 has launched", seconds=20)
    assert site.status("killed").get("running") in (None, 0), "the answer is still held back"
    for worker in workers_of(site.cloud, site.cloud.outputs["PoolDueFunction"]):
        os.kill(worker, signal.SIGKILL)
    site.until_running("killed", 3, seconds=90)
    assert len(site.ever_launched("killed")) == 3


def test_a_connection_lost_after_create_fleet_launches_once(site: Site) -> None:
    site.market.fault(action="CreateFleet", where="after", drop_connection=True, times=4)
    site.put("dropped", target_size=3)
    site.until_running("dropped", 3, seconds=60)
    assert len(site.ever_launched("dropped")) == 3


def until_quiet(site: Site) -> None:
    """Wait until nothing happens: two polls, longer apart than anything here takes, see the same calls."""
    looks = [site.market.state()["calls"]]

    def unchanged() -> bool:
        looks.append(site.market.state()["calls"])
        return len(looks) > QUIET_LOOKS and looks[-1] == looks[-QUIET_LOOKS]

    site.watcher.until(unchanged, "no call to EC2", seconds=60)


def stored(cloud: LocalCloud, names: list[str]) -> dict[str, Any]:
    """Status items byte for byte, including lease and fence."""
    items = cloud.client("dynamodb").scan(TableName=cloud.outputs["StatusTable"], ConsistentRead=True)["Items"]
    return {item["pool_name"]["S"]: item for item in items if item["pool_name"]["S"] in names}


@contextmanager
def denied(cloud: LocalCloud, function: str, action: str) -> Iterator[None]:
    """Remove an action from a function's role."""
    iam, functions = cloud.client("iam"), cloud.client("lambda")
    role = functions.get_function_configuration(FunctionName=function)["Role"].rsplit("/", 1)[-1]
    statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=role, PolicyName="taken-away", PolicyDocument=document)
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="taken-away")
