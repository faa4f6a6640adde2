"""Functions are killed at each step of their work under load: no instance too many, none lost, no pool stuck.

A printed seed decides what is killed, when, and what else happens. The concurrency of the processes is real and differs
from run to run. ``make kills KILLS=n SEED=m`` does more kills, or others.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from infra.stages import LOCAL
from localcloud.cloud import LocalCloud
from localcloud.demo.pools import delete_pool, resize_pool
from localcloud.demo.watch import NotSeenError, Watcher
from tests.e2e.conftest import TICK_SECONDS, Site
from tests.e2e.kills import Blow, Call, Gate, When
from tests.support.seeds import fresh_seed

pytestmark = pytest.mark.long

SEED = fresh_seed()
KILLS = int(os.environ.get("KILLS") or 20)

TICKS_TO_SETTLE = math.ceil(LOCAL.lease_seconds / TICK_SECONDS) + 6
"""Time for the dead function's lease to expire, a tick, a launch, a boot, and a tick that sees the instances."""

WHEN: tuple[When, ...] = ("before", "after")
LAUNCH = {
    "status": ("PutItem", "attribute_not_exists(pool_name)"),
    "lease": ("UpdateItem", "controller.lease_until = :until"),
    "look": ("DescribeInstances", ""),
    "attempt": ("UpdateItem", "controller.memory.attempt = :attempt"),
    "fleet": ("CreateFleet", ""),
    "record": ("UpdateItem", "controller.memory = :memory"),
    "release": ("UpdateItem", "controller.lease_until = :free"),
}
"""The calls of a pool's first reconcile: the action, and a text that distinguishes the call from others."""

STUCK_SECONDS = 150
"""On a busy machine a function's new process takes seconds to start."""

MOST = 6
"""max_instances of the pools in the test with random kills."""


@pytest.fixture(scope="module")
def standing_gate() -> Iterator[Gate]:
    with Gate() as standing:
        yield standing


@pytest.fixture(scope="module")
def cloud(standing_gate: Gate) -> Iterator[LocalCloud]:
    """A separate cloud: messages of killed functions come back from the queues for minutes."""
    with LocalCloud(family="kills", keeps_state=True) as started:
        standing_gate.guard(started)
        started.tick_every(TICK_SECONDS)
        yield started


@pytest.fixture(scope="module")
def watcher(cloud: LocalCloud) -> Iterator[Watcher]:
    with Watcher(cloud) as watching:
        yield watching


@pytest.fixture
def gate(standing_gate: Gate) -> Gate:
    standing_gate.start_over()
    return standing_gate


