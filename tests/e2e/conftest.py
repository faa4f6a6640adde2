"""One local cloud for all whole-path tests, watched; each test gets pools of its own."""

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
    """The real stack on a cloud of its own, ticking every two seconds; it ends with the last test of this folder."""
    with LocalCloud(family="test", tick_seconds=TICK_SECONDS) as started:
        yield started


@pytest.fixture(scope="package")
def watcher(cloud: LocalCloud) -> Iterator[Watcher]:
    with Watcher(cloud) as watching:
        yield watching


class Site:
    """What a whole-path test does and sees."""

    def __init__(self, cloud: LocalCloud, watcher: Watcher) -> None:
        self.cloud = cloud
        self.watcher = watcher
        self.market = cloud.market
        self.pools: list[str] = []

    def put(self, pool: str, **attributes: Any) -> None:
        """Write a pool item, as its owner would; None leaves an attribute out."""
        self.pools.append(pool)
        item = {"pool_name": pool, "instance_types": ["m5.large"], **attributes}
        put_pool(self.cloud, {name: value for name, value in item.items() if value is not None})

    def status(self, pool: str) -> dict[str, Any]:
        """PoolStatus as last seen."""
        return dict(self.watcher.status(pool))

    def instances(self, pool: str, *states: str) -> list[dict[str, Any]]:
        """The pool's instances as EC2 has them, of these states (running and pending unless told)."""
        of_interest = states or ("pending", "running")
        return [one for one in self.market.state()["instances"] if one["pool"] == pool and one["state"] in of_interest]

    def ever_launched(self, pool: str) -> list[str]:
        """Ids of all instances the pool ever had."""
        return [one["instance_id"] for one in self.watcher.record() if one["what"] == "pending" and one["pool"] == pool]

    def until_running(self, pool: str, size: int, seconds: float = 30) -> None:
        """Wait until PoolStatus says so and EC2 agrees."""
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
