"""``history``: decisions and reasons, read from the functions' log lines."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from cli import history, logs
from cli.exits import RefusedError
from lambdas.reconcile import reconcile
from lambdas.telemetry import logger
from tests.cli.site import Site
from tests.support.fakes import World

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Log:
    """Captures the log of the control plane."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines since the last call."""
        text = self.stream.getvalue()
        self.stream.truncate(0)
        self.stream.seek(0)
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    made = Log()
    monkeypatch.setattr(logger.registered_handler, "stream", made.stream)
    return made


def decisions(lines: list[dict[str, Any]], pool: str = "p") -> Iterator[history.Decision]:
    for number, line in enumerate(lines):
        found = history.decision_of(line, pool, NOW + timedelta(minutes=number))
        if found:
            yield found


def test_the_log_of_the_control_plane_is_read_as_decisions(log: Log) -> None:
    world = World()
    world.edit(target_size=3)
    world.minutes(2)
    world.interrupt(world.alive()[0])
    world.set_all(capacity=0)
    world.edit(target_size=5)
    printed = history.merged(decisions(log.lines()))
    steps = [step for one in printed for step in one.steps]
    assert steps[0].startswith("launch 3 (spot) from g5.xlarge/us-east-1a")
    assert steps[0].endswith("3 wanted, 0 there")
    assert any(step.startswith("announce the end of i-") for step in steps)
    assert printed[-1].reason == "NO_CAPACITY"
    assert printed[-1].waiting == 2


def test_a_waiting_pool_is_one_decision_and_not_one_per_minute(log: Log) -> None:
    world = World()
    world.edit(target_size=1, spot_max_price="0.01")
    world.minutes(10)
    lines = [line for line in log.lines() if line.get("message") == "reconciled"]
    (one,) = history.merged(decisions(lines))
    assert one.times == len(lines) > 5
    assert one.until - one.at == timedelta(minutes=len(lines) - 1)


@pytest.mark.parametrize("text", ["", "START RequestId", "[]", "7", "{"])
def test_lines_that_lambda_writes_are_ignored(text: str) -> None:
    assert logs.parsed(text) is None


def test_decisions_about_another_pool_are_ignored() -> None:
    line = {"pool": "q", "message": "reconciled"}
    assert history.decision_of(line, "p", NOW) is None
    assert history.decision_of(line, "q", NOW) is not None


def test_a_failed_reconcile_is_shown() -> None:
    line = {
        "level": "ERROR",
        "message": "reconcile failed",
        "body": '{"pool_name": "p", "why": "it is new"}',
        "exception_name": "FleetError",
        "exception": "Traceback\nFleetError: UnauthorizedOperation: no",
    }
    found = history.decision_of(line, "p", NOW)
    assert found is not None
    assert found.failures == ("FleetError: UnauthorizedOperation: no",)
    assert history.decision_of(line, "pool_name", NOW) is None


@pytest.mark.parametrize(("text", "lasts"), [("90m", 90), ("6h", 360), ("2d", 2880), ("5min", 5)])
def test_a_span_is_a_number_and_a_unit(text: str, lasts: int) -> None:
    assert history.span(text) == timedelta(minutes=lasts)


@pytest.mark.parametrize("text", ["", "6", "h", "-1h", "1w", "9999999d"])
def test_other_spans_are_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="such as 90m, 6h or 2d"):
        history.span(text)


def test_the_logs_of_both_reconciling_functions_are_read(site: Site, log: Log) -> None:
    site.put("a", target_size=2)
    site.put("b", target_size=1)
    site.log("PoolDueFunction", *log.lines())
    reconcile("a", site.plane)
    site.log("SpotNoticeFunction", *log.lines())
    printed = site.json("history", "a")
    assert printed["decisions"][0]["steps"][0].startswith("launch 2 (spot)")
    assert {one["wanted"] for one in printed["decisions"]} == {2}
    assert "launch 2 (spot)" in site.run("history", "a", "--since", "5m").stdout


def test_a_pool_without_decisions_says_so(site: Site) -> None:
    site.put("a", target_size=0)
    assert "nothing changed" in site.run("history", "a").stdout


def test_a_launch_that_every_offering_refused_is_shown_once(log: Log) -> None:
    world = World()
    world.set_all(capacity=0)
    world.edit(target_size=1)
    found = history.History("p", NOW, tuple(decisions(log.lines())))
    shown = io.StringIO()
    Console(file=shown, width=200).print(history.render(found))
    assert shown.getvalue().count("There is no Spot capacity available that matches your request. (3 times)") == 1
