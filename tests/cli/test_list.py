"""``list`` and ``watch``: all pools on one page, with few calls and without flicker."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from cli import listing, live_listing
from cli.deployment import Deployment
from cli.listing import Listing, Row
from lambdas.aws import clients
from lambdas.domain.model.status import Reason, Replacing, Rollout, RolloutState
from lambdas.wiring import utc_now
from localcloud.market.model.settings import Fault
from tests.cli.site import Site

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_each_pool_has_its_sizes_price_cost_and_reason(site: Site) -> None:
    site.market.set_offering("g5.xlarge", "us-east-1a", spot_price=Decimal("0.4"))
    site.put("a", target_size=2, spot_max_price="0.45")
    site.put("b", target_size=1, spot_max_price="0.01")
    site.put("c", target_size=1, spot=False)
    site.put("d", targt_size=1)
    listed = site.json("list")
    a, b, c, d = listed["pools"]
    assert (a["pool"], a["wanted"], a["starting"], a["waiting"]) == ("a", 2, 2, 0)
    assert (Decimal(a["lowest_spot_price"]), a["cap"], a["above_cap"]) == (Decimal("0.4"), "0.45", False)
    assert Decimal(a["hourly_cost"]) == 2 * Decimal("0.4")
    assert (b["waiting"], b["reason"], b["above_cap"], b["hourly_cost"]) == (1, "PRICE_ABOVE_MAX", True, "0")
    assert Decimal(c["hourly_cost"]) > Decimal("0.4"), "it is on demand"
    assert [one["field"] for one in d["spec_errors"]] == ["targt_size"]
    assert "PRICE_ABOVE_MAX for" in site.run("list").stdout


def test_two_hundred_pools_take_one_scan_per_table_one_listing_and_one_price_call(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        item = {"pool_name": {"S": f"p{number}"}, "instance_types": {"L": [{"S": "g5.xlarge"}]}}
        site.client("dynamodb").put_item(TableName=site.settings.pools_table, Item=item)
    asked = _count_dynamodb(monkeypatch)
    calls = site.calls("list")
    assert len(site.json("list")["pools"]) == 200
    assert calls == {"DescribeInstances": 1, "DescribeSpotPriceHistory": 1}
    assert asked == ["Scan"] * 4, "two for each of both calls"


def _count_dynamodb(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the calls to DynamoDB from now on."""
    asked: list[str] = []
    make = clients.client

    def counting(service: str, *arguments: Any) -> Any:
        made = make(service, *arguments)
        made.meta.events.register("before-call.dynamodb", lambda model, **_: asked.append(model.name))
        return made

    monkeypatch.setattr("cli.deployment.client", counting)
    return asked


def test_without_permission_to_read_ec2_the_pools_are_still_listed(site: Site) -> None:
    site.put("a", target_size=1)
    site.market.faults.append(_denied("DescribeInstances"))
    listed = site.json("list")
    assert listed["pools"][0]["wanted"] == 1
    assert listed["pools"][0]["hourly_cost"] is None
    assert "ec2:DescribeInstances" in " ".join(listed["notes"])


def _denied(action: str) -> Any:
    message = f"User: arn:aws:iam::1:user/x is not authorized to perform: ec2:{action} because no policy allows it"
    return Fault(action=action, error="UnauthorizedOperation", message=message, times=9)


def test_a_row_shows_how_long_a_pool_waits() -> None:
    row = Row("a", wanted=3, waiting=3, reason="QUOTA", message="All vCPUs are used.", since=NOW - timedelta(hours=2))
    text = _text(listing.render(Listing((row,), Decimal(0)), NOW))
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
def test_a_row_shows_the_progress_of_an_update(state: RolloutState, says: str) -> None:
    row = Row("a", rollout=Rollout(state=state, outdated=3, updated=1, message=""))
    assert says in _text(listing.render(Listing((row,), Decimal(0)), NOW))


def test_a_row_shows_warnings_and_planned_replacements() -> None:
    replacing = Replacing(count=2, reason=Reason.MAX_INSTANCES, message="")
    row = Row("a", replacing=replacing, warnings=("instance_types: EC2 sells no g5.xlrge in this Region",))
    text = _text(listing.render(Listing((row,), Decimal(0)), NOW))
    assert "2 to replace: MAX_INSTANCES; 1 warning" in text
    assert "spotpools explain POOL" in text


