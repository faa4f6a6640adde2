"""Sizes by time of day across clock changes: an entry in force stays in force, in every time zone, over years."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from lambdas.domain.item.pool import Pool
from lambdas.domain.item.schedule import Entry

ODD_ZONES = (
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Africa/Casablanca",
    "America/Sao_Paulo", "Asia/Tehran", "Asia/Gaza", "Pacific/Apia", "Europe/Dublin", "America/Havana",
    "Asia/Kathmandu", "Antarctica/Casey", "Africa/Cairo", "Pacific/Chatham", "America/Asuncion", "America/St_Johns",
)  # fmt: skip
CRONS = (
    "30 2 * * *",
    "0 0 * * *",
    "15 1 * * SUN",
    "0 3 1 * *",
    "0 * * * *",
    "*/20 * * * *",
    "5 1-3 * * *",
    "59 23 * * *",
)


def entry(cron: str, zone: str, size: int = 10) -> Entry:
    return Entry(cron=cron, timezone=zone, target_size=size)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "cron", "change"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-10-25T01:00"),
        ("America/New_York", "30 1 * * *", "2026-11-01T06:00"),
        ("Australia/Lord_Howe", "40 1 * * *", "2026-04-04T15:00"),
        ("Antarctica/Troll", "30 1 * * *", "2026-10-25T01:00"),
    ],
)
def test_a_clock_that_is_set_back_does_not_undo_an_entry(zone: str, cron: str, change: str) -> None:
    pool = Pool(
        pool_name="p",
        instance_types=("g5.xlarge",),
        max_instances=10,
        schedule=({"cron": cron, "timezone": zone, "target_size": 10},),
    )
    sizes = [pool.wanted(at(change) + timedelta(minutes=minutes)) for minutes in range(-180, 180)]
    assert set(sizes) == {10}, "it came yesterday, and comes again today"


def test_a_skipped_time_counts_when_the_clock_jumps_over_it() -> None:
    skipped = entry("30 2 * * *", "Europe/Berlin")
    assert skipped.last_came(at("2026-03-29T00:59")) == at("2026-03-28T01:30")
    assert skipped.last_came(at("2026-03-29T01:00")) == at("2026-03-29T01:00")
    assert skipped.last_came(at("2026-03-30T00:29")) == at("2026-03-29T01:00")


def test_a_repeated_time_counts_once_and_an_hourly_one_twice() -> None:
    after = at("2026-10-25T01:40")
    assert entry("30 2 * * *", "Europe/Berlin").last_came(after) == at("2026-10-25T00:30")
    assert entry("30 * * * *", "Europe/Berlin").last_came(after) == at("2026-10-25T01:30")


def test_two_entries_keep_their_order_through_the_repeated_hour() -> None:
    pool = Pool.model_validate(
        {
            "pool_name": "p",
            "instance_types": ["g5.xlarge"],
            "max_instances": 10,
            "schedule": [
                {"cron": "15 2 * * *", "timezone": "Europe/Berlin", "target_size": 10},
                {"cron": "45 2 * * *", "timezone": "Europe/Berlin", "target_size": 1},
            ],
        }
    )
    sizes = [pool.wanted(at("2026-10-25T00:00") + timedelta(minutes=minutes)) for minutes in range(0, 180, 5)]
    assert sizes == [1] * 3 + [10] * 6 + [1] * 27


def changes(zone: str) -> Iterator[datetime]:
    """The hours around each clock change of the time zone, over years."""
    moment, tz = at("2011-01-01T00:00"), ZoneInfo(zone)
    while moment < at("2030-01-01T00:00"):
        later = moment + timedelta(hours=6)
        if moment.astimezone(tz).utcoffset() != later.astimezone(tz).utcoffset():
            yield moment
        moment = later


@pytest.mark.parametrize("zone", ODD_ZONES)
def test_the_last_entry_never_goes_back_in_time(zone: str) -> None:
    entries = [entry(cron, zone) for cron in CRONS]
    for change in list(changes(zone))[-6:]:
        before: dict[str, Any] = {}
        for half in range(-6, 54):
            now = change + timedelta(minutes=30 * half, seconds=1)
            for one in entries:
                came = one.last_came(now)
                assert came is not None
                assert came <= now
                assert came >= before.get(one.cron, came), f"{one.cron} {zone} {now}"
                before[one.cron] = came


@pytest.mark.parametrize("zone", ODD_ZONES)
def test_away_from_clock_changes_the_entry_is_the_one_that_the_clock_shows(zone: str) -> None:
    tz = ZoneInfo(zone)
    for now in (at("2026-01-20T12:34"), at("2026-07-20T12:34")):
        came = entry("30 2 * * *", zone).last_came(now)
        assert came is not None
        shown = now.astimezone(tz)
        expected = shown.replace(hour=2, minute=30, second=0)
        assert came == (expected if expected <= shown else expected - timedelta(days=1))


def test_an_entry_that_was_not_due_for_a_year_does_not_hold() -> None:
    assert entry("0 0 29 2 *", "Europe/Berlin").last_came(at("2026-01-20T12:34")) is None
