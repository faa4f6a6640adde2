"""Two stacks in one account and Region: each has its own pools and alarms, and one can be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from localcloud.cloud import LocalCloud
from localcloud.demo.watch import Watcher
from tests.e2e.conftest import TICK_SECONDS, Site

pytestmark = pytest.mark.long

STACK = "spotpools-too"
"""A name that begins with the other's, to find code that compares only prefixes."""
POOL = "twin"
"""Both stacks have a pool with this name."""


@pytest.fixture
def site() -> Iterator[Site]:
    """The first stack, in a cloud without leftovers of other tests."""
    with LocalCloud(family="stacks", tick_seconds=TICK_SECONDS) as cloud, Watcher(cloud) as watcher:
        yield Site(cloud, watcher)


def alive(site: Site) -> set[str]:
    """The instances with this stack's tag."""
    filters = [
        {"Name": "tag:spotpools:stack", "Values": [site.cloud.stack]},
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
    ]
    found = site.cloud.client("ec2").describe_instances(Filters=filters)["Reservations"]
    return {one["InstanceId"] for several in found for one in several["Instances"]}


def until_alive(site: Site, size: int) -> set[str]:
    """Wait until EC2 and PoolStatus both show this many instances of the site's stack, and return them."""
    what = f"{site.cloud.stack}: {size} running"
    site.watcher.until(lambda: len(alive(site)) == size and site.status(POOL).get("running") == size, what, seconds=90)
    return alive(site)


def rung(site: Site, alarm: str, since: datetime) -> list[str]:
    """Names of the alarms of this kind, of any stack, that this stack's subscribers got."""
    return [one.name for one in site.watcher.alarms if alarm in one.name and one.state == "ALARM" and one.at >= since]


def test_two_stacks_work_side_by_side_and_one_can_be_deleted(site: Site) -> None:
    with site.cloud.beside(STACK) as other, Watcher(other) as watcher:
        second = Site(other, watcher)
        alike = {other.outputs["Version"], other.outputs["Choices"]}
        assert not set(site.cloud.outputs.values()) & set(other.outputs.values()) - alike
        site.put(POOL, target_size=2)
        second.put(POOL, target_size=3)
        ours, theirs = until_alive(site, 2), until_alive(second, 3)
        assert not ours & theirs

        taken = min(theirs)
        site.market.interrupt(taken, notice_seconds=10)
        second.watcher.until(lambda: len(alive(second) - theirs) == 1, "the second replaces its own", seconds=60)
        assert alive(site) == ours, "the first has heard of the notice too, and minds its own"

        since = datetime.now(UTC)
        second.put("wrong", target_size="many")
        second.watcher.until(
            lambda: rung(second, "pool-item-invalid", since) == [f"{STACK}-pool-item-invalid"],
            "the second's alarm",
            seconds=60,
        )
        site.put("wrong-too", target_size="many")
        site.watcher.until(lambda: rung(site, "pool-item-invalid", since), "the first's alarm", seconds=60)
        assert rung(site, "pool-item-invalid", since) == [f"{site.cloud.stack}-pool-item-invalid"]
        assert rung(second, "pool-item-invalid", since) == [f"{STACK}-pool-item-invalid"]

        second.put(POOL, target_size=0)
        until_alive(second, 0)
        assert alive(site) == ours

    names = [one["StackName"] for one in site.cloud.client("cloudformation").describe_stacks()["Stacks"]]
    assert STACK not in names
    assert alive(site) == ours
    site.put(POOL, target_size=4)
    assert ours < until_alive(site, 4)
    assert not site.cloud.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{STACK}-")["MetricAlarms"]
