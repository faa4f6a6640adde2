"""A run of a scenario: production code on the market, with something going wrong at any call it makes.

Each invocation of a function is a strand that pauses at every call to EC2, a table or a queue; the calls' latencies
decide in simulated time who goes on next, so invocations interleave, overlap, time out and die as Lambdas do.
"""

from __future__ import annotations

import copy
import heapq
import json
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any, TypeVar, cast
from unittest import mock

from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from lambdas import notices, report, telemetry
from lambdas.aws.drainer import EventsAndCommands
from lambdas.control_plane import ControlPlane
from lambdas.domain.record.backoff import BackoffPolicy
from lambdas.events import parse_ec2_event
from lambdas.ports import LeaseLostError
from lambdas.reconcile import reconcile
from lambdas.tick import tick
from localcloud.market.model.clock import ManualClock
from localcloud.market.model.instances import Instance, ending_by_itself
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import Hardware, Offering
from localcloud.market.model.settings import Boot
from localcloud.market.model.settings import Settings as MarketSettings
from localcloud.market.model.surroundings import PlainSurroundings
from tests.sim.baton import KilledError, Strand
from tests.sim.oracle import BASE, LEASE_SECONDS, LONGEST, Invocation, Oracle, Violation
from tests.sim.outside import Ec2, Events, Pools, Queue, Service, Statuses, client_error
from tests.sim.scenario import ARM, READY_TAG, TYPES, ZONES, Happening, Scenario
from tests.support.fakes import STACK, TEMPLATE, MemoryPools, MemoryStatuses, fleet_of

T = TypeVar("T")

FUNCTION_SECONDS = 60.0
"""The functions' time limit in the stack."""

HIDDEN_SECONDS = {"notices": 60.0}
"""How long a queue hides a message that a function has: for others than notices six times the function's time limit."""

RECEIVES = {"notices": 15}
"""How often a queue gives a message out before it puts it with the dead letters; of others it is 3 times."""

QUIET_TICKS = 45
"""Minutes after the last fault within which each pool is at its size or says why not. It is the longest chain there
is: a lost launch settles (10), is refused for what only a person can fix (15), finds no capacity (15); and a tick."""

NEXT_REPLACED = 20
"""Minutes after which one more must be replaced, while any are to be replaced: the longest pause, and a start."""

JOB = "runs a job"
"""In the user data of machines whose workload ends itself some time after it has tagged itself as ready."""

ITSELF = ending_by_itself("Client.InstanceInitiatedShutdown")

WORKING = 95
"""Of a hundred instances so many get to work by themselves."""

STILL_TICKS = 3
"""Once all is well it must stay so for this many ticks more."""

BOOTS = (
    Boot(user_data_contains="halt", outcome="dies", code="Client.InstanceInitiatedShutdown"),
    Boot(user_data_contains="impaired", outcome="impaired"),
    Boot(user_data_contains="hangs", outcome="never_ready"),
)
"""How the machines of the scenarios' broken descriptions fare; one image dies half-way through its checks, too."""

LATENCY = {
    "CreateFleet": 1.5, "TerminateInstances": 0.6, "DescribeInstances": 0.3, "DescribeInstanceStatus": 0.3,
    "DescribeSpotPriceHistory": 0.3, "DescribeSubnets": 0.2, "DescribeLaunchTemplateVersions": 0.2,
    "CreateLaunchTemplate": 0.4, "CreateLaunchTemplateVersion": 0.4, "GetProducts": 0.3, "SendCommand": 0.3,
    "GetCommandInvocation": 0.1, "PutEvents": 0.05,
}  # fmt: skip
"""Seconds that calls take, more or less; those to tables and queues take 0.02."""

EC2_CALLS = tuple(name for name in LATENCY if name not in ("SendCommand", "GetCommandInvocation", "PutEvents"))

AT_ONCE = 10
"""How many invocations of one channel run beside each other, as the stack's event source mappings have it."""


