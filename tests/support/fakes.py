"""In-memory tables and queue that keep the ports' contracts (checked by tests/contract), and a world with a market."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from botocore.exceptions import ClientError

from lambdas.aws import status_table
from lambdas.aws.drainer import EventsAndCommands
from lambdas.aws.ec2_fleet import Ec2Fleet
from lambdas.aws.offerings import Offerings
from lambdas.control_plane import ControlPlane
from lambdas.domain.model.status import Attempt, Ended, Notice, Status
from lambdas.domain.record.backoff import BackoffPolicy
from lambdas.events import parse_ec2_event
from lambdas.metrics import COST_EVERY
from lambdas.notices import hear, whose
from lambdas.ports import Lease, LeaseLostError, UnreadableStatusError
from lambdas.reconcile import reconcile
from lambdas.tick import tick
from localcloud.market.api.health import health
from localcloud.market.api.shapes import refuse_beyond_model
from localcloud.market.faces.client import MarketClient
from localcloud.market.model.clock import ManualClock
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import Offering
from localcloud.market.model.settings import Fault
from localcloud.market.model.settings import Settings as MarketSettings
from localcloud.market.model.surroundings import PlainSurroundings

ITEM_LIMIT = 400 * 1024
"""DynamoDB's limit for an item, in bytes."""

EXPRESSION_LIMIT = 4 * 1024
"""DynamoDB's limit for an expression, in bytes."""

STACK = "test"
TEMPLATE = "test-default"


class MemoryPools:
    """The users' items in a dict."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}

    def get(self, pool_name: str) -> Mapping[str, Any] | None:
        item = self.items.get(pool_name)
        return None if item is None else dict(item)

    def scan(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: dict(item) for name, item in self.items.items()}


class MemoryStatuses:
    """Statuses in a dict, with the lease, the fence and the dirty mark of the real table. It counts writes."""

    def __init__(self, clock: ManualClock, lease_seconds: int = 75) -> None:
        self.clock = clock
        self.lease_seconds = lease_seconds
        self.statuses: dict[str, Status] = {}
        self.leases: dict[str, dict[str, Any]] = {}
        self.marks: dict[str, datetime] = {}
        self.writes: Counter[str] = Counter()

    def get(self, pool_name: str) -> Status | None:
        return self.statuses.get(pool_name)

    def scan(self) -> Mapping[str, Status | UnreadableStatusError]:
        return dict(self.statuses)

    def acquire(self, pool_name: str) -> Lease | None:
        self.writes[pool_name] += 1
        now = self.clock()
        self.statuses.setdefault(pool_name, Status())
        self.marks.pop(pool_name, None)
        first = {"fence": int(now.timestamp()), "until": datetime.min.replace(tzinfo=UTC)}
        held = self.leases.setdefault(pool_name, first)
        if held["until"] > now:
            held["dirty"] = True
            return None
        held |= {"fence": held["fence"] + 1, "until": now + timedelta(seconds=self.lease_seconds), "dirty": False}
        return Lease(pool_name, held["fence"])

    def queued(self, pool_name: str, now: datetime, lasts: timedelta) -> bool:
        if pool_name not in self.statuses:
            return True
        if self.marks.get(pool_name, datetime.min.replace(tzinfo=UTC)) > now - lasts:
            return False
        self.writes[pool_name] += 1
        self.marks[pool_name] = now
        return True

    def release(self, lease: Lease, *, even_if_dirty: bool = False) -> bool:
        if lease.pool_name not in self.leases:
            return True
        held = self._held(lease)
        if held["dirty"] and not even_if_dirty:
            held["dirty"] = False
            return False
        held["until"] = datetime.min.replace(tzinfo=UTC)
        return True

    def begin(self, lease: Lease, attempt: Attempt) -> None:
        self._save_part(lease, {"attempt": attempt})

    def ending(self, lease: Lease, ended: Ended) -> None:
        self._save_part(lease, {"ending": ended})

    def announced(self, lease: Lease, instance_ids: Iterable[str]) -> None:
        self._save_part(lease, {"announced": tuple(instance_ids)})

    def _save_part(self, lease: Lease, parts: dict[str, Any]) -> None:
        self._held(lease)
        status = self.statuses[lease.pool_name]
        self._put(lease.pool_name, status.model_copy(update={"memory": status.memory.model_copy(update=parts)}))

    def save(self, lease: Lease, before: Status, after: Status) -> None:
        self._held(lease)
        present = self.statuses[lease.pool_name].notices
        past = before.notices.keys() - after.notices.keys()
        removed = [f"controller.notices.#n{number}" for number in range(len(past))][: status_table.REMOVED_AT_ONCE]
        if len("REMOVE " + ", ".join(removed)) > EXPRESSION_LIMIT:
            raise _refused("Invalid UpdateExpression: Expression size has exceeded the maximum allowed size")
        notices = {id_: one for id_, one in present.items() if id_ not in past}
        self._put(lease.pool_name, after.model_copy(update={"notices": notices}))

    def _put(self, pool_name: str, status: Status) -> None:
        """Convert through JSON, so that values that the real table loses or refuses are lost or refused here too."""
        written = status.model_dump_json(exclude_none=True)
        if len(written.encode()) > ITEM_LIMIT:
            raise _refused("Item size to update has exceeded the maximum allowed size")
        self.statuses[pool_name] = Status.model_validate_json(written)

    def delete(self, lease: Lease) -> None:
        if lease.pool_name in self.leases:
            self._held(lease)
            del self.leases[lease.pool_name], self.statuses[lease.pool_name]

    def note(self, pool_name: str, instance_id: str, notice: Notice) -> None:
        status = self.statuses.setdefault(pool_name, Status())
        if notice.outweighs(status.notices.get(instance_id)):
            self._put(pool_name, status.model_copy(update={"notices": {**status.notices, instance_id: notice}}))

    def _held(self, lease: Lease) -> dict[str, Any]:
        self.writes[lease.pool_name] += 1
        held = self.leases.get(lease.pool_name)
        if held is None or held["fence"] != lease.fence:
            raise LeaseLostError(lease.pool_name)
        return held


def _refused(text: str) -> ClientError:
    return ClientError({"Error": {"Code": "ValidationException", "Message": text}}, "UpdateItem")


LARGEST_EVENTS = 1_000_000
"""PutEvents' limit for a call, in bytes."""


