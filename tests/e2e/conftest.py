"""One watched local cloud for all whole-path tests. Each test has its own pools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.cloud import LocalCloud
from localcloud.demo.pools import delete_pool, put_pool
from localcloud.demo.watch import Watcher

TICK_SECONDS = 2.0


@pytest.fixture(scope="package")
def cloud() -> Iterator[LocalCloud]:
    """The real stack on its own cloud, with a tick every two seconds, until the last test of this folder."""
    with LocalCloud(family="test", tick_seconds=TICK_SECONDS) as started:
        yield started


@pytest.fixture(scope="package")
def watcher(cloud: LocalCloud) -> Iterator[Watcher]:
    with Watcher(cloud) as watching:
        yield watching


class Site:
    """The actions and observations of a whole-path test."""

    def __init__(self, cloud: LocalCloud, watcher: Watcher) -> None:
        self.cloud = cloud
        self.watcher = watcher
        self.market = cloud.market
        self.pools: list[str] = []

    def put(self, pool: str, **attributes: Any) -> None:
        """Write a pool item, like its owner. None leaves out an attribute."""
        self.pools.append(pool)
        item = {"pool_name": pool, "instance_types": ["m5.large"], **attributes}
        put_pool(self.cloud, {name: value for name, value in item.items() if value is not None})

    def status(self, pool: str) -> dict[str, Any]:
        """PoolStatus at the last poll."""
        return dict(self.watcher.status(pool))

    def instances(self, pool: str, *states: str) -> list[dict[str, Any]]:
        """The pool's instances in EC2 in these states (default: running and pending)."""
        of_interest = states or ("pending", "running")
        return [one for one in self.market.state()["instances"] if one["pool"] == pool and one["state"] in of_interest]

    def ever_launched(self, pool: str) -> list[str]:
        """Ids of all instances that the pool ever had."""
        return [one["instance_id"] for one in self.watcher.record() if one["what"] == "pending" and one["pool"] == pool]

    def until_running(self, pool: str, size: int, seconds: float = 30) -> None:
        """Wait until PoolStatus and EC2 both show this number of running instances."""
        self.watcher.until(
            lambda: self.status(pool).get("running") == size and len(self.instances(pool, "running")) == size,
            f"{pool}: {size} running",
            seconds=seconds,
        )


@pytest.fixture
def site(cloud: LocalCloud, watcher: Watcher) -> Iterator[Site]:
    here = Site(cloud, watcher)
    yield here
    cloud.market.ask("DELETE", "/market/faults")
    for pool in here.pools:
        delete_pool(cloud, pool)
