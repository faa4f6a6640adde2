"""Watches a local cloud while a story is played: pool items, PoolStatus, the market, and alarm messages as they arrive.

One thread looks a few times a second and keeps what changed, for the live view, for conditions, and for the report.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic
from typing import Any, Self, TypeVar

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import BotoCoreError, ClientError

from localcloud.cloud import LocalCloud
from localcloud.demo.report import AlarmMessage, PoolChapter, Waiting
from localcloud.demo.timeline import Entry, Series, offering_timelines, pool_timeline

LOOK_SECONDS = 0.25

log = logging.getLogger(__name__)

Item = Mapping[str, Any]
Found = TypeVar("Found")


class NotSeenError(Exception):
    """What a story waited for did not happen in time."""


@dataclass
class View:
    """What was seen at the last look."""

    items: dict[str, Item] = field(default_factory=dict)
    statuses: dict[str, Item] = field(default_factory=dict)
    market: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Memory:
    """What the report needs to know of one pool's status over time."""

    wanted: Series[int] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)


class Watcher:
    """Looks at a cloud until stopped; use it in a ``with`` statement."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.view = View()
        self.alarms: list[AlarmMessage] = []
        self.started = datetime.now(UTC)
        self._cloud = cloud
        # The record tells of changes alone.
        self._at_first: list[Entry] = [
            {**offering, "at": self.started.isoformat(), "what": "offering"}
            for offering in cloud.market.state()["offerings"]
        ]
        self._pools: defaultdict[str, _Memory] = defaultdict(_Memory)
        self._looked = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        for service in ("dynamodb", "sqs"):
            cloud.client(service)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def status(self, pool: str) -> Item:
        """A pool's PoolStatus as last seen; empty before there is one."""
        return self.view.statuses.get(pool, {})

    def until(self, condition: Callable[[], Found | None], what: str, *, seconds: float) -> Found:
        """Look until the condition holds and answer what it found; raises NotSeenError saying what was waited for."""
        deadline = monotonic() + seconds
        while not (found := condition()):
            if monotonic() > deadline:
                raise NotSeenError(f"{what} within {seconds:g} s")
            with self._looked:
                self._looked.wait(LOOK_SECONDS)
        return found

    def alarm(self, name: str, *, since: datetime) -> AlarmMessage | None:
        """The first message since then that an alarm whose name ends so rings."""
        ringing = [alarm for alarm in self.alarms if alarm.state == "ALARM" and alarm.at >= since]
        return next((alarm for alarm in ringing if alarm.name.endswith(name)), None)

    def record(self) -> list[Entry]:
        """All that the market has recorded."""
        record: list[Entry] = self._cloud.market.ask("GET", "/market/record")["record"]
        return record

    def chapter(self, pool: str, about: str, *, types: list[str], cap: Decimal | None = None) -> PoolChapter:
        """A pool's part of the report, from the market's record and from what was seen of its status."""
        record, memory = self.record(), self._pools[pool]
        offerings = {
            name: offering
            for name, offering in offering_timelines([*self._at_first, *record]).items()
            if name.partition(" ")[0] in types
        }
        return PoolChapter(
            name=pool,
            about=about,
            wanted=memory.wanted,
            timeline=pool_timeline(record, pool),
            offerings=offerings,
            cap=cap,
            waiting=memory.waiting,
        )

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except (BotoCoreError, ClientError, OSError):
                log.exception("this look was lost")
            with self._looked:
                self._looked.notify_all()
            self._stop.wait(LOOK_SECONDS)

    def _look(self) -> None:
        items, statuses = (self._scan(self._cloud.outputs[table]) for table in ("PoolsTable", "StatusTable"))
        self.view = View(items=items, statuses=statuses, market=self._cloud.market.state())
        now = datetime.now(UTC)
        for pool in self._pools.keys() - statuses.keys():
            _follow(self._pools[pool], {}, now)
        for pool, status in statuses.items():
            _follow(self._pools[pool], status, now)
        self._receive_alarms(now)

    def _scan(self, table: str) -> dict[str, Item]:
        read = TypeDeserializer().deserialize
        pages = self._cloud.client("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        items = [{name: read(value) for name, value in item.items()} for page in pages for item in page["Items"]]
        return {item["pool_name"]: item for item in items}

    def _receive_alarms(self, now: datetime) -> None:
        sqs, url = self._cloud.client("sqs"), self._cloud.alarm_queue_url
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            said = json.loads(json.loads(message["Body"])["Message"])
            self.alarms.append(
                AlarmMessage(
                    at=now,
                    name=said["AlarmName"],
                    state=said["NewStateValue"],
                    reason=said["NewStateReason"],
                    description=said["AlarmDescription"],
                )
            )
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def _follow(memory: _Memory, status: Item, now: datetime) -> None:
    wanted = int(status.get("wanted", 0))
    if not memory.wanted or memory.wanted[-1][1] != wanted:
        memory.wanted.append((now, wanted))
    waiting = status.get("waiting")
    if waiting is None:
        return
    new = Waiting(start=now, end=now, reason=waiting["reason"], message=waiting["message"])
    last = memory.waiting[-1] if memory.waiting else None
    if last and last.reason == new.reason and now - last.end < timedelta(seconds=8 * LOOK_SECONDS):
        memory.waiting[-1] = Waiting(start=last.start, end=now, reason=new.reason, message=new.message)
    else:
        memory.waiting.append(new)
