"""What an operator sees of each fault: its alarm, and ``explain`` with the cause and the runbook's text."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lambdas.domain.guide import GUIDE, Trouble
from tests.e2e.conftest import Site
from tests.e2e.test_whole_path import denied, without_fast_ticks

pytestmark = pytest.mark.long

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
TYPE = "c7i.4xlarge"
"""A type that pools of other tests do not use."""


def output_of(site: Site, *words: str, status: int = 0) -> str:
    """A command's output without the spaces and line breaks of its tables."""
    command = [sys.executable, "-m", "cli.main", *words]
    environment = {"PATH": "", "COLUMNS": "5000", **site.cloud.exports()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  our own command
    assert done.returncode == status, done.stdout + done.stderr
    return squeezed(done.stdout)


def squeezed(text: str) -> str:
    return "".join(text.split())


@contextmanager
def no_capacity(site: Site) -> Iterator[None]:
    site.market.offer(TYPE, "*", capacity=0)
    yield
    site.market.offer(TYPE, "*", capacity=20)


@contextmanager
def nothing_laid(_: Site) -> Iterator[None]:
    """Inject nothing: the item itself is the fault."""
    yield


@contextmanager
def refused(site: Site, code: str) -> Iterator[None]:
    site.market.fault(action="CreateFleet", error=code, times=1000)
    yield
    site.market.ask("DELETE", "/market/faults")


@contextmanager
def forbidden(site: Site) -> Iterator[None]:
    with denied(site.cloud, site.cloud.outputs["PoolDueFunction"], "ec2:CreateFleet"):
        yield


FAULTS: dict[str, tuple[Callable[[Site], Any], dict[str, Any], str, Trouble, str]] = {
    "no capacity": (no_capacity, {}, "pool-below-target", Trouble.NO_CAPACITY, "no capacity"),
    "price": (nothing_laid, {"spot_max_price": "0.002"}, "price-above-cap", Trouble.PRICE_ABOVE_MAX, "0.002"),
    "quota": (
        lambda site: refused(site, "MaxSpotInstanceCountExceeded"),
        {},
        "quota-reached",
        Trouble.QUOTA,
        "MaxSpotInstanceCountExceeded",
    ),
    "denied by IAM": (forbidden, {}, "launches-refused", Trouble.CONFIG, "ec2:CreateFleet"),
    "no service-linked role": (
        lambda site: refused(site, "AuthFailure.ServiceLinkedRoleCreationNotPermitted"),
        {},
        "launches-refused",
        Trouble.CONFIG,
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    "throttling": (
        lambda site: refused(site, "RequestLimitExceeded"),
        {},
        "ec2-throttles",
        Trouble.THROTTLED,
        "RequestLimitExceeded",
    ),
    "invalid item": (nothing_laid, {"max_instnaces": 3}, "pool-item-invalid", Trouble.ITEM_INVALID, "max_instances"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_sets_off_its_alarm_and_is_explained(site: Site, name: str) -> None:
    lay, attributes, alarm, trouble, cause = FAULTS[name]
    pool = f"fault-{name.replace(' ', '-').lower()}"
    until_quiet(site, alarm)
    since = datetime.now(UTC)
    with lay(site):
        site.put(pool, instance_types=[TYPE], target_size=1, **attributes)
        rung = site.watcher.until(lambda: site.watcher.alarm(alarm, since=since), f"{alarm} rings", seconds=60)
        message = site.watcher.until(
            lambda: site.watcher.message(pool, since=since), "people receive its message", seconds=30
        )
        story = output_of(site, "explain", pool)
    assert squeezed(cause) in squeezed(message.body)
    assert GUIDE[trouble].do in message.body
    assert f"Runbook: docs/runbook.md#{alarm}" in message.body
    assert "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#dashboards" in message.body
    if trouble is not Trouble.ITEM_INVALID:
        assert f"{pool} lacks 1 of 1: " in message.body
        assert "it tries again" in message.body
    site.put(pool, instance_types=[TYPE], target_size=0)
    site.watcher.until(
        lambda: [one for one in site.watcher.messages if one.at > message.at and pool in one.subject],
        "people hear that it is over",
        seconds=90,
    )
    about = [one.subject for one in site.watcher.messages if one.at >= since and pool in one.body]
    assert [subject.startswith("[over]") for subject in about] == [False, True], about
    assert squeezed(cause) in story
    assert squeezed(GUIDE[trouble].do) in story
    assert GUIDE[trouble].do in RUNBOOK.read_text(encoding="utf-8")
    assert f"#{alarm}" in rung.description


@contextmanager
def schedule_disabled(site: Site) -> Iterator[str]:
    """Disable the schedule, as a user might in the console. Yields its name."""
    scheduler = site.cloud.client("scheduler")
    resources = site.cloud.client("cloudformation").describe_stack_resources(StackName=site.cloud.stack)
    (name,) = [
        one["PhysicalResourceId"]
        for one in resources["StackResources"]
        if one["ResourceType"] == "AWS::Scheduler::Schedule"
    ]
    asked = ("Description", "FlexibleTimeWindow", "ScheduleExpression", "Target")
    kept = {key: value for key, value in scheduler.get_schedule(Name=name).items() if key in asked}
    scheduler.update_schedule(Name=name, State="DISABLED", **kept)
    try:
        yield name
    finally:
        scheduler.update_schedule(Name=name, State="ENABLED", **kept)


def test_a_stopped_tick_sets_off_its_alarm_and_is_explained(site: Site) -> None:
    """The alarm needs its three minutes here too, because it measures time."""
    until_quiet(site, "heartbeat-missing")
    since = datetime.now(UTC)
    site.put("unattended", instance_types=[TYPE], target_size=1)
    site.until_running("unattended", 1)
    remedy = squeezed(GUIDE[Trouble.HEARTBEAT].do)
    with schedule_disabled(site) as schedule, without_fast_ticks(site.cloud):
        rung = site.watcher.until(
            lambda: site.watcher.alarm("heartbeat-missing", since=since), "the heartbeat alarm rings", seconds=270
        )
        story = site.watcher.until(
            lambda: found if remedy in (found := output_of(site, "explain", "unattended")) else None,
            "explain tells of the tick",
            seconds=90,  # it counts from the end of the minute
        )
        checks = output_of(site, "doctor", status=1)
    assert squeezed("Tick stopped for") in story
    assert squeezed(f"schedule {schedule} is DISABLED") in checks
    assert remedy in checks
    assert GUIDE[Trouble.HEARTBEAT].do in RUNBOOK.read_text(encoding="utf-8")
    assert "#heartbeat-missing" in rung.description
    until_quiet(site, "heartbeat-missing")
    assert remedy not in output_of(site, "explain", "unattended")


def until_quiet(site: Site, alarm: str) -> None:
    """Wait until the alarm is not in alarm because of an earlier fault."""
    cloudwatch, name = site.cloud.client("cloudwatch"), f"{site.cloud.stack}-{alarm}"
    site.watcher.until(
        lambda: cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"] != "ALARM",
        f"{alarm} does not ring",
        seconds=90,
    )
