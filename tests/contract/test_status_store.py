"""The StatusStore contract: the same cases on the in-memory table and on two emulators of DynamoDB."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lambdas.aws.status_table import StatusTable
from lambdas.domain.item.faults import SpecError
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.status import (
    Answer,
    Attempt,
    Backoff,
    Batch,
    Ended,
    Hold,
    LastError,
    Memory,
    Notice,
    NoticeKind,
    Reason,
    Status,
    Waiting,
)
from lambdas.ports import Lease, LeaseLostError, StatusStore, UnreadableStatusError
from localcloud.market.model.clock import ManualClock
from tests.contract.emulators import EMULATORS, Emulators, new_table
from tests.support.fakes import MemoryStatuses

LEASE = 75
CLOCK = ManualClock()
NOW = CLOCK()
LASTS = timedelta(minutes=5)
"""How long the mark of a queued pool lasts."""
SPEC = Pool(pool_name="p", instance_types=("g5.xlarge",)).model_dump(mode="json")
ATTEMPT = Attempt(id="a", count=2, at=NOW, request='{"Type":"instant"}', terms={"spot": True, "spot_max_price": None})
ENDING = Ended(at=NOW, ids=("i-00000003", "i-00000004"))
FULL = Status(
    answer=Answer(
        wanted=3,
        running=1,
        starting=1,
        noticed=1,
        waiting=Waiting(
            count=1, reason=Reason.NO_CAPACITY, since=NOW, attempts=4, next_attempt_at=NOW, message="none in a zone"
        ),
        spec_errors=(SpecError(field="target_size", value="-1", rule="a number", remedy="raise it"),),
        last_error=LastError(code="InsufficientInstanceCapacity", message="none", at=NOW),
        draining_since=NOW,
    ),
    memory=Memory(
        spec=SPEC,
        attempt=ATTEMPT,
        launched=(Batch(at=NOW, attempt="a", machine="m", ids={"g5.xlarge/us-east-1a": ("i-00000001",)}),),
        terminated=(Ended(at=NOW, ids=("i-00000002",)),),
        ending=ENDING,
        backoff={"g5.xlarge/us-east-1a": Backoff(until=NOW, failures=3, reason=Reason.CONFIG, message="no such type")},
        holds={Market.SPOT: Hold(reason=Reason.QUOTA, until=NOW, failures=2, message="quota")},
        below_since=NOW,
    ),
)


@pytest.fixture(params=["memory", *EMULATORS])
def store(request: pytest.FixtureRequest, emulators: Emulators) -> StatusStore:
    CLOCK.now = NOW
    if request.param == "memory":
        return MemoryStatuses(CLOCK, LEASE)
    client = emulators.client(request.param)
    return table_of(client, new_table(client))


# dynalite never finds two maps equal; DynamoDB does: "EQ is supported for all data types, including lists and maps".
where_maps_are_compared = pytest.mark.parametrize("store", ["memory", "ministack"], indirect=True)


def table_of(client: Any, name: str) -> StatusTable:
    """The adapter, with a table clock that the test moves."""
    return StatusTable(client, name, lease_seconds=LEASE, clock=CLOCK, answered_at=lambda _: CLOCK())


def taken(store: StatusStore, seconds: int = 0) -> Lease:
    """Acquire the lease at the given seconds after the start."""
    CLOCK.now = NOW + timedelta(seconds=seconds)
    lease = store.acquire("p")
    assert lease is not None
    return lease


def test_an_unknown_pool_has_no_status(store: StatusStore) -> None:
    assert store.get("p") is None
    assert store.scan() == {}


def test_what_is_saved_is_read_back_whole(store: StatusStore) -> None:
    store.save(taken(store), Status(), FULL)
    assert store.get("p") == FULL
    assert store.scan() == {"p": FULL}


def test_past_entries_are_removed_by_the_next_save(store: StatusStore) -> None:
    lease = taken(store)
    store.save(lease, Status(), FULL)
    store.save(lease, FULL, Status())
    assert store.get("p") == Status()


def test_a_taken_lease_is_not_given_twice(store: StatusStore) -> None:
    taken(store)
    CLOCK.forward(LEASE - 1)
    assert store.acquire("p") is None


def test_an_expired_lease_goes_to_the_next_with_a_higher_fence(store: StatusStore) -> None:
    first = taken(store)
    assert taken(store, LEASE + 1).fence > first.fence


def test_a_released_lease_is_free_at_once(store: StatusStore) -> None:
    assert store.release(taken(store))
    assert taken(store)


def test_finding_the_lease_taken_makes_the_holder_look_again_once(store: StatusStore) -> None:
    lease = taken(store)
    assert store.acquire("p") is None
    assert not store.release(lease)
    assert store.release(lease)


def test_the_mark_does_not_outlive_its_lease(store: StatusStore) -> None:
    taken(store)
    assert store.acquire("p") is None
    assert store.release(taken(store, LEASE + 1))


def test_a_dirty_lease_can_still_be_released(store: StatusStore) -> None:
    lease = taken(store)
    assert store.acquire("p") is None
    assert store.release(lease, even_if_dirty=True)
    assert taken(store)


@pytest.mark.parametrize(
    "write",
    [
        lambda store, lease: store.save(lease, Status(), FULL),
        lambda store, lease: store.begin(lease, ATTEMPT),
        lambda store, lease: store.ending(lease, ENDING),
        lambda store, lease: store.announced(lease, ["i-00000001"]),
        lambda store, lease: store.delete(lease),
        lambda store, lease: store.release(lease),
    ],
    ids=["save", "begin", "ending", "announced", "delete", "release"],
)
def test_a_lost_lease_writes_nothing(store: StatusStore, write: Callable[[StatusStore, Lease], object]) -> None:
    lost = taken(store)
    taken(store, LEASE + 1)
    with pytest.raises(LeaseLostError):
        write(store, lost)
    assert store.get("p") == Status()


def test_an_attempt_is_saved_beside_the_memory(store: StatusStore) -> None:
    lease = taken(store)
    before = Status(memory=Memory(spec=SPEC))
    store.save(lease, Status(), before)
    store.begin(lease, ATTEMPT)
    assert store.get("p") == Status(memory=Memory(spec=SPEC, attempt=ATTEMPT))


def test_planned_terminations_and_drains_are_saved_beside_the_memory(store: StatusStore) -> None:
    lease = taken(store)
    before = Status(memory=Memory(spec=SPEC))
    store.save(lease, Status(), before)
    store.ending(lease, ENDING)
    store.announced(lease, ["i-00000001", "i-00000002"])
    memory = Memory(spec=SPEC, ending=ENDING, announced=("i-00000001", "i-00000002"))
    assert store.get("p") == Status(memory=memory)


def test_a_thousand_past_notices_are_removed_by_one_save(store: StatusStore) -> None:
    """DynamoDB accepts 4 KB of expression. A save that names all notices would always be refused."""
    lease = taken(store)
    for number in range(1000):
        store.note("p", f"i-{number:08x}", Notice(at=NOW, offering="g5.xlarge/us-east-1a"))
    before = store.get("p")
    assert before is not None
    assert len(before.notices) == 1000
    store.save(lease, before, FULL)
    assert store.get("p") == FULL


def test_a_status_above_400_kilobytes_is_refused_and_the_previous_one_stays(store: StatusStore) -> None:
    lease = taken(store)
    large = Status(memory=Memory(spec={"user_data": "x" * 420_000}))
    with pytest.raises(Exception, match="Item size"):
        store.save(lease, Status(), large)
    assert store.get("p") == Status()


def test_a_pool_is_queued_once_until_a_function_takes_it(store: StatusStore) -> None:
    store.release(taken(store))
    assert store.queued("p", NOW, LASTS)
    assert not store.queued("p", NOW + timedelta(minutes=4), LASTS)
    assert store.release(taken(store, 60))
    assert store.queued("p", NOW + timedelta(minutes=4), LASTS)


def test_finding_the_lease_taken_clears_the_queued_mark(store: StatusStore) -> None:
    taken(store)
    assert store.queued("p", NOW, LASTS)
    assert store.acquire("p") is None
    assert store.queued("p", NOW, LASTS)


def test_a_lost_message_expires_and_a_pool_without_a_status_is_due(store: StatusStore) -> None:
    assert store.queued("p", NOW, LASTS)
    assert store.queued("p", NOW, LASTS)
    store.release(taken(store))
    assert store.queued("p", NOW, LASTS)
    assert store.queued("p", NOW + timedelta(minutes=6), LASTS)


def test_a_lease_ends_by_the_tables_clock_whatever_the_functions_shows(dynamodb: Any, table: str) -> None:
    behind, ahead = (ManualClock() for _ in range(2))
    behind.now, ahead.now = (datetime.now(UTC) + timedelta(minutes=minutes) for minutes in (-30, 30))
    first, second = (StatusTable(dynamodb, table, lease_seconds=LEASE, clock=clock) for clock in (behind, ahead))
    lease = first.acquire("p")
    assert lease is not None
    assert second.acquire("p") is None
    assert not first.release(lease), "the other one marked it"
    assert first.release(lease)
    assert second.acquire("p") is not None


def test_a_notice_that_comes_during_a_reconcile_survives_its_save(store: StatusStore) -> None:
    lease = taken(store)
    notice = Notice(at=NOW, offering="g5.xlarge/us-east-1a")
    store.note("p", "i-00000001", notice)
    store.save(lease, Status(), FULL)
    assert store.get("p") == FULL.model_copy(update={"notices": {"i-00000001": notice}})


def test_a_past_notice_goes_and_a_new_one_stays(store: StatusStore) -> None:
    lease = taken(store)
    notices = {f"i-{n:08x}": Notice(at=NOW, offering=f"g5.xlarge/zone-{n}") for n in range(3)}
    for id_, notice in notices.items():
        store.note("p", id_, notice)
    before = store.get("p")
    assert before is not None
    kept = {"i-00000001": notices["i-00000001"]}
    store.note("p", "i-000000ff", notices["i-00000002"])
    store.save(lease, before, before.model_copy(update={"notices": kept}))
    after = store.get("p")
    assert after is not None
    assert after.notices == {**kept, "i-000000ff": notices["i-00000002"]}


def test_the_first_notice_of_an_instance_stays(store: StatusStore) -> None:
    first, second = (Notice(at=NOW + timedelta(seconds=n), offering="g5.xlarge/us-east-1a") for n in (0, 9))
    store.note("p", "i-00000001", first)
    store.note("p", "i-00000001", second)
    status = store.get("p")
    assert status is not None
    assert status.notices == {"i-00000001": first}


@where_maps_are_compared
def test_an_interruption_replaces_a_recommendation_and_never_the_reverse(store: StatusStore) -> None:
    risk, end = (
        Notice(at=NOW, offering="g5.xlarge/us-east-1a", kind=kind)
        for kind in (NoticeKind.REBALANCE, NoticeKind.INTERRUPTION)
    )
    for notice in (risk, end, risk):
        store.note("p", "i-00000001", notice)
    status = store.get("p")
    assert status is not None
    assert status.notices == {"i-00000001": end}


INTERRUPTED, REBALANCE, ANNOUNCED, WITHDRAWN = NoticeKind


@where_maps_are_compared
@pytest.mark.parametrize(
    ("said", "stays"),
    [
        ([(ANNOUNCED, "a", 0), (WITHDRAWN, "a", 1)], 1),
        ([(ANNOUNCED, "a", 0), (WITHDRAWN, "a", 0)], 1),
        ([(WITHDRAWN, "a", 1), (ANNOUNCED, "a", 0)], 0),
        ([(WITHDRAWN, "a", 0), (ANNOUNCED, "a", 0)], 0),
        ([(WITHDRAWN, "a", 0), (ANNOUNCED, "a", 1)], 1),
        ([(ANNOUNCED, "a", 1), (WITHDRAWN, "a", 0)], 0),
        ([(ANNOUNCED, "a", 0), (WITHDRAWN, "b", 1)], 0),
        ([(WITHDRAWN, "a", 1), (ANNOUNCED, "b", 0)], 1),
        ([(ANNOUNCED, "a", 0), (REBALANCE, None, 1), (WITHDRAWN, "a", 2)], 1),
        ([(REBALANCE, None, 0), (ANNOUNCED, "a", 1)], 0),
        ([(WITHDRAWN, "a", 1), (INTERRUPTED, None, 0)], 1),
        ([(INTERRUPTED, None, 0), (WITHDRAWN, "a", 1)], 0),
    ],
)
def test_the_most_severe_notice_stays_and_the_newest_of_one_event(
    store: StatusStore, said: list[tuple[NoticeKind, str | None, int]], stays: int
) -> None:
    notices = [
        Notice(at=NOW + timedelta(seconds=seconds), offering="g5.xlarge/us-east-1a", kind=kind, event=event)
        for kind, event, seconds in said
    ]
    for notice in notices:
        store.note("p", "i-00000001", notice)
    status = store.get("p")
    assert status is not None
    assert status.notices == {"i-00000001": notices[stays]}


def test_a_forgotten_pool_loses_its_status_and_its_lease(store: StatusStore) -> None:
    lease = taken(store)
    store.delete(lease)
    assert store.get("p") is None
    assert store.release(lease)
    assert taken(store).fence > 0


def test_a_thousand_instances_fit_into_a_status(store: StatusStore) -> None:
    ids = tuple(f"i-{n:017x}" for n in range(1000))
    batch = Batch(at=NOW, attempt="a", machine="m", ids={"g5.xlarge/us-east-1a": ids})
    many = Memory(spec=SPEC, launched=(batch,), terminated=(Ended(at=NOW, ids=ids),), startup=ids)
    store.save(taken(store), Status(), Status(memory=many))
    status = store.get("p")
    assert status is not None
    assert status.memory == many


HAND_EDITS = {
    "no controller": ("REMOVE controller", {}),
    "no fence": ("REMOVE controller.fence", {}),
    "a fence that is not a number": ("SET controller.fence = :x", {":x": {"S": "many"}}),
    "a fence that is true": ("SET controller.fence = :x", {":x": {"BOOL": True}}),
    "no notices": ("REMOVE controller.notices", {}),
    "another version": ("SET controller.memory.version = :x", {":x": {"N": "2"}}),
    "a time without a zone": ("SET controller.memory.below_since = :x", {":x": {"S": "2026-11-23T12:00:00"}}),
    "a size that is not a number": ("SET wanted = :x", {":x": {"S": "many"}}),
    "a lease without an end": ("SET controller.lease_until = :x", {":x": {"N": "99999999999"}}),
}


@pytest.mark.parametrize("edit", HAND_EDITS)
def test_a_status_edited_by_hand_is_reported_and_blocks_no_other(dynamodb: Any, table: str, edit: str) -> None:
    CLOCK.now = NOW
    store = table_of(dynamodb, table)
    store.release(taken(store))
    dynamodb.put_item(
        TableName=table,
        Item=dynamodb.get_item(TableName=table, Key={"pool_name": {"S": "p"}})["Item"] | {"pool_name": {"S": "q"}},
    )
    update, values = HAND_EDITS[edit]
    dynamodb.update_item(
        TableName=table,
        Key={"pool_name": {"S": "p"}},
        UpdateExpression=update,
        **({"ExpressionAttributeValues": values} if values else {}),
    )
    with pytest.raises(UnreadableStatusError, match=r"'p' cannot be read: .+ten minutes"):
        reconciled(store)
    found = store.scan()
    assert isinstance(found["q"], Status)
    assert isinstance(found["p"], UnreadableStatusError)


def reconciled(store: StatusStore) -> None:
    """The first call of a reconcile."""
    store.acquire("p")
    store.get("p")
