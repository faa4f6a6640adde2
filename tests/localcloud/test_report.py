"""The record becomes time series, and these become a page that loads nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from localcloud.demo.chart import NARROW, WIDE, drawing, picture, round_values
from localcloud.demo.report import render
from localcloud.demo.results import AlarmMessage, Explained, PoolChapter, Report, StepResult, WaitPeriod
from localcloud.demo.timeline import (
    PoolTimeline,
    above_cap,
    highest,
    offering_timelines,
    pool_timeline,
    share_of_time,
    since,
)

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def entry(seconds: float, what: str, instance: str = "i-1", *, price: str = "0.918", **more: Any) -> dict[str, Any]:
    return {
        "at": at(seconds).isoformat(),
        "what": what,
        "instance_id": instance,
        "pool": "a",
        "instance_type": "p3.2xlarge",
        "availability_zone": "us-east-1a",
        "capacity": 4,
        "spot_price": price,
        **more,
    }


RECORD = [
    entry(1, "pending"),
    entry(2, "running"),
    entry(2, "pending", "i-2", pool="another"),
    entry(10, "notice"),
    entry(11, "pending", "i-3", price="0.95"),
    entry(12, "notice", price="0.95", cause="duplicate"),
    entry(13, "running", "i-3", price="0.95"),
    entry(20, "shutting-down"),
    entry(22, "terminated"),
]


def test_running_leaves_out_what_is_under_notice_and_alive_does_not() -> None:
    timeline = pool_timeline(RECORD, "a")
    assert [(moment - START).total_seconds() for moment, _ in timeline.running] == [1, 2, 10, 13]
    assert [size for _, size in timeline.running] == [0, 1, 0, 1]
    assert [size for _, size in timeline.alive] == [1, 2, 1]
    assert highest(timeline.alive) == 2
    assert timeline.notices == [(at(10), "p3.2xlarge us-east-1a")]


def test_a_launch_at_the_cap_is_not_above_it() -> None:
    launches = pool_timeline(RECORD, "a").launches
    assert [one["instance_id"] for one in above_cap(launches, Decimal("0.918"))] == ["i-3"]
    assert above_cap(launches, Decimal("0.95")) == []


def test_the_share_of_time_counts_from_start_to_end() -> None:
    running = [(at(2), 3), (at(6), 2), (at(8), 3)]
    assert share_of_time(running, 3, at(0), at(10)) == pytest.approx(0.6)
    assert share_of_time([], 1, at(0), at(10)) == 0
    assert share_of_time(running, 3, at(4), at(7)) == pytest.approx(2 / 3)


def test_a_series_cut_at_a_moment_begins_with_the_value_at_that_moment() -> None:
    series = [(at(1), 3), (at(5), 2)]
    assert since(series, at(4)) == [(at(4), 3), (at(5), 2)]
    assert since(series, at(5)) == [(at(5), 2)]
    assert since(series, at(0)) == series


def test_series_of_prices_and_capacity_have_the_changes() -> None:
    (timeline,) = offering_timelines(RECORD).values()
    assert [price for _, price in timeline.price] == [Decimal("0.918"), Decimal("0.95"), Decimal("0.918")]
    assert [room for _, room in timeline.capacity] == [4]


class Page(HTMLParser):
    """Checks that tags close in order, and collects what a browser would load."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(**changes: Any) -> Report:
    pool = PoolChapter(
        name="a",
        about="the pool",
        wanted=[(at(0), 1)],
        timeline=pool_timeline(RECORD, "a"),
        offerings=offering_timelines(RECORD),
        cap=Decimal("0.918"),
        waiting=[WaitPeriod(at(10), at(13), "NO_CAPACITY", "no <capacity> & no hope")],
    )
    found: dict[str, Any] = {
        "title": "A story",
        "summary": "in short",
        "start": START,
        "end": at(30),
        "steps": [StepResult("a. filled", "1 running", "1 running", passed=True, seconds=1.5, bound=8)],
        "pools": [pool],
        "alarms": [AlarmMessage(at(12), "pool-below-target", "ALARM", "Threshold Crossed", "A pool has fewer.")],
        "notes": ["a note"],
    }
    return Report(**{**found, **changes})