@dataclass
class Ledger:
    """What the pools' owner and the market requested, by pool."""

    site: Site
    wanted: dict[str, int | None] = field(default_factory=dict)
    """The final size. None: the pool was deleted."""
    warranted: Counter[str] = field(default_factory=Counter)
    """The number of launches that edits and interruptions explain so far."""
    limit: dict[str, int] = field(default_factory=dict)
    lowered: set[str] = field(default_factory=set)
    """Pools whose last edit reduced the size: a lost launch is not repeated there, but its result is awaited."""

    def put(self, pool: str, size: int, limit: int) -> None:
        """Write a pool item."""
        self.site.put(pool, target_size=size, max_instances=limit)
        self.wanted[pool], self.limit[pool] = size, limit
        self.warranted[pool] += size

    def resize(self, pool: str, size: int) -> None:
        """Change a pool's size."""
        before = self.wanted[pool] or 0
        self.warranted[pool] += max(0, size - before)
        self.wanted[pool] = size
        (self.lowered.add if size < before else self.lowered.discard)(pool)
        resize_pool(self.site.cloud, pool, size)

    def delete(self, pool: str) -> None:
        """Delete a pool."""
        self.wanted[pool] = None
        self.lowered.add(pool)
        delete_pool(self.site.cloud, pool)

    def interrupt(self, pool: str, seconds: float) -> None:
        """Interrupt an instance of the pool, if one has no notice yet."""
        spared = [one["instance_id"] for one in self.site.instances(pool) if one["noticed_at"] is None]
        if spared:
            self.warranted[pool] += 1
            self.site.market.interrupt(spared[0], notice_seconds=seconds)

    def redeliver(self, pool: str) -> None:
        """Deliver a message for the pool's reconcile three more times."""
        body = json.dumps({"pool_name": pool, "why": "delivered again"})
        for _ in range(3):
            self.site.cloud.client("sqs").send_message(
                QueueUrl=self.site.cloud.outputs["DueQueueUrl"], MessageBody=body
            )

    def settle(self, gate: Gate) -> int:
        """Wait until EC2 and PoolStatus show each pool as wanted. Returns the ticks since the last kill."""
        ticks, kills = self.site.cloud.ticks, -1
        assert ticks is not None
        first = ticks.count

        def settled() -> bool:
            nonlocal first, kills
            if len(gate.kills) != kills:
                first, kills = ticks.count, len(gate.kills)
            return not self.unsettled()

        try:
            self.site.watcher.until(settled, "all as wanted", seconds=STUCK_SECONDS)
        except NotSeenError:
            pytest.fail("stuck: " + "\n".join(self.unsettled()))
        return ticks.count - first

    def unsettled(self) -> list[str]:
        """The pools that are not yet as wanted, each with its state."""
        view = self.site.watcher.view
        running: Counter[str] = Counter()
        other: Counter[str] = Counter()
        for one in view.market["instances"]:
            if one["state"] in ("pending", "running"):
                (running if one["state"] == "running" and not one["noticed_at"] else other)[one["pool"]] += 1
        return [
            f"{pool}: wanted {size}, running {running[pool]}, other {other[pool]}, {_said(view.statuses.get(pool))}"
            for pool, size in self.wanted.items()
            if (running[pool], other[pool]) != (size or 0, 0)
            or not _answered(view.statuses.get(pool), size, may_await=pool in self.lowered)
        ]

    def check(self) -> None:
        """Check the promises with the market's record."""
        record = self.site.watcher.record()
        launched = Counter(one["pool"] for one in record if one["what"] == "pending")
        assert None not in launched, "each instance belongs to a pool"
        for pool, warranted in self.warranted.items():
            assert launched[pool] <= warranted, f"{pool}: {launched[pool]} launched, {warranted} were called for"
            assert most_alive(record, pool) <= self.limit[pool], f"{pool}: above max_instances"


def _answered(status: Mapping[str, Any] | None, size: int | None, *, may_await: bool) -> bool:
    """Whether a status shows the wanted size and nothing unknown, except launches that it may await."""
    if status is None:
        return size is None
    awaits = "attempt" in status["controller"]["memory"]
    return (
        (status.get("wanted"), status.get("running"), status.get("starting")) == (size or 0, size or 0, 0)
        and "waiting" not in status
        and (awaits if size is None else may_await or not awaits)
    )


def _said(status: Mapping[str, Any] | None) -> str:
    """The public and the remembered part of a status, in short."""
    if status is None:
        return "no status"
    kept = status["controller"]
    names = ("wanted", "running", "starting", "noticed", "waiting", "last_error")
    return str(
        {name: status[name] for name in names if name in status}
        | {name: kept[name] for name in ("lease_until", "dirty", "notices")}
        | {"attempt": kept["memory"].get("attempt", {}).get("id")}
    )


def most_alive(record: Iterable[Mapping[str, Any]], pool: str) -> int:
    """The largest number of a pool's instances that were alive at the same time."""
    alive: set[str] = set()
    most = 0
    for one in record:
        if one.get("pool") == pool and one["what"] in ("pending", "shutting-down"):
            (alive.add if one["what"] == "pending" else alive.discard)(one["instance_id"])
            most = max(most, len(alive))
    return most


