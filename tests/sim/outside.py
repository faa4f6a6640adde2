"""The outside as production code meets it: EC2, the tables and the queue, where any call may go wrong in any way.

Each port hands its call to the world, which lets time pass, lets others run meanwhile, and lays faults in the way.
"""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, ReadTimeoutError

from lambdas.domain.model.status import Attempt, Ended, Notice, Status
from lambdas.ports import Lease, UnreadableStatusError
from localcloud.market.api.actions import describe_instances
from localcloud.market.api.health import describe_instance_status
from localcloud.market.faces.client import MarketClient
from localcloud.market.model.errors import EC2Error
from localcloud.market.model.instances import BY_USER, Ending
from localcloud.market.model.settings import Fault
from tests.sim.oracle import REASONS, Invocation, tag_of

if TYPE_CHECKING:
    from tests.sim.world import World

INSTANCE_ARN = "arn:aws:ec2:us-east-1:123456789012:instance/"

DIES_PENDING = Ending(
    code="Server.InsufficientInstanceCapacity", text="Server.InsufficientInstanceCapacity", initiator="Service"
)


def client_error(call: str, code: str, resource: str = "") -> ClientError:
    """An error as botocore raises it; those about permissions name a resource and carry a long encoded text."""
    about = f"{call} on resource: {resource}. {'x' * 2000}" if code == "UnauthorizedOperation" else ""
    message = f"{code} injected. {about}"
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {}}
    return ClientError(answer, call)


class Service:
    """One of the market's services; each call of its client may go wrong."""

    def __init__(self, world: World, name: str = "ec2") -> None:
        self._world = world
        self._client = MarketClient(world.market, service=name)

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        call, method = "".join(part.capitalize() for part in name.split("_")), getattr(self._client, name)

        def ask(**params: Any) -> dict[str, Any]:
            if "MaxResults" in params:
                params["MaxResults"] = min(params["MaxResults"], max(self._world.scenario.page_size, 2))
            return self._world.call(call, lambda: method(**params))

        return ask


