"""Who gives way to others, how many run beyond the wanted size meanwhile, and when an old one may go."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lambdas.domain.capacity import Stock, units
from lambdas.domain.observed import MACHINE_TAG, Instance, State
from lambdas.domain.pool import Market, Pool
from lambdas.domain.replace import outdated, replaced, replacements, surge
from lambdas.domain.status import Hold, Memory, Reason

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD, PROTECTED = {MACHINE_TAG: "old"}, {"spotpools:protect": "true"}
REFUSED = Hold(reason=Reason.CONFIG, until=NOW, failures=1, message="no such image")


def pool(**attributes: Any) -> Pool:
    return Pool(**{"pool_name": "p", "instance_types": ("g5.xlarge",), "max_instances": 99, **attributes})


def rolling(**attributes: Any) -> Pool:
    return pool(update="rolling", **attributes)


def instance(name: str, **attributes: Any) -> Instance:
    return Instance(
        **{
            "id": name,
            "pool_name": "p",
            "state": State.RUNNING,
            "instance_type": "g5.xlarge",
            "zone": "a",
            "launched_at": NOW - timedelta(hours=1),
            **attributes,
        }
    )


def several(number: int, prefix: str = "i-old", **attributes: Any) -> tuple[Instance, ...]:
    return tuple(instance(f"{prefix}-{n:02}", **attributes) for n in range(number))


def stock(*running: Instance, wanted: int | None = None, limit: int = 99, **attributes: Any) -> Stock:
    empty: dict[str, Any] = {"starting": (), "unseen": (), "noticed": (), "stopped": (), "leaving": (), "in_flight": 0}
    size = units(running) if wanted is None else wanted
    return Stock(wanted=size, limit=limit, running=running, **{**empty, **attributes})


def ids(instances: Any) -> list[str]:
    return [one.id for one in instances]


class TestDrift:
    @pytest.mark.parametrize(
        ("attributes", "drifted"),
        [
            ({}, False),
            ({"tags": OLD}, True),
            ({"instance_type": "g4dn.xlarge"}, True),
            ({"subnet_id": "subnet-2"}, True),
            ({"subnet_id": "subnet-1"}, False),
            ({"market": Market.ON_DEMAND}, True),
        ],
    )
    def test_what_the_item_would_not_have_made_so(self, attributes: dict[str, Any], drifted: bool) -> None:
        spot = pool(subnet_ids=("subnet-1",))
        assert bool(outdated(spot, stock(instance("i-1", **attributes)))) is drifted

    def test_an_instance_without_a_digest_is_older_than_digests_and_left_alone(self) -> None:
        assert outdated(pool(image_id="ami-1"), stock(instance("i-1"))) == []

    def test_in_an_on_demand_pool_spot_is(self) -> None:
        both = stock(instance("i-1"), instance("i-2", market=Market.ON_DEMAND))
        assert ids(outdated(pool(spot=False), both)) == ["i-1"]

    def test_of_a_raised_base_as_many_spot_ones_as_are_missing_on_demand(self) -> None:
        both = stock(*several(3), instance("i-od", market=Market.ON_DEMAND))
        assert len(outdated(pool(on_demand_base=2), both)) == 1

    def test_what_is_missing_fills_the_base_before_any_spot_one_gives_way(self) -> None:
        assert outdated(pool(on_demand_base=2), stock(*several(3), wanted=4)) == outdated(
            pool(on_demand_base=1), stock(*several(3))
        )

    def test_beyond_the_base_is_what_is_replaced_anyway_and_not_its_successor(self) -> None:
        """Or the successor would have one too, and so on."""
        old, new = instance("i-0", tags=OLD), instance("i-1")
        both = [replace(one, market=Market.ON_DEMAND) for one in (old, new)]
        of_both = stock(*both, wanted=1, unready=frozenset({"i-1"}))
        assert ids(outdated(pool(on_demand_base=1), of_both)) == ["i-0"]
        at_risk = stock(*both[1:], replace(both[1], id="i-2"), wanted=1, at_risk=frozenset({"i-1"}))
        assert ids(outdated(pool(on_demand_base=1), at_risk)) == ["i-1"]

    def test_with_a_fallback_on_demand_is_lent_not_drifted(self) -> None:
        lent = pool(fallback={"after_minutes": 5})
        assert outdated(lent, stock(instance("i-1", market=Market.ON_DEMAND))) == []


class TestRolling:
    NEW = instance("i-new")

    def test_on_replace_replaces_none(self) -> None:
        assert replacements(pool(), stock(*several(3, tags=OLD)), Memory()) == ()

    def test_one_is_tried_first_and_nothing_is_given_up_for_it(self) -> None:
        (roll,) = replacements(rolling(max_unavailable=4), stock(*several(20, tags=OLD)), Memory())
        assert (roll.surge, roll.spare) == (1, 0)

    def test_once_one_is_ready_max_unavailable_at_a_time(self) -> None:
        some = stock(*several(20, tags=OLD), self.NEW, wanted=20)
        (roll,) = replacements(rolling(max_unavailable=4), some, Memory())
        assert (roll.surge, roll.spare) == (4, 4)

    def test_one_that_is_not_ready_yet_proves_nothing(self) -> None:
        some = stock(*several(20, tags=OLD), self.NEW, wanted=20, unready=frozenset({"i-new"}))
        (roll,) = replacements(rolling(max_unavailable=4), some, Memory())
        assert (roll.surge, roll.spare) == (1, 0)

    def test_at_the_limit_the_oldest_gives_way_to_the_trial(self) -> None:
        (roll,) = replacements(rolling(max_unavailable=4), stock(*several(20, tags=OLD), limit=20), Memory())
        assert (ids(roll.instances), roll.surge, roll.spare) == (["i-old-00"], 0, 1)

    @pytest.mark.parametrize("memory", [Memory(stillborn=1), Memory(holds={Market.SPOT: REFUSED})])
    def test_after_a_refusal_no_other_gives_way(self, memory: Memory) -> None:
        (roll,) = replacements(rolling(max_unavailable=4), stock(*several(20, tags=OLD), limit=20), memory)
        assert (roll.surge, roll.spare) == (1, 0)

    def test_while_the_trial_is_under_way_no_other_gives_way(self) -> None:
        some = stock(*several(19, tags=OLD), wanted=20, limit=20, in_flight=1)
        (roll,) = replacements(rolling(), some, Memory())
        assert roll.spare == 0

    def test_one_heavier_than_max_unavailable_goes_alone(self) -> None:
        heavy = stock(*several(3, tags=OLD, units=8), instance("i-new", units=8), wanted=24)
        (roll,) = replacements(rolling(max_unavailable=2), heavy, Memory())
        assert (roll.surge, roll.spare) == (8, 8)

    def test_protected_ones_are_left(self) -> None:
        some = stock(*several(2, tags=OLD), *several(2, "i-kept", tags=OLD | PROTECTED))
        (roll,) = replacements(rolling(), some, Memory())
        assert ids(roll.instances) == ["i-old-00", "i-old-01"]


class TestKinds:
    def test_the_most_urgent_come_first_and_each_has_one_surge(self) -> None:
        spot = pool(update="rolling", on_rebalance="replace_first", fallback={"after_minutes": 5})
        some = stock(
            *several(2, tags=OLD),
            instance("i-risk", tags=OLD),
            instance("i-lent", market=Market.ON_DEMAND, tags=OLD),
            at_risk=frozenset({"i-risk"}),
        )
        found = replacements(spot, some, Memory())
        assert [ids(one.instances) for one in found[:2]] == [["i-risk"], ["i-lent"]]
        assert set(ids(found[2].instances)) == {"i-risk", "i-lent", "i-old-00", "i-old-01"}
        assert surge(some, found) == 3, "for the one at risk, the lent one, and a trial"

    def test_without_room_an_update_does_not_wait_for_what_else_would_replace_its_instances(self) -> None:
        spot = rolling(fallback={"after_minutes": 5})
        some = stock(instance("i-new"), *several(3, "i-lent", market=Market.ON_DEMAND, tags=OLD), limit=4)
        assert ids(one for one, _ in replaced(some, replacements(spot, some, Memory()))) == ["i-lent-00"]

    def test_what_is_at_risk_or_lent_is_never_given_up_before_its_replacement(self) -> None:
        spot = pool(on_rebalance="replace_first", fallback={"after_minutes": 5})
        some = stock(instance("i-risk"), instance("i-lent", market=Market.ON_DEMAND), at_risk=frozenset({"i-risk"}))
        found = replacements(spot, some, Memory())
        assert [(one.surge, one.spare) for one in found] == [(1, 0), (1, 0)]
        assert replaced(some, found) == []

    def test_ignored_risks_replace_nothing(self) -> None:
        assert replacements(pool(), stock(instance("i-1"), at_risk=frozenset({"i-1"})), Memory()) == ()

    def test_what_already_runs_beyond_the_wanted_size_is_surge_enough(self) -> None:
        replacing = replacements(
            rolling(max_unavailable=4), stock(*several(4, tags=OLD), instance("i-new"), wanted=4), Memory()
        )
        assert surge(stock(*several(7), wanted=4), replacing) == 1
        assert surge(stock(*several(5), wanted=4, in_flight=3), replacing) == 0

    def test_what_a_heavy_instance_is_too_much_replaces_nothing(self) -> None:
        heavy = stock(instance("i-old", tags=OLD, units=2), wanted=1)
        assert surge(heavy, replacements(rolling(weights={"g5.xlarge": 2}), heavy, Memory())) == 1

    def test_a_pool_at_its_limit_takes_none_away_where_others_make_room(self) -> None:
        lent = several(2, "i-then-lent", tags=OLD, market=Market.ON_DEMAND)
        some = stock(*several(4, tags=OLD), *lent, wanted=4, limit=6)
        lends = rolling(fallback={"after_minutes": 5})
        assert ids(one for one, _ in replaced(some, replacements(lends, some, Memory()))) == ids(lent)

    def test_where_those_that_stay_are_enough_nothing_is_launched_for_those_that_go(self) -> None:
        some = stock(*several(3, tags=OLD), *several(2, "i-new"), wanted=2)
        assert surge(some, replacements(rolling(), some, Memory())) == 0


class TestLettingGo:
    def test_as_many_as_are_made_up_for_by_ready_ones(self) -> None:
        some = stock(*several(4, tags=OLD), *several(2, "i-new"), wanted=4)
        go = replaced(some, replacements(rolling(max_unavailable=1), some, Memory()))
        assert [one.id for one, _ in go] == ["i-old-00", "i-old-01", "i-old-02"]

    def test_those_that_are_not_ready_go_first_and_cost_nothing(self) -> None:
        some = stock(*several(4, tags=OLD), instance("i-new"), wanted=4, unready=frozenset({"i-old-03"}))
        first, *_ = replaced(some, replacements(rolling(), some, Memory()))
        assert first[0].id == "i-old-03"

    def test_whatever_the_pool_looks_like_enough_are_left(self) -> None:
        dice = random.Random(11)  # noqa: S311  cases, no secrets
        moved = 0
        for _ in range(2000):
            spot = pool(
                update="rolling",
                on_rebalance="replace_first",
                max_unavailable=dice.randint(1, 5),
                on_demand_base=dice.randint(0, 3),
                fallback=dice.choice((None, {"after_minutes": 1})),
            )
            running = tuple(
                instance(
                    f"i-{n:02}",
                    units=dice.choice((1, 1, 2)),
                    market=dice.choice(tuple(Market)),
                    tags=dice.choice(({}, OLD, OLD, PROTECTED)),
                )
                for n in range(dice.randint(0, 14))
            )
            some = stock(
                *running,
                wanted=dice.randint(0, 14),
                unready=frozenset(one.id for one in running if dice.random() < 0.3),
                at_risk=frozenset(one.id for one in running if dice.random() < 0.2),
            )
            memory = Memory(stillborn=dice.choice((0, 0, 1)))
            replacing = replacements(spot, some, memory)
            go = [one for one, _ in replaced(some, replacing)]
            moved += len(go)
            left = some.without(set(ids(go)))
            floor = some.wanted - max((one.spare for one in replacing), default=0)
            assert not [one for one in go if one.protected]
            if go:
                assert left.serving >= floor
            if [one for one in go if some.is_ready(one)]:
                assert units(left.ready) >= floor
        assert moved > 1000, "the cases let some go"