class MemoryBus:
    """EventBridge's default bus as a list of details. With ``refusing`` it refuses every entry."""

    def __init__(self) -> None:
        self.details: list[dict[str, Any]] = []
        self.refusing = False

    def put_events(self, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803  boto3's own name
        if self.refusing:
            return {"Entries": [{"ErrorCode": "InternalFailure", "ErrorMessage": "Try again."} for _ in Entries]}
        refuse_beyond_model("events", "PutEvents", {"Entries": Entries})
        assert len(json.dumps(Entries)) < LARGEST_EVENTS
        self.details += [json.loads(entry["Detail"]) for entry in Entries]
        return {"Entries": [{"EventId": str(number)} for number, _ in enumerate(Entries)]}


class MemoryQueue:
    """The due queue as a list of names. Delayed messages are in another list, with their times."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.waiting: list[str] = []
        self.delayed: list[tuple[datetime, str]] = []

    def send(self, pools: Mapping[str, str], after: timedelta = timedelta(0)) -> None:
        if after:
            self.delayed += [(self.clock() + after, name) for name in pools]
        else:
            self.waiting += pools


def offering(instance_type: str, zone: str, capacity: int = 10, price: str = "0.5", on_demand: str = "2") -> Offering:
    """An offering with capacity and a price."""
    return Offering(
        instance_type=instance_type,
        zone=zone,
        capacity=capacity,
        spot_price=Decimal(price),
        on_demand_price=Decimal(on_demand),
        vcpus=4,
    )


def fleet_of(client: Any, clock: Any, pricing: Any = None, **settings: Any) -> Ec2Fleet:
    """The real adapter with a client of the market."""
    offerings = Offerings(client, pricing, default_subnets=(), region="us-east-1", clock=clock)
    return Ec2Fleet(client, stack=STACK, default_launch_template=TEMPLATE, offerings=offerings, **settings)


class World:
    """The control plane with a market, in one process, on a manual clock."""

    def __init__(self, *offerings: Offering, zones: str = "abc", **settings: Any) -> None:
        self.clock = ManualClock()
        self.surroundings = PlainSurroundings(" ".join(f"us-east-1{zone}" for zone in zones))
        self.market = Market(
            clock=self.clock,
            surroundings=self.surroundings,
            offerings=deepcopy(offerings) or [offering("g5.xlarge", f"us-east-1{zone}") for zone in "abc"],
            settings=MarketSettings(**settings),
        )
        self.pools = MemoryPools()
        self.statuses = MemoryStatuses(self.clock)
        self.queue = MemoryQueue(self.clock)
        self.bus = MemoryBus()
        self.surroundings.add_template(TEMPLATE)
        ids = count(1)
        self.client = MarketClient(self.market)
        self.plane = ControlPlane(
            stack=STACK,
            pools=self.pools,
            statuses=self.statuses,
            fleet=fleet_of(self.client, self.clock, MarketClient(self.market, service="pricing")),
            drainer=EventsAndCommands(
                self.bus, MarketClient(self.market, service="ssm"), stack=STACK, clock=self.clock
            ),
            queue=self.queue,
            clock=self.clock,
            backoff_policy=BackoffPolicy(base=timedelta(seconds=60), longest=timedelta(seconds=900)),
            drain_grace=timedelta(seconds=300),
            new_id=lambda: f"attempt-{next(ids)}",
            wait=self.clock.forward,
        )

    def edit(self, pool_name: str = "p", **attributes: Any) -> None:
        """Write an item, like a user, and reconcile its pool."""
        self.put(pool_name, **attributes)
        reconcile(pool_name, self.plane)

    def put(self, pool_name: str = "p", **attributes: Any) -> None:
        """Write an item without an event. If the item has no type, it gets one."""
        typed = {"instance_types": ["g5.xlarge"]} if "instance_type" not in attributes else {}
        self.pools.items[pool_name] = {"pool_name": pool_name, **typed, **attributes}

    def delete(self, pool_name: str = "p") -> None:
        """Delete an item and reconcile its pool."""
        del self.pools.items[pool_name]
        reconcile(pool_name, self.plane)

    def tick(self) -> None:
        """Run a tick, and reconcile every pool that it found due."""
        tick(self.plane)
        due, self.queue.waiting = self.queue.waiting, []
        for pool_name in due:
            reconcile(pool_name, self.plane)

    def forward(self, seconds: float, *, deliver: bool = True) -> None:
        """Let time pass. EC2's events arrive unless they are set to be lost, and so do due messages of the queue."""
        end = self.clock() + timedelta(seconds=seconds)
        while deliver and self.queue.delayed and min(self.queue.delayed)[0] <= end:
            at, pool_name = min(self.queue.delayed)
            self.queue.delayed.remove((at, pool_name))
            self._pass(at, deliver=deliver)
            reconcile(pool_name, self.plane)
        self._pass(end, deliver=deliver)

    def _pass(self, until: datetime, *, deliver: bool) -> None:
        self.clock.forward((until - self.clock()).total_seconds())
        self.hear(self.market.advance() if deliver else [])

    def minutes(self, number: int) -> None:
        """Let minutes pass, with a tick at the end of each."""
        for _ in range(number):
            self.forward(60)
            self.tick()

    def hear(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Handle events as the notices function does."""
        parsed = [parse_ec2_event(json.dumps(event)) for event in events]
        seen = whose(parsed, self.plane)
        touched: dict[str, None] = {}
        for event in parsed:
            touched |= dict.fromkeys(hear(event, seen, self.plane))
        for pool_name in touched:
            reconcile(pool_name, self.plane)

    def recommend_rebalance(self, *instance_ids: str) -> None:
        """Send rebalance recommendations for instances."""
        for instance in self.market.live_spot_named(instance_ids):
            self.market.recommend_rebalance(instance)
        self.hear(self.market.advance())

    def announce_maintenance(self, *instance_ids: str, **details: Any) -> list[str]:
        """Let AWS Health announce maintenance of instances. Returns the ARNs of its events."""
        code, then = "AWS_EC2_INSTANCE_REBOOT_MAINTENANCE_SCHEDULED", self.clock() + timedelta(days=14)
        arns = [
            self.market.announce_maintenance(one, code, "scheduledChange", then, **details)
            for one in self.market.named(instance_ids)
        ]
        self.hear(self.market.advance())
        return arns

    def interrupt(self, *instance_ids: str) -> None:
        """Send two-minute interruption notices to instances."""
        for instance in self.market.live_spot_named(instance_ids):
            self.market.notice(instance, self.clock(), cause="capacity")
        self.hear(self.market.advance())

    def fault(self, **fault: Any) -> None:
        """Inject a fault into the next calls."""
        self.market.faults.append(Fault(**fault))

    def set_all(self, **changes: Any) -> None:
        """Change every offering."""
        for instance_type, zone in list(self.market.offerings):
            self.market.set_offering(instance_type, zone, **changes)

    def alive(self, pool_name: str = "p") -> list[str]:
        """Ids of the pool's pending and running instances in EC2."""
        self.market.catch_up()
        return [
            one.id
            for one in self.market.instances.values()
            if one.state in ("pending", "running") and one.tags.get("spotpools:pool") == pool_name
        ]

    def ready(self, pool_name: str = "p") -> list[str]:
        """Ids of the pool's instances that are ready by the market's own state: running, with all checks passed."""
        alive = [self.market.instances[id_] for id_ in self.alive(pool_name)]
        return [one.id for one in alive if health(self.market, one, one.state, self.clock()) == ("ok", "ok")]

    def status(self, pool_name: str = "p") -> Status:
        """The pool's status."""
        return self.statuses.statuses[pool_name]

    @property
    def calls(self) -> Counter[str]:
        """EC2 calls by action."""
        return self.market.calls


def apart_from_costs(calls: Counter[str]) -> Counter[str]:
    """The calls without those for the cost of the whole fleet, which a tick makes at most every five minutes."""
    assert calls["DescribeSpotPriceHistory"] <= calls["DescribeInstances"] / COST_EVERY
    return Counter({name: n for name, n in calls.items() if name not in ("DescribeSpotPriceHistory", "GetProducts")})
