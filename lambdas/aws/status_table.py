"""The PoolStatus table: lease with fencing, open attempt, answers and memory, each write conditional.

Users read the attributes at the top of the item. The control plane's own are under ``controller``: the lease
(``owner``, ``lease_until`` in epoch seconds of the table's clock, ``fence``, ``dirty``), ``queued`` (when the tick sent
its message, in epoch seconds), ``notices`` by instance id, ``memory``.

No expression grows with a pool: DynamoDB accepts 4 KB of one, and would refuse a larger save every time.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

from botocore.exceptions import ClientError
from pydantic import Field, ValidationError

from lambdas.aws.tables import from_item, scan_items, to_attribute
from lambdas.domain.model.status import Answer, Attempt, Ended, Frozen, Memory, Notice, Status
from lambdas.ports import Clock, Lease, LeaseLostError, UnreadableStatusError

TRIES = 5
FREE = 0
LONGEST_LEASE_SECONDS = 3600
"""A lease that ends later was not taken by a reconcile, whatever its clock: it would block the pool for ever."""

REMOVED_AT_ONCE = 40
"""Notices that one expression removes: far below DynamoDB's 4,096 bytes."""

AnsweredAt = Callable[[Mapping[str, Any]], datetime]

Whole = Annotated[Decimal, Field(strict=True, ge=0, lt=10**15, multiple_of=1)]
"""A whole number, also to DynamoDB's conditions: true and "1" are not numbers."""


class _Controller(Frozen):
    """Our part of an item, complete: every expression below relies on each of its attributes."""

    fence: Whole
    lease_until: Whole
    owner: str = ""
    queued: Whole = Decimal(0)
    dirty: Annotated[bool, Field(strict=True)]
    notices: dict[str, Notice]
    memory: Memory


def time_of_answer(answer: Mapping[str, Any]) -> datetime:
    """When DynamoDB answered, by its own clock: the date header of every HTTP answer, to the second."""
    date: str = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
    return parsedate_to_datetime(date).astimezone(UTC)


