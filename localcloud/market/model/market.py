"""The market: the state of an emulated EC2, and how time changes it.

This file is plain Python without input or output. The clock and the seed are arguments. The owner of the market calls
``advance`` and delivers the events that it returns. Before the market answers, it carries out what is due by now, each
thing at its own time. So a clock that jumps gives the same history as a clock that ticks.
"""

import heapq
import random
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from functools import partial
from itertools import count
from typing import Any

from localcloud.market.model.account import Account
from localcloud.market.model.allocation import Room
from localcloud.market.model.commands import Command, CommandResult
from localcloud.market.model.errors import ControlError, EC2Error
from localcloud.market.model.instances import (
    BY_SPOT_MARKET,
    KEY_REFUSED,
    Ending,
    Instance,
    InterruptionNotice,
    Lifecycle,
    State,
    Transition,
    ending_by_itself,
)
from localcloud.market.model.limits import BUCKETS, LAUNCHED_INSTANCES, TokenBucket, bucket_name, quota_group
from localcloud.market.model.offerings import Offering, PriceChange, hardware_of, type_and_zone
from localcloud.market.model.settings import Boot, Fault, Settings, Span
from localcloud.market.model.surroundings import PlainSurroundings, Subnet, Surroundings, TemplateVersion

Event = dict[str, Any]
"""An event in EventBridge's form."""

KEY_REFUSED_SECONDS = (5, 11)
"""When EC2 ends an instance whose key it cannot use (capture ``ec2/instances_storage_encryption``)."""

POOL_TAG = "spotpools:pool"
ACCOUNT = "000000000000"
"""ministack's account. The market's events must look like ministack's."""


