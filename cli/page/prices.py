"""What a cap buys: the spot prices of a pool's offerings over 90 days, beside the cap."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from heapq import heappop, heappush
from itertools import islice, pairwise
from operator import itemgetter

from cli.deployment import Deployment
from lambdas.aws.asking import pages
from lambdas.aws.offerings import PAGE
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.instances import offering_key

SPAN = timedelta(days=90)
"""EC2 keeps no older spot prices."""

MOST_PAGES = 20
"""Pages of prices that are read: a pool of 60 types in six zones can have more than a page is worth. Newest first."""

MOST_OFFERINGS = 30
"""Offerings that are listed, those with the lowest prices first."""

MOST_LINES = 8
"""Offerings that are drawn: more lines than that look alike."""

ROUNDING = 1e-9
SHARES = (0.5, 0.9, 0.99, 1.0)
"""Of the time, for how much of it the page says which cap buys it."""

Changes = Sequence[tuple[datetime, Decimal]]
"""An offering's prices, oldest first, each from its time on."""


@dataclass(frozen=True)
class OfferingPrices:
    """One offering's prices, USD per instance-hour. ``within`` is the share of the time at or below its cap."""

    offering: str
    now: Decimal
    lowest: Decimal
    highest: Decimal
    cap: Decimal | None
    within: float | None


@dataclass(frozen=True)
class Bought:
    """A cap, and the share of the time in which at least one offering costs no more."""

    cap: Decimal
    share: float


@dataclass(frozen=True)
class PriceHistory:
    """The prices of a pool's offerings, from ``since`` on: 90 days ago, or the first price that EC2 has.

    ``times`` are seconds since 1970; ``lines`` has a price for each of them. ``within`` is the share of the time in
    which at least one offering cost no more than its cap; None: no cap.
    """

    since: datetime
    until: datetime
    cap: str | None
    within: float | None
    buys: tuple[Bought, ...]
    offerings: tuple[OfferingPrices, ...]
    times: tuple[int, ...]
    lines: Mapping[str, tuple[float | None, ...]]
    notes: tuple[str, ...] = ()


def look(deployment: Deployment, pool: Pool, *, now: datetime) -> PriceHistory:
    """Read the prices of what a pool may launch. Raises FleetError if EC2 does not answer."""
    offers = [
        offer
        for offer in deployment.offerings(deployment.settings.subnet_ids).of(pool)
        if offer.market is Market.SPOT and offer.spot_price is not None
    ]
    notes: list[str] = []
    caps: dict[str, Decimal | None] = {}
    for offer in offers:
        try:
            caps[offer.offering] = pool.cap(offer.on_demand_price)
        except ValueError as unknown:
            notes.append(f"The cap of {offer.offering} is unknown: {unknown}")
    changes, complete = _changes(deployment, caps, now)
    found = history_of(changes, caps, since=now - SPAN, until=now, written_cap=pool.spot_max_price)
    if not complete:
        notes.append(f"Only the newest {MOST_PAGES * PAGE} price changes are shown.")
    if len(changes) > len(found.offerings):
        notes.append(f"{len(changes) - len(found.offerings)} offerings with higher prices are not listed.")
    return replace(found, notes=tuple(notes))


def _changes(
    deployment: Deployment, offerings: Collection[str], now: datetime
) -> tuple[dict[str, list[tuple[datetime, Decimal]]], bool]:
    """Return each offering's prices, oldest first, and whether these are all."""
    if not offerings:
        return {}, True
    # An answer to CreateFleet's most types in all zones of a Region fits into one request's filters.
    answer = pages(
        deployment.client("ec2").describe_spot_price_history,
        Filters=[
            {"Name": "instance-type", "Values": sorted({key.split("/")[0] for key in offerings})},
            {"Name": "availability-zone", "Values": sorted({key.split("/")[1] for key in offerings})},
        ],
        ProductDescriptions=["Linux/UNIX"],
        StartTime=now - SPAN,
        EndTime=now,
        MaxResults=PAGE,
    )
    found: defaultdict[str, deque[tuple[datetime, Decimal]]] = defaultdict(deque)
    complete = True
    for page in islice(answer, MOST_PAGES):
        complete = not page.get("NextToken")
        for entry in page["SpotPriceHistory"]:
            key = offering_key(entry["InstanceType"], entry["AvailabilityZone"])
            if key in offerings:
                found[key].appendleft((entry["Timestamp"], Decimal(entry["SpotPrice"])))
    # The newest comes first in the answer, also of those that changed within one second.
    return {key: sorted(some, key=itemgetter(0)) for key, some in found.items()}, complete