class StatusTable:
    """The StatusStore port over DynamoDB. ``clock`` is the function's own; ``answered_at`` reads the table's."""

    def __init__(
        self,
        client: Any,
        table: str,
        *,
        lease_seconds: int,
        clock: Clock,
        answered_at: AnsweredAt = time_of_answer,
    ) -> None:
        self._client = client
        self._table = table
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._answered_at = answered_at

    def get(self, pool_name: str) -> Status | None:
        """Read one status."""
        answer = self._client.get_item(TableName=self._table, Key=_key(pool_name), ConsistentRead=True)
        return self._status(from_item(answer["Item"])) if "Item" in answer else None

    def scan(self) -> Mapping[str, Status | UnreadableStatusError]:
        """Read all statuses."""
        return {item["pool_name"]: self._status_or_fault(item) for item in scan_items(self._client, self._table)}

    def acquire(self, pool_name: str) -> Lease | None:
        """Take the lease, or mark the pool dirty for the function that holds it.

        Only the table's clock decides when a lease ends. Each write requires that the lease is still as it was read.
        """
        owner = str(uuid.uuid4())
        for _ in range(TRIES):
            answer = self._client.get_item(TableName=self._table, Key=_key(pool_name), ConsistentRead=True)
            at = int(self._answered_at(answer).timestamp())
            if "Item" not in answer:
                self._create(pool_name, fence=at)
                continue
            found = self._controller(from_item(answer["Item"]))
            if found.lease_until > at:
                if self._mark_dirty(pool_name, found):
                    return None
            elif lease := self._take(pool_name, owner, found, until=at + self._lease_seconds):
                return lease
        raise TimeoutError(f"The lease of pool {pool_name!r} changed hands {TRIES} times in a row; try again.")

    def _take(self, pool_name: str, owner: str, found: _Controller, *, until: int) -> Lease | None:
        """The lease, or None if another function was faster."""
        fence = int(found.fence) + 1
        taken = self._update(
            pool_name,
            "SET controller.fence = :next, controller.lease_until = :until, controller.#owner = :owner, "
            "controller.dirty = :no REMOVE controller.queued",
            AS_READ,
            names={"#owner": "owner"},
            values={":next": fence, ":until": until, ":owner": owner, ":no": False, **_as_read(found)},
        )
        if not isinstance(taken, _Refused):
            return Lease(pool_name, fence)
        # The write took effect and its answer was lost: the retry is refused because of its own lease.
        ours = taken.item is not None and self._controller(taken.item).owner == owner
        return Lease(pool_name, fence) if ours else None

    def _mark_dirty(self, pool_name: str, found: _Controller) -> bool:
        marked = self._update(
            pool_name,
            "SET controller.dirty = :yes REMOVE controller.queued",
            AS_READ,
            values={":yes": True, **_as_read(found)},
        )
        return not isinstance(marked, _Refused)

    def queued(self, pool_name: str, now: datetime, lasts: timedelta) -> bool:
        """Mark that a message is on its way. False if a recent mark exists; without an item to mark, True."""
        marked = self._update(
            pool_name,
            "SET controller.queued = :now",
            "(attribute_not_exists(controller.queued) OR controller.queued <= :old)",
            values={":now": int(now.timestamp()), ":old": int((now - lasts).timestamp())},
        )
        return not isinstance(marked, _Refused) or marked.item is None

    def _create(self, pool_name: str, *, fence: int) -> None:
        """Create an empty item. Its fence is the time, which is above the fence of any deleted item with this name."""
        empty = {"fence": fence, "lease_until": FREE, "dirty": False, "notices": {}, "memory": {}}
        try:
            self._client.put_item(
                TableName=self._table,
                Item={**_key(pool_name), "controller": to_attribute(empty)},
                ConditionExpression="attribute_not_exists(pool_name)",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise

    def release(self, lease: Lease, *, even_if_dirty: bool = False) -> bool:
        """Release the lease, unless the pool is dirty."""
        clean = "" if even_if_dirty else " AND controller.dirty = :no"
        released = self._update(
            lease.pool_name,
            "SET controller.lease_until = :free",
            f"controller.fence = :fence{clean}",
            values={":free": FREE, ":fence": lease.fence} | ({} if even_if_dirty else {":no": False}),
        )
        if not isinstance(released, _Refused) or released.item is None:
            return True
        self._write(lease, "SET controller.dirty = :no", {":no": False})
        return False

    def begin(self, lease: Lease, attempt: Attempt) -> None:
        """Save the attempt."""
        self._write(lease, "SET controller.memory.attempt = :attempt", {":attempt": attempt.model_dump(mode="json")})

    def ending(self, lease: Lease, ended: Ended) -> None:
        """Save which instances are about to be terminated."""
        self._write(lease, "SET controller.memory.ending = :ending", {":ending": ended.model_dump(mode="json")})

    def announced(self, lease: Lease, instance_ids: Iterable[str]) -> None:
        """Save which instances' end has been announced."""
        self._write(lease, "SET controller.memory.announced = :ids", {":ids": list(instance_ids)})

    def save(self, lease: Lease, before: Status, after: Status) -> None:
        """Write answer and memory as a whole, then remove past notices, a few at a time."""
        answer = after.answer.model_dump(mode="json", exclude_none=True)
        answer["updated_at"] = self._clock().isoformat(timespec="microseconds").replace("+00:00", "Z")
        memory = after.memory.model_dump(mode="json", exclude_none=True)
        absent = sorted(Answer.model_fields.keys() - answer.keys())
        sets = ["controller.memory = :memory", *(f"#{name} = :{name}" for name in answer)]
        removes = f" REMOVE {', '.join(f'#{name}' for name in absent)}" if absent else ""
        self._write(
            lease,
            f"SET {', '.join(sets)}{removes}",
            {":memory": memory} | {f":{name}": value for name, value in answer.items()},
            names={f"#{name}": name for name in (*answer, *absent)},
        )
        past = sorted(before.notices.keys() - after.notices.keys())
        for start in range(0, len(past), REMOVED_AT_ONCE):
            some = past[start : start + REMOVED_AT_ONCE]
            removed = ", ".join(f"controller.notices.#n{number}" for number in range(len(some)))
            names = {f"#n{number}": id_ for number, id_ in enumerate(some)}
            self._write(lease, f"REMOVE {removed}", {}, names=names)

    def delete(self, lease: Lease) -> None:
        """Delete the pool's status. It is no error if it was deleted before."""
        try:
            self._client.delete_item(
                TableName=self._table,
                Key=_key(lease.pool_name),
                ConditionExpression="attribute_not_exists(pool_name) OR controller.fence = :fence",
                ExpressionAttributeValues={":fence": to_attribute(lease.fence)},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                raise _lost(lease) from error
            raise

    def note(self, pool_name: str, instance_id: str, notice: Notice) -> None:
        """Add a notice, or replace the known one if the new one outweighs it."""
        known: Any = None
        for _ in range(TRIES):
            noted = self._update(
                pool_name,
                "SET controller.notices.#id = :notice",
                "controller.notices.#id = :known" if known else "attribute_not_exists(controller.notices.#id)",
                names={"#id": instance_id},
                values={":notice": notice.model_dump(mode="json", exclude_none=True)}
                | ({":known": known} if known else {}),
            )
            if not isinstance(noted, _Refused):
                return
            if noted.item is None:
                self._create(pool_name, fence=int(noted.at.timestamp()))
                known = None
                continue
            if not notice.outweighs(self._controller(noted.item).notices.get(instance_id)):
                return
            known = noted.item["controller"]["notices"].get(instance_id)
        raise TimeoutError(f"The status of pool {pool_name!r} changed {TRIES} times in a row; try again.")

    def _write(
        self, lease: Lease, update: str, values: Mapping[str, Any], names: Mapping[str, str] | None = None
    ) -> None:
        written = self._update(
            lease.pool_name, update, "controller.fence = :fence", names=names, values={**values, ":fence": lease.fence}
        )
        if isinstance(written, _Refused):
            raise _lost(lease)

    def _update(
        self,
        pool_name: str,
        update: str,
        condition: str,
        *,
        values: Mapping[str, Any],
        names: Mapping[str, str] | None = None,
    ) -> _Refused | None:
        """One conditional write. Returns None, or the refusal with the current item."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(pool_name),
                UpdateExpression=update,
                ConditionExpression=f"attribute_exists(pool_name) AND {condition}",
                ExpressionAttributeValues={name: to_attribute(value) for name, value in values.items()},
                **({"ExpressionAttributeNames": dict(names)} if names else {}),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ValidationException":
                self.get(pool_name)  # the update does not fit the item: reading it raises an error that says where
            if code != "ConditionalCheckFailedException":
                raise
            item = error.response.get("Item")
            return _Refused(from_item(item) if item else None, self._answered_at(error.response))
        return None

    def _status_or_fault(self, item: Mapping[str, Any]) -> Status | UnreadableStatusError:
        try:
            return self._status(item)
        except UnreadableStatusError as fault:
            return fault

    def _status(self, item: Mapping[str, Any]) -> Status:
        controller = self._controller(item)
        try:
            answer = Answer.model_validate({name: item[name] for name in Answer.model_fields if name in item})
        except ValidationError as error:
            raise _unreadable(item, error) from error
        return Status(answer=answer, memory=controller.memory, notices=controller.notices)

    def _controller(self, item: Mapping[str, Any]) -> _Controller:
        try:
            controller = _Controller.model_validate(item.get("controller"))
        except ValidationError as error:
            raise _unreadable(item, error, "controller") from error
        if controller.lease_until > self._clock().timestamp() + LONGEST_LEASE_SECONDS:
            raise UnreadableStatusError(item["pool_name"], "controller.lease_until: more than an hour ahead")
        return controller


class _Refused:
    """A refused conditional write: when, and the item that did not meet the condition."""

    def __init__(self, item: dict[str, Any] | None, at: datetime) -> None:
        self.item = item
        self.at = at


AS_READ = "controller.fence = :fence AND controller.lease_until = :seen"


def _as_read(found: _Controller) -> dict[str, Any]:
    """The values of a condition that nobody has taken or released the lease since it was read."""
    return {":fence": found.fence, ":seen": found.lease_until}


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(f"Pool {lease.pool_name!r} was taken over from fence {lease.fence}; nothing was written.")


def _key(pool_name: str) -> dict[str, Any]:
    return {"pool_name": {"S": pool_name}}


def _unreadable(item: Mapping[str, Any], error: ValidationError, *within: str) -> UnreadableStatusError:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in (*within, *fault["loc"]))[:200]
    return UnreadableStatusError(item["pool_name"], f"{where}: {fault['msg']} (got {str(fault['input'])[:80]!r})")
