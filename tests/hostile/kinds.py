"""A property for each kind of input: no crash, no effect on other pools, and an action or an answer with a reason.

Each property takes an input and returns the outcome. It raises if the outcome is not allowed.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any
from unittest import mock

from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.deployment import Deployment
from cli.files import read_entries
from cli.main import app
from cli.pool_items import PoolItems
from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.plan import Launch
from lambdas.domain.model.status import (
    Attempt,
    Backoff,
    Batch,
    Ended,
    Hold,
    Memory,
    Notice,
    Reason,
    Status,
    Template,
)
from lambdas.events import MalformedEventError, edited_pools
from lambdas.notices import UNKNOWN_TRIES
from lambdas.ports import UnreadableStatusError
from tests.hostile import strategies
from tests.hostile.site import LARGEST_STATUS, NEIGHBOURS, Site, due_body

ACTED, REFUSED, IGNORED, BY_DYNAMODB = "acted on", "refused with a reason", "ignored with a log line", "by DynamoDB"
OUTCOMES = (ACTED, REFUSED, IGNORED, BY_DYNAMODB)

PATIENCE_SECONDS = 20
"""Time limit for a file. An expansion bomb would take hours."""


class SilentDropError(AssertionError):
    """An input led to neither an action nor an answer."""


@dataclass(frozen=True)
class Kind:
    """A kind of input: its inputs, their share of all, and the property."""

    inputs: st.SearchStrategy[Any]
    share: float
    meet: Callable[[Any], str]


def pool_item(given: tuple[str, dict[str, Any]]) -> str:
    """An item that is edited, reconciled, seen by a tick, deleted and wound down."""
    key, attributes = given
    with a_site() as site:
        try:
            site.put(key, strategies.SOUND | attributes)
        except ClientError:
            return BY_DYNAMODB
        site.edited([{"dynamodb": {"Keys": {"pool_name": {"S": key}}}}])
        assert site.drain_queue() == [key]
        status = site.status(key)
        if status is None:
            raise SilentDropError("no status")
        assert size_of(status) < LARGEST_STATUS
        gauges = site.tick()
        assert gauges["StatusesUnreadable"] == 0
        faults = [one["M"] for one in status["spec_errors"]["L"]]
        if faults:
            assert gauges["PoolsInvalid"] == 1
            assert not site.world.alive(key)
            assert key not in site.world.queue.waiting, "each tick would ask for it again"
            if not all(fault[part]["S"] for fault in faults for part in ("field", "rule", "remedy")):
                raise SilentDropError(f"a fault without field, rule or remedy: {faults}")
        elif (
            len(site.world.alive(key)) != int(status["wanted"]["N"])
            and "waiting" not in status
            and attributes.get("paused") != {"BOOL": True}
        ):
            raise SilentDropError("neither launched nor waiting")
        _others_untouched(site)
        site.drain_queue()
        _goes_when_deleted(site, key)
        return REFUSED if faults else ACTED


def status_item(faults: list[tuple[list[int], dict[str, Any] | None]]) -> str:
    """A status changed by hand: its pool works or says why not, and the error's remedy helps."""
    with a_site() as site:
        site.put("p", strategies.SOUND | {"target_size": {"N": "2"}})
        site.due([due_body("p")])
        _remember_much(site)
        item = site.status("p")
        assert item is not None
        for path, value in faults:
            _change(item, path, value)
        item["pool_name"] = {"S": "p"}
        try:
            site.dynamodb.put_item(TableName=site.statuses, Item=item)
        except ClientError:
            return BY_DYNAMODB
        _is_listed(site)
        instance = site.world.alive("p")[0]
        gauges = site.tick()
        site.drain_queue()
        failed = site.due([due_body("p")])
        result = site.logged("reconcile failed")
        again = site.noticed([event_of(instance)])
        try:
            site.plane.statuses.get("p")
        except UnreadableStatusError as fault:
            assert gauges["StatusesUnreadable"] == 1
            if not (failed and again and result and "UnreadableStatusError" in result[0]["exception_name"]):
                raise SilentDropError(f"nobody tells of it: {fault}") from fault
            assert len(site.world.alive("p")) == 2, "left alone"
            outcome = REFUSED
        else:
            assert not failed, result
            outcome = ACTED
        _others_untouched(site)
        if outcome is REFUSED:
            _recovers_after_deletion(site)
        site.clear("p")
        return outcome


def event(body: str) -> str:
    """An event together with a valid one of a neighbour."""
    with a_site() as site:
        (ours,) = site.world.alive(NEIGHBOURS[0])
        (other,) = site.world.alive(NEIGHBOURS[1])
        body, sound = body.replace(strategies.OURS, ours), event_of(other)
        returned = site.noticed([body, sound])
        assert sound not in returned
        assert any(line["pool"] == NEIGHBOURS[1] for line in site.logged("reconciled"))
        if site.logged("not seen yet"):
            assert site.noticed([body], receives=UNKNOWN_TRIES) == []
            assert site.logged("dropped")
            _others_untouched(site)
            return IGNORED
        if body in returned:
            (line,) = site.logged("malformed event")
            _says_why(line["fault"])
            _others_untouched(site)
            return REFUSED
        if site.logged("ignored"):
            _others_untouched(site)
            return IGNORED
        if len(site.logged("event")) != 2:
            raise SilentDropError("neither noted nor ignored nor returned")
        return ACTED