def history_of(
    changes: Mapping[str, Changes],
    caps: Mapping[str, Decimal | None],
    *,
    since: datetime,
    until: datetime,
    written_cap: str | None = None,
) -> PriceHistory:
    """Make the history of these offerings. ``changes`` may begin before ``since``: with the price that held then."""
    known = {key: tuple(some) for key, some in changes.items() if some}
    since = max(since, min((some[0][0] for some in known.values()), default=since))
    cheapest, within = _swept(known, caps, since, until)
    rows = sorted((_offering(key, known[key], caps.get(key), since, until) for key in known), key=_by_price)
    lines = [row.offering for row in rows[:MOST_LINES]]
    moments = sorted({max(at, since) for key in lines for at, _ in known[key]} | {until})
    return PriceHistory(
        since=since,
        until=until,
        cap=written_cap,
        within=None if written_cap is None else within,
        buys=tuple(_buys(cheapest)),
        offerings=tuple(rows[:MOST_OFFERINGS]),
        times=tuple(int(at.timestamp()) for at in moments),
        lines={key: tuple(_at_each(known[key], moments)) for key in lines},
    )


def _by_price(row: OfferingPrices) -> tuple[Decimal, str]:
    return row.now, row.offering


def _offering(key: str, changes: Changes, cap: Decimal | None, since: datetime, until: datetime) -> OfferingPrices:
    periods = list(_periods(changes, since, until))
    total = sum(seconds for _, seconds in periods)
    inside = sum(seconds for price, seconds in periods if cap is not None and price <= cap)
    prices = [price for price, _ in periods] or [changes[-1][1]]
    share = inside / total if total and cap is not None else None
    return OfferingPrices(key, changes[-1][1], min(prices), max(prices), cap, share)


def _periods(changes: Changes, since: datetime, until: datetime) -> Iterator[tuple[Decimal, float]]:
    """Yield each price with the seconds for which it held."""
    for (at, price), (end, _) in pairwise([*changes, (until, Decimal(0))]):
        seconds = (end - max(at, since)).total_seconds()
        if seconds > 0:
            yield price, seconds


def _swept(
    known: Mapping[str, Changes], caps: Mapping[str, Decimal | None], since: datetime, until: datetime
) -> tuple[dict[Decimal, float], float]:
    """Go through the time once. Returns for how many seconds each price was the lowest, and the share within a cap."""
    events = sorted((max(at, since), key, price) for key, some in known.items() for at, price in some)
    present: dict[str, Decimal] = {}
    lowest: list[tuple[Decimal, str]] = []
    inside: set[str] = set()
    seconds: defaultdict[Decimal, float] = defaultdict(float)
    seconds_inside = 0.0
    for (at, key, price), (end, _, _) in pairwise([*events, (until, "", Decimal(0))]):
        present[key] = price
        heappush(lowest, (price, key))
        while present[lowest[0][1]] != lowest[0][0]:  # an earlier price of its offering
            heappop(lowest)
        cap = caps.get(key)
        (inside.add if cap is None or price <= cap else inside.discard)(key)
        lasted = (end - at).total_seconds()
        seconds[lowest[0][0]] += lasted
        seconds_inside += lasted if inside else 0.0
    total = sum(seconds.values())
    return dict(seconds), seconds_inside / total if total else float(bool(inside))


def _buys(cheapest: Mapping[Decimal, float]) -> Iterator[Bought]:
    """Yield the lowest cap for each of ``SHARES``, each cap once with all that it buys."""
    total, passed, left = sum(cheapest.values()), 0.0, list(SHARES)
    for price, seconds in sorted(cheapest.items()):
        passed += seconds
        share = passed / total if total else 1.0
        if left and share >= left[0] - ROUNDING:
            left = [one for one in left if one - ROUNDING > share]
            yield Bought(price, min(1.0, share))


def _at_each(changes: Changes, moments: Sequence[datetime]) -> Iterator[float | None]:
    """Yield the price at each moment; None before the first one."""
    place = -1
    for moment in moments:
        while place + 1 < len(changes) and changes[place + 1][0] <= moment:
            place += 1
        yield float(changes[place][1]) if place >= 0 else None
