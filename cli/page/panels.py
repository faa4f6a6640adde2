"""The panels of the page: each is what one question to AWS answers, in the words of the commands.

A panel whose question fails has a fault that quotes the error and says what to do; the others are as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from pydantic_core import to_jsonable_python

from cli import explanation, history, listing
from cli.answers import Answers, Keep
from cli.aws_errors import expected_errors
from cli.deployment import Deployment
from cli.exits import ExpectedError, RefusedError
from cli.explanation_page import Kind, Part, parts, state
from cli.item_text import as_yaml
from cli.output import ago, clock, dollars, plain
from cli.page import prices, sizes

FLEET_SPAN, POOL_SPAN, DECISIONS_SPAN = timedelta(hours=6), timedelta(hours=24), timedelta(hours=24)
MOST_DECISIONS = 50

KEPT = {
    "listing": timedelta(seconds=1.5),
    "instances": timedelta(seconds=6),
    "tick": timedelta(seconds=15),
    "zones": timedelta(minutes=5),
    "spot prices": timedelta(minutes=1),
    "list prices": timedelta(hours=1),
    "explanation": timedelta(seconds=15),
    "decisions": timedelta(seconds=10),
    "fleet sizes": timedelta(minutes=5),
    "pool sizes": timedelta(minutes=1),
    "price history": timedelta(minutes=10),
}
"""How long each answer is kept. An edit must show within five seconds, and few calls must do for a page that asks every
two: the control plane shares EC2's limits with it, and CloudWatch bills each metric that is asked for."""


@dataclass(frozen=True)
class Words:
    """A text with its style: a colour of the terminal, which the page turns into a class."""

    text: str
    style: str = ""
    kind: str = ""
    label: str = ""


@dataclass(frozen=True)
class Line:
    """One pool of the list. ``name`` is how it is shown: without characters that do not print."""

    pool: str
    name: str
    wanted: int
    running: int
    ready: int
    starting: int
    noticed: int
    waiting: int
    why: str
    message: str
    style: str
    price: str
    above_cap: bool
    cost: str