def alarm_event(body: str) -> str:
    """An alarm's event together with a valid one."""
    sound = strategies.alarm_event("test-pool-below-target", pool="gone", state="OK")
    with a_site() as site:
        site.sent.clear()
        returned = site.alarmed([body, sound])
        assert sound not in returned
        if body in returned:
            (line,) = site.logged("malformed event")
            _says_why(line["fault"])
            outcome = REFUSED
        elif len(site.logged("explained")) > 1 or len(site.sent) > 1:
            outcome = ACTED
        else:
            outcome = IGNORED
        assert any("gone was deleted" in one.subject for one in site.sent) or outcome is not REFUSED
        _others_untouched(site)
        return outcome


def due_message(body: str) -> str:
    """A message of the due queue."""
    with a_site() as site:
        if site.due([body]):
            (line,) = site.logged("reconcile failed")
            assert line["exception_name"] == "MalformedEventError", line
            _says_why(line["exception"])
            outcome = REFUSED
        elif site.logged("reconciled") or site.logged("forgotten"):
            outcome = ACTED
        else:
            raise SilentDropError("neither reconciled nor returned")
        _others_untouched(site)
        return outcome


def stream(records: list[Any]) -> str:
    """Records of the stream: alone, and as Lambda splits a failed batch."""
    sound = {"dynamodb": {"Keys": {"pool_name": {"S": NEIGHBOURS[0]}}}}
    with a_site() as site:
        try:
            site.edited([*records, sound])
        except MalformedEventError as fault:
            _says_why(str(fault))
            outcome = REFUSED
            site.edited([sound])
        else:
            assert site.logged("edited")
            assert site.world.queue.waiting == edited_pools([*records, sound])
            outcome = ACTED
        assert NEIGHBOURS[0] in site.world.queue.waiting
        site.drain_queue()
        _others_untouched(site)
        return outcome


def file(data: bytes) -> str:
    """A file for the spotpools command. What it calls valid is valid for the control plane, too."""
    began = monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pools.yaml")
        path.write_bytes(data)
        result = CliRunner().invoke(app, ["validate", str(path)])
        assert monotonic() - began < PATIENCE_SECONDS
        assert isinstance(result.exception, SystemExit | None), repr(result.exception)
        if result.exit_code == 1:
            if len(result.stderr.strip().splitlines()[-1].partition("pools.yaml: ")[2]) < 10:
                raise SilentDropError(result.output)
            return REFUSED
        assert result.exit_code == 0
        entries = read_entries(path.read_text(encoding="utf-8"))
    with a_site() as site:
        pools = PoolItems(site.dynamodb, site.pools)
        for entry in entries:
            pools.write(entry.item, pools.find(entry.name))
            stored = site.plane.pools.get(entry.name)
            assert stored is not None
            assert isinstance(parse_pool(stored), Pool)
            assert parse_pool(stored) == parse_pool(entry.item)
            site.delete(entry.name)
    return ACTED


KINDS = {
    "pool item": Kind(strategies.POOL_ITEMS, 0.15, pool_item),
    "status item": Kind(strategies.status_faults(), 0.1, status_item),
    "EC2 event": Kind(strategies.evenly(strategies.JUNK_BODIES, strategies.ec2_events()), 0.2, event),
    "due message": Kind(strategies.DUE_BODIES, 0.15, due_message),
    "alarm event": Kind(strategies.evenly(strategies.JUNK_BODIES, strategies.alarm_events()), 0.05, alarm_event),
    "stream records": Kind(st.lists(strategies.STREAM_RECORDS, max_size=3), 0.2, stream),
    "file": Kind(strategies.files(), 0.15, file),
}


@cache
def _sites() -> list[Site]:
    return []


@contextmanager
def a_site() -> Iterator[Site]:
    """A site with only the neighbours: that of the last input if it is clean, else a new one."""
    kept = _sites()
    site = kept.pop() if kept else Site()
    try:
        yield site
        clean = (
            not site.world.queue.waiting
            and _lasting(site.neighbourhood()) == _lasting(site.before)
            and {name for table in (site.pools, site.statuses) for name in _keys(site, table)} == set(NEIGHBOURS)
            and sum(one.state in ("pending", "running") for one in site.world.market.instances.values())
            == len(NEIGHBOURS)
        )
    except BaseException:
        site.close()
        raise
    if clean:
        kept.append(site)
    else:
        site.close()


def event_of(instance_id: str) -> str:
    """EC2's event that an instance runs."""
    return json.dumps(
        {
            "detail-type": "EC2 Instance State-change Notification",
            "time": "2026-11-23T12:00:00Z",
            "detail": {"instance-id": instance_id, "state": "running"},
        }
    )


