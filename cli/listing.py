"""``list``: one table of all pools: what is wanted, what runs, why the rest waits, what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from cli.answers import Keep, keep_none
from cli.aws_errors import refusal_text
from cli.deployment import Deployment
from cli.output import ago, dollars, is_younger, plain
from cli.tick_health import checked_silence
from lambdas.aws.offerings import Offerings
from lambdas.domain.decision.intent import Intent, intent_of
from lambdas.domain.decision.stock import ALIVE
from lambdas.domain.item.faults import SpecError
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.cost import Prices, cost_of
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.status import Answer, Replacing, Rollout, RolloutState, Status
from lambdas.domain.wording import counted
from lambdas.ports import FleetError, UnreadableStatusError

Answered = TypeVar("Answered")
Items = Mapping[str, Mapping[str, Any]]
Statuses = Mapping[str, Status | UnreadableStatusError]
AT_ONCE = 8
"""Most parallel calls to AWS."""

WIDE = 72
"""Columns that the whole table needs."""

ROLLOUTS = {
    RolloutState.ROLLING: "update rolling: {0.outdated} to go",
    RolloutState.STOPPED: "update stopped: {0.outdated} to go",
    RolloutState.ON_REPLACE: "{0.outdated} outdated",
}


@dataclass(frozen=True)
class ListingData:
    """All that ``list`` reads. ``instances`` is None if EC2 did not list them; ``notes`` say what is missing."""

    now: datetime
    items: Items
    statuses: Statuses
    instances: tuple[Instance, ...] | None = None
    prices: Prices = field(default_factory=Prices)
    zones: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One pool. ``lowest_spot_price`` covers the offerings it may launch; ``cap`` is its spot_max_price as written."""

    pool: str
    wanted: int = 0
    running: int = 0
    ready: int = 0
    starting: int = 0
    noticed: int = 0
    on_demand: int = 0
    waiting: int = 0
    reason: str | None = None
    message: str | None = None
    since: datetime | None = None
    reason_since: datetime | None = None
    next_attempt_at: datetime | None = None
    lowest_spot_price: Decimal | None = None
    lowest_spot_offering: str | None = None
    cap: str | None = None
    above_cap: bool | None = None
    hourly_cost: Decimal | None = None
    paused: bool = False
    draining_since: datetime | None = None
    rollout: Rollout | None = None
    replacing: Replacing | None = None
    warnings: tuple[str, ...] = ()
    spec_errors: tuple[SpecError, ...] = ()
    fault: str | None = None


@dataclass(frozen=True)
class Listing:
    """All pools, by name."""

    pools: tuple[Row, ...]
    hourly_cost: Decimal | None
    notes: tuple[str, ...] = ()


class _Calls:
    """Parallel calls to AWS. If an optional one fails, a note says what is missing."""

    def __init__(self, threads: ThreadPoolExecutor, keep: Keep) -> None:
        self.threads, self.keep = threads, keep
        self.notes: list[str] = []

    def optional(
        self, otherwise: str, what: str, call: Callable[[list[str]], Answered], names: Iterable[str] = ()
    ) -> Future[Answered | None]:
        """Make a call about these names that may fail, or use its kept answer. ``otherwise`` says what is missing."""
        return self.threads.submit(self._tried, otherwise, what, call, tuple(names))

    def _tried(
        self, otherwise: str, what: str, call: Callable[[list[str]], Answered], names: tuple[str, ...]
    ) -> Answered | None:
        try:
            return self.keep(what, names, lambda: call(list(names)))
        except FleetError as error:
            self.notes.append(f"{otherwise}: {refusal_text(error.failure.code, error.failure.message)}")
        return None


def look(deployment: Deployment, keep: Keep = keep_none) -> ListingData:
    """Read all data: one scan per table, one listing of EC2, one price question. ``keep`` may save some of them.

    Its questions are ``instances``, ``zones``, ``spot prices``, ``list prices`` and ``tick``; tables are always read.
    """
    pools, statuses, fleet = deployment.pools, deployment.statuses, deployment.fleet()
    offerings = deployment.offerings()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        calls = _Calls(threads, keep)
        stored, scanned = threads.submit(pools.all), threads.submit(statuses.scan)
        tick = threads.submit(keep, "tick", (), lambda: _tick_note(deployment))
        listed = calls.optional("No cost is shown", "instances", lambda _: fleet.instances()).result()
        items, now = {name: one.item for name, one in stored.result().items()}, deployment.now()
        valid = [intent.pool for intent in intents(items, scanned.result(), now).values() if intent.pool is not None]
        instances = None if listed is None else tuple(one for one in listed if one.state in ALIVE)
        subnets = sorted({subnet for pool in valid for subnet in pool.subnet_ids})
        zones = calls.optional(
            "Spot prices are the Region's lowest", "zones", lambda few: offerings.zones(few) if few else {}, subnets
        )
        prices = _prices(calls, offerings, valid, instances or ())
        return ListingData(
            now, items, scanned.result(), instances, prices, zones.result() or {}, (*tick.result(), *calls.notes)
        )


