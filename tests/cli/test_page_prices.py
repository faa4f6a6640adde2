"""What a cap buys: shares of the time, from price changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from cli.page.prices import MOST_LINES, MOST_OFFERINGS, PriceHistory, history_of

START = datetime(2026, 9, 1, tzinfo=UTC)
END = START + timedelta(days=10)


def changes(*some: tuple[float, str]) -> list[tuple[datetime, Decimal]]:
    """Prices, each from its day on."""
    return [(START + timedelta(days=day), Decimal(price)) for day, price in some]


def history(cap: str | None = "1.0", **offerings: list[tuple[datetime, Decimal]]) -> PriceHistory:
    caps = dict.fromkeys(offerings, Decimal(cap) if cap else None)
    return history_of(offerings, caps, since=START, until=END, written_cap=cap)


def test_the_share_of_an_offering_is_the_time_at_or_below_the_cap() -> None:
    (row,) = history(a=changes((0, "0.9"), (4, "1.0"), (6, "1.0001"))).offerings
    assert (row.now, row.lowest, row.highest) == (Decimal("1.0001"), Decimal("0.9"), Decimal("1.0001"))
    assert row.within == pytest.approx(0.6), "a price of exactly the cap is paid"


def test_the_pool_could_launch_while_any_offering_was_within_the_cap() -> None:
    found = history(a=changes((0, "0.5"), (3, "2")), b=changes((0, "2"), (2, "0.8"), (5, "2"), (9, "0.7")))
    assert found.within == pytest.approx(0.6)


def test_a_price_from_before_the_beginning_counts_from_the_beginning() -> None:
    (row,) = history(a=changes((-50, "5"), (-20, "0.5"), (5, "2"))).offerings
    assert (row.within, row.highest, row.lowest) == (0.5, Decimal(2), Decimal("0.5"))


def test_where_ec2_knows_less_than_the_span_the_shares_are_of_what_it_knows() -> None:
    found = history(a=changes((8, "0.5"), (9, "2")))
    assert (found.since, found.within) == (START + timedelta(days=8), 0.5)


def test_it_says_which_cap_would_buy_how_much() -> None:
    found = history(a=changes((0, "0.5"), (5, "0.7"), (9, "2"), (9.95, "3")), b=changes((0, "9")))
    assert [(one.cap, round(one.share, 4)) for one in found.buys] == [
        (Decimal("0.5"), 0.5),
        (Decimal("0.7"), 0.9),
        (Decimal(2), 0.995),
        (Decimal(3), 1.0),
    ]


def test_the_same_cap_is_not_listed_twice() -> None:
    assert [(one.cap, one.share) for one in history(a=changes((0, "0.5"))).buys] == [(Decimal("0.5"), 1.0)]


def test_without_a_cap_no_share_is_made_up() -> None:
    found = history(cap=None, a=changes((0, "0.5")))
    assert (found.within, found.cap, found.offerings[0].within) == (None, None, None)


def test_without_any_price_there_is_nothing_to_show() -> None:
    found = history()
    assert (found.offerings, found.buys, found.lines) == ((), (), {})


def test_a_line_has_the_price_of_each_moment() -> None:
    found = history(a=changes((0, "1"), (4, "2")), b=changes((2, "3")))
    days = [(at - START.timestamp()) / 86400 for at in found.times]
    assert days == [0, 2, 4, 10]
    assert found.lines == {"a": (1.0, 1.0, 2.0, 2.0), "b": (None, 3.0, 3.0, 3.0)}


def test_of_many_offerings_the_cheapest_are_listed_and_few_are_drawn() -> None:
    several = {f"type-{number:03}": changes((0, str(number + 1))) for number in range(100)}
    found = history("1.0", **several)
    assert [row.now for row in found.offerings] == [Decimal(number + 1) for number in range(MOST_OFFERINGS)]
    assert list(found.lines) == [row.offering for row in found.offerings[:MOST_LINES]]