class Market:
    """An EC2 market of one account and Region."""

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        seed: int = 0,
        offerings: Iterable[Offering] = (),
        settings: Settings | None = None,
        surroundings: Surroundings | None = None,
        region: str = "us-east-1",
        account: str = ACCOUNT,
    ) -> None:
        self.clock = clock
        self.region = region
        self.account = account
        self.surroundings: Surroundings = surroundings or PlainSurroundings()
        self.seed = seed
        self._random = random.Random(seed)
        self._launches = count(1)
        self._order = count()
        self._start_over(offerings, settings or Settings())

    def reset(self, offerings: Iterable[Offering], settings: Settings) -> None:
        """Forget instances, faults, record, counters and tokens. It sends no event, and no id is used again.

        Subnets and launch templates stay. All other declared surroundings are forgotten.
        """
        self.surroundings.missing.clear()
        self.surroundings.parameters.clear()
        self.surroundings.addresses.clear()
        self.surroundings.account = Account()
        self._start_over(offerings, settings)

    def _start_over(self, offerings: Iterable[Offering], settings: Settings) -> None:
        self.settings = settings
        self.offerings: dict[type_and_zone, Offering] = {}
        self.instances: dict[str, Instance] = {}
        self.calls: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self.commands: dict[str, Command] = {}
        self.command_results: list[CommandResult] = []
        """Results of future commands. If several apply to a command, the newest counts."""
        self.boots: list[Boot] = []
        """Failing starts. If several apply to a machine, the newest counts."""
        self.record: list[dict[str, Any]] = []
        self.answered: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        """ClientToken -> its request and the answer."""
        self._live: dict[type_and_zone, dict[str, Instance]] = {}
        self._agenda: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        self._events: list[Event] = []
        self._buckets: dict[str, TokenBucket] = {}
        for offering in offerings:
            self.offerings[offering.key] = offering
            self._price_changed(offering, self.clock())

    # Time

    def advance(self) -> list[Event]:
        """Carry out what is due and return, in order, the events that AWS would have sent since the last call."""
        self.catch_up()
        events, self._events = self._events, []
        return events

    def catch_up(self) -> datetime:
        """Carry out what is due, keep the events for ``advance``, and return the current time."""
        now = self.clock()
        while self._agenda and self._agenda[0][0] <= now:
            at, _, act = heapq.heappop(self._agenda)
            act(at)
        return now

    def next_due(self) -> datetime | None:
        """Return when the next scheduled thing is due. None: nothing is scheduled."""
        if self._events:
            return self.clock()
        return self._agenda[0][0] if self._agenda else None

    def schedule(self, at: datetime, act: Callable[[datetime], None]) -> None:
        """Schedule a call. Calls for the same moment happen in the order in which they were scheduled."""
        heapq.heappush(self._agenda, (at, next(self._order), act))

    def lasting(self, seconds: float) -> timedelta:
        """Return how long a duration takes on the clock, at the market's pace."""
        return timedelta(seconds=seconds / self.settings.pace)

    def drawn(self, span: Span, *about: str) -> timedelta:
        """Return a duration on the clock. Between two bounds it depends on the seed and ``about`` only."""
        if not isinstance(span, tuple):
            return self.lasting(span)
        shortest, longest = span
        share = zlib.crc32("/".join((str(self.seed), *about)).encode()) / 2**32
        return self.lasting(shortest + (longest - shortest) * share)

    # Offerings

    def set_offering(
        self,
        instance_type: str,
        zone: str,
        *,
        capacity: int | None = None,
        spot_price: Decimal | None = None,
        on_demand_price: Decimal | None = None,
        on_demand_capacity: int | None = None,
        spot: bool | None = None,
        vcpus: int | None = None,
        machine: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> Offering:
        """Change an offering, or create it, which needs capacity and price.

        ``machine`` holds attributes of the type, which change in all zones. Less capacity interrupts no instance; it
        only prevents launches. A spot price above an instance's maximum price interrupts that instance.
        """
        at = at or self.catch_up()
        offering = self.offerings.get((instance_type, zone))
        if offering is None:
            offering = self._new_offering(instance_type, zone, capacity, spot_price, on_demand_price)
        changes = {
            "capacity": capacity,
            "spot_price": spot_price,
            "on_demand_price": on_demand_price,
            "on_demand_capacity": on_demand_capacity,
            "spot": spot,
            "vcpus": vcpus,
        }
        for name, value in changes.items():
            if value is not None:
                setattr(offering, name, value)
        if machine:
            for sibling in self.offerings.values():
                if sibling.instance_type == instance_type:
                    sibling.machine = replace(sibling.machine, **machine)
        self._note(at, "offering", offering=offering)
        self._price_changed(offering, at)
        return offering

    def _new_offering(
        self,
        instance_type: str,
        zone: str,
        capacity: int | None,
        spot_price: Decimal | None,
        on_demand_price: Decimal | None,
    ) -> Offering:
        sibling = next((one for one in self.offerings.values() if one.instance_type == instance_type), None)
        if on_demand_price is None and sibling:
            on_demand_price = sibling.on_demand_price
        if capacity is None or spot_price is None or on_demand_price is None:
            raise ControlError(
                400,
                f"{instance_type} is not offered in {zone} yet: to create the offering, give capacity and "
                "spot_price, and on_demand_price if the type is new to the market",
            )
        offering = Offering(
            instance_type,
            zone,
            capacity,
            spot_price,
            on_demand_price,
            vcpus=sibling.vcpus if sibling else 1,
            machine=sibling.machine if sibling else hardware_of(instance_type),
        )
        self.offerings[offering.key] = offering
        return offering

    def _price_changed(self, offering: Offering, at: datetime) -> None:
        if not offering.history or offering.history[-1].price != offering.spot_price:
            offering.history.append(PriceChange(at, offering.spot_price))
        for instance in self.live(offering.key, "spot"):
            would_pay = offering.on_demand_price if instance.max_price is None else instance.max_price
            if offering.spot_price > would_pay and not instance.notice:
                self.notice(instance, at, cause="price")

    def live(self, key: type_and_zone, lifecycle: Lifecycle) -> list[Instance]:
        """Return an offering's pending and running instances, oldest first."""
        return [one for one in self._live.get(key, {}).values() if one.lifecycle == lifecycle]

    def room(self, lifecycle: Lifecycle, keys: Iterable[type_and_zone]) -> Room:
        """Return what these offerings can give now: room, vCPUs left in quotas, addresses and launches left."""
        free = {}
        for key in keys:
            offering = self.offerings[key]
            capacity = offering.capacity if lifecycle == "spot" else offering.on_demand_capacity
            free[key] = max(0, capacity - len(self.live(key, lifecycle)))
        used: Counter[str] = Counter()
        for (instance_type, _), offering in self.offerings.items():
            used[quota_group(instance_type)] += offering.vcpus * len(self.live(offering.key, lifecycle))
        vcpus = {
            group: max(0, limit - used[group])
            for name, limit in self.settings.quotas.items()
            for quota_lifecycle, _, group in [name.partition(":")]
            if quota_lifecycle == lifecycle
        }
        launches = self._launch_tokens().available(self.clock()) if self.settings.throttling else None
        return Room(free=free, vcpus=vcpus, addresses=self.free_addresses(), launches=launches)

    def addresses_used(self) -> Counter[str]:
        """Return the number of used addresses by subnet. An ending instance uses none."""
        return Counter(one.subnet_id for live in self._live.values() for one in live.values())

    def free_addresses(self) -> dict[str, int]:
        """Return the number of free addresses of each subnet."""
        used, surroundings = self.addresses_used(), self.surroundings
        return {one.id: max(0, surroundings.addresses_of(one) - used[one.id]) for one in surroundings.subnets()}

    def _launch_tokens(self) -> TokenBucket:
        return self._buckets.setdefault("instances launched", TokenBucket.full(LAUNCHED_INSTANCES, self.clock()))

    # Calls

    def begin(self, action: str) -> Fault | None:
        """Count a call at its arrival and return the fault for it, if any. Throttled: ``EC2Error``."""
        self.catch_up()
        self.calls[action] += 1
        if self.settings.throttling:
            name = bucket_name(action)
            bucket = self._buckets.setdefault(name, TokenBucket.full(BUCKETS[name], self.clock()))
            if not bucket.take(1, self.clock()):
                raise EC2Error("RequestLimitExceeded", "Request limit exceeded.")
        fault = next((one for one in self.faults if one.action == action), None)
        if fault:
            fault.times -= 1
            if not fault.times:
                self.faults.remove(fault)
        return fault

    # Instances

    def launch(
        self,
        offering: Offering,
        *,
        subnet: Subnet,
        lifecycle: Lifecycle,
        max_price: Decimal | None,
        image_id: str,
        reservation_id: str,
        tags: dict[str, str],
        template: TemplateVersion | None = None,
        key_refused: bool = False,
    ) -> Instance:
        """Start an instance. The caller has checked that there is room for it.

        With ``key_refused`` its root volume cannot be created: it ends some seconds later and never runs.
        """
        now = self.clock()
        names = {image_id, template.image_id} if template else {image_id}
        user_data = template.user_data if template else ""
        instance = Instance(
            id=self.new_id("i"),
            number=next(self._launches),
            instance_type=offering.instance_type,
            zone=offering.zone,
            subnet_id=subnet.id,
            vpc_id=subnet.vpc_id,
            lifecycle=lifecycle,
            image_id=image_id,
            reservation_id=reservation_id,
            spot_request_id=self.new_id("sir", digits=8) if lifecycle == "spot" else None,
            max_price=max_price,
            tags=tags,
            template=template,
            shows_tags=template is not None and template.shows_tags(self.surroundings.account),
            boot=next((one for one in reversed(self.boots) if one.concerns(names, user_data)), None),
            # Spot instances cannot be protected.
            protected=bool(template and template.data.get("DisableApiTermination")) and lifecycle == "on-demand",
        )
        self.instances[instance.id] = instance
        self._live.setdefault(offering.key, {})[instance.id] = instance
        if self.settings.throttling:
            self._launch_tokens().take(1, now)
        self._enter(instance, "pending", now)
        if key_refused:
            at = now + self.drawn(KEY_REFUSED_SECONDS, instance.id, "without its key")
            self.schedule(at, partial(self.end, instance, KEY_REFUSED))
            return instance
        pending = self.drawn(self.settings.pending_seconds, instance.id, "pending")
        self.schedule(now + pending, partial(self._is_running, instance))
        if instance.boot and instance.boot.outcome == "dies":
            ending = ending_by_itself(instance.boot.code, instance.boot.message)
            at = now + self.lasting(instance.boot.after_seconds or 0)
            self.schedule(at, partial(self.end, instance, ending))
        return instance

    def _is_running(self, instance: Instance, at: datetime) -> None:
        if instance.state == "pending":
            self._enter(instance, "running", at)

    def end(self, instance: Instance, ending: Ending, at: datetime) -> None:
        """Shut down a live instance. An ending instance is left alone."""
        if not instance.live:
            return
        instance.ending = ending
        del self._live[instance.instance_type, instance.zone][instance.id]
        self._enter(instance, "shutting-down", at)
        ending_for = self.drawn(self.settings.shutting_down_seconds, instance.id, "shutting-down")
        self.schedule(at + ending_for, partial(self._is_gone, instance))

    def _is_gone(self, instance: Instance, at: datetime) -> None:
        self._enter(instance, "terminated", at)
        self.schedule(at + self.lasting(self.settings.terminated_visible_seconds), partial(self._forget, instance))

    def _forget(self, instance: Instance, _: datetime) -> None:
        self.instances.pop(instance.id, None)

    def _enter(self, instance: Instance, state: State, at: datetime) -> None:
        instance.transitions.append(Transition(at, state))
        self._note(at, state, instance=instance)
        self._send(
            "EC2 Instance State-change Notification",
            {"instance-id": instance.id, "state": state},
            resource=f"arn:aws:ec2:{self.region}:{self.account}:instance/{instance.id}",
            at=at,
        )

    # Interruptions

    def notice(
        self, instance: Instance, at: datetime | None = None, *, cause: str = "requested", seconds: float | None = None
    ) -> None:
        """Send a live spot instance its interruption notice. It ends ``seconds`` later.

        A second notice sends the same event again, as EventBridge may do, and does not change the end.
        """
        at = at or self.catch_up()
        if instance.notice:
            self._events.append(instance.notice.event)
            self._note(at, "notice", instance=instance, cause="duplicate")
            return
        event = self._send(
            "EC2 Spot Instance Interruption Warning",
            {"instance-id": instance.id, "instance-action": "terminate"},
            # AWS documents this form, with the zone, only for this event.
            resource=f"arn:aws:ec2:{instance.zone}:instance/{instance.id}",
            at=at,
        )
        gone_at = at + self.lasting(self.settings.notice_seconds if seconds is None else seconds)
        instance.notice = InterruptionNotice(at=at, gone_at=gone_at, cause=cause, event=event)
        self._note(at, "notice", instance=instance, cause=cause)
        self.schedule(gone_at, lambda then: self.end(instance, BY_SPOT_MARKET, then))

    def recommend_rebalance(self, instance: Instance) -> None:
        """Send a spot instance's rebalance recommendation. Nothing else happens to it."""
        at = self.catch_up()
        self._note(at, "rebalance", instance=instance)
        self._send(
            "EC2 Instance Rebalance Recommendation",
            {"instance-id": instance.id},
            resource=f"arn:aws:ec2:{self.region}:{self.account}:instance/{instance.id}",
            at=at,
        )

    def announce_maintenance(
        self,
        instance: Instance,
        event_type_code: str,
        category: str,
        starts_at: datetime,
        *,
        status: str = "upcoming",
        entity_status: str = "PENDING",
        event_arn: str | None = None,
    ) -> str:
        """Let AWS Health announce maintenance of an instance. Nothing else happens to it.

        Returns the event's ARN. All messages of AWS Health about an event have its ARN: a call with ``event_arn`` and
        another status continues that event.
        """
        at = self.catch_up()
        self._note(at, "maintenance", instance=instance, cause=event_type_code)
        number = self.new_uuid()
        arn = event_arn or f"arn:aws:health:{self.region}::event/EC2/{event_type_code}/{event_type_code}_{number}"
        updated_at = format_datetime(at.astimezone(UTC), usegmt=True)
        detail = {
            "eventArn": arn,
            "service": "EC2",
            "eventTypeCode": event_type_code,
            "eventTypeCategory": category,
            "eventScopeCode": "ACCOUNT_SPECIFIC",
            "communicationId": f"{number}-1",
            "startTime": format_datetime(starts_at.astimezone(UTC), usegmt=True),
            "lastUpdatedTime": updated_at,
            "statusCode": status,
            "eventRegion": self.region,
            "eventDescription": [{"language": "en_US", "latestDescription": f"{event_type_code} (of this market)"}],
            "affectedEntities": [{"entityValue": instance.id, "status": entity_status, "lastUpdatedTime": updated_at}],
            "affectedAccount": self.account,
            "page": "1",
            "totalPages": "1",
        }
        self._send("AWS Health Event", detail, resource=instance.id, at=at, source="aws.health")
        return arn

    def interrupt_all(self, key: type_and_zone, at: datetime, *, cause: str) -> None:
        """Send an interruption notice to every spot instance of an offering that has none yet."""
        for instance in self.live(key, "spot"):
            if not instance.notice:
                self.notice(instance, at, cause=cause)

    def named(self, instance_ids: Sequence[str]) -> list[Instance]:
        """Return the instances with these ids. ``ControlError`` if one does not exist."""
        self.catch_up()
        for instance_id in instance_ids:
            if instance_id not in self.instances:
                raise ControlError(404, f"there is no instance {instance_id}")
        return [self.instances[one] for one in instance_ids]

    def live_spot_named(self, instance_ids: Sequence[str]) -> list[Instance]:
        """Return the live spot instances with these ids. ``ControlError`` if one is not live or not spot."""
        found = []
        for instance in self.named(instance_ids):
            if instance.lifecycle != "spot" or not instance.live:
                raise ControlError(
                    409, f"{instance.id} is {instance.lifecycle} and {instance.state}, not a live spot instance"
                )
            found.append(instance)
        return found

    def running_spot_of(self, pool: str, wanted: int) -> list[Instance]:
        """Choose running spot instances without notice of a pool, by the tag ``spotpools:pool``.

        As when EC2 takes back the capacity of one offering: first the offering with most of them (in a tie, the first
        by type and zone), the oldest instance first. The next offering follows only when the first is used up.
        """
        self.catch_up()
        chosen = [
            instance
            for instance in self.instances.values()
            if (instance.lifecycle, instance.state, instance.notice) == ("spot", "running", None)
            and instance.tags.get(POOL_TAG) == pool
        ]
        if len(chosen) < wanted:
            raise ControlError(
                409, f"pool {pool} has {len(chosen)} running spot instances without notice, not {wanted}"
            )
        held = Counter((instance.instance_type, instance.zone) for instance in chosen)
        chosen.sort(key=lambda each: (-held[each.instance_type, each.zone], each.instance_type, each.zone, each.number))
        return chosen[:wanted]

    # Ids, events, record

    def new_id(self, prefix: str, digits: int = 17) -> str:
        """Return a new id in EC2's form."""
        return f"{prefix}-0{self._random.getrandbits(4 * (digits - 1)):0{digits - 1}x}"

    def new_uuid(self) -> str:
        """Return a new UUID."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _send(
        self, detail_type: str, detail: dict[str, Any], *, resource: str, at: datetime, source: str = "aws.ec2"
    ) -> Event:
        event: Event = {
            "version": "0",
            "id": self.new_uuid(),
            "detail-type": detail_type,
            "source": source,
            "account": self.account,
            "time": f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "region": self.region,
            "resources": [resource],
            "detail": detail,
        }
        self._events.append(event)
        return event

    def note_call(self, action: str, **details: Any) -> None:
        """Record a call that changes something."""
        self._record(self.clock(), "call", action=action, **details)

    def _note(
        self,
        at: datetime,
        what: str,
        *,
        instance: Instance | None = None,
        offering: Offering | None = None,
        cause: str | None = None,
    ) -> None:
        details: dict[str, Any] = {"cause": cause} if cause else {}
        if instance:
            offering = self.offerings[instance.instance_type, instance.zone]
            details |= {
                "instance_id": instance.id,
                "lifecycle": instance.lifecycle,
                "pool": instance.tags.get(POOL_TAG),
                "max_price": None if instance.max_price is None else str(instance.max_price),
            }
        if offering:
            details |= {
                "instance_type": offering.instance_type,
                "availability_zone": offering.zone,
                "capacity": offering.capacity,
                "spot_price": str(offering.spot_price),
                "on_demand_price": str(offering.on_demand_price),
            }
        self._record(at, what, **details)

    def _record(self, at: datetime, what: str, **details: Any) -> None:
        self.record.append({"at": iso(at), "what": what, **details})


def iso(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
