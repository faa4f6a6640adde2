"""Functions are killed at each step of their work while messages flow: nothing too many, nothing lost, none stuck."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localcloud.cloud import LocalCloud
from localcloud.watch import Watcher
from tests.e2e.conftest import TICK_SECONDS, Site
from tests.e2e.kills import Blow, Gate


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """A cloud of their own: what is killed here comes back from the queues for minutes."""
    with LocalCloud(family="kills", tick_seconds=TICK_SECONDS) as started:
        yield started


@pytest.fixture(scope="module")
def watcher(cloud: LocalCloud) -> Iterator[Watcher]:
    with Watcher(cloud) as watching:
        yield watching


@pytest.fixture(scope="module")
def gate(cloud: LocalCloud) -> Iterator[Gate]:
    with Gate(cloud) as standing:
        yield standing


def test_killed_after_create_fleet(site: Site, gate: Gate) -> None:
    gate.plan(Blow("after CreateFleet", lambda call: call.action == "CreateFleet" and "one" in call.body, "after"))
    site.put("one", target_size=3)
    site.until_running("one", 3, seconds=60)
    assert gate.planned == []
    assert len(gate.kills) == 1
    assert len(site.ever_launched("one")) == 3
