"""Sizes by time of day: the entry that came last by its own clock holds until another one comes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict, StringConstraints, field_validator

from lambdas.domain.fields import Size

FURTHEST = timedelta(days=400)
"""How far back an entry may have come last; one that comes more rarely than yearly never holds."""


class Entry(BaseModel):
    """From each moment of ``cron`` on, read in ``timezone``, the pool's sizes are these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cron: Annotated[str, StringConstraints(max_length=100)]
    timezone: str = "UTC"
    target_size: Size
    min_instances: Size | None = None

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str) -> str:
        if len(cron.split()) != 5:  # noqa: PLR2004  minute, hour, day of month, month, day of week
            raise ValueError("not five fields")
        try:
            CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(str(error)) from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, ValueError, LookupError):
            raise ValueError("no such time zone") from None
        return name

    def last_came(self, now: datetime) -> datetime | None:
        """When its moment was last, at or before ``now``; daylight saving as cron has it, a skipped moment at once."""
        local = now.astimezone(ZoneInfo(self.timezone)).replace(microsecond=0) + timedelta(seconds=1)
        try:
            moment = next(CronSim(self.cron, local, reverse=True))
        except StopIteration:
            return None
        came = moment.astimezone(UTC)
        return came if now - came <= FURTHEST else None


def in_force(entries: Iterable[Entry], now: datetime) -> Entry | None:
    """The entry that came last; of several at one moment the one that stands last in the list."""
    came = [(at, number, entry) for number, entry in enumerate(entries) if (at := entry.last_came(now)) is not None]
    return max(came, key=lambda one: one[:2])[2] if came else None