@dataclass(frozen=True)
class Fleet:
    """All pools, those in trouble first."""

    at: datetime
    stack: str
    region: str
    wanted: int
    running: int
    troubled: int
    cost: str
    pools: tuple[Line, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """One instance."""

    id: str
    type: str
    zone: str
    market: str
    age: str
    state: str
    ready: bool
    notes: str


@dataclass(frozen=True)
class Announced:
    """What EC2 announced for an instance."""

    at: str
    instance: str
    what: str
    offering: str


@dataclass(frozen=True)
class PoolPage:
    """All about one pool: what ``explain`` says, its instances, the notices of them, and its item."""

    at: datetime
    stack: str
    region: str
    name: str
    story: tuple[Words, ...]
    instances: tuple[Machine, ...]
    notices: tuple[Announced, ...]
    item: str


@dataclass(frozen=True)
class Decided:
    """One decision, or equal ones in a row."""

    when: str
    sizes: str
    texts: tuple[Words, ...]


@dataclass(frozen=True)
class Decisions:
    """A pool's decisions, newest first."""

    decisions: tuple[Decided, ...]
    note: str


class Panels:
    """Asks the questions of a page with the caller's own credentials, and keeps the answers for some seconds.

    All threads share it. It only reads.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.keep: Keep = Answers(deployment.now, KEPT)
        self.of_pool: Mapping[str, Callable[[str], object]] = {
            "pool": self.pool,
            "decisions": self.decisions,
            "pool-sizes": self.pool_sizes,
            "prices": self.prices,
        }
        self.of_fleet: Mapping[str, Callable[[], object]] = {"fleet": self.fleet, "sizes": self.fleet_sizes}

    def answer(self, panel: str, pool: str | None = None) -> dict[str, Any] | None:
        """Return a panel as JSON: its ``data``, or its ``fault``. None: there is no such panel."""
        if panel not in (self.of_fleet if pool is None else self.of_pool):
            return None
        try:
            with expected_errors():
                data = self.of_fleet[panel]() if pool is None else self.of_pool[panel](pool)
        except ExpectedError as fault:
            return {"data": None, "fault": plain(fault)}
        return {"data": to_jsonable_python(data), "fault": ""}

    def fleet(self) -> Fleet:
        """Return the list."""
        data = self._listing()
        listed = listing.listing_of(data)
        lines = sorted((_line(row, data.now) for row in listed.pools), key=lambda line: (line.style == "", line.pool))
        return Fleet(
            at=data.now,
            stack=self.deployment.stack,
            region=self.deployment.region,
            wanted=sum(line.wanted for line in lines),
            running=sum(line.running for line in lines),
            troubled=sum(bool(line.style) for line in lines),
            cost=dollars(listed.hourly_cost),
            pools=tuple(lines),
            notes=tuple(map(plain, listed.notes)),
        )

    def fleet_sizes(self) -> sizes.Sizes:
        """Return the sizes of all pools over the last hours."""
        data = self._listing()
        names = sorted({*data.items, *data.statuses})
        return self.keep("fleet sizes", tuple(names), lambda: self._sizes(names, FLEET_SPAN))

    def pool_sizes(self, pool: str) -> sizes.Sizes:
        """Return the sizes of one pool over the last day."""
        return self.keep("pool sizes", pool, lambda: self._sizes([pool], POOL_SPAN))

    def pool(self, pool: str) -> PoolPage:
        """Return what ``explain`` says. It is asked again at once when the item or the status has changed."""
        data = self._listing()
        about = (pool, repr(data.items.get(pool)), repr(data.statuses.get(pool)))
        observed = self.keep("explanation", about, lambda: explanation.look(self.deployment, pool))
        found = explanation.explain(observed)
        notices = observed.status.notices if observed.status else {}
        return PoolPage(
            at=found.at,
            stack=self.deployment.stack,
            region=self.deployment.region,
            name=plain(pool),
            story=tuple(_story(found)),
            instances=tuple(_machine(one, found.at) for one in found.instances),
            notices=tuple(
                Announced(clock(one.at), plain(instance), one.kind.value, plain(one.offering))
                for instance, one in sorted(notices.items(), key=lambda pair: pair[1].at, reverse=True)
            ),
            item=as_yaml(data.items[pool]).rstrip() if pool in data.items else "",
        )

    def decisions(self, pool: str) -> Decisions:
        """Return what ``history`` says."""
        since = self.deployment.now() - DECISIONS_SPAN
        found = self.keep(
            "decisions", pool, lambda: history.look(self.deployment, pool, since=since, most=MOST_DECISIONS)
        )
        return Decisions(
            tuple(map(_decided, reversed(found.decisions))), "" if found.decisions else plain(history.nothing(found))
        )

    def prices(self, pool: str) -> prices.PriceHistory:
        """Return the spot prices beside the cap. Raises RefusedError if the pool has none."""
        data = self._listing()
        intents = listing.intents(data.items, data.statuses, data.now)
        if pool not in intents:
            raise self.deployment.pools.no_such(pool)
        wanted = intents[pool].pool
        if wanted is None:
            raise RefusedError("The pool has no valid item, so it is not known which prices matter to it.")
        if not wanted.spot:
            raise RefusedError("The pool is on demand: spot prices do not matter to it.")
        return self.keep(
            "price history", repr(wanted), lambda: prices.look(self.deployment, wanted, now=self.deployment.now())
        )

    def _listing(self) -> listing.ListingData:
        return self.keep("listing", (), lambda: listing.look(self.deployment, self.keep))

    def _sizes(self, pools: list[str], span: timedelta) -> sizes.Sizes:
        cloudwatch, now = self.deployment.client("cloudwatch"), self.deployment.now()
        return sizes.look(cloudwatch, self.deployment.stack, pools, now=now, span=span)


def _line(row: listing.Row, now: datetime) -> Line:
    return Line(
        pool=row.pool,
        name=plain(row.pool),
        wanted=row.wanted,
        running=row.running,
        ready=row.ready,
        starting=row.starting,
        noticed=row.noticed,
        waiting=row.waiting,
        why=listing.why(row, now),
        message=plain(row.message or ""),
        style=listing.style(row),
        price=listing.price(row),
        above_cap=bool(row.above_cap),
        cost=dollars(row.hourly_cost),
    )


def _story(found: explanation.Explanation) -> Iterator[Words]:
    """Yield what ``explain`` says, without the name and the table of instances: they have places of their own."""
    for part, after in pairwise([*parts(found), Part(Kind.NOTE)]):
        if Kind.INSTANCES not in (part.kind, after.kind) and part.kind is not Kind.TITLE:
            yield Words(plain(part.text), part.style, part.kind.value, plain(part.label))


def _machine(member: explanation.Member, now: datetime) -> Machine:
    return Machine(
        id=plain(member.id),
        type=plain(member.instance_type),
        zone=plain(member.zone),
        market=member.market,
        age=ago(member.launched_at, now),
        state=plain(state(member)),
        ready=member.ready,
        notes=plain("; ".join(member.notes)),
    )


def _decided(decision: history.Decision) -> Decided:
    shown = "" if decision.wanted is None else f"{decision.running}/{decision.wanted}"
    return Decided(
        history.when(decision),
        shown,
        tuple(Words(plain(text), style) for text, style in history.details(decision)),
    )
