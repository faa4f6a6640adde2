"""The demo's walkthrough with two pools. Each step waits for a condition, and its time is compared with a limit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from localcloud.cloud import ROOT, LocalCloud
from localcloud.demo.live import Screen
from localcloud.demo.pools import delete_pool, put_pool, resize_pool
from localcloud.demo.results import PoolChapter, StepResult
from localcloud.demo.timeline import Entry, moment, offering_name
from localcloud.demo.watch import Item, NotSeenError, Watcher

METAL, METAL_TYPES, METAL_SIZE = "aws-spot-g4dn-metal", ["g4dn.metal"], 6
ZONES, ZONES_TYPES, ZONES_SIZE = "training-multi-zone", ["p3.2xlarge", "g5.2xlarge"], 3
CAP = Decimal("0.918")
NOTICE_SECONDS = 10
"""Two minutes on AWS. Shorter here, so that nobody waits for instances to end."""
TICK_SECONDS = 2.0
"""Additional ticks. The schedule ticks once a minute, as on AWS, which is too slow for a demo."""

EDIT_BOUND, REPLACE_BOUND = 8, 3
SLACK = 10
"""Seconds in which the result of an immediate action must be visible."""
ALARM_BOUND = 45
FIRST_CALLS_BOUND = 90
"""Here functions start for the first time, which is slow on a busy machine."""

Found = TypeVar("Found")


class Walkthrough:
    """Plays the steps in order. ``steps`` has the results so far."""

    def __init__(self, cloud: LocalCloud, watcher: Watcher, screen: Screen) -> None:
        self.steps: list[StepResult] = []
        self._cloud, self._watcher, self._screen = cloud, watcher, screen
        self._market = cloud.market
        self._limits = _limits(cloud)

    def play(self) -> None:
        """Play all steps. Raises NotSeenError at the first step that fails."""
        self._market.ask("PUT", "/market/settings", {"notice_seconds": NOTICE_SECONDS})
        self._pools_are_applied()
        self._an_edit_fills_the_pool()
        self._interrupted_instances_are_replaced_elsewhere()
        self._a_shortage_is_explained_and_ends()
        self._a_price_above_the_cap_is_waited_out()
        self._an_invalid_edit_harms_nobody()
        self._a_deleted_pool_is_wound_down()

    def chapters(self) -> list[PoolChapter]:
        """The pools' parts of the report."""
        chapter = self._watcher.chapter
        return [
            chapter(
                METAL, "The pool of examples/determined.yaml: spot at up to the on-demand price.", types=METAL_TYPES
            ),
            chapter(ZONES, "The pool of examples/multi-zone.yaml: two types, all zones.", types=ZONES_TYPES, cap=CAP),
        ]

    def _pools_are_applied(self) -> None:
        since = _now()
        for name in ("determined.yaml", "multi-zone.yaml"):
            self._apply(f"examples/{name}")
        name = "Pools applied"
        expected = f"{ZONES} at {ZONES_SIZE} running, {METAL} known and empty"
        up = {ZONES: ZONES_SIZE, METAL: 0}
        self._see(name, expected, lambda: {pool: self._running(pool) for pool in up} == up, bound=FIRST_CALLS_BOUND)
        self._expect(name, expected, f"{ZONES_SIZE} and 0 running", seconds=_since(since), bound=FIRST_CALLS_BOUND)
        # Only now: more calls would slow down the first start of the functions.
        self._cloud.tick_every(TICK_SECONDS)
        self._screen.say(f"From now on the tick also runs every {TICK_SECONDS:g} s, in addition to its schedule.")

    def _an_edit_fills_the_pool(self) -> None:
        name = "a. target_size becomes 6"
        expected = f"{METAL_SIZE} running at most {EDIT_BOUND} s after the edit, by exactly 1 CreateFleet"
        calls, since = self._fleets(), _now()
        resize_pool(self._cloud, METAL, METAL_SIZE)
        self._see(name, expected, lambda: self._running(METAL) == METAL_SIZE, bound=EDIT_BOUND)
        seconds, made = _since(since), self._fleets() - calls
        seen = f"{METAL_SIZE} running, {made} CreateFleet"
        self._expect(name, expected, seen, seconds=seconds, bound=EDIT_BOUND, passed=made == 1)

    def _interrupted_instances_are_replaced_elsewhere(self) -> None:
        name = "b. 3 instances get their notice"
        expected = f"3 replacements by exactly 1 more CreateFleet within {REPLACE_BOUND} s, none where they were lost"
        calls = self._fleets()
        taken = self._market.interrupt(pool=METAL, count=3)["instances"]
        noticed_at, lost = moment(taken[0]["noticed_at"]), {offering_name(one) for one in taken}
        new = self._see(name, expected, lambda: self._launched(METAL, since=noticed_at, count=3), bound=SLACK)
        seconds = (max(moment(one["at"]) for one in new) - noticed_at).total_seconds()
        self._see(name, expected, lambda: self._running(METAL) == METAL_SIZE, bound=SLACK)
        made, where = self._fleets() - calls, {offering_name(one) for one in new}
        seen = f"{len(new)} in {_words(where)} by {made} CreateFleet; lost in {_words(lost)}"
        right = made == 1 and len(new) == len(taken) and not where & lost
        self._expect(name, expected, seen, seconds=seconds, bound=REPLACE_BOUND, passed=right)

    def _a_shortage_is_explained_and_ends(self) -> None:
        name = "c. no capacity anywhere, and 1 instance is lost"
        expected = "PoolStatus says NO_CAPACITY, 1, since when, and when the next try is"
        rooms = {(one["instance_type"], one["availability_zone"]): one["capacity"] for one in self._offerings()}
        self._market.offer("*", "*", capacity=0)
        since = _now()
        self._market.interrupt(pool=METAL, count=1)
        waiting = self._see(name, expected, lambda: self._waiting(METAL, "NO_CAPACITY"), bound=SLACK)
        seen = f"{_count(waiting)} since {_clock(waiting['since'])}, next try {_clock(waiting['next_attempt_at'])}"
        self._expect(name, expected, seen, seconds=_since(since), bound=SLACK, passed=waiting["count"] == 1)

        self._see_message("c. its message arrives", f"{METAL} lacks", since)

        name, expected = "c. capacity is back", f"{METAL_SIZE} running again without an edit"
        since = _now()
        for (instance_type, zone), capacity in rooms.items():
            self._market.offer(instance_type, zone, capacity=capacity)
        bound = self._limits["BACKOFF_MAX_SECONDS"] + SLACK
        self._see(name, expected, lambda: self._running(METAL) == METAL_SIZE, bound=bound)
        self._expect(name, expected, f"{METAL_SIZE} running", seconds=_since(since), bound=bound)

    def _a_price_above_the_cap_is_waited_out(self) -> None:
        name, above = "d. the price rises above the cap", Decimal("0.95")
        expected = f"PRICE_ABOVE_MAX, naming {above} and {CAP}, and no CreateFleet"
        calls, since = self._fleets(), _now()
        self._market.offer("g5.2xlarge", "*", spot_price="1.10")
        self._market.offer("p3.2xlarge", "*", spot_price=above)
        self._see(name, expected, lambda: self._waiting(ZONES, "PRICE_ABOVE_MAX", ZONES_SIZE), bound=SLACK)
        seconds = _since(since)
        waiting = self._watcher.status(ZONES)["waiting"]
        named = str(CAP) in waiting["message"] and str(above) in waiting["message"]
        self._expect(name, expected, waiting["message"], seconds=seconds, bound=SLACK, passed=named)

        self._see_message("d. its message arrives", f"{ZONES} lacks", since)
        name, expected = (
            "d. while it lasts",
            "no CreateFleet, even while the expensive instances are interrupted and end",
        )
        self._see(name, expected, lambda: not self._instances(ZONES) and self._quiet(ZONES), bound=2 * NOTICE_SECONDS)
        made = self._fleets() - calls
        self._expect(name, expected, f"{made} CreateFleet, none left", passed=made == 0)

        name, expected = f"d. the price falls to exactly {CAP}", f"{ZONES_SIZE} running again, launched at {CAP}"
        since = _now()
        self._market.offer("p3.2xlarge", "*", spot_price=CAP)
        waiting = self._watcher.status(ZONES).get("waiting", {})
        bound = round((moment(waiting["next_attempt_at"]) - since).total_seconds() if waiting else 0) + SLACK
        self._see(name, expected, lambda: self._running(ZONES) == ZONES_SIZE, bound=bound)
        seconds = _since(since)
        prices = {Decimal(one["spot_price"]) for one in self._launched(ZONES, since=since)}
        seen = f"{ZONES_SIZE} running, launched at {_words(str(price) for price in prices)}"
        self._expect(name, expected, seen, seconds=seconds, bound=bound, passed=prices == {CAP})

    def _an_invalid_edit_harms_nobody(self) -> None:
        name = "e. an invalid edit"
        wrong = {"max_instnaces", "min_instances", "target_size"}
        expected = f"PoolStatus names {_words(wrong)}, each with value, rule and remedy; {METAL_SIZE} keep running"
        good, since = self._watcher.view.items[METAL], _now()
        put_pool(self._cloud, {**good, "max_instnaces": 12, "min_instances": -1, "target_size": "12"})
        errors = self._see(name, expected, lambda: self._watcher.status(METAL).get("spec_errors"), bound=SLACK)
        seconds, explained = _since(since), all(one[part] for one in errors for part in ("value", "rule", "remedy"))
        seen = "; ".join(f"{one['field']} = {one['value']} ({one['rule']})" for one in errors)
        right = {one["field"] for one in errors} == wrong and explained and self._running(METAL) == METAL_SIZE
        self._expect(name, expected, seen, seconds=seconds, bound=SLACK, passed=right)

        self._see_message("e. its message arrives", f"{METAL}: its item has", since)

        name, edited = "e. meanwhile another pool is edited", _now()
        expected = f"{ZONES} at {ZONES_SIZE + 1}, {METAL} still at {METAL_SIZE}"
        resize_pool(self._cloud, ZONES, ZONES_SIZE + 1)
        self._see(name, expected, lambda: self._running(ZONES) == ZONES_SIZE + 1, bound=EDIT_BOUND)
        sizes = {self._running(METAL), *(size for at, size in self._running_series(METAL) if at >= since)}
        seen = f"{ZONES_SIZE + 1} running, {METAL} at {_words(str(size) for size in sizes)} throughout"
        self._expect(name, expected, seen, seconds=_since(edited), bound=EDIT_BOUND, passed=sizes == {METAL_SIZE})

        name, expected, since = "e. the item is corrected", "no errors left", _now()
        put_pool(self._cloud, good)
        self._see(name, expected, lambda: not self._watcher.status(METAL).get("spec_errors"), bound=SLACK)
        self._expect(name, expected, "no errors", seconds=_since(since), bound=SLACK)

    def _a_deleted_pool_is_wound_down(self) -> None:
        name = "f. the item is deleted"
        grace = self._limits["DRAIN_GRACE_SECONDS"]
        bound = grace + SLACK
        expected = f"its instances are gone after the grace of {grace:g} s, the other pool's are untouched"
        others, since = self._instances(ZONES), _now()
        delete_pool(self._cloud, METAL)
        self._see(name, expected, lambda: not self._instances(METAL), bound=bound)
        seconds, first = _since(since), self._first_end(METAL, since)
        right = self._instances(ZONES) == others and first >= grace
        seen = f"none left, the first ended after {first:.1f} s; {len(others)} others untouched"
        self._expect(name, expected, seen, seconds=seconds, bound=bound, passed=right)

    # Observe

    def _running(self, pool: str) -> int | None:
        status = self._watcher.status(pool)
        return int(status["running"]) if "running" in status else None

    def _waiting(self, pool: str, reason: str, count: int = 1) -> Item | None:
        waiting: Item = self._watcher.status(pool).get("waiting", {})
        return waiting if waiting.get("reason") == reason and int(waiting["count"]) == count else None

    def _quiet(self, pool: str) -> bool:
        """Whether the pool's status is newer than the last event in the pool."""
        updated = self._watcher.status(pool)["updated_at"]
        return moment(updated) > max(moment(one["at"]) for one in self._watcher.record() if one.get("pool") == pool)

    def _launched(self, pool: str, *, since: datetime, count: int = 1) -> list[Entry]:
        launches = [
            entry
            for entry in self._watcher.record()
            if entry["what"] == "pending" and entry["pool"] == pool and moment(entry["at"]) >= since
        ]
        return launches if len(launches) >= count else []

    def _first_end(self, pool: str, since: datetime) -> float:
        return min(
            (moment(entry["at"]) - since).total_seconds()
            for entry in self._watcher.record()
            if entry["what"] == "shutting-down" and entry["pool"] == pool and moment(entry["at"]) >= since
        )

    def _running_series(self, pool: str) -> list[tuple[datetime, int]]:
        return self._watcher.chapter(pool, "", types=[]).timeline.running

    def _instances(self, pool: str) -> set[str]:
        live = ("pending", "running")
        return {
            instance["instance_id"]
            for instance in self._market.state()["instances"]
            if instance["pool"] == pool and instance["state"] in live
        }

    def _offerings(self) -> list[Item]:
        offerings: list[Item] = self._market.state()["offerings"]
        return offerings

    def _fleets(self) -> int:
        return self._market.calls("CreateFleet")

    # Act

    def _apply(self, file: str) -> None:
        done = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "cli.main", "apply", file],
            cwd=ROOT,
            env=self._cloud.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            self._fail(f"spotpools apply {file}", "applied", (done.stderr or done.stdout).strip())

    # Report

    def _see(self, name: str, expected: str, condition: Callable[[], Found | None], *, bound: float) -> Found:
        self._screen.doing(f"{name}: {expected}")
        try:
            return self._watcher.until(condition, expected, seconds=bound)
        except NotSeenError:
            self._fail(name, f"{expected}, within {bound:g} s", self._summary())
            raise

    def _see_message(self, name: str, about: str, since: datetime) -> None:
        expected = f"people receive a message about the alarm: {about}…"
        message = self._see(name, expected, lambda: self._watcher.message(about, since=since), bound=ALARM_BOUND)
        self._expect(name, expected, message.subject, seconds=_since(since), bound=ALARM_BOUND)

    def _expect(
        self,
        name: str,
        expected: str,
        seen: str,
        *,
        seconds: float | None = None,
        bound: float | None = None,
        passed: bool = True,
    ) -> None:
        in_time = seconds is None or bound is None or seconds <= bound
        step = StepResult(name, expected, seen, passed and in_time, seconds, bound)
        self.steps.append(step)
        self._screen.done(step)
        if not step.passed:
            raise NotSeenError(f"{name}: expected {expected}; seen: {seen}")

    def _fail(self, name: str, expected: str, seen: str) -> None:
        self._expect(name, expected, seen, passed=False)

    def _summary(self) -> str:
        """The pools' PoolStatus in short."""
        shown = ("wanted", "running", "starting", "noticed", "waiting", "spec_errors", "last_error")
        pools: dict[str, Any] = {
            pool: {name: status[name] for name in shown if status.get(name)}
            for pool, status in self._watcher.view.statuses.items()
        }
        return "; ".join(f"{pool} {said}" for pool, said in pools.items()) or "no PoolStatus"


def _limits(cloud: LocalCloud) -> dict[str, float]:
    """The deployed time limits, from a function's environment."""
    configuration = cloud.client("lambda").get_function_configuration(FunctionName=cloud.outputs["PoolDueFunction"])
    variables = configuration["Environment"]["Variables"]
    return {name: float(variables[f"SPOTPOOLS_{name}"]) for name in ("DRAIN_GRACE_SECONDS", "BACKOFF_MAX_SECONDS")}


def _now() -> datetime:
    return datetime.now(UTC)


def _since(moment_: datetime) -> float:
    return (_now() - moment_) / timedelta(seconds=1)


def _count(waiting: Item) -> str:
    return f"{waiting['reason']}, {waiting['count']}"


def _clock(text: str) -> str:
    return f"{moment(text):%H:%M:%S}"


def _words(parts: Any) -> str:
    return ", ".join(sorted(parts))
