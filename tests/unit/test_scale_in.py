"""The order of termination is total: any listing of the same instances gives the same result."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from lambdas.domain.decision.scale_in import scale_in_candidates
from lambdas.domain.decision.stock import Stock
from lambdas.domain.item.pool import Market
from lambdas.domain.model.instances import Instance, Offer, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def instance(name: str, *, minute: int = 0, zone: str = "a", **attributes: Any) -> Instance:
    return Instance(
        **{
            "id": name,
            "pool_name": "p",
            "state": State.RUNNING,
            "instance_type": "g5.xlarge",
            "zone": zone,
            "launched_at": NOW + timedelta(minutes=minute),
            **attributes,
        }
    )


def protected(name: str) -> Instance:
    return instance(name, tags={"spotpools:protect": "true"})


def offer(zone: str, price: str) -> Offer:
    return Offer("g5.xlarge", zone, f"subnet-{zone}", Decimal(price))


def stock(*running: Instance, **attributes: Any) -> Stock:
    empty: dict[str, Any] = {"starting": (), "unseen": (), "noticed": (), "stopped": (), "leaving": (), "in_flight": 0}
    return Stock(wanted=0, limit=99, running=running, **{**empty, **attributes})


def chosen(several: Stock, excess: int, **details: Any) -> tuple[str, ...]:
    return scale_in_candidates(several, several.members, excess, **details)


def test_not_ready_before_outdated_before_expensive_before_crowded_before_old() -> None:
    several = stock(
        instance("i-plain", zone="c", minute=9),
        instance("i-old", zone="c", minute=1),
        instance("i-crowded-1", zone="a", minute=9),
        instance("i-crowded-2", zone="a", minute=9),
        instance("i-crowded-3", zone="a", minute=9),
        instance("i-expensive", zone="b", minute=9),
        instance("i-outdated", zone="c", minute=9),
        instance("i-unready", zone="c", minute=9),
        unready=frozenset({"i-unready"}),
    )
    prices = [offer("a", "0.2"), offer("b", "0.9"), offer("c", "0.2")]
    order = chosen(several, 5, offers=prices, outdated={"i-outdated"})
    assert order == ("i-unready", "i-outdated", "i-expensive", "i-crowded-1", "i-old")


def test_equals_go_by_id() -> None:
    assert chosen(stock(*(instance(f"i-{n}") for n in "cab")), 2) == ("i-a", "i-b")


def test_the_fullest_zone_is_counted_again_after_each() -> None:
    several = stock(*(instance(f"i-{zone}{n}", zone=zone) for zone, size in (("a", 4), ("b", 2)) for n in range(size)))
    gone = chosen(several, 4)
    left = [one.zone for one in several.members if one.id not in gone]
    assert sorted(left) == ["a", "b"]


def test_any_order_of_the_listing_names_the_same() -> None:
    five = [
        instance("i-1", zone="a"),
        instance("i-2", zone="b", minute=1),
        instance("i-3", zone="a", minute=1),
        instance("i-4", zone="b", state=State.PENDING),
        instance("i-5", market=Market.ON_DEMAND),
    ]
    assert len({chosen(stock(*some), 3) for some in permutations(five)}) == 1


def test_scaling_in_by_two_steps_names_the_same_instances_as_by_one() -> None:
    dice = random.Random(7)  # noqa: S311  cases, no secrets
    for _ in range(200):
        several = stock(
            *(instance(f"i-{n:02}", zone=dice.choice("abc"), minute=dice.randrange(5)) for n in range(12)),
        )
        first = chosen(several, 3)
        rest = several.without(first)
        assert {*first, *chosen(rest, 4)} == set(chosen(several, 7))


def test_protected_and_unseen_instances_are_never_terminated() -> None:
    several = stock(protected("i-1"), instance("i-2"), unseen=(instance("i-3", state=State.PENDING),))
    assert chosen(several, 3) == ("i-2",)


def test_a_ready_instance_stays_until_a_heavy_one_is_ready() -> None:
    rounded_up = stock(instance("i-1"), instance("i-2", units=2), unready=frozenset({"i-2"}))
    assert chosen(replace(rounded_up, wanted=2), 1) == ()
    assert chosen(replace(rounded_up, wanted=2, unready=frozenset()), 1) == ("i-1",)


def test_none_is_terminated_for_an_instance_that_ec2_does_not_show_yet() -> None:
    several = stock(instance("i-1"), instance("i-2"), unseen=(instance("i-3", state=State.PENDING),))
    assert chosen(several, 1) == ()
    assert chosen(several, 2) == ("i-1",)


@pytest.mark.parametrize("value", ["true", "True", "TRUE"])
def test_protection_is_the_word_true(value: str) -> None:
    assert chosen(stock(instance("i-1", tags={"spotpools:protect": value})), 1) == ()


@pytest.mark.parametrize("value", ["", "false", "no"])
def test_any_other_word_protects_nothing(value: str) -> None:
    assert chosen(stock(instance("i-1", tags={"spotpools:protect": value})), 1) == ("i-1",)


class TestOnDemand:
    FOUR = stock(*(instance(f"i-{n}", market=Market.ON_DEMAND if n < 3 else Market.SPOT) for n in range(4)))

    def test_on_demand_beyond_the_base_goes_first_and_the_base_goes_last(self) -> None:
        assert chosen(self.FOUR, 3, offers=[offer("a", "99")], on_demand_base=1) == ("i-0", "i-1", "i-3")

    def test_without_a_base_all_on_demand_goes_before_spot(self) -> None:
        assert chosen(self.FOUR, 3) == ("i-0", "i-1", "i-2")

    def test_the_base_stays_even_if_spot_is_too_heavy(self) -> None:
        """It would be bought again, and be too much again."""
        rounded_up = stock(
            instance("i-base", market=Market.ON_DEMAND), instance("i-1", units=3), instance("i-2", units=3)
        )
        assert chosen(rounded_up, 1, on_demand_base=1) == ()


class TestWeights:
    def test_no_instance_heavier_than_the_excess_is_terminated(self) -> None:
        several = stock(
            instance("i-heavy", units=4), instance("i-light", minute=1), instance("i-keep", units=2, minute=2)
        )
        assert chosen(several, 1) == ("i-light",)
        assert chosen(several, 3) == ("i-light", "i-keep")
        assert chosen(several, 4) == ("i-heavy",)

    def test_never_below_the_wanted_size(self) -> None:
        dice = random.Random(3)  # noqa: S311  cases, no secrets
        for _ in range(200):
            several = stock(*(instance(f"i-{n}", units=dice.choice((1, 2, 4, 8))) for n in range(8)))
            total = several.serving
            excess = dice.randrange(total)
            gone = set(chosen(several, excess))
            assert sum(one.units for one in several.members if one.id in gone) <= excess

    def test_all_are_terminated_if_none_is_wanted(self) -> None:
        assert len(chosen(stock(instance("i-1", units=8), instance("i-2", units=4)), 12)) == 2