class Ec2(Service):
    """EC2, whose launches, terminations and listings are watched."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._more: dict[str, int] = {}

    def create_fleet(self, **params: Any) -> dict[str, Any]:
        return _Launch(self._world, self._client, self._more, params).send()

    def describe_instances(self, **params: Any) -> dict[str, Any]:
        world, inv = self._world, running(self._world)
        if "MaxResults" in params:
            params["MaxResults"] = min(params["MaxResults"], world.scenario.page_size)

        def effect() -> dict[str, Any]:
            # As the client does, but without its copies and checks, which take half of all the time: the answer is new.
            world.market.begin("DescribeInstances")
            answer = describe_instances(world.market, params)
            inv.looked_at = world.oracle.now()
            for one in (one for group in answer["Reservations"] for one in group["Instances"]):
                inv.shown[one["InstanceId"]] = {tag["Key"]: tag["Value"] for tag in one["Tags"]}
                if one["InstanceId"] in world.oracle.books.stopped and one["State"]["Name"] == "running":
                    one["State"] = {"Code": 80, "Name": "stopped"}
            return answer

        return world.call("DescribeInstances", effect)

    def terminate_instances(self, **params: Any) -> dict[str, Any]:
        world, inv = self._world, running(self._world)
        ids = params["InstanceIds"]
        inv.ending.update(ids)

        def effect() -> dict[str, Any]:
            world.oracle.terminating(inv, ids)
            world.log(f"TerminateInstances {ids}")
            answer = self._client.terminate_instances(**params)
            world.stats["terminated"] += len(ids)
            return answer

        def vanish(_: dict[str, Any]) -> dict[str, Any]:
            """One of them went a while ago, and only now EC2 has forgotten it."""
            if instance := world.market.instances.get(ids[0]):
                world.market.end(instance, BY_USER, world.clock.now)
                del world.market.instances[ids[0]]
            return effect()

        def vanish_forbidden(fault: dict[str, Any]) -> dict[str, Any]:
            try:
                return vanish(fault)
            except ClientError:
                return forbidden({"code": "UnauthorizedOperation"})

        def forbidden(fault: dict[str, Any]) -> dict[str, Any]:
            raise client_error("TerminateInstances", fault["code"], INSTANCE_ARN + ids[0])

        return world.call(
            "TerminateInstances", effect, vanish=vanish, vanish_forbidden=vanish_forbidden, error=forbidden
        )

    def describe_instance_status(self, **params: Any) -> dict[str, Any]:
        world = self._world

        def effect() -> dict[str, Any]:
            # Without the client's copies and checks, as above.
            world.market.begin("DescribeInstanceStatus")
            try:
                return describe_instance_status(world.market, params)
            except EC2Error as error:
                answer: Any = {"Error": {"Code": error.code, "Message": error.message}, "ResponseMetadata": {}}
                raise ClientError(answer, "DescribeInstanceStatus") from None

        return world.call("DescribeInstanceStatus", effect)


class Events:
    """EventBridge: it takes the announcements of ends."""

    def __init__(self, world: World) -> None:
        self._world = world

    def put_events(self, **params: Any) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            details = [json.loads(entry["Detail"]) for entry in params["Entries"]]
            self._world.oracle.announced_ends.update(detail["instance-id"] for detail in details)
            if inv := self._world.running:
                inv.announced.update(detail["pool"] for detail in details)
            for detail in details:
                self._world.announced.append(detail["instance-id"])
                self._world.announced_at.setdefault(detail["instance-id"], self._world.t)
            return {"Entries": [{} for _ in details]}

        def entries(fault: dict[str, Any]) -> dict[str, Any]:
            """A success, of which each entry is a failure."""
            return {
                "Entries": [{"ErrorCode": fault["code"], "ErrorMessage": "of one entry"} for _ in params["Entries"]]
            }

        return self._world.call("PutEvents", effect, entries=entries)


class _Launch:
    """One CreateFleet on its way to EC2 and back, by its good way or one of the bad ones."""

    def __init__(self, world: World, client: MarketClient, more: dict[str, int], params: dict[str, Any]) -> None:
        self._world, self._client, self._extra, self._params = world, client, more, params
        self._inv = inv = running(world)
        self._token: str = params["ClientToken"]
        self._pool = tag_of(params, "spotpools:pool")
        self._asked: int = params["TargetCapacitySpecification"]["TotalTargetCapacity"]
        self._seen = copy.copy(inv.of(self._pool))
        self._fresh = self._token not in world.market.answered
        self._first = self._token in inv.begun

    def send(self) -> dict[str, Any]:
        self._inv.begun.discard(self._token)
        self._inv.launches_for = self._pool
        self._world.oracle.calling(self._inv, self._params)
        ways = (self.inside, self.zero, self.more, self.beside, self.late, self.dies, self.error)
        answer = self._world.call("CreateFleet", self.effect, **{way.__name__: way for way in ways})
        self._world.oracle.answered(self._inv, self._params, answer)
        return answer

    def effect(self) -> dict[str, Any]:
        world, sent = self._world, self._params
        if more := self._extra.get(self._token):
            sent = copy.deepcopy(sent)
            sent["TargetCapacitySpecification"]["TotalTargetCapacity"] += more
        known = self._token in world.market.answered
        answer = world.oracle.launching(
            self._inv, self._seen, self._params, lambda: self._client.create_fleet(**sent), first=self._first
        )
        ids = _ids(answer)
        if not known:
            world.stats["launched"] += len(ids)
            world.work(ids)
        codes = sorted({entry["ErrorCode"] for entry in answer["Errors"]})
        world.log(f"CreateFleet {self._token} asks {self._asked}, EC2 launched {ids} {codes}")
        return answer

    def inside(self, fault: dict[str, Any]) -> dict[str, Any]:
        """A success that carries an error for each override, and few instances or none."""
        if self._token in self._world.market.answered:  # EC2 repeats its first answer, even if it is a moment old
            self._inv.faults.pop()
            return self.effect()
        laid = Fault(action="CreateFleet", error=fault["code"], where="inside", launches=fault["launches"])
        self._world.market.faults.append(laid)
        answer = self.effect()
        if len(_ids(answer)) < self._asked:
            self._expect(fault["code"])
        return answer

    def zero(self, fault: dict[str, Any]) -> dict[str, Any]:
        """A success with neither instances nor errors."""
        answer = self.inside({**fault, "code": "InsufficientInstanceCapacity", "launches": 0})
        return answer if _ids(answer) else {**answer, "Errors": []}

    def more(self, _: dict[str, Any]) -> dict[str, Any]:
        """More instances than asked for."""
        if self._fresh:
            self._extra[self._token] = 2
        return self.effect()

    def beside(self, fault: dict[str, Any]) -> dict[str, Any]:
        """An error entry beside all that was asked for."""
        answer = self.effect()
        override = {"Overrides": self._params["LaunchTemplateConfigs"][0]["Overrides"][0]}
        entry = {"LaunchTemplateAndOverrides": override, "ErrorCode": fault["code"], "ErrorMessage": "beside"}
        answer["Errors"].append(entry)
        return answer

    def late(self, _: dict[str, Any]) -> dict[str, Any]:
        """The connection is lost, and the call takes effect seconds after that."""
        delay = 1 + 15 * zlib.crc32(self._token.encode()) / 2**32
        self._world.at(self._world.t + delay, self._arrive)
        raise ReadTimeoutError(endpoint_url="CreateFleet")

    def _arrive(self) -> None:
        try:
            self.effect()
        except ClientError as error:
            self._world.log(f"CreateFleet {self._token} arrives late and is refused: {error}")

    def dies(self, fault: dict[str, Any]) -> dict[str, Any]:
        """The instances never get from pending to running."""
        answer = self.effect()
        world = self._world
        for id_ in _ids(answer):
            end = partial(world.market.end, world.market.instances[id_], DIES_PENDING)
            world.market.schedule(world.clock.now + timedelta(seconds=fault["seconds"] / 5), end)
        return answer

    def error(self, fault: dict[str, Any]) -> dict[str, Any]:
        """EC2 refuses the call."""
        self._expect(fault["code"])
        raise client_error("CreateFleet", fault["code"])

    def _expect(self, code: str) -> None:
        if "LaunchTemplate" in code and self._world.new_template():  # which EC2 may not show everywhere yet
            return
        if self._fresh and self._first and (reason := REASONS.get(code)):
            self._inv.expected[self._pool] = reason


def _ids(answer: dict[str, Any]) -> list[str]:
    return [id_ for entry in answer["Instances"] for id_ in entry["InstanceIds"]]


class Pools:
    """The users' items."""

    def __init__(self, world: World) -> None:
        self._world = world

    def get(self, pool_name: str) -> Mapping[str, Any] | None:
        def effect() -> Mapping[str, Any] | None:
            item = self._world.pools.get(pool_name)
            seen = running(self._world).of(pool_name)
            seen.item, seen.has_item = item, True
            return item

        return self._world.call("pools.get", effect)

    def scan(self) -> Mapping[str, Mapping[str, Any]]:
        return self._world.call("pools.scan", self._world.pools.scan)


