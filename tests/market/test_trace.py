"""Recorded markets: how they are read and played, and the best result that a policy could reach."""

import gzip
import os
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest

from localcloud.market.model.clock import ManualClock
from localcloud.market.model.errors import ControlError
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import default_offerings
from localcloud.market.model.settings import Settings
from localcloud.market.model.trace import Trace, TraceError, best_share, parse_trace, play, read_trace
from tests.market.conftest import in_process
from tests.market.faces import launched

HAND_WRITTEN = """\
time,type,zone,available,price
2023-01-01T00:00:00Z,p3.2xlarge,us-east-1c,1,1.00
2023-01-01T04:00:00Z,p3.2xlarge,us-east-1c,0,1.00
2023-01-01T10:00:00Z,p3.2xlarge,us-east-1c,0,1.00
2023-01-01T00:00:00Z,p3.2xlarge,us-east-1d,0,1.10
2023-01-01T02:00:00Z,p3.2xlarge,us-east-1d,1,1.10
2023-01-01T06:00:00Z,p3.2xlarge,us-east-1d,1,1.30
2023-01-01T00:00:00Z,p3.2xlarge,us-west-2a,1,0.50
"""
"""Ten hours: zone c is open for four hours; d opens after two and costs more than 1.20 after six."""

P3 = "spot-availability/p3.2xlarge_9az_2023-02-16_195s.csv.gz"


def hand_written() -> Trace:
    return parse_trace(HAND_WRITTEN.splitlines(), zones="us-east-1")


@cache
def recorded(zones: str) -> Trace:
    folder = os.environ.get("SPOTPOOLS_TRACES")
    if not folder:
        pytest.skip("SPOTPOOLS_TRACES does not name a folder of recorded markets")
    return read_trace(Path(folder) / P3, zones=zones)


def test_a_trace_keeps_the_changes_of_the_requested_zones() -> None:
    trace = hand_written()
    assert {key[1]: len(points) for key, points in trace.series.items()} == {"us-east-1c": 2, "us-east-1d": 3}
    assert (trace.start.hour, trace.end.hour) == (0, 10)


def test_a_window_starts_with_the_state_at_its_start() -> None:
    window = hand_written().window(datetime(2023, 1, 1, 3, tzinfo=UTC), hours=2)
    assert [(point.at.hour, point.available) for point in window.series["p3.2xlarge", "us-east-1c"]] == [
        (3, True),
        (4, False),
    ]
    with pytest.raises(TraceError, match="runs from"):
        hand_written().window(hours=11)


@pytest.mark.parametrize(
    ("cap", "wanted", "share"),
    [
        ("1.20", 1, "0.6"),  # c from 0 to 4, d from 2 to 6
        ("1.30", 1, "1"),  # at exactly the cap counts
        ("1.05", 1, "0.4"),
        ("1.20", 21, "0.2"),  # more than one zone holds: both are open from 2 to 4
        ("0.99", 1, "0"),
    ],
)
def test_the_best_share_counts_the_time_in_which_enough_zones_are_open(cap: str, wanted: int, share: str) -> None:
    assert best_share(hand_written(), Decimal(cap), wanted=wanted) == Decimal(share)