def size_of(value: Any) -> int:
    """An item's approximate size in DynamoDB: names and texts in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False).encode())


def _keys(site: Site, table: str) -> list[str]:
    return [item["pool_name"]["S"] for item in site.dynamodb.scan(TableName=table)["Items"]]


def _others_untouched(site: Site) -> None:
    assert _lasting(site.neighbourhood()) == _lasting(site.before)


def _lasting(neighbourhood: dict[str, Any]) -> dict[str, Any]:
    """A status without the fence, which grows even if a reconcile changes nothing."""
    lasting = copy.deepcopy(neighbourhood)
    for one in lasting.values():
        del one["status"]["controller"]["M"]["fence"], one["status"]["controller"]["M"]["owner"]
    return lasting


def _goes_when_deleted(site: Site, key: str) -> None:
    site.delete(key)
    site.due([due_body(key)])
    if site.status(key) is not None:
        site.world.clock.forward(400)
        site.tick()
        site.drain_queue()
        site.world.clock.forward(60)
        site.due([due_body(key)])
    assert site.status(key) is None, "the pool is not forgotten"
    _others_untouched(site)


class _Unreachable:
    """A service that does not answer."""

    meta = SimpleNamespace(region_name="us-east-1")

    def __getattr__(self, name: str) -> Any:
        def call(**_: Any) -> Any:
            raise EndpointConnectionError(endpoint_url=name)

        return call


def _is_listed(site: Site) -> None:
    """Check that the command shows every pool, even one with an unreadable status."""
    here = {"SPOTPOOLS_POOLS_TABLE": site.pools, "SPOTPOOLS_STATUS_TABLE": site.statuses}

    def client(_: Deployment, service: str) -> Any:
        return site.dynamodb if service == "dynamodb" else _Unreachable()

    with mock.patch.object(Deployment, "client", client):
        result = CliRunner().invoke(app, ["list"], env=here)
    assert result.exit_code == 0, repr(result.exception)
    if not all(
        any(line.strip().startswith(f"{name} ") for line in result.stdout.splitlines()) for name in ("p", *NEIGHBOURS)
    ):
        raise SilentDropError(result.stdout)


def _recovers_after_deletion(site: Site) -> None:
    """Check the remedy of UnreadableStatusError: delete the item after ten minutes."""
    site.world.clock.forward(600)
    site.dynamodb.delete_item(TableName=site.statuses, Key={"pool_name": {"S": "p"}})
    for _ in range(2):
        assert site.tick()["StatusesUnreadable"] == 0
        site.drain_queue()
        site.world.clock.forward(60)
    assert len(site.world.alive("p")) == 2
    _others_untouched(site)


def _remember_much(site: Site) -> None:
    """A status with one entry of everything."""
    now = site.world.clock()
    pool = parse_pool(site.plane.pools.get("p") or {})
    assert isinstance(pool, Pool)
    lease = site.plane.statuses.acquire("p")
    before = site.plane.statuses.get("p")
    assert lease is not None
    assert before is not None
    step = Launch(1, tuple(site.plane.fleet.offers(pool)), why="a test")
    request = site.plane.fleet.request(pool, step, "lost", None)
    offering = "g5.xlarge/us-east-1c"
    memory = before.memory.model_copy(
        update={
            "attempt": Attempt(id="lost", count=1, at=now, request=request, terms=pool.launch_terms),
            "launched": (Batch(at=now, attempt="earlier", machine="m", ids={offering: ("i-00000003",)}),),
            "terminated": (Ended(at=now, ids=("i-00000001",)),),
            "startup": ("i-00000003",),
            "backoff": {offering: Backoff(until=now, failures=1)},
            "holds": {Market.SPOT: Hold(reason=Reason.THROTTLED, until=now, failures=1, message="slower")},
            "taken": {offering: now},
            "template": Template(machine="m", id="lt-1", version=1),
        }
    )
    site.plane.statuses.note("p", "i-00000002", Notice(at=now, offering="g5.xlarge/us-east-1a"))
    site.plane.statuses.save(lease, before, Status(answer=before.answer, memory=Memory.model_validate(memory)))
    site.plane.statuses.release(lease, even_if_dirty=True)


def _change(item: dict[str, Any], path: list[int], value: dict[str, Any] | None) -> None:
    """Follow the path through maps as far as possible. Put the value there, or remove the old one."""
    here = item
    for step in path[:-1]:
        inner = [one["M"] for _, one in sorted(here.items()) if one.get("M")]
        if not inner:
            break
        here = inner[step % len(inner)]
    if not here:
        return
    name = sorted(here)[path[-1] % len(here)]
    if value is None:
        del here[name]
    else:
        here[name] = copy.deepcopy(value)


def _says_why(text: str) -> None:
    if "malformed" not in text or "got" not in text:
        raise SilentDropError(f"no reason in {text!r}")
