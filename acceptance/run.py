"""A run: its place, limits and state, and how a step waits, acts and records."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any, TypeVar

from acceptance.claims import Finding, Verdict
from acceptance.costs import Life, Rates, spent
from acceptance.guard import Demand, Guard
from acceptance.instances import Seen, alive, listed
from acceptance.place import Place
from acceptance.state import State
from cli.deployment import Deployment
from lambdas.aws.tables import from_item, to_attribute

Found = TypeVar("Found")


class NotSeenError(Exception):
    """Something that a step waited for did not happen in time."""


class NothingWorksError(NotSeenError):
    """Nothing after this step could succeed, so the run ends."""


class Run:
    """What each step gets. Waiting looks at the limits each time."""

    def __init__(self, place: Place, state: State) -> None:
        self.place = place
        self.state = state
        self.guard = Guard(
            budget=state.budget,
            most_instances=state.most_instances,
            deadline=state.deadline,
            rates=Rates(state.price),
        )
        self.facts: dict[str, Any] = {}
        """What a step leaves for a later one of the same process."""
        self._deployment: Deployment | None = None

    @property
    def deployment(self) -> Deployment:
        """The deployed stack. Read anew for each run, because outputs are read only once."""
        if self._deployment is None:
            self._deployment = Deployment(self.place.stack, self.place.deployment.region)
        return self._deployment

    @property
    def local(self) -> bool:
        """Whether it plays on the local cloud."""
        return self.place.local

    def client(self, service: str) -> Any:
        """The client of a service."""
        return self.place.client(service)

    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC)

    def instances(self) -> list[Seen]:
        """All instances of the run; also records when each was launched and when it was seen as ended."""
        found, now = listed(self.client("ec2"), self.place.stack), self.now()
        lives = self.state.lives
        for one in found:
            known = lives.get(one.id)
            lives[one.id] = Life(one.launched, (known and known.ended) or (None if one.alive else now))
        # EC2 forgets an instance about an hour after its end.
        shown = {one.id for one in found}
        for id_, life in list(lives.items()):
            if id_ not in shown and life.ended is None and now - life.launched > timedelta(minutes=2):
                lives[id_] = Life(life.launched, now)
        return found

    def of_pool(self, pool: str, *states: str) -> list[Seen]:
        """The pool's instances in these states (default: pending and running)."""
        return [one for one in self.instances() if one.pool == pool and one.state in (states or ("pending", "running"))]

    def spent(self) -> Any:
        """The most that the run has cost so far, in dollars."""
        return spent(
            self.guard.rates,
            self.state.lives.values(),
            stack_since=self.state.stack_since,
            now=self.now(),
            extra=self.state.extra,
        )

    def check(self, demand: Demand) -> None:
        """Raise LimitError if a step's worst case does not fit."""
        living = len(alive(self.instances()))
        self.guard.refuse(demand, alive=living, spent=self.spent(), now=self.now())

    def watch(self) -> None:
        """Raise LimitError if a limit is exceeded."""
        living = len(alive(self.instances()))
        self.guard.watch(alive=living, spent=self.spent(), now=self.now())

    def until(self, condition: Callable[[], Found | None], what: str, *, seconds: float) -> Found:
        """Wait until the condition holds and return its value. Raises NotSeenError, or LimitError for a limit."""
        begun = monotonic()
        while not (found := condition()):
            if monotonic() - begun > seconds:
                raise NotSeenError(f"{what}: not within {seconds:g} s")
            self.watch()
            sleep(self.place.poll_seconds)
        return found

    def put_pool(self, item: dict[str, Any]) -> None:
        """Write a whole pool item, like its owner."""
        attributes = {name: to_attribute(value) for name, value in item.items()}
        self.client("dynamodb").put_item(TableName=self.deployment.output("PoolsTable"), Item=attributes)

    def status(self, pool: str) -> dict[str, Any]:
        """PoolStatus of a pool; empty if there is none yet."""
        table = self.deployment.output("StatusTable")
        answer = self.client("dynamodb").get_item(TableName=table, Key={"pool_name": {"S": pool}}, ConsistentRead=True)
        return from_item(answer.get("Item", {}))

    def seen(self, claim: str, text: str) -> None:
        """Record that the claim holds, and what was seen."""
        self.state.find(Finding(claim, Verdict.SEEN, text))

    def not_seen(self, claim: str, why: str) -> None:
        """Record that the claim could not be checked, and why."""
        self.state.find(Finding(claim, Verdict.NOT_SEEN, why))

    def judge(self, claim: str, text: str, *, holds: bool) -> None:
        """Record what was seen, and whether it is what the claim says."""
        self.state.find(Finding(claim, Verdict.SEEN if holds else Verdict.DIFFERS, text))