def _tick_note(deployment: Deployment) -> tuple[str, ...]:
    """Return a warning if the tick has stopped: what the statuses say may then be out of date."""
    silent, unknown = checked_silence(deployment)
    if silent is None:
        return (unknown,) if unknown else ()
    text = f"The tick stopped {ago(silent, deployment.now())} ago, so these rows may be out of date."
    return (f"{text} Run `spotpools doctor`.",)


def _prices(calls: _Calls, offerings: Offerings, pools: Iterable[Pool], instances: Iterable[Instance]) -> Prices:
    spot_types, others = _types_to_price(pools, instances)
    spot = calls.optional(
        "No spot prices are shown", "spot prices", lambda few: offerings.spot_prices(few) if few else {}, spot_types
    )
    found = calls.optional("On-demand prices are unknown", "list prices", offerings.list_prices, others).result()
    listed = found or {}
    for name in others if found is not None else ():
        if name not in listed:
            calls.notes.append(f"The on-demand price of {name} is unknown: the price list does not have it")
    return Prices(spot.result() or {}, listed)


def _types_to_price(pools: Iterable[Pool], instances: Iterable[Instance]) -> tuple[list[str], list[str]]:
    """Return the types whose spot price is needed, and those whose on-demand price is."""
    spot = {name for pool in pools if pool.spot for name in pool.instance_types}
    shares = {name for pool in pools if pool.share for name in pool.instance_types}
    running = {market: {one.instance_type for one in instances if one.market is market} for market in Market}
    return sorted(spot | running[Market.SPOT]), sorted(shares | running[Market.ON_DEMAND])


def intents(items: Items, statuses: Statuses, now: datetime) -> dict[str, Intent]:
    """Return what is in force for each pool, by name in order."""

    def of(name: str) -> Intent:
        status = statuses.get(name)
        return intent_of(items.get(name), status if isinstance(status, Status) else None, now, timedelta(0))

    return {name: of(name) for name in sorted({*items, *statuses})}


def listing_of(data: ListingData) -> Listing:
    """Make the rows from the data."""
    by_pool: dict[str, list[Instance]] = {}
    for instance in data.instances or ():
        by_pool.setdefault(instance.pool_name, []).append(instance)
    rows = tuple(
        _row(name, intent, by_pool.get(name, []), data)
        for name, intent in intents(data.items, data.statuses, data.now).items()
    )
    known = [row.hourly_cost for row in rows if row.hourly_cost is not None]
    total = sum(known, Decimal(0)) if len(known) == len(rows) else None
    return Listing(rows, total, data.notes)


def _row(name: str, intent: Intent, instances: list[Instance], data: ListingData) -> Row:
    status = data.statuses.get(name)
    answer = status.answer if isinstance(status, Status) else Answer()
    waiting = answer.waiting
    pool = intent.pool
    lowest = _lowest(pool, data) if pool and pool.spot else None
    cost = cost_of(instances, data.prices)
    return Row(
        pool=name,
        wanted=answer.wanted if status else _wanted(intent, data.now),
        running=answer.running,
        ready=answer.ready,
        starting=answer.starting,
        noticed=answer.noticed,
        on_demand=answer.on_demand,
        waiting=waiting.count if waiting else 0,
        reason=waiting.reason.value if waiting else None,
        message=waiting.message if waiting else None,
        since=waiting.since if waiting else None,
        reason_since=status.reason_since if isinstance(status, Status) else None,
        next_attempt_at=waiting.next_attempt_at if waiting else None,
        lowest_spot_price=lowest[0] if lowest else None,
        lowest_spot_offering=lowest[1] if lowest else None,
        cap=pool.spot_max_price if pool else None,
        above_cap=_is_above(pool, lowest, data.prices) if pool and lowest else None,
        hourly_cost=None if data.instances is None or cost.unpriced else cost.hourly,
        paused=intent.paused and intent.pool is not None,
        draining_since=answer.draining_since,
        rollout=answer.rollout,
        replacing=answer.replacing,
        warnings=answer.warnings,
        spec_errors=intent.errors,
        fault=str(status) if isinstance(status, UnreadableStatusError) else _unchecked(status, intent),
    )


def _wanted(intent: Intent, now: datetime) -> int:
    return intent.pool.wanted(now) if intent.pool else 0