def _text(table: Any) -> str:
    page = io.StringIO()
    Console(file=page, width=160).print(table)
    return page.getvalue()


@pytest.mark.parametrize(("lines", "shown"), [(20, "abcdef"), (9, "abcdef"), (7, "abcf"), (2, "f")])
def test_watch_leaves_out_healthy_pools_first_if_the_list_does_not_fit(lines: int, shown: str) -> None:
    rows = tuple(Row(name, waiting=int(name == "f")) for name in "abcdef")
    drawn = _on_screen(Listing(rows, Decimal(0)), 160, lines)
    assert [line[0] for line in drawn if line.startswith(tuple(f"{name} " for name in "abcdef"))] == list(shown)
    assert f"{6 - len(shown)} of them not shown" in drawn[-2] or len(shown) == 6
    assert "6 pools, 0.0000 USD/h" in drawn[-2]
    assert "Ctrl-C ends" in drawn[-1]


def test_watch_keeps_its_last_line_on_a_narrow_screen_where_rows_and_notes_have_several_lines() -> None:
    rows = tuple(Row(f"pool-{number:02}", waiting=1, reason="NO_CAPACITY", since=NOW) for number in range(30))
    drawn = _on_screen(Listing(rows, Decimal(0), ("The tick stopped 20 min ago. " * 4,)), 40, 20)
    assert len(drawn) <= 20
    assert "Ctrl-C ends" in drawn[-1]
    assert len([line for line in drawn if line.startswith("pool-")]) >= 2


def _on_screen(listed: Listing, columns: int, lines: int) -> list[str]:
    console = Console(file=io.StringIO(), width=columns, height=lines)
    shown = console.render_lines(live_listing.fitting(listed, NOW, console), pad=False)
    return ["".join(part.text for part in line) for line in shown]


def test_watch_as_json_prints_one_line_per_update(site: Site) -> None:
    site.put("a", target_size=1)
    result = site.run("watch", "--times", "2", "--every", "1", "-o", "json")
    assert result.exit_code == 0
    frames = [json.loads(line) for line in result.stdout.splitlines()]
    assert [frame["listing"]["pools"][0]["pool"] for frame in frames] == ["a", "a"]


def test_a_stopped_tick_is_said_because_rows_may_be_out_of_date(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=1)
    assert site.json("list")["notes"] == [], "the stack is new"
    at = utc_now() + timedelta(minutes=4)
    monkeypatch.setattr(Deployment, "now", lambda _: at)
    (note,) = site.json("list")["notes"]
    assert note.startswith("The tick stopped 4 min")
    assert "may be out of date. Run `spotpools doctor`." in note


def test_a_pool_that_was_not_checked_yet_shows_the_size_that_its_item_asks_for(site: Site) -> None:
    site.client("dynamodb").put_item(
        TableName=site.settings.pools_table,
        Item={"pool_name": {"S": "new"}, "instance_types": {"L": [{"S": "g5.xlarge"}]}, "target_size": {"N": "3"}},
    )
    (row,) = [one for one in site.json("list")["pools"] if one["pool"] == "new"]
    assert row["wanted"] == 3
    assert "It is new" in row["fault"]


def test_a_reason_is_as_old_as_itself_and_the_shortfall_is_shown_beside_it(site: Site) -> None:
    site.put("a", target_size=1, spot_max_price="0.002")
    key = {"pool_name": {"S": "a"}}
    table, dynamodb = site.settings.status_table, site.client("dynamodb")
    stored = dynamodb.get_item(TableName=table, Key=key)["Item"]
    stored["waiting"]["M"]["since"]["S"] = "2000-01-01T00:00:00Z"
    dynamodb.put_item(TableName=table, Item=stored)
    (row,) = site.json("list")["pools"]
    assert row["since"] < "2001" < row["reason_since"]
    shown = " ".join(site.run("list").stdout.split())
    assert "PRICE_ABOVE_MAX for" in shown
    assert "(short for" in shown
    story = " ".join(site.run("explain", "a").stdout.split())
    assert ": PRICE_ABOVE_MAX for " in story
