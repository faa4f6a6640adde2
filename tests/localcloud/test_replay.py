"""The part of a recorded market that the demo plays."""

from __future__ import annotations

import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from localcloud.demo.replay import Recording, choose_recording
from localcloud.processes import LocalCloudError

RECORDED = "spot-availability/p3.2xlarge_9az_2023-02-16_195s.csv.gz"


def choose(path: Path, **changes: Any) -> Recording:
    given: dict[str, Any] = {"speed": 60, "cap": Decimal("1.20"), "zones": "us-east-1", "start_hours": None, "hours": 1}
    return choose_recording(path, **{**given, **changes})


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Six hours of a zone with changes only in the fourth. Another Region is always open."""
    rows = ["time,type,zone,available,price"]
    for minute in range(0, 361, 10):
        is_open = 1 if not 180 <= minute < 240 else minute // 10 % 2
        rows += [
            f"2026-01-01T{minute // 60:02d}:{minute % 60:02d}:00Z,p3.2xlarge,us-east-1a,{is_open},1.10",
            f"2026-01-01T{minute // 60:02d}:{minute % 60:02d}:00Z,p3.2xlarge,us-west-2a,1,0.95",
        ]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_hours_with_most_changes_are_played_by_default(trace: Path) -> None:
    assert choose(trace).trace.start.hour == 3
    assert choose(trace, start_hours=1.5).trace.start.isoformat() == "2026-01-01T01:30:00+00:00"


def test_only_the_given_zones_are_played(trace: Path) -> None:
    assert {zone for _, zone in choose(trace).trace.series} == {"us-east-1a"}
    assert choose(trace).types == ["p3.2xlarge"]


def test_the_length_follows_the_speed_by_default(trace: Path) -> None:
    assert choose(trace, hours=2).hours == 2
    assert choose(trace, hours=None, speed=30).hours == 2
    assert choose(trace, hours=None, speed=6000).hours == 6, "no longer than the recording"


def test_an_unplayable_recording_is_reported_in_one_line(trace: Path, tmp_path: Path) -> None:
    for path, changes in ((tmp_path / "none.csv", {}), (trace, {"zones": "eu-"}), (trace, {"start_hours": 99})):
        with pytest.raises(LocalCloudError) as caught:
            choose(path, **changes)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif("SPOTPOOLS_TRACES" not in os.environ, reason="SPOTPOOLS_TRACES names no recorded markets")
def test_the_recorded_market_of_p3_has_a_part_with_changes() -> None:
    recording = choose(Path(os.environ["SPOTPOOLS_TRACES"]) / RECORDED, hours=4)
    assert recording.trace.end - recording.trace.start == timedelta(hours=4)
    assert len(recording.trace.series) == 4
