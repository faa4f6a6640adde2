"""Explains alarms: one message to people for all pools with the same trouble, from what PoolStatus says now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol

from lambdas.domain.alarm.message import Change, Links, Message, message
from lambdas.domain.alarm.names import OF_POOLS
from lambdas.domain.guide import Trouble
from lambdas.domain.model.status import Status
from lambdas.ports import Clock, NotSentError, UnreadableStatusError
from lambdas.telemetry import logger


class Messages(Protocol):
    """The topic for people."""

    def send(self, message: Message) -> None:
        """Send one message. Raises NotSentError if it was not accepted."""


class Statuses(Protocol):
    """What is known of all pools."""

    def scan(self) -> Mapping[str, Status | UnreadableStatusError]:
        """Read all statuses."""


@dataclass(frozen=True, kw_only=True)
class AlarmDesk:
    """What explaining an alarm needs."""

    stack: str
    statuses: Statuses
    messages: Messages
    links: Links
    clock: Clock
    patience: Mapping[Trouble, timedelta] = field(default_factory=dict)
    """How long a trouble must last before its alarm."""


def together(changes: Mapping[str, Change]) -> list[tuple[Change, list[str]]]:
    """Changes of the same trouble in the same direction as one, each with the ids of the messages that report it."""
    merged: dict[tuple[object, ...], tuple[Change, list[str]]] = {}
    for id_, change in changes.items():
        key = (change.trouble, change.about, change.over, bool(change.pools))
        known, ids = merged.get(key, (change, []))
        pools = tuple(sorted({*known.pools, *change.pools}))
        merged[key] = (replace(known, pools=pools), [*ids, id_])
    return list(merged.values())


def explain(changes: Mapping[str, Change], desk: AlarmDesk) -> set[str]:
    """Send a message for all changes of the same trouble. Returns the ids of those that could not be sent."""
    statuses = {name: found if isinstance(found, Status) else None for name, found in desk.statuses.scan().items()}
    failed: set[str] = set()
    for each, ids in together(changes):
        change = replace(each, patience=desk.patience.get(each.trouble, each.patience))
        known = replace(change, pools=tuple(_ended(change, statuses))) if change.over else change
        if change.pools and not known.pools:
            logger.info("ignored", trouble=change.trouble, pools=change.pools[:20], why="it has not ended")
            continue
        text = message(known, statuses, stack=desk.stack, links=desk.links, now=desk.clock())
        try:
            desk.messages.send(text)
        except NotSentError as fault:
            logger.error("not explained", subject=text.subject, fault=str(fault))
            failed |= set(ids)
        else:
            logger.info("explained", subject=text.subject, events=len(ids))
    return failed


def _ended(change: Change, statuses: Mapping[str, Status | None]) -> Iterable[str]:
    """The pools whose trouble has ended, or that are gone: a new contributor begins with OK before it may alarm."""
    for name in change.pools:
        status = statuses.get(name)
        if status is None or change.trouble not in OF_POOLS or change.ended(status):
            yield name
