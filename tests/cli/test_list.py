"""``list`` and ``watch``: every pool on one page, with few questions, and no flicker."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyte
import pytest
from rich.console import Console

from cli import show, watch
from cli.output import Format
from cli.show import Listing, Row
from lambdas.aws import clients
from lambdas.domain.status import Rollout, RolloutState
from localcloud.market.settings import Fault
from tests.cli.site import Site

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_each_pool_has_its_sizes_price_cost_and_reason(site: Site) -> None:
    site.market.set_offering("g5.xlarge", "us-east-1a", spot_price=Decimal("0.4"))
    site.put("a", target_size=2, spot_max_price="0.45")
    site.put("b", target_size=1, spot_max_price="0.01")
    site.put("c", target_size=1, spot=False)
    site.put("d", targt_size=1)
    listed = site.told("list")
    a, b, c, d = listed["pools"]
    assert (a["pool"], a["wanted"], a["starting"], a["waiting"]) == ("a", 2, 2, 0)
    assert (Decimal(a["lowest_spot_price"]), a["cap"], a["above_cap"]) == (Decimal("0.4"), "0.45", False)
    assert Decimal(a["hourly_cost"]) == 2 * Decimal("0.4")
    assert (b["waiting"], b["reason"], b["above_cap"], b["hourly_cost"]) == (1, "PRICE_ABOVE_MAX", True, "0")
    assert Decimal(c["hourly_cost"]) > Decimal("0.4"), "it is on demand"
    assert [one["field"] for one in d["spec_errors"]] == ["targt_size"]
    assert "PRICE_ABOVE_MAX for" in site.run("list").stdout


def test_two_hundred_pools_take_one_scan_a_table_one_listing_and_one_price_call(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        item = {"pool_name": {"S": f"p{number}"}, "instance_types": {"L": [{"S": "g5.xlarge"}]}}
        site.client("dynamodb").put_item(TableName=site.settings.pools_table, Item=item)
    asked = _count_dynamodb(monkeypatch)
    calls = site.calls("list")
    assert len(site.told("list")["pools"]) == 200
    assert calls == {"DescribeInstances": 1, "DescribeSpotPriceHistory": 1}
    assert asked == ["Scan"] * 4, "two for each of both calls"


def _count_dynamodb(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of DynamoDB from now on."""
    asked: list[str] = []
    make = clients.client

    def counting(service: str, *arguments: Any) -> Any:
        made = make(service, *arguments)
        made.meta.events.register("before-call.dynamodb", lambda model, **_: asked.append(model.name))
        return made

    monkeypatch.setattr("cli.deployment.client", counting)
    return asked


def test_without_a_right_to_see_ec2_the_pools_are_listed_all_the_same(site: Site) -> None:
    site.put("a", target_size=1)
    site.market.faults.append(_denied("DescribeInstances"))
    listed = site.told("list")
    assert listed["pools"][0]["wanted"] == 1
    assert listed["pools"][0]["hourly_cost"] is None
    assert "ec2:DescribeInstances" in " ".join(listed["notes"])


def _denied(action: str) -> Any:
    message = f"User: arn:aws:iam::1:user/x is not authorized to perform: ec2:{action} because no policy allows it"
    return Fault(action=action, error="UnauthorizedOperation", message=message, times=9)


def test_a_row_tells_since_when_and_for_how_long() -> None:
    row = Row("a", wanted=3, waiting=3, reason="QUOTA", message="All vCPUs are used.", since=NOW - timedelta(hours=2))
    text = _text(show.picture(Listing((row,), Decimal(0)), NOW))
    assert " ".join(text.splitlines()[1].split()) == "a 3 0 0 3 - - QUOTA for 2 h"
    assert "spotpools explain POOL" in text


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (RolloutState.ROLLING, "update rolling: 3 to go"),
        (RolloutState.STOPPED, "update stopped: 3 to go"),
        (RolloutState.ON_REPLACE, "3 outdated"),
    ],
)
def test_a_row_tells_how_far_an_update_is(state: RolloutState, says: str) -> None:
    row = Row("a", rollout=Rollout(state=state, outdated=3, updated=1, message=""))
    assert says in _text(show.picture(Listing((row,), Decimal(0)), NOW))


def _text(picture: Any) -> str:
    page = io.StringIO()
    Console(file=page, width=160).print(picture)
    return page.getvalue()


class Terminal(io.StringIO):
    """A terminal emulator: feeds what is written to it piece by piece, and remembers each state it showed."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__()
        self.screen = pyte.Screen(columns, lines)
        self.screen.set_mode(pyte.modes.LNM)  # as a terminal driver does: a new line begins at its left
        self.stream = pyte.Stream(self.screen)
        self.written: list[str] = []
        self.shown: list[list[str]] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        # One cell after the other, as the slowest terminal would draw it.
        for one in text:
            self.stream.feed(one)
            self.shown.append(list(self.screen.display))
        return len(text)

    def isatty(self) -> bool:
        return True


def test_watch_draws_over_the_last_frame_and_never_clears_it() -> None:
    terminal = Terminal(80, 6)
    console = Console(file=terminal, force_terminal=True, width=80, height=6, color_system=None, legacy_windows=False)
    frames = [
        (Listing((Row("steady", running=2), Row("training", running=running)), Decimal(running)), NOW)
        for running in (0, 3, 10)
    ]
    marks: list[int] = []

    def marked() -> Any:
        for frame in frames:
            marks.append(len(terminal.shown))
            yield frame
        marks.append(len(terminal.shown))

    watch.watch(marked(), console, Format.TABLE, print)
    after_first = terminal.shown[marks[1] : marks[-1]]
    assert after_first
    steady = {tuple(line for line in state if line.startswith("steady")) for state in after_first}
    assert len(steady) == 1, "a row that does not change is there at each instant"
    assert not [state for state in after_first if not state[0].startswith("pool")], "and so is the heading"
    assert "10" in next(line for line in terminal.shown[marks[-1] - 1] if line.startswith("training"))
    text = "".join(terminal.written)
    assert "\x1b[2J" not in text[text.index("steady") :]


def test_watch_as_json_is_a_line_a_look(site: Site) -> None:
    site.put("a", target_size=1)
    result = site.run("watch", "--times", "2", "--every", "1", "-o", "json")
    assert result.exit_code == 0
    frames = [json.loads(line) for line in result.stdout.splitlines()]
    assert [frame["listing"]["pools"][0]["pool"] for frame in frames] == ["a", "a"]
