"""The offerings of a launch, the units in one call, and the rest for the next call."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lambdas.domain.decision.offers import Ask, above_cap, ask, choose
from lambdas.domain.decision.stock import Stock
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.instances import Instance, Offer, State
from lambdas.domain.model.status import Backoff, Memory, Notice, NoticeKind, Reason, Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def pool(**attributes: Any) -> Pool:
    return Pool(**{"pool_name": "p", "instance_types": ("g5.xlarge",), "max_instances": 1000, **attributes})


def offer(zone: str = "a", price: str = "0.4", **attributes: Any) -> Offer:
    return Offer(
        **{"instance_type": "g5.xlarge", "zone": zone, "subnet_id": zone, "spot_price": Decimal(price), **attributes}
    )


def stock(*zones: str) -> Stock:
    running = tuple(Instance(f"i-{n}", "p", State.RUNNING, "g5.xlarge", zone, NOW) for n, zone in enumerate(zones))
    return Stock(0, 1000, running, starting=(), unseen=(), noticed=(), stopped=(), leaving=(), in_flight=0)


class TestChoice:
    def test_an_interruption_makes_its_offering_second_choice(self) -> None:
        notice = Notice(at=NOW, offering="g5.xlarge/a")
        choice = choose(pool(), Market.SPOT, [offer("a"), offer("b")], Status(notices={"i-1": notice}), NOW)
        assert choice.usable == (offer("b"),)

    @pytest.mark.parametrize(("kind", "usable"), [(NoticeKind.REBALANCE, "b"), (NoticeKind.MAINTENANCE, "ab")])
    def test_so_does_a_recommendation_but_maintenance_does_not(self, kind: NoticeKind, usable: str) -> None:
        notice = Notice(at=NOW, offering="g5.xlarge/a", kind=kind)
        choice = choose(pool(), Market.SPOT, [offer("a"), offer("b")], Status(notices={"i-1": notice}), NOW)
        assert "".join(one.zone for one in choice.usable) == usable

    def test_a_refusal_by_name_holds_only_its_offering(self) -> None:
        quota = Backoff(until=LATER, failures=1, reason=Reason.QUOTA, message="used up")
        status = Status(memory=Memory(backoff={"g5.xlarge/a": quota}))
        choice = choose(pool(), Market.SPOT, [offer("a"), offer("b")], status, NOW)
        assert choice.usable == (offer("b"),)
        assert choice.refused_for(Reason.QUOTA) == ((offer("a"), quota),)

    def test_a_subnet_without_addresses_is_not_tried_for_a_while(self) -> None:
        status = Status(memory=Memory(full={"a": LATER}))
        choice = choose(pool(), Market.SPOT, [offer("a"), offer("b")], status, NOW)
        assert (choice.usable, choice.full) == ((offer("b"),), ((offer("a"), LATER),))

    def test_a_type_without_a_list_price_is_left_out_of_a_share(self) -> None:
        known = replace(offer("b"), on_demand_price=Decimal(1))
        choice = choose(pool(spot_max_price="60%"), Market.SPOT, [offer("a"), known], Status(), NOW)
        assert (choice.usable, choice.unpriced) == ((known,), (offer("a"),))

    def test_a_recently_interrupted_offering_is_avoided_for_a_time(self) -> None:
        status = Status(memory=Memory(taken={"g5.xlarge/a": LATER}))
        offers = [offer("a"), offer("b")]
        assert choose(pool(), Market.SPOT, offers, status, NOW).usable == (offer("b"),)
        assert choose(pool(), Market.SPOT, offers, status, LATER).usable == (offer("a"), offer("b"))

    def test_a_recently_interrupted_offering_is_better_than_none(self) -> None:
        status = Status(
            memory=Memory(taken={"g5.xlarge/a": LATER}, backoff={"g5.xlarge/b": Backoff(until=LATER, failures=1)})
        )
        assert choose(pool(), Market.SPOT, [offer("a"), offer("b")], status, NOW).usable == (offer("a"),)

    def test_the_markets_are_separate(self) -> None:
        on_demand = offer("a", market=Market.ON_DEMAND)
        status = Status(memory=Memory(backoff={"g5.xlarge/a": Backoff(until=LATER, failures=1)}))
        assert choose(pool(), Market.ON_DEMAND, [offer("a"), on_demand], status, NOW).usable == (on_demand,)


class TestCap:
    @pytest.mark.parametrize(
        ("cap", "price", "units", "above"),
        [
            ("0.4", "0.4", 1, False),
            ("0.4", "0.400001", 1, True),
            ("0.6", "0.6", 4, False),
            ("0.5", "0.5", 3, False),  # although a third of it cannot be written exactly for EC2
            ("0.5", "0.500001", 3, True),
            ("0.7", "0.1", 768, True),  # EC2 accepts no cap of a tenth of a cent or less for a unit
        ],
    )
    def test_in_dollars(self, cap: str, price: str, units: int, above: bool) -> None:
        assert above_cap(pool(spot_max_price=cap), offer(price=price, units=units)) is above

    def test_as_a_share_of_the_types_own_price(self) -> None:
        capped = pool(spot_max_price="60%")
        assert not above_cap(capped, offer(price="0.6", on_demand_price=Decimal(1)))
        assert above_cap(capped, offer(price="0.6", on_demand_price=Decimal("0.99")))

    def test_a_share_of_an_unknown_price_is_not_passed_as_a_cap(self) -> None:
        with pytest.raises(ValueError, match="not known"):
            above_cap(pool(spot_max_price="60%"), offer(price="0.6"))


class TestAsk:
    def test_one_call_asks_for_all_missing_up_to_a_hundred_instances(self) -> None:
        one_each = ask(pool(), 250, 1000, [offer()], stock())
        assert one_each is not None
        assert one_each.count == 100

    def test_with_weights_the_hundred_are_counted_in_the_lightest_type(self) -> None:
        heavy = ask(pool(), 1000, 1000, [offer(units=4), offer("b", units=8)], stock())
        assert heavy is not None
        assert heavy.count == 400

    @pytest.mark.parametrize(
        ("weights", "count", "headroom", "asked", "used"),
        [
            ((1, 8), 8, 8, 1, {1, 8}),  # with weight 1 the rest can always be filled
            ((2, 4), 8, 8, 5, {2, 4}),  # EC2 gives six or eight, and two more fill the rest
            ((2, 3), 4, 4, 3, {2}),  # three units would leave one, which no type fills
            ((3, 8), 9, 9, 7, {3}),
            ((8,), 16, 18, 11, {8}),
            ((3,), 10, 10, 8, {3}),  # nine is the maximum
        ],
    )
    def test_the_rest_can_be_filled_whatever_ec2_chooses(
        self, weights: tuple[int, ...], count: int, headroom: int, asked: int, used: set[int]
    ) -> None:
        call = ask(pool(), count, headroom, [offer(str(units), units=units) for units in weights], stock())
        assert call is not None
        assert (call.count, {one.units for one in call.offers}) == (asked, used)

    def test_a_cap_that_cannot_be_divided_exactly_is_requested_in_instances(self) -> None:
        at_the_cap = offer(price="0.5", units=3)
        call = ask(pool(spot_max_price="0.5"), 7, 100, [at_the_cap], stock())
        assert call == Ask(9, (at_the_cap,), weight=3)
        cheaper = offer("b", price="0.4", units=3)
        call = ask(pool(spot_max_price="0.5"), 7, 100, [at_the_cap, cheaper], stock())
        assert call == Ask(7, (cheaper,))

    def test_room_is_left_for_the_heaviest_to_round_up(self) -> None:
        tight = ask(pool(), 10, 10, [offer(units=1), offer("b", units=8)], stock())
        assert tight is not None
        assert tight.count + 8 - 1 <= 10

    def test_types_heavier_than_the_room_are_not_requested(self) -> None:
        left = ask(pool(), 3, 3, [offer(units=2), offer("b", units=8)], stock())
        assert left is not None
        assert left.offers == (offer(units=2),)
        assert ask(pool(), 3, 1, [offer(units=2)], stock()) is None

    def test_at_most_three_hundred_offerings_the_cheapest_per_unit(self) -> None:
        many = [offer(f"z{n:03}", price=str(Decimal(500 - n) / 100), units=2) for n in range(400)]
        bounded = ask(pool(), 3, 1000, many, stock())
        assert bounded is not None
        assert bounded.offers == tuple(many[100:])

    @pytest.mark.parametrize(
        ("have", "count", "zone", "share"),
        [
            ("", 9, "a", 3),
            ("aaa", 6, "b", 3),
            ("aab", 3, "c", 2),
            ("aabbcc", 1, "a", 1),
            ("aaaaaa", 2, "b", 2),
            ("ddd", 3, "a", 1),  # a zone that is not offered any more does not count
        ],
    )
    def test_spread_fills_the_emptiest_zone_first(self, have: str, count: int, zone: str, share: int) -> None:
        spread = ask(pool(spread_zones=True), count, 1000, [offer(z) for z in "abc"], stock(*have))
        assert spread is not None
        assert ({one.zone for one in spread.offers}, spread.count) == ({zone}, share)