class World:
    """One run."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = ManualClock(scenario.start)
        self.start = self.clock.now
        self.t = 0.0
        self.trace: list[str] = []
        self.stats: Counter[str] = Counter()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._numbers: Counter[str] = Counter()
        self._idle: list[Strand] = []
        self._paused: list[Invocation] = []
        self._armed: dict[str, list[dict[str, Any]]] = {}
        self._mischief: dict[str, list[dict[str, Any]]] = {}
        self._events_due: list[dict[str, Any]] = []
        self._out_until: dict[str, float] = {}
        self._under_way: Counter[str] = Counter()
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        self.arrived: Counter[str] = Counter()
        """Messages by channel, each as often as it was given out."""
        self.announced: list[str] = []
        """Instances whose end was announced, in order, each as often as it was."""
        self.announced_at: dict[str, float] = {}
        self._skews: list[float] = []
        self.running: Invocation | None = None
        surroundings = PlainSurroundings(" ".join(ZONES))
        surroundings.add_template(TEMPLATE)
        self.market = Market(
            clock=self.clock,
            seed=scenario.seed,
            surroundings=surroundings,
            offerings=[
                Offering(
                    one.instance_type,
                    one.zone,
                    one.capacity,
                    one.price,
                    one.on_demand,
                    vcpus=TYPES[one.instance_type][0],
                    machine=replace(_machine(one.instance_type), listed=one.instance_type not in scenario.unlisted),
                )
                for one in scenario.offerings
            ],
            settings=_settings(scenario),
        )
        halfway = 5.0 if scenario.as_on_aws else scenario.pending_seconds + scenario.check_seconds / 2
        self.market.boots += (*BOOTS, Boot(image_id="ami-dies", outcome="dies", after_seconds=halfway))
        surroundings.missing |= {"ami-missing", "sg-missing"}
        surroundings.add_subnet(ZONES[0])
        key = "arn:aws:kms:us-east-1:000000000000:key/of-a-customer"
        surroundings.account = surroundings.account.changed({"image_keys": {"ami-locked": key}})
        self.pools = MemoryPools()
        self.statuses = MemoryStatuses(self.clock, LEASE_SECONDS)
        self.oracle = Oracle(self.market, self.pools, self.statuses)
        self.oracle.now = lambda: self.t
        self.plane = self._control_plane()
        self._put_strangers(surroundings)

    def _control_plane(self) -> ControlPlane:
        ids = count(1)
        return ControlPlane(
            stack=STACK,
            pools=Pools(self),
            statuses=Statuses(self),
            fleet=fleet_of(Ec2(self), self._skewed_now, Service(self, "pricing")),
            drainer=EventsAndCommands(Events(self), Service(self, "ssm"), stack=STACK, clock=self._skewed_now),
            queue=Queue(self),
            clock=self._skewed_now,
            backoff_policy=BackoffPolicy(base=timedelta(seconds=BASE), longest=timedelta(seconds=LONGEST)),
            drain_grace=timedelta(seconds=300),
            new_id=lambda: f"attempt-{next(ids)}",
            wait=self._wait,
        )

    def _wait(self, seconds: float) -> None:
        """Throttled code asks again after a while: what it met was met, and need not show."""
        if self.running and self.running.faults and self.running.faults[-1][0] == "DescribeInstances":
            self.running.faults.pop()
        self.pause(seconds)

    def _put_strangers(self, surroundings: PlainSurroundings) -> None:
        """Instances of other stacks, one of them with a pool of the same name."""
        offering = next(iter(self.market.offerings.values()))
        subnet = surroundings.subnets()[0]
        for tags in ({}, {"spotpools:stack": "other", "spotpools:pool": "pool-01"}):
            self.market.launch(
                offering, subnet=subnet, lifecycle="spot", max_price=Decimal(10_000), image_id="ami-1",
                reservation_id="r-1", tags=dict(tags),
            )  # fmt: skip

    # The run

    def run(self) -> None:
        """Play the scenario, then let the world be quiet until all is well; stop at the first broken promise."""
        for happening in self.scenario.happenings:
            self.at(happening.at, lambda one=happening: self._happen(one))  # type: ignore[misc]  # bound by default
        for moment in self.scenario.ticks:
            self.at(moment, self._tick)
        with _listening():
            self._until(self.scenario.end)
            if not self.oracle.violations:
                self._calm_down()
            if self.oracle.violations:
                for one in self.oracle.violations:
                    self.log(f"BROKEN {one.rule}: {one.text}")
            self._end_strands()

    def _calm_down(self) -> None:
        """Faults stop; messages that are under way still arrive."""
        for held in (self._armed, self._mischief, self._out_until):
            held.clear()
        self._skews.clear()
        self.log("quiet")
        self._calm = True
        self._do_lag(2.0)
        well, minute, last, least = 0, 0, QUIET_TICKS, self.oracle.to_replace()
        while minute < last:
            minute += 1
            self.at(self.scenario.end + minute * 60, self._tick)
            self._until(self.scenario.end + minute * 60 + 30)
            if self.oracle.violations:
                return
            left = self.oracle.unsettled()
            well = 0 if left else well + 1
            if well > STILL_TICKS:
                self.stats["minutes until well"] += minute - STILL_TICKS
                return
            if (to_replace := self.oracle.to_replace()) < least:  # one after the other takes as long as it takes
                least, last = to_replace, max(last, minute + NEXT_REPLACED)
        self.oracle.violations += left or [Violation("converges", "a pool does not stay as it should be")]

    def _until(self, end: float) -> None:
        while not self.oracle.violations and (act := self._next(end)):
            act()
        if not self.oracle.violations:
            self._set_time(end)

    def _next(self, limit: float) -> Callable[[], None] | None:
        """Take the next thing to do up to a moment, and let time pass until then."""
        self._hear_market(limit)
        if not self._heap or self._heap[0][0] > limit:
            return None
        moment, _, act = heapq.heappop(self._heap)
        self._set_time(max(moment, self.t))
        return act

    def new_template(self) -> bool:
        """Whether a version of a launch template is so new that EC2 may miss it in all honesty."""
        templates = self.market.surroundings.templates.values()
        made = (version.created_at for one in templates for version in one.versions.values())
        return any(self.clock.now - at < timedelta(minutes=3) for at in made)

    def _hear_market(self, limit: float) -> None:
        """Let happen at the market what comes before anything else; its events become messages."""
        while (due := self.market.next_due()) is not None:
            moment = max(self.t, (due - self.start).total_seconds())
            if moment > limit or (self._heap and moment > self._heap[0][0]):
                return
            self._set_time(moment)
            events = [event for event in self.market.advance() if event["detail"].get("state") != "pending"]
            if events and not self._events_due:
                self.at(self.t + 1.0, self._pass_on)
            self._events_due += events

    def _pass_on(self) -> None:
        """EC2's events of a second, in batches of ten, as a queue gives it out."""
        events, self._events_due = self._events_due, []
        for first in range(0, len(events), 10):
            self.send("notices", events[first : first + 10], 0.2)

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Have something done at a moment (seconds from the beginning)."""
        heapq.heappush(self._heap, (moment, next(self._order), act))

    def _set_time(self, moment: float) -> None:
        self.t = moment
        self.clock.now = self.start + timedelta(seconds=moment)

    def _skewed_now(self) -> datetime:
        skew = self.running.skew if self.running else 0.0
        return self.clock.now + timedelta(seconds=skew)

    def log(self, text: str) -> None:
        """Add a line to the trace."""
        minutes, seconds = divmod(self.t, 60)
        who = f"{self.running.name}: " if self.running else ""
        self.trace.append(f"{int(minutes):5}:{seconds:06.3f} {who}{text}")

    # Invocations

    def _invoke(self, channel: str, what: str, work: Callable[[], None], after: Callable[[bool], None]) -> None:
        self._numbers[channel] += 1
        skew = self._skews.pop(0) if self._skews else 0.0
        name = f"{channel}#{self._numbers[channel]}({what}{f', clock {skew:+.0f} s' if skew else ''})"
        inv = Invocation(name, work, skew, self.t + FUNCTION_SECONDS)
        inv.strand = self._idle.pop() if self._idle else Strand()
        self.stats[f"invocations {channel}"] += 1

        def job() -> None:
            error: BaseException | None = None
            try:
                inv.work()
                inv.outcome = "ok"
            except KilledError:
                inv.outcome = "killed"
            except Exception as caught:  # noqa: BLE001  what it is, the oracle judges
                inv.outcome, error = f"raised {type(caught).__name__}: {str(caught)[:120]}", caught
            if inv.outcome != "ok":
                self.log(inv.outcome)
            if not self._ending:
                self.oracle.ended(inv, error)
                after(inv.outcome == "ok")

        self._switch_to(inv, job)

    _ending = False
    _calm = False

    def _switch_to(self, inv: Invocation, job: Callable[[], None] | None = None) -> None:
        strand = inv.strand
        if strand is None:
            return
        self.running = inv
        if job:
            strand.begin(job)
        else:
            self._paused.remove(inv)
            strand.resume()
        self.running = None
        if strand.done:
            self._idle.append(strand)
            inv.strand = None

    def pause(self, seconds: float) -> None:
        """Let the running invocation wait; others may run meanwhile. It dies at its time limit."""
        inv = self.running
        if inv is None or inv.strand is None:
            return
        until = min(self.t + seconds, inv.deadline)
        self._hear_market(until)
        if self._heap and self._heap[0][0] <= until:
            self.at(until, lambda: self._switch_to(inv))
            self._paused.append(inv)
            inv.strand.pause()
            self.running = inv
        else:
            self._set_time(until)
        if self._ending or self.t >= inv.deadline:
            raise KilledError

    def _end_strands(self) -> None:
        self._ending = True
        for inv in list(self._paused):
            self._switch_to(inv)
        for strand in self._idle:
            strand.end()

    # Calls

    def call(self, name: str, effect: Callable[[], T], **special: Callable[[dict[str, Any]], T]) -> T:
        """A call to the outside: it takes time, and what is armed for it hits it."""
        inv = self.running
        if inv is None:
            return effect()
        fault = self._take(name, inv)
        how = fault["how"] if fault else ""
        usual = LATENCY.get(name, 0.02) + (self.scenario.ec2_seconds if name in EC2_CALLS else 0.0)
        latency = usual * (0.5 + zlib.crc32(f"{self.t}{name}".encode()) / 2**32)
        self.pause(latency + (fault["seconds"] if fault and how == "slow_before" else 0.0))
        inv.last_call = name
        if fault is None:
            return effect()
        self.stats[f"fault {name} {how}"] += 1
        self.log(f"{name} meets {how} {fault.get('code', '')}")
        if not how.startswith(("kill", "slow", "arrives")):
            inv.faults.append((name, how, fault.get("code", "")))
        return special[how](fault) if how in special else self._spoil(name, fault, effect)

    def _take(self, name: str, inv: Invocation) -> dict[str, Any] | None:
        waiting = self._armed.get(name, [])
        for fault in waiting:
            if fault["how"] == "after_terminate" and inv.last_call != "TerminateInstances":
                continue
            if fault.get("pool", inv.launches_for) != inv.launches_for:
                continue
            fault["times"] -= 1
            if not fault["times"]:
                waiting.remove(fault)
            return fault
        return None

    def _spoil(self, name: str, fault: Mapping[str, Any], effect: Callable[[], T]) -> T:
        how, seconds = fault["how"], fault.get("seconds", 0.0)
        when = how.removeprefix("timed_out_").removeprefix("drop_").removeprefix("kill_")
        answer = None
        if when != "before" and how not in ("error", "after_terminate", "throttled", "arrives_late"):
            try:
                answer = effect()
            except ClientError:
                if how != "drop_after":  # of which the caller learns nothing
                    raise
        if how.startswith("kill"):
            raise KilledError
        if how == "arrives_late":
            self.at(self.t + seconds, partial(self._arrive, name, effect, self.running))
            raise KilledError
        if how.startswith("timed_out"):
            raise ReadTimeoutError(endpoint_url=name)
        if how == "throttled":
            raise client_error(name, "ProvisionedThroughputExceededException")
        if how in ("error", "error_after", "after_terminate"):
            raise client_error(name, fault["code"])
        self.pause(seconds if how != "slow_before" else 0.0)
        if how.startswith("drop"):
            raise ReadTimeoutError(endpoint_url=name) if seconds else ConnectionClosedError(endpoint_url=name)
        return cast(T, answer)

    def _arrive(self, name: str, effect: Callable[[], object], sender: Invocation | None) -> None:
        """A write takes effect, or is refused, when whoever sent it is gone."""
        self.running = sender
        try:
            effect()
            self.log(f"{name} arrives late")
        except LeaseLostError as error:
            self.log(f"{name} arrives late and is refused: {error}")
        finally:
            self.running = None

    # Messages

    def send(self, channel: str, body: Any, delay: float) -> None:
        """Put a message on its way."""
        if self._out_until.get(channel, 0.0) > self.t:
            self.stats[f"fault {channel} lost in an outage"] += 1
            return
        copies = 1
        if waiting := self._mischief.get(channel):
            trick = waiting[0]
            trick["times"] -= 1
            if not trick["times"]:
                waiting.pop(0)
            self.stats[f"fault {channel} message {trick['how']}"] += 1
            match trick["how"]:
                case "lose":
                    return
                case "late":
                    delay += trick["seconds"]
                case _:
                    copies = 2
        for copied in range(copies):
            self.at(self.t + delay * (1 + copied), partial(self._deliver, channel, body, 1))

    def _deliver(self, channel: str, body: Any, tries: int) -> None:
        """Give a message out, or let it wait until one of the channel's invocations is free."""
        if self._under_way[channel] >= AT_ONCE:
            self._waiting.setdefault(channel, deque()).append(partial(self._deliver, channel, body, tries))
            return
        self._under_way[channel] += 1
        self.arrived[channel] += 1
        failed: list[Mapping[str, Any]] = []

        def after(well: bool) -> None:
            self._under_way[channel] -= 1
            if waiting := self._waiting.get(channel):
                self.at(self.t, waiting.popleft())
            if not well:
                self._again(channel, body, tries, HIDDEN_SECONDS.get(channel, 6 * FUNCTION_SECONDS))
            elif failed:  # the function itself has them come back soon
                seconds = 2 + 8 * zlib.crc32(f"{self.t}".encode()) / 2**32
                self._again(channel, failed, tries, seconds if tries <= notices.QUICK_TRIES else FUNCTION_SECONDS)

        if channel == "notices":
            self._invoke(channel, f"{len(body)} events", lambda: failed.extend(self._hear(body, tries)), after)
        else:
            self._invoke(channel, body, lambda: reconcile(body, self.plane), after)

    def _again(self, channel: str, body: Any, tries: int, seconds: float) -> None:
        if tries < RECEIVES.get(channel, 3):
            self.at(self.t + seconds, partial(self._deliver, channel, body, tries + 1))
        else:
            self.stats["dead letters"] += 1

    def _tick(self) -> None:
        if self._out_until.get("tick", 0.0) > self.t:
            self.stats["fault tick lost in an outage"] += 1
            return
        self._invoke("tick", "", lambda: tick(self.plane), lambda _: None)

    def _hear(self, events: Iterable[Mapping[str, Any]], tries: int) -> list[Mapping[str, Any]]:
        """As the notices function does: note each, then reconcile each pool once; what failed comes back alone.

        Raises if all failed for another reason than that EC2 does not show an instance yet.
        """
        parsed = [(event, parse_ec2_event(json.dumps(event))) for event in events]
        seen = notices.whose([one for _, one in parsed], self.plane)
        touched: dict[str, list[Mapping[str, Any]]] = {}
        failed, last = [], None
        for event, one in parsed:
            if notices.seen_later(one, seen, tries):
                failed.append(event)
            try:
                for pool in notices.hear(one, seen, self.plane):
                    touched.setdefault(pool, []).append(event)
            except Exception as error:  # noqa: BLE001  as the batch processor does
                failed.append(event)
                last = error
        for pool, first in touched.items():
            try:
                reconcile(pool, self.plane)
            except Exception as error:  # noqa: BLE001  as the batch processor does
                failed.append(first[0])
                last = error
        if last:
            self.log(f"{len(failed)} events failed: {type(last).__name__}: {str(last)[:120]}")
            if self.running:
                self.running.raised = True
            if len(failed) == len(parsed):
                raise last
        return failed

    # What happens

    def _happen(self, happening: Happening) -> None:
        self.log(f"* {happening}")
        getattr(self, f"_do_{happening.what}")(**happening.args)

    def _do_put(self, pool: str, item: dict[str, Any]) -> None:
        self.oracle.edited(pool)
        self.oracle.books.put(item)
        self.pools.items[pool] = copy.deepcopy(item)
        self.send("stream", pool, 0.4)

    def _do_delete(self, pool: str) -> None:
        self.oracle.edited(pool)
        if self.pools.items.pop(pool, None):
            self.send("stream", pool, 0.4)

    def _do_shield(self, pool: str, count: int) -> None:
        """A user protects on-demand instances from termination, in EC2's own way."""
        for one in [one for one in self.oracle.alive(pool) if one.lifecycle == "on-demand"][:count]:
            one.protected = True
            self.oracle.books.shielded.add(one.id)

    def _do_addresses(self, number: int, free: int) -> None:
        """A subnet has so many addresses left."""
        subnet = self.market.surroundings.subnets()[number]
        self.market.surroundings.addresses[subnet.id] = self.market.addresses_used()[subnet.id] + free

    def _do_protect(self, pool: str, count: int) -> None:
        for one in self.oracle.alive(pool)[:count]:
            one.tags["spotpools:protect"] = "true"

    def _do_unprotect(self, pool: str) -> None:
        for one in self.oracle.books.of(pool):  # stopped ones too
            one.tags.pop("spotpools:protect", None)

    def _do_stop(self, pool: str) -> None:
        running = [one for one in self.oracle.alive(pool) if one.state == "running" and not one.notice]
        self.oracle.books.stopped.update(one.id for one in running[:1])

    def _do_offering(
        self,
        instance_type: str,
        zone: str,
        capacity: int | None = None,
        price: Decimal | None = None,
        on_demand: int | None = None,
    ) -> None:
        self.market.set_offering(instance_type, zone, capacity=capacity, spot_price=price, on_demand_capacity=on_demand)

    def _do_interrupt(self, pool: str, count: int, seconds: float) -> None:
        candidates = [one for one in self.oracle.alive(pool) if one.lifecycle == "spot" and not one.notice]
        for one in candidates[:count]:
            self.market.notice(one, seconds=seconds)

    def _do_storm(self, instance_type: str, zone: str) -> None:
        self.market.interrupt_all((instance_type, zone), self.market.catch_up(), cause="capacity")

    def _do_false_notice(self, pool: str, count: int) -> None:
        for one in self.oracle.alive(pool)[:count]:
            self.send("notices", [self._warning(one.id)], 1.0)

    def _do_stranger_notice(self, pool: str) -> None:
        gone = [one.id for one in self.market.instances.values() if one.tags.get("spotpools:pool") == pool]
        unknown = "i-0123456789abcdef0"
        strangers = [one.id for one in self.market.instances.values() if one.tags.get("spotpools:stack") != STACK]
        self.send("notices", [self._warning(id_) for id_ in (unknown, *strangers, *gone[:1])], 1.0)

    def _warning(self, instance_id: str) -> dict[str, Any]:
        return {
            "id": "false", "detail-type": "EC2 Spot Instance Interruption Warning", "source": "aws.ec2",
            "time": f"{self.clock.now:%Y-%m-%dT%H:%M:%SZ}",
            "detail": {"instance-id": instance_id, "instance-action": "terminate"},
        }  # fmt: skip

    def _do_rebalance(self, pool: str) -> None:
        for one in [one for one in self.oracle.alive(pool) if one.lifecycle == "spot"][:2]:
            self.oracle.books.at_risk.add(one.id)
            self.market.recommend_rebalance(one)

    def _do_risks(self, offering: tuple[str, str] | None) -> None:
        """Every spot instance of an offering, or of all, is recommended to be replaced; but not once all is quiet."""
        if self._calm:
            return
        for key in [offering] if offering else list(self.market.offerings):
            for one in self.market.live(key, "spot"):
                self.oracle.books.at_risk.add(one.id)
                self.market.recommend_rebalance(one)

    def _do_maintenance(self, pool: str, closed_after: float | None = None) -> None:
        for one in self.oracle.alive(pool)[:2]:
            self.oracle.books.at_risk.add(one.id)
            starts_at = self.clock.now + timedelta(days=14)
            tell = partial(self.market.announce_maintenance, one, "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED")
            arn = tell("scheduledChange", starts_at)
            if closed_after is not None:
                over = partial(tell, "scheduledChange", starts_at, status="closed", event_arn=arn)
                self.at(self.t + closed_after, partial(self._is_over, one.id, over))

    def _is_over(self, id_: str, tell: Callable[[], Any]) -> None:
        if id_ in self.market.instances:
            self.oracle.books.safe_again.add(id_)
            tell()

    def work(self, ids: Iterable[str]) -> None:
        """The workload of new instances tags its own as ready after a while; some never do, until all is quiet."""
        for id_ in ids:
            lot = zlib.crc32(id_.encode()) % 100
            if lot < WORKING or self._calm:
                self.at(self.t + (20.0 if lot % 2 else 150.0), partial(self._works, id_))

    def _works(self, id_: str) -> None:
        instance = self.market.instances.get(id_)
        if instance is not None and instance.live and instance.boot is None:
            key, _, value = READY_TAG.partition("=")
            instance.tags[key] = value
            if instance.template and JOB in instance.template.user_data and not self._calm:
                seconds = 15 + 300 * zlib.crc32(f"job {id_}".encode()) / 2**32
                self.market.schedule(self.clock.now + timedelta(seconds=seconds), partial(self._done, instance))

    def _done(self, instance: Instance, at: datetime) -> None:
        """A job is done, and its machine shuts itself down; when all is to come to rest, jobs are long."""
        if not self._calm:
            self.market.end(instance, ITSELF, at)

    def _do_fault(self, call: str, **fault: Any) -> None:
        self._armed.setdefault(call, []).append(fault)

    def _do_mischief(self, channel: str, **trick: Any) -> None:
        self._mischief.setdefault(channel, []).append(trick)

    def _do_outage(self, channel: str, seconds: float) -> None:
        self._out_until[channel] = max(self._out_until.get(channel, 0.0), self.t + seconds)

    def _do_burst(self, pool: str, count: int) -> None:
        for _ in range(count):
            self.send("due", pool, 0.1)

    def _do_skew(self, seconds: list[float]) -> None:
        self._skews += seconds

    def _do_lag(self, seconds: float) -> None:
        self.market.settings = self.market.settings.changed({"describe_lag_seconds": seconds})


def _machine(instance_type: str) -> Hardware:
    _, gib, gpus, gpu_name = TYPES[instance_type]
    return Hardware(
        memory_mib=gib * 1024, architecture="arm64" if instance_type == ARM else "x86_64", gpus=gpus, gpu_name=gpu_name
    )


def _settings(scenario: Scenario) -> MarketSettings:
    lag = scenario.template_lag_seconds
    if scenario.as_on_aws:
        return MarketSettings.aws().changed({"template_lag_seconds": lag})
    return MarketSettings(
        describe_lag_seconds=2,
        pending_seconds=scenario.pending_seconds,
        status_check_seconds=scenario.check_seconds,
        template_lag_seconds=lag,
    )


def _unheard(*_: object, **__: object) -> None:
    pass


@contextmanager
def _listening() -> Iterator[None]:
    """Metrics and log lines go nowhere: they cost more time than all the rest."""
    with (
        mock.patch.object(report, "publish", _unheard),
        mock.patch.object(notices, "publish", _unheard),
        mock.patch.object(telemetry.logger, "info", _unheard),
        mock.patch.object(telemetry.logger, "error", _unheard),
        mock.patch.object(telemetry.logger, "warning", _unheard),
    ):
        yield
