"""What the control plane needs from outside, as contracts. Real adapters are in lambdas/aws, fakes in tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from lambdas.domain.item.pool import Pool
from lambdas.domain.model.cost import Prices
from lambdas.domain.model.instances import Instance, Offer
from lambdas.domain.model.plan import Launch
from lambdas.domain.model.results import DrainResult, Failure, Launched, Terminated
from lambdas.domain.model.status import Attempt, Drained, Ended, Notice, Status, Template

Clock = Callable[[], datetime]
"""Now, in UTC."""


@dataclass(frozen=True)
class Lease:
    """The right to act for one pool. Every write under it checks the fence, which only grows."""

    pool_name: str
    fence: int


class LeaseLostError(RuntimeError):
    """Another reconcile took the pool over: nothing more may be done or written under this lease."""


class UnreadableStatusError(RuntimeError):
    """A status item that is not as this version writes it: edited by hand, or written by another version."""

    def __init__(self, pool_name: str, fault: str) -> None:
        super().__init__(
            f"The PoolStatus item of {pool_name!r} cannot be read: {fault}. Nothing is done for the pool until it is "
            "fixed. You may remove an attribute outside controller: it is written again. If you cannot restore one "
            "inside it, wait ten minutes, so that EC2 shows all that was launched, then delete the item: it is "
            "created again from EC2 and the pool item, without the last valid spec."
        )


class PoolStore(Protocol):
    """The users' items. Read only."""

    def get(self, pool_name: str) -> Mapping[str, Any] | None:
        """The item as it stands now (strongly consistent), or None if there is none. Any failure raises."""

    def scan(self) -> Mapping[str, Mapping[str, Any]]:
        """All items by pool name (strongly consistent). Any failure raises: an error is never an empty table."""


class StatusStore(Protocol):
    """The control plane's own items. All but ``scan`` raise ``UnreadableStatusError`` for an unreadable item."""

    def get(self, pool_name: str) -> Status | None:
        """The pool's status (strongly consistent), or None."""

    def scan(self) -> Mapping[str, Status | UnreadableStatusError]:
        """All statuses by pool name (strongly consistent); an unreadable one does not fail the others."""

    def acquire(self, pool_name: str) -> Lease | None:
        """Take the pool's lease if it is free or has expired. If it is taken, mark the pool dirty and return None.

        A lease begins and ends by the table's own clock, because the clocks of two functions may differ.
        """

    def release(self, lease: Lease, *, even_if_dirty: bool = False) -> bool:
        """Release the lease. False, and the lease stays, if the pool was marked dirty meanwhile: look again.

        The lease of a deleted status is released with it. Raises LeaseLostError if the fence has grown.
        """

    def begin(self, lease: Lease, attempt: Attempt) -> None:
        """Save a launch attempt, before its call. Raises LeaseLostError."""

    def ending(self, lease: Lease, ended: Ended) -> None:
        """Save which instances are about to be terminated, before the call. Raises LeaseLostError."""

    def announced(self, lease: Lease, instance_ids: Iterable[str]) -> None:
        """Save which instances' end has been announced so far. Raises LeaseLostError."""

    def save(self, lease: Lease, before: Status, after: Status) -> None:
        """Save what a reconcile changed; notices that came meanwhile stay. Raises LeaseLostError."""

    def delete(self, lease: Lease) -> None:
        """Delete the pool's status. Raises LeaseLostError."""

    def queued(self, pool_name: str, now: datetime, lasts: timedelta) -> bool:
        """Mark that the pool is in the due queue. False: a mark no older than ``lasts`` exists.

        A reconcile that acquires the lease, or finds it taken, removes the mark.
        """

    def note(self, pool_name: str, instance_id: str, notice: Notice) -> None:
        """Remember what EC2 announced for an instance, without the lease, if it ``outweighs`` what is known of it."""


class Fleet(Protocol):
    """EC2. A request without an answer (no access, throttled, no connection) raises ``FleetError``."""

    def instances(self, pool_name: str | None = None) -> list[Instance]:
        """This stack's instances, of one pool or of all; terminated ones too, while EC2 shows them."""

    def find(self, instance_ids: Iterable[str]) -> Mapping[str, Instance | None]:
        """The given ids that EC2 shows: with the instance if it carries this stack's tag, else with None.

        An id that is left out has ended, never existed, or is so new that EC2's listings do not show it yet.
        """

    def healthy(self, instance_ids: Iterable[str]) -> frozenset[str]:
        """The given instances that have passed EC2's status checks."""

    def offers(self, pool: Pool, full: Collection[str] = ()) -> list[Offer]:
        """The pool's types in its subnets' zones, one subnet per zone, on each market that it may buy on.

        Spot offers have their current price, and exist only where there is one. They have the on-demand price if the
        cap is a share of it and the price list has the type. ``full`` subnets are used only where a zone has no other.
        """

    def unsold(self, pool: Pool) -> tuple[str, ...]:
        """The pool's ``instance_types`` that this Region does not sell: usually misspelt ones."""

    def prices(self, instances: Iterable[Instance]) -> Prices:
        """What the given instances cost now, on their market and on demand. ``unanswered`` are refusals."""

    def template(self, pool: Pool, known: Template | None) -> Template | None:
        """The version of the pool's own launch template that holds its item's description, created if necessary.

        ``known`` is the last answer. None if the pool needs no template of its own.
        """

    def forget_template(self, pool_name: str) -> None:
        """Delete the launch template of a deleted pool, if it had one of its own."""

    def request(self, pool: Pool, launch: Launch, attempt_id: str, template: Template | None) -> str:
        """The exact launch request, as JSON, to be saved and sent unchanged however often."""

    def launch(self, attempt: Attempt) -> Launched:
        """Send an attempt. ``answered`` is False if the answer was lost, so that it must be sent again."""

    def terminate(self, instance_ids: Iterable[str]) -> Terminated:
        """Terminate instances that carry this stack's tag; ids that EC2 neither knows nor shows are ``unknown``."""


class Drainer(Protocol):
    """Announces interruptions: to every listener on EventBridge, and to the instance itself."""

    def tell(self, pool_name: str, instances: Iterable[Instance], command: str | None) -> DrainResult:
        """Announce the end of the instances, and run the command on them if there is one. Repeating it is harmless."""

    def states(self, running: Iterable[Drained]) -> Mapping[str, str]:
        """The states of commands, by instance id. Raises FleetError."""


class FleetError(RuntimeError):
    """EC2 did not answer a request. Nothing is known; it does not mean that there are no instances."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


class NotSentError(RuntimeError):
    """A message to people was not accepted. It can be sent again."""


class DueQueue(Protocol):
    """Pools to be reconciled soon."""

    def send(self, pools: Mapping[str, str], after: timedelta = timedelta(0)) -> None:
        """Ask for a reconcile of each pool, in order; the value says why. Raises if any was not accepted.

        ``after`` is the delay, in whole seconds; at most 15 minutes.
        """