class Statuses:
    """Our own items."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._table = world.statuses

    def get(self, pool_name: str) -> Status | None:
        def effect() -> Status | None:
            seen = running(self._world).of(pool_name)
            seen.status, seen.status_at = self._table.get(pool_name), self._world.plane.clock()
            return seen.status

        return self._world.call("statuses.get", effect)

    def scan(self) -> Mapping[str, Status | UnreadableStatusError]:
        return self._world.call("statuses.scan", self._table.scan)

    def acquire(self, pool_name: str) -> Lease | None:
        def effect() -> Lease | None:
            lease = self._table.acquire(pool_name)
            self._world.stats["reconciles"] += lease is not None
            self._world.oracle.leased(running(self._world), lease)
            return lease

        return self._world.call("statuses.acquire", effect)

    def release(self, lease: Lease, *, even_if_dirty: bool = False) -> bool:
        def effect() -> bool:
            released = self._table.release(lease, even_if_dirty=even_if_dirty)
            if released and not even_if_dirty:
                self._world.oracle.released(running(self._world), lease)
            return released

        return self._world.call("statuses.release", effect)

    def begin(self, lease: Lease, attempt: Attempt) -> None:
        def effect() -> None:
            self._table.begin(lease, attempt)
            self._world.oracle.begun(running(self._world), lease, attempt)

        self._world.call("statuses.begin", effect)

    def ending(self, lease: Lease, ended: Ended) -> None:
        self._world.oracle.choosing(running(self._world), ended.ids)

        def effect() -> None:
            self._table.ending(lease, ended)
            self._world.oracle.written(lease, "ending")

        self._world.call("statuses.ending", effect)

    def announced(self, lease: Lease, instance_ids: Iterable[str]) -> None:
        def effect() -> None:
            self._table.announced(lease, instance_ids)
            self._world.oracle.written(lease, "announced")

        self._world.call("statuses.announced", effect)

    def queued(self, pool_name: str, now: datetime, lasts: timedelta) -> bool:
        return self._world.call("statuses.queued", lambda: self._table.queued(pool_name, now, lasts))

    def save(self, lease: Lease, before: Status, after: Status) -> None:
        def effect() -> None:
            self._table.save(lease, before, after)
            answer = after.answer
            waiting = f"waits for {answer.waiting.count}: {answer.waiting.reason}" if answer.waiting else "waits not"
            self._world.log(
                f"saves wanted {answer.wanted}, running {answer.running}, starting {answer.starting}, "
                f"noticed {answer.noticed}, {waiting}, attempt {after.memory.attempt and after.memory.attempt.id}"
            )
            self._world.oracle.saved(running(self._world), lease, before, after)

        self._world.call("statuses.save", effect)

    def delete(self, lease: Lease) -> None:
        def effect() -> None:
            known = lease.pool_name in self._table.statuses
            self._table.delete(lease)
            if known:  # what is forgotten already needs no fence
                self._world.oracle.deleted(lease)

        self._world.call("statuses.delete", effect)

    def note(self, pool_name: str, instance_id: str, notice: Notice) -> None:
        self._world.call("statuses.note", lambda: self._table.note(pool_name, instance_id, notice))


class Queue:
    """The due queue."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, pools: Mapping[str, str], after: timedelta = timedelta(0)) -> None:
        def effect() -> None:
            for number, pool in enumerate(pools):
                self._world.send("due", pool, after.total_seconds() + 0.1 + number / 100)

        self._world.call("queue.send", effect)


def running(world: World) -> Invocation:
    """The invocation that makes the present call."""
    assert world.running is not None
    return world.running