def test_a_function_killed_before_or_after_any_step_leaves_neither_too_many_nor_too_few(site: Site, gate: Gate) -> None:
    ledger = Ledger(site)
    pools = [f"{when}-{step}" for when in WHEN for step in ("shrink", "notice", "forget", "edit")]
    for pool in pools:
        ledger.put(pool, 0 if "forget" in pool else 3, limit=4)
    ledger.settle(gate)
    for when in WHEN:
        gate.plan(Blow(f"{when}-notice", at("UpdateItem", "SET controller.notices.#id", f"{when}-notice"), when))
        ledger.interrupt(f"{when}-notice", seconds=20)
        # Messages in the same batch as the killed one stay hidden with it.
        site.watcher.until(lambda: not gate.planned, "the kill at the notice", seconds=STUCK_SECONDS)
    for when in WHEN:
        for step, call in LAUNCH.items():
            gate.plan(Blow(f"{when}-{step}", at(*call, f"{when}-{step}"), when))
            ledger.put(f"{when}-{step}", 3, limit=3)
        going = [one["instance_id"] for one in site.instances(f"{when}-shrink")]
        gate.plan(Blow(f"{when}-shrink", at("TerminateInstances", "", *going), when))
        ledger.resize(f"{when}-shrink", 1)
        gate.plan(Blow(f"{when}-forget", at("DeleteItem", "", f"{when}-forget"), when))
        ledger.delete(f"{when}-forget")
        gate.plan(Blow(f"{when}-edit", at("SendMessageBatch", "its item was edited", f"{when}-edit"), when))
        ledger.resize(f"{when}-edit", 4)
        # A pool whose first reconcile was killed is due, so the next tick has a message to send.
        gate.plan(Blow(f"{when}-tick", at("SendMessageBatch", "its item changed"), when))
    took = ledger.settle(gate)
    tell(gate, took)
    assert gate.planned == [], "each step was met"
    assert len(gate.kills) == len(WHEN) * (len(LAUNCH) + 5)
    ledger.check()


def at(action: str, text: str, *marks: str) -> Callable[[Call], bool]:
    """Whether a call has this action and this text, and is about the pool or an instance with this name, if given."""
    return lambda call: call.action == action and text in call.body and any(one in call.body for one in marks or [""])


def test_functions_killed_at_random_and_aws_restarted_leave_neither_too_many_nor_too_few(
    site: Site, gate: Gate
) -> None:
    sys.stdout.write(f"\nseed {SEED}\n")
    chance = random.Random(SEED)  # noqa: S311  random numbers of a test are not secrets
    redeliver_after(site.cloud, seconds=8)
    ledger = Ledger(site)
    pools = [f"random-{number}" for number in range(8)]
    for pool in pools:
        ledger.put(pool, chance.randint(1, MOST), limit=MOST)
    restart_at: int | None = chance.randint(KILLS // 3, 2 * KILLS // 3)
    while len(gate.kills) < KILLS:
        happen(ledger, chance, chance.choice(pools))
        gate.plan(drawn(chance, f"kill {len(gate.kills) + 1}"))
        site.watcher.until(lambda: not gate.planned, "the next kill", seconds=STUCK_SECONDS)
        if restart_at is not None and len(gate.kills) >= restart_at:
            site.cloud.restart_aws()
            restart_at = None
    ledger.delete(pools[0])
    took = ledger.settle(gate)
    tell(gate, took)
    ledger.check()


def redeliver_after(cloud: LocalCloud, seconds: int) -> None:
    """Redeliver a killed function's messages within the test, not after the stack's two minutes."""
    sqs = cloud.client("sqs")
    mappings = cloud.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    for arn in (one["EventSourceArn"] for one in mappings if ":sqs:" in one["EventSourceArn"]):
        url = sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})


def happen(ledger: Ledger, chance: random.Random, pool: str) -> None:
    """Do one random thing of an owner, EC2 or SQS."""
    match chance.choice(("resize", "interrupt", "redeliver")):
        case "resize":
            ledger.resize(pool, chance.randint(0, MOST))
        case "interrupt":
            ledger.interrupt(pool, seconds=chance.uniform(0, 5))
        case _:
            ledger.redeliver(pool)


def drawn(chance: random.Random, name: str) -> Blow:
    """A kill at one of the next calls of any function: before it, after it, or soon after."""
    left = chance.randint(1, 20)  # calls, of which a tick makes about five and a reconcile about eight

    def counted_down(_: Call) -> bool:
        nonlocal left
        left -= 1
        return left <= 0  # again at the next call, if the process of this one is already dead

    when = chance.choice(WHEN)
    return Blow(name, counted_down, when, late=chance.choice((0, 0, chance.uniform(0.001, 0.05))))


def tell(gate: Gate, took: int) -> None:
    """Print what was done, for a run with -s or a failed run."""
    summary = f"seed {SEED}: {len(gate.kills)} kills; settled {took} ticks after the last, of {TICKS_TO_SETTLE} allowed"
    sys.stdout.write("\n".join(["", summary, *map(str, gate.kills), ""]))
    assert took <= TICKS_TO_SETTLE, summary