def _unchecked(status: Status | None, intent: Intent) -> str | None:
    return "It is new: the control plane has not checked it yet." if status is None and not intent.deleted else None


def _lowest(pool: Pool, data: ListingData) -> tuple[Decimal, str] | None:
    """Return the lowest spot price of the pool's types, and its offering. Zones that are unknown do not restrict it."""
    zones = {data.zones[one] for one in pool.subnet_ids if one in data.zones}
    found = (
        (price, offering)
        for offering, price in data.prices.spot.items()
        if offering.split("/")[0] in pool.instance_types and (not zones or offering.split("/")[1] in zones)
    )
    return min(found, default=None)


def _is_above(pool: Pool, lowest: tuple[Decimal, str], prices: Prices) -> bool | None:
    """Return whether the lowest price is above the cap. None: the cap is unknown."""
    if pool.spot_max_price is None:
        return False
    try:
        cap = pool.cap(prices.on_demand.get(lowest[1].split("/")[0]))
    except ValueError:
        return None
    return cap is not None and lowest[0] > cap


def render(listed: Listing, now: datetime, most: int | None = None, *, width: int = WIDE) -> RenderableType:
    """Render the listing as a table of at most ``most`` pools; pools in trouble come first into it.

    If the screen has fewer columns than ``WIDE``, the table shows only sizes and reasons.
    """
    chosen = sorted(listed.pools, key=lambda row: not style(row))[:most]
    sizes = ("wanted", "running", "ready", "waiting") if width >= WIDE else ("want", "run")
    costs = (Column("price / cap"), Column("USD/h", justify="right", no_wrap=True)) if width >= WIDE else ()
    table = Table(
        Column("pool", overflow="fold"),
        *(Column(name, justify="right", no_wrap=True) for name in sizes),
        *costs,
        Column("why", overflow="fold"),
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold",
        pad_edge=False,
    )
    for row in sorted(chosen, key=lambda row: row.pool):
        counts = (row.wanted, row.running, row.ready, row.waiting or "")[: len(sizes)]
        prices = (Text(price(row), style="red" if row.above_cap else ""), dollars(row.hourly_cost))[: len(costs)]
        table.add_row(plain(row.pool), *map(str, counts), *prices, why(row, now), style=style(row))
    pools = counted(len(listed.pools), "pool")
    below = f"{pools}, {dollars(listed.hourly_cost)} USD/h" if listed.pools else "No pools yet."
    if len(chosen) < len(listed.pools):
        below += f", {len(listed.pools) - len(chosen)} of them not shown"
    if any(row.reason or row.spec_errors or row.fault or row.warnings for row in listed.pools):
        below += ". Details of a pool: spotpools explain POOL"
    notes = [Text(plain(note), style="yellow") for note in listed.notes]
    return Group(table, Text(below, style="dim"), *notes)


def style(row: Row) -> str:
    """Return a colour for a pool in trouble, otherwise nothing."""
    stopped = row.rollout is not None and row.rollout.state is RolloutState.STOPPED
    return "red" if row.fault or row.spec_errors else "yellow" if row.waiting or stopped else ""


def _waits(row: Row, now: datetime) -> str:
    """The reason with its age, and that of the shortfall if it is older by a minute."""
    if not (row.reason and row.since):
        return ""
    began = row.reason_since or row.since
    older = f" (short for {ago(row.since, now)})" if is_younger(began, row.since) else ""
    return f"{row.reason} for {ago(began, now)}{older}"


def why(row: Row, now: datetime) -> str:
    """Say in a few words what is wrong; ``explain`` has the details."""
    parts = [
        _waits(row, now),
        f"item invalid: {', '.join(one.field for one in row.spec_errors)}" if row.spec_errors else "",
        "paused" if row.paused and not row.spec_errors else "",
        f"draining for {ago(row.draining_since, now)}" if row.draining_since else "",
        ROLLOUTS[row.rollout.state].format(row.rollout) if row.rollout else "",
        _to_replace(row.replacing) if row.replacing else "",
        counted(len(row.warnings), "warning") if row.warnings else "",
        f"{row.noticed} under notice" if row.noticed else "",
        f"{row.starting} starting" if row.starting else "",
        row.fault.partition(": ")[0] if row.fault else "",
    ]
    return plain("; ".join(part for part in parts if part))


def _to_replace(replacing: Replacing) -> str:
    return f"{replacing.count} to replace" + (f": {replacing.reason}" if replacing.reason else "")


def price(row: Row) -> str:
    """Write the lowest spot price and the cap."""
    if row.lowest_spot_price is None:
        return "-" if row.cap is None else f"- / {plain(row.cap)}"
    return dollars(row.lowest_spot_price) + (f" / {plain(row.cap)}" if row.cap else "")
