"""Sizes by time of day: the entry that started last, in its own time zone, is in force until another one starts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, StringConstraints, field_validator

from lambdas.domain.item.fields import BrokenRuleError, Size

FURTHEST = timedelta(days=400)
"""How long ago an entry may have started; one that starts less often than yearly is never in force."""

LARGEST_CHANGE = timedelta(days=1)
"""Clocks usually change by an hour; zones that moved across the date line changed by a day."""


CRON_REMEDY = 'Write for example "0 8 * * MON-FRI": at 8:00 from Monday to Friday.'


@lru_cache(maxsize=256)
def _zone_remedy(name: str) -> str:
    """Cached, because every reconcile reads the item, and the names come from hundreds of files."""
    known = {zone.lower(): zone for zone in available_timezones()}
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"Did you mean {known[near[0]]}?" if near else 'Write for example "Europe/Berlin".'


class Entry(BaseModel):
    """From each time of ``cron`` on, read in ``timezone``, the pool has these sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: Annotated[str, StringConstraints(max_length=100)]
    timezone: str = "UTC"
    target_size: Size
    min_instances: Size | None = None

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str) -> str:
        if len(cron.split()) != 5:  # noqa: PLR2004  minute, hour, day of month, month, day of week
            raise BrokenRuleError("five fields: minute, hour, day of month, month, day of week", CRON_REMEDY)
        try:
            CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise BrokenRuleError(f"a valid cron expression ({error})", CRON_REMEDY) from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            raise BrokenRuleError("an IANA time zone name", _zone_remedy(name)) from None
        return name

    def last_came(self, now: datetime) -> datetime | None:
        """When the entry last started, at or before ``now`` (UTC). Setting a clock back does not undo a start.

        As in cron: a time that a clock skips starts when the clock goes on; a time that it repeats starts once, or
        twice if the entry is for every hour.
        """
        zone = ZoneInfo(self.timezone)
        now = now.astimezone(UTC)
        # A clock that was just set back shows an earlier time than entries that have started already.
        shown = now.astimezone(zone).replace(tzinfo=None, fold=0) + _set_back(zone, now)
        every_hour = self.cron.split()[1].startswith("*")
        for moment in CronSim(self.cron, shown.replace(microsecond=0) + timedelta(seconds=1), reverse=True):
            came = max((at for at in _instants(moment, zone, twice=every_hour) if at <= now), default=None)
            if came is not None:
                return came if now - came <= FURTHEST else None
            if now - moment.replace(tzinfo=UTC) > FURTHEST + 2 * LARGEST_CHANGE:
                return None
        return None


def _set_back(zone: ZoneInfo, now: datetime) -> timedelta:
    """How much later clocks of the zone would show, if they had not been set back in the last day."""
    offsets = [(now - timedelta(hours=hours)).astimezone(zone).utcoffset() or timedelta(0) for hours in (0, 12, 24)]
    return max(timedelta(0), max(offsets) - offsets[0])


def _instants(shown: datetime, zone: ZoneInfo, *, twice: bool) -> list[datetime]:
    """When a clock of the zone shows this time, in UTC; for a time that it skips, when it skips it."""
    first, second = (shown.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first.astimezone(zone).replace(tzinfo=None) == shown:
        return [first, second] if twice else [first]
    # By the clock before the change, this time is after the change; by the clock after it, before the change.
    return [_change_between(second, first, zone)]


def _change_between(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """When, to the second, a clock of the zone changes."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


def in_force(entries: Iterable[Entry], now: datetime) -> Entry | None:
    """The entry that started last; of several that started together, the last in the list."""
    came = [(at, number, entry) for number, entry in enumerate(entries) if (at := entry.last_came(now)) is not None]
    return max(came, key=lambda occurrence: occurrence[:2])[2] if came else None
