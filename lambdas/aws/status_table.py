"""The PoolStatus table: lease with fencing, open attempt, answers and memory, each write conditional.

What users read stands at the top of the item; what we keep stands under ``controller``: the lease (``owner``,
``lease_until`` in epoch seconds, ``fence``, ``dirty``), ``notices`` by instance id, ``memory``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from botocore.exceptions import ClientError
from pydantic import Field, ValidationError

from lambdas.aws.tables import from_item, scan_items, to_attribute
from lambdas.domain.status import Answer, Attempt, Frozen, Memory, Notice, Status
from lambdas.ports import Clock, Lease, LeaseLostError, UnreadableStatusError

TRIES = 5
FREE = 0
LONGEST_LEASE_SECONDS = 3600
"""A lease that reaches further was not taken by a reconcile, whatever its clock: it would keep the pool for ever."""

Whole = Annotated[Decimal, Field(strict=True, ge=0, lt=10**15, multiple_of=1)]
"""A number to DynamoDB's conditions as well: true and "1" are none."""


class _Controller(Frozen):
    """Our half of an item, whole: every expression below relies on each of its parts."""

    fence: Whole
    lease_until: Whole
    owner: str = ""
    dirty: Annotated[bool, Field(strict=True)]
    notices: dict[str, Notice]
    memory: Memory


class StatusTable:
    """The StatusStore port over DynamoDB."""

    def __init__(self, client: Any, table: str, *, lease_seconds: int, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._lease_seconds = lease_seconds
        self._clock = clock

    def get(self, pool_name: str) -> Status | None:
        """Read one status."""
        answer = self._client.get_item(TableName=self._table, Key=_key(pool_name), ConsistentRead=True)
        return self._status(from_item(answer["Item"])) if "Item" in answer else None

    def scan(self) -> Mapping[str, Status | UnreadableStatusError]:
        """Read them all."""
        return {item["pool_name"]: self._status_or_fault(item) for item in scan_items(self._client, self._table)}

    def acquire(self, pool_name: str, now: datetime) -> Lease | None:
        """Take the lease, or mark the pool dirty for whoever has it."""
        owner = str(uuid.uuid4())
        for _ in range(TRIES):
            taken = self._take(pool_name, owner, now)
            if isinstance(taken, Lease):
                return taken
            if taken is None:
                self._create(pool_name)
            elif self._mark_dirty(pool_name, now):
                return None
        raise TimeoutError(f"The lease of pool {pool_name!r} changed hands {TRIES} times in a row; try again.")

    def _take(self, pool_name: str, owner: str, now: datetime) -> Lease | dict[str, Any] | None:
        """The lease; or the item as it stands if somebody else has it; or None if there is no item."""
        old = self._update(
            pool_name,
            "SET controller.fence = controller.fence + :one, controller.lease_until = :until, "
            "controller.#owner = :owner, controller.dirty = :no",
            "controller.lease_until <= :now",
            names={"#owner": "owner"},
            values={
                ":one": 1,
                ":until": int(now.timestamp()) + self._lease_seconds,
                ":owner": owner,
                ":no": False,
                ":now": int(now.timestamp()),
            },
        )
        if not isinstance(old, _Refused):
            return Lease(pool_name, int(self._controller(old).fence))
        if old.item is None:
            return None
        held = self._controller(old.item)
        # A write that took effect and whose answer was lost: the retry is refused by its own lease.
        return Lease(pool_name, int(held.fence)) if held.owner == owner else old.item

    def _mark_dirty(self, pool_name: str, now: datetime) -> bool:
        marked = self._update(
            pool_name,
            "SET controller.dirty = :yes",
            "controller.lease_until > :now",
            values={":yes": True, ":now": int(now.timestamp())},
        )
        return not isinstance(marked, _Refused)

    def _create(self, pool_name: str) -> None:
        # The first fence of an item made anew is above any that an item of the same name had before it was deleted.
        fence = int(self._clock().timestamp())
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
        """Let go, unless somebody wants another look."""
        clean = "" if even_if_dirty else " AND controller.dirty = :no"
        released = self._update(
            lease.pool_name,
            "SET controller.lease_until = :free",
            f"controller.fence = :fence{clean}",
            values={":free": FREE, ":fence": lease.fence} | ({} if even_if_dirty else {":no": False}),
        )
        if not isinstance(released, _Refused) or released.item is None:
            return True
        self._under(lease, "SET controller.dirty = :no", {":no": False})
        return False

    def begin(self, lease: Lease, attempt: Attempt) -> None:
        """Write the attempt down."""
        self._under(lease, "SET controller.memory.attempt = :attempt", {":attempt": attempt.model_dump(mode="json")})

    def save(self, lease: Lease, before: Status, after: Status) -> None:
        """Write answer and memory whole, and drop the notices that are past."""
        answer = after.answer.model_dump(mode="json", exclude_none=True)
        answer["updated_at"] = self._clock().isoformat(timespec="microseconds").replace("+00:00", "Z")
        memory = after.memory.model_dump(mode="json", exclude_none=True)
        absent = sorted(Answer.model_fields.keys() - answer.keys())
        past = sorted(before.notices.keys() - after.notices.keys())
        sets = ["controller.memory = :memory", *(f"#{name} = :{name}" for name in answer)]
        removes = [*(f"#{name}" for name in absent), *(f"controller.notices.#n{i}" for i in range(len(past)))]
        self._under(
            lease,
            f"SET {', '.join(sets)}" + (f" REMOVE {', '.join(removes)}" if removes else ""),
            {":memory": memory} | {f":{name}": value for name, value in answer.items()},
            names={f"#{name}": name for name in (*answer, *absent)} | {f"#n{i}": id_ for i, id_ in enumerate(past)},
        )

    def delete(self, lease: Lease) -> None:
        """Forget the pool; one already forgotten is no fault."""
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
        """Add a notice, or put it in the place of the one that it was seen to outweigh."""
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
                self._create(pool_name)
                known = None
                continue
            if not notice.outweighs(self._controller(noted.item).notices.get(instance_id)):
                return
            known = noted.item["controller"]["notices"].get(instance_id)
        raise TimeoutError(f"The status of pool {pool_name!r} changed {TRIES} times in a row; try again.")

    def _under(
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
    ) -> dict[str, Any] | _Refused:
        """One conditional write; the item after it, or the refusal with the item as it stands."""
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=_key(pool_name),
                UpdateExpression=update,
                ConditionExpression=f"attribute_exists(pool_name) AND {condition}",
                ExpressionAttributeValues={name: to_attribute(value) for name, value in values.items()},
                **({"ExpressionAttributeNames": dict(names)} if names else {}),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ValidationException":
                self.get(pool_name)  # the update does not fit the item: this says where the item is not ours
            if code != "ConditionalCheckFailedException":
                raise
            item = error.response.get("Item")
            return _Refused(from_item(item) if item else None)
        return from_item(answer["Attributes"])

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
    """A conditional write that did not happen, with the item that stood against it."""

    def __init__(self, item: dict[str, Any] | None) -> None:
        self.item = item


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(f"Pool {lease.pool_name!r} was taken over from fence {lease.fence}; nothing was written.")


def _key(pool_name: str) -> dict[str, Any]:
    return {"pool_name": {"S": pool_name}}


def _unreadable(item: Mapping[str, Any], error: ValidationError, *within: str) -> UnreadableStatusError:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in (*within, *fault["loc"]))[:200]
    return UnreadableStatusError(item["pool_name"], f"{where}: {fault['msg']} (got {str(fault['input'])[:80]!r})")
