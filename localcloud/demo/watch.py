"""Watches a local cloud during the demo: pool items, PoolStatus, the market and incoming alarm messages.

One thread polls a few times a second. The live view, the conditions of steps and the report use what it saw.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic
from typing import Any, Self, TypeVar

from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import BotoCoreError, ClientError

from localcloud.cloud import LocalCloud
from localcloud.demo.results import AlarmMessage, Explained, PoolChapter, WaitPeriod
from localcloud.demo.timeline import Entry, Series, offering_timelines, pool_timeline

LOOK_SECONDS = 0.25

log = logging.getLogger(__name__)

Item = Mapping[str, Any]
Found = TypeVar("Found")


class NotSeenError(Exception):
    """Something that the demo waited for did not happen in time."""


@dataclass
class View:
    """The state at the last poll."""

    items: dict[str, Item] = field(default_factory=dict)
    statuses: dict[str, Item] = field(default_factory=dict)
    market: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Memory:
    """The history of a pool's status, for the report."""

    wanted: Series[int] = field(default_factory=list)
    waiting: list[WaitPeriod] = field(default_factory=list)


class Watcher:
    """Polls a cloud until it is stopped. Use it in a ``with`` statement."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.view = View()
        self.alarms: list[AlarmMessage] = []
        self.messages: list[Explained] = []
        self.started = datetime.now(UTC)
        self._cloud = cloud
        # The record has changes only.
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
        """The PoolStatus of a pool at the last poll. Empty if there is none yet."""
        return self.view.statuses.get(pool, {})

    def until(self, condition: Callable[[], Found | None], what: str, *, seconds: float) -> Found:
        """Wait until the condition holds and return its value. Raises NotSeenError, which names ``what``."""
        deadline = monotonic() + seconds
        while not (found := condition()):
            if monotonic() > deadline:
                raise NotSeenError(f"{what} within {seconds:g} s")
            with self._looked:
                self._looked.wait(LOOK_SECONDS)
        return found

    def alarm(self, name: str, *, since: datetime) -> AlarmMessage | None:
        """The first ALARM message since then of an alarm whose name ends with ``name``."""
        ringing = [alarm for alarm in self.alarms if alarm.state == "ALARM" and alarm.at >= since]
        return next((alarm for alarm in ringing if alarm.name.endswith(name)), None)

    def message(self, about: str, *, since: datetime) -> Explained | None:
        """The first message to people since then whose subject has these words."""
        return next((one for one in self.messages if one.at >= since and about in one.subject), None)

    def record(self) -> list[Entry]:
        """The market's whole record."""
        record: list[Entry] = self._cloud.market.ask("GET", "/market/record")["record"]
        return record

    def chapter(self, pool: str, about: str, *, types: list[str], cap: Decimal | None = None) -> PoolChapter:
        """A pool's part of the report, from the market's record and the pool's observed status."""
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
                log.exception("this poll failed")
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
        for said in self._received(self._cloud.message_queue_url):
            self.messages.append(Explained(at=now, subject=said["Subject"], body=said["Message"]))

    def _scan(self, table: str) -> dict[str, Item]:
        read = TypeDeserializer().deserialize
        pages = self._cloud.client("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        items = [{name: read(value) for name, value in item.items()} for page in pages for item in page["Items"]]
        return {item["pool_name"]: item for item in items}

    def _receive_alarms(self, now: datetime) -> None:
        for message in self._received(self._cloud.alarm_queue_url):
            said = json.loads(message["Message"])
            self.alarms.append(
                AlarmMessage(
                    at=now,
                    name=said["AlarmName"],
                    state=said["NewStateValue"],
                    reason=said["NewStateReason"],
                    description=said["AlarmDescription"],
                )
            )

    def _received(self, url: str) -> Iterator[dict[str, Any]]:
        """What SNS has sent to a queue; each is deleted when the next one is asked for."""
        sqs = self._cloud.client("sqs")
        for message in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            yield json.loads(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def _follow(memory: _Memory, status: Item, now: datetime) -> None:
    wanted = int(status.get("wanted", 0))
    if not memory.wanted or memory.wanted[-1][1] != wanted:
        memory.wanted.append((now, wanted))
    waiting = status.get("waiting")
    if waiting is None:
        return
    new = WaitPeriod(start=now, end=now, reason=waiting["reason"], message=waiting["message"])
    last = memory.waiting[-1] if memory.waiting else None
    if last and last.reason == new.reason and now - last.end < timedelta(seconds=8 * LOOK_SECONDS):
        memory.waiting[-1] = WaitPeriod(start=last.start, end=now, reason=new.reason, message=new.message)
    else:
        memory.waiting.append(new)