def test_the_page_is_complete_and_loads_nothing() -> None:
    text = render(report())
    page = Page(text)
    assert page.open == []
    assert page.fetched == []
    assert "url(" not in text
    assert "@import" not in text
    for said in ("A story", "1.5 s", "no <capacity> & no hope", "pool-below-target", "A pool has fewer.", "a note"):
        assert said in page.text
    assert "All steps passed." in page.text


def test_a_pools_chart_is_a_picture_by_itself_that_needs_no_browser() -> None:
    found = report()
    (pool,) = found.pools
    text = picture(found, pool)
    drawn = ET.fromstring(text)  # noqa: S314  our own text
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert drawn.get("aria-label") == "a"
    assert {"a", "interruption notice", "cap 0.918 USD an hour"} <= set(drawn.itertext())
    assert "foreignObject" not in text
    assert "var(" not in text, "a variable is no colour outside a browser"


def test_a_message_is_named_in_the_chart_of_its_pool_only() -> None:
    message = Explained(at(12), "[page] spotpools: a lacks 1 of 6: NO_CAPACITY", "Pool a: lacks 1 of 6")
    over = Explained(at(20), "[over] spotpools: a: NO_CAPACITY is over after 8 s", "Pool a")
    (pool,) = report().pools
    others = [replace(pool, name=name) for name in ("a-b", "b")]
    found = report(pools=[pool, *others], messages=[message, over])
    drawn = {one.name: drawing(found, one, WIDE) for one in found.pools}
    assert drawn["a"].count('class="message"') == 1
    assert ">NO_CAPACITY</text>" in drawn["a"]
    assert 'class="message"' not in drawn["a-b"] + drawn["b"]


def test_lines_with_the_same_price_are_drawn_apart() -> None:
    record = [*RECORD, *({**one, "instance_type": "p3.8xlarge"} for one in RECORD)]
    (pool,) = report().pools
    pool.offerings = offering_timelines(record)
    drawn = drawing(report(pools=[pool]), pool, WIDE)
    assert drawn.count('<g transform="translate(0 -1)"><path class="price"') == 1
    assert drawn.count('<g transform="translate(0 1)"><path class="price"') == 1


@pytest.mark.parametrize(
    ("low", "high", "whole", "values"),
    [
        (0, 6, True, [0, 2, 4, 6]),
        (0, 1, True, [0, 1]),
        (0, 9, True, [0, 5]),
        (0, 200, True, [0, 50, 100, 150, 200]),
        (0.45, 1.159, False, [0.6, 0.8, 1.0]),
        (3.642, 4.025, False, [3.7, 3.8, 3.9, 4.0]),
        (0.0012, 0.0019, False, [0.0012, 0.0014, 0.0016, 0.0018]),
    ],
)
def test_an_axis_has_round_values(low: float, high: float, whole: bool, values: list[float]) -> None:
    assert round_values(low, high, whole=whole) == pytest.approx(values)


def test_a_phone_gets_a_narrow_chart_with_fewer_times_and_dark_mode_its_colours() -> None:
    text = render(report())
    assert f'viewBox="0 0 {WIDE} ' in text
    assert f'viewBox="0 0 {NARROW} ' in text
    (pool,) = report().pools
    wide, narrow = (drawing(report(), pool, width).count('class="time"') for width in (WIDE, NARROW))
    assert narrow < wide
    assert "prefers-color-scheme: dark" in text
    assert "instances</text>" in text
    assert "USD an hour</text>" in text


def test_when_an_alarm_ended_is_folded_away() -> None:
    ended = AlarmMessage(at(20), "pool-below-target", "OK", "Threshold not crossed", "It is over.")
    (alarm,) = report().alarms
    shown, _, folded = render(report(alarms=[alarm, ended])).partition("When they ended")
    assert "A pool has fewer." in shown
    assert "It is over." not in shown
    assert "It is over." in folded


def test_a_failed_step_is_shown() -> None:
    text = render(report(steps=[StepResult("a. filled", "1 running", "none", passed=False)]))
    assert "Not all steps passed." in text


def test_a_pool_without_data_is_drawn() -> None:

    empty = PoolChapter(name="b", about="", wanted=[], timeline=PoolTimeline(), offerings={})
    assert Page(render(report(pools=[empty], alarms=[]))).open == []


def test_a_recorded_market_shows_the_capacity_of_each_zone() -> None:
    (pool,) = report().pools
    pool.show_room, pool.max_instances = True, 5
    text = render(report(pools=[pool], speed=60))
    assert ">1a</text>" in text
    assert "max_instances" in text