def test_a_gzipped_trace_is_read_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(HAND_WRITTEN.encode()))
    assert read_trace(path, zones="us-east-1") == hand_written()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("time,type,zone,available", "column for the price"),
        ("time,type,zone,available,price\n2023-01-01T00:00:00Z,t,us-east-1a,yes,1", "line 2: available"),
        ("time,type,zone,available,price\nnoon,t,us-east-1a,1,1", "line 2"),
        ("time,type,zone,available,price\n2023-01-01T00:00:00Z,t,us-east-1a,1,cheap", "line 2"),
        ("time,type,zone,available,price", "no row"),
    ],
)
def test_an_invalid_trace_is_refused_with_its_line(wrong: str, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        parse_trace(wrong.splitlines())


@pytest.mark.parametrize(("zones", "share"), [("us-east-1", "0.715"), ("us-east-2", "0.808"), ("us-west-2", "0.961")])
def test_the_best_share_of_the_recorded_markets_is_the_share_stated_with_them(zones: str, share: str) -> None:
    # The stated share counts ticks, which are not equally long. By time the fourth digit differs.
    assert abs(best_share(recorded(zones), Decimal("3.06")) - Decimal(share)) < Decimal("0.001")


def test_a_cap_of_1_20_halves_the_best_share_in_us_east_1() -> None:
    trace = recorded("us-east-1")
    capped, uncapped = best_share(trace, Decimal("1.20")), best_share(trace, Decimal("3.06"))
    assert Decimal(0) < capped < uncapped


def test_a_replay_follows_availability_and_price_and_interrupts_instances() -> None:
    face = in_process()
    market = face.ec2._market  # noqa: SLF001  # the test acts as the server
    play(market, hand_written(), speed=3600)
    two = launched(face.launch(2, zones=("us-east-1c",), types=("p3.2xlarge",), max_price="1.20"))
    assert len(two) == 2
    face.clock.forward(3)  # 03:00: d is open at 1.10
    (other,) = launched(face.launch(1, zones=("us-east-1d",), types=("p3.2xlarge",), max_price="1.20"))
    face.clock.forward(1.1)  # 04:06: c closed at 04:00, and two minutes are a thirtieth of a second
    assert face.states(InstanceIds=[*two, other]) == {two[0]: "terminated", two[1]: "terminated", other: "running"}
    assert launched(face.launch(1, zones=("us-east-1c",), types=("p3.2xlarge",))) == []
    face.clock.forward(2)  # 06:06: d costs 1.30
    assert face.states(InstanceIds=[other]) == {other: "terminated"}
    notices = [entry for entry in market.record if entry["what"] == "notice"]
    assert [entry["cause"] for entry in notices] == ["capacity", "capacity", "price"]


def test_a_replay_closes_zones_that_the_trace_does_not_cover() -> None:
    market = Market(clock=ManualClock(), offerings=default_offerings())
    play(market, hand_written(), speed=1)
    rooms = {zone: one.capacity for (kind, zone), one in market.offerings.items() if kind == "p3.2xlarge"}
    assert rooms == {"us-east-1a": 0, "us-east-1c": 20, "us-east-1d": 0, "us-east-1f": 0}


def test_a_type_new_to_the_market_needs_its_on_demand_price() -> None:
    market = Market(clock=ManualClock(), settings=Settings())
    with pytest.raises(ControlError, match="on_demand_price"):
        play(market, hand_written(), speed=1)
    assert market.offerings == {}
    play(market, hand_written(), speed=1, on_demand_price=Decimal("3.06"))
    assert len(market.offerings) == 2


def test_a_recorded_day_plays_in_minutes_and_shows_its_position(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(HAND_WRITTEN)
    face = in_process()
    order = {"trace": str(path), "speed": 120, "zones": "us-east-1", "start": "2023-01-01T01:00:00Z", "hours": 4}
    began = face.tell("POST", "/market/replay", order)
    assert (began["trace_time"], began["ended"]) == ("2023-01-01T01:00:00.000Z", False)
    assert face.control("POST", "/market/replay", order)[0] == 409
    face.clock.forward(60)
    assert face.tell("GET", "/market")["replay"]["trace_time"] == "2023-01-01T03:00:00.000Z"
    face.clock.forward(60)
    assert face.tell("GET", "/market")["replay"]["ended"] is True


def test_the_recorded_market_plays_at_any_speed_with_the_same_outcome() -> None:
    trace = recorded("us-east-1").window(hours=24)
    outcomes = []
    for speed in (1, 600):
        clock = ManualClock()
        market = Market(clock=clock, offerings=default_offerings())
        play(market, trace, speed=speed)
        clock.forward(24 * 3600 / speed)
        market.advance()
        outcomes.append([(one.key, one.capacity, one.spot_price) for one in market.offerings.values()])
    assert outcomes[0] == outcomes[1]
