"""Which instances are replaced, how many run beyond the wanted size, and when an old one is terminated."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from lambdas.domain.decision.replacement import Replacement, Swaps, outdated, plan_swaps, replaced
from lambdas.domain.decision.stock import Stock, units
from lambdas.domain.item.pool import Market, Pool
from lambdas.domain.model.instances import ATTEMPT_TAG, MACHINE_TAG, Instance, State
from lambdas.domain.model.status import Hold, Memory, Reason, Series

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
OLD, PROTECTED = {MACHINE_TAG: "old"}, {"spotpools:protect": "true"}
REFUSED = Hold(reason=Reason.CONFIG, until=NOW + timedelta(minutes=5), failures=1, message="no such image")


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


def swaps(item: Pool, some: Stock, memory: Memory | None = None, held: int = 0) -> Swaps:
    return plan_swaps(item, some, memory or Memory(), NOW, max(held, some.wanted))


def groups(item: Pool, some: Stock, memory: Memory | None = None) -> tuple[Replacement, ...]:
    return swaps(item, some, memory).groups


def go(item: Pool, some: Stock, **kind: Any) -> list[str]:
    """Ids of the instances that can be terminated now."""
    return ids(one for one, _ in replaced(some, swaps(item, some), some.wanted, **kind))


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
    def test_what_the_item_would_not_make_now_is_outdated(self, attributes: dict[str, Any], drifted: bool) -> None:
        spot = pool(subnet_ids=("subnet-1",))
        assert bool(outdated(spot, stock(instance("i-1", **attributes)))) is drifted

    def test_an_instance_without_a_digest_is_left_alone(self) -> None:
        assert outdated(pool(image_id="ami-1"), stock(instance("i-1"))) == []

    def test_in_an_on_demand_pool_spot_is(self) -> None:
        both = stock(instance("i-1"), instance("i-2", market=Market.ON_DEMAND))
        assert ids(outdated(pool(spot=False), both)) == ["i-1"]

    def test_of_a_raised_base_as_many_spot_ones_as_are_missing_on_demand(self) -> None:
        both = stock(*several(3), instance("i-od", market=Market.ON_DEMAND))
        assert len(outdated(pool(on_demand_base=2), both)) == 1

    def test_missing_instances_fill_the_base_before_a_spot_instance_is_replaced(self) -> None:
        assert outdated(pool(on_demand_base=2), stock(*several(3), wanted=4)) == outdated(
            pool(on_demand_base=1), stock(*several(3))
        )

    def test_beyond_the_base_is_what_is_replaced_anyway_and_not_its_successor(self) -> None:
        """Otherwise the replacement would be replaced too, and so on."""
        old, new = instance("i-0", tags=OLD), instance("i-1")
        both = [replace(one, market=Market.ON_DEMAND) for one in (old, new)]
        of_both = stock(*both, wanted=1, unready=frozenset({"i-1"}))
        assert ids(outdated(pool(on_demand_base=1), of_both)) == ["i-0"]
        at_risk = stock(*both[1:], replace(both[1], id="i-2"), wanted=1, at_risk=frozenset({"i-1"}))
        assert ids(outdated(pool(on_demand_base=1), at_risk)) == ["i-1"]

    def test_protected_ones_are_of_the_base_so_that_others_can_go(self) -> None:
        kept, other = instance("i-0", tags=PROTECTED), instance("i-1")
        both = stock(*(replace(one, market=Market.ON_DEMAND) for one in (kept, other)), wanted=1)
        assert ids(outdated(pool(on_demand_base=1), both)) == ["i-1"]

    def test_for_the_base_an_unprotected_spot_instance_is_replaced(self) -> None:
        both = stock(instance("i-0", tags=PROTECTED), instance("i-1"))
        assert ids(outdated(pool(on_demand_base=1), both)) == ["i-1"]

    @pytest.mark.parametrize("new", [3, 4, 5])
    def test_the_base_is_kept_by_those_that_nothing_else_replaces(self, new: int) -> None:
        """A heavy outdated instance goes, and cannot be the base: without it the others are not too many."""
        item = rolling(on_demand_base=4)
        heavy = instance("i-heavy", market=Market.ON_DEMAND, units=8, tags=OLD)
        others = several(new, "i-new", market=Market.ON_DEMAND)
        found = ids(outdated(item, stock(heavy, *others, wanted=11, limit=12)))
        assert found == ["i-heavy", *ids(others[: max(0, new - 4)])]

    def test_with_a_fallback_on_demand_is_temporary_and_not_outdated(self) -> None:
        temporary = pool(fallback={"after_minutes": 5})
        assert outdated(temporary, stock(instance("i-1", market=Market.ON_DEMAND))) == []


class TestRolling:
    NEW = instance("i-new")

    def test_on_replace_replaces_no_instance(self) -> None:
        assert groups(pool(), stock(*several(3, tags=OLD))) == ()

    def test_one_replacement_is_tried_first_and_nothing_is_terminated_for_it(self) -> None:
        some = stock(*several(20, tags=OLD))
        (roll,) = groups(rolling(max_unavailable=4), some)
        assert (swaps(rolling(max_unavailable=4), some).surge, roll.spare) == (1, 0)

    def test_once_one_is_ready_max_unavailable_are_replaced_at_a_time(self) -> None:
        some = stock(*several(20, tags=OLD), self.NEW, wanted=20)
        (roll,) = groups(rolling(max_unavailable=4), some)
        assert (roll.surge, roll.spare) == (4, 4)
        assert swaps(rolling(max_unavailable=4), some).surge == 3, "one is there already"

    def test_a_replacement_that_is_not_ready_yet_proves_nothing(self) -> None:
        some = stock(*several(20, tags=OLD), self.NEW, wanted=20, unready=frozenset({"i-new"}))
        (roll,) = groups(rolling(max_unavailable=4), some)
        assert (swaps(rolling(max_unavailable=4), some).surge, roll.spare) == (0, 0)

    def test_at_the_limit_the_oldest_instance_is_terminated_for_the_trial(self) -> None:
        (roll,) = groups(rolling(max_unavailable=4), stock(*several(20, tags=OLD), limit=20))
        assert (ids(roll.instances), roll.surge, roll.spare) == (["i-old-00"], 0, 4)

    @pytest.mark.parametrize("memory", [Memory(failed_starts=1), Memory(holds={Market.SPOT: REFUSED})])
    def test_after_a_refusal_no_other_instance_is_terminated(self, memory: Memory) -> None:
        some = stock(*several(20, tags=OLD), limit=20)
        found = plan_swaps(rolling(max_unavailable=4), some, memory, NOW, some.wanted)
        assert (found.surge, [one.spare for one in found.groups]) == (0, [0])

    def test_an_old_refusal_has_no_effect(self) -> None:
        past = REFUSED.model_copy(update={"until": NOW})
        some = stock(*several(20, tags=OLD), limit=20)
        (roll,) = groups(rolling(), some, Memory(holds={Market.SPOT: past}))
        assert ids(roll.instances) == ["i-old-00"]

    def test_during_the_trial_no_other_instance_is_terminated(self) -> None:
        some = stock(*several(19, tags=OLD), wanted=20, limit=20, in_flight=1)
        (roll,) = groups(rolling(), some)
        assert roll.spare == 0

    def test_protected_instances_are_not_replaced(self) -> None:
        some = stock(*several(2, tags=OLD), *several(2, "i-kept", tags=OLD | PROTECTED))
        (roll,) = groups(rolling(), some)
        assert ids(roll.instances) == ["i-old-00", "i-old-01"]


class TestWholeInstances:
    """Which instances go, what must be launched, and whether it fits: there are no half instances."""

    MIXED: ClassVar[dict[str, Any]] = {
        "instance_types": ("c5.large", "c5.2xlarge"),
        "weights": {"c5.2xlarge": 8},
        "max_instances": 12,
        "target_size": 8,
    }

    @pytest.mark.parametrize(
        ("limit", "surge", "why"),
        [(12, 0, "8 and is not replaced"), (15, 0, "max_instances (15, 7 left)"), (16, 8, "")],
    )
    def test_a_replacement_that_does_not_fit_waits_with_a_message(self, limit: int, surge: int, why: str) -> None:
        heavy = instance("i-1", instance_type="c5.2xlarge", units=8)
        for item, some in (
            (pool(on_rebalance="replace_first", **self.MIXED), stock(heavy, limit=limit, at_risk=frozenset({"i-1"}))),
            (
                pool(fallback={"after_minutes": 5}, **self.MIXED),
                stock(replace(heavy, market=Market.ON_DEMAND), limit=limit, unready=frozenset({"i-1"})),
            ),
        ):
            found = swaps(item, some)
            assert found.surge == surge
            assert [text for _, text in found.stuck if why in text] == [text for _, text in found.stuck]
            assert bool(found.stuck) is bool(why)

    def test_what_was_launched_beside_one_that_cannot_go_is_too_many(self) -> None:
        """It is not a surge, because it would stay forever."""
        some = stock(
            instance("i-1", instance_type="c5.2xlarge", units=8),
            *several(4, "i-small", instance_type="c5.large"),
            wanted=8,
            limit=12,
            at_risk=frozenset({"i-1"}),
        )
        assert swaps(pool(on_rebalance="replace_first", **self.MIXED), some).going == frozenset()

    def test_a_partial_surge_is_completed(self) -> None:
        some = stock(
            instance("i-1", instance_type="c5.2xlarge", units=8),
            *several(3, "i-small", instance_type="c5.large"),
            wanted=8,
            limit=16,
            at_risk=frozenset({"i-1"}),
        )
        assert swaps(pool(on_rebalance="replace_first", **{**self.MIXED, "max_instances": 16}), some).surge == 5

    def test_without_room_beside_it_a_heavy_one_is_swapped_in_place_within_max_unavailable(self) -> None:
        item = rolling(weights={"g5.xlarge": 8}, max_unavailable=8)
        some = stock(*several(2, tags=OLD, units=8), limit=18)
        assert go(item, some) == ["i-old-00"]
        proven = stock(instance("i-new", units=8), *several(1, tags=OLD, units=8), limit=18)
        assert go(item, proven) == ["i-old-00"]

    def test_a_replacement_that_max_unavailable_forbids_is_reported(self) -> None:
        found = swaps(rolling(weights={"g5.xlarge": 8}), stock(*several(2, tags=OLD, units=8), limit=18))
        assert (found.groups, found.surge) == ((), 0)
        assert ["max_unavailable" in why for _, why in found.stuck] == [True]

    @pytest.mark.parametrize(
        ("item", "some", "at_once"),
        [
            (
                pool(on_rebalance="replace_first", max_instances=4),
                stock(*several(3), limit=4, at_risk={"i-old-00"}),
                True,
            ),
            (rolling(max_instances=2), stock(*several(2, tags=OLD), limit=2), True),
            (rolling(weights={"g5.xlarge": 8}), stock(*several(2, tags=OLD, units=8), limit=18), False),
        ],
    )
    def test_what_only_waits_for_instances_under_notice_says_so(
        self, item: Pool, some: Stock, *, at_once: bool
    ) -> None:
        beside = replace(some, noticed=(instance("i-noticed"),))
        (_, why), *_ = swaps(item, beside).stuck
        assert ("when they have ended" in why) is at_once
        assert ("Raise" in why) is not at_once

    def test_light_instances_are_replaced_together_by_a_heavier_type(self) -> None:
        item = rolling(weights={"g5.xlarge": 4}, max_unavailable=4)
        some = stock(*several(5, tags=OLD, instance_type="g4dn.xlarge"), limit=6)
        assert go(item, some) == ["i-old-00", "i-old-01", "i-old-02"], "with one free unit, room for four"
        assert go(rolling(weights={"g5.xlarge": 4}, max_unavailable=2), some) == []

    def test_one_heavier_than_max_unavailable_is_replaced_first_where_there_is_room(self) -> None:
        heavy = stock(*several(3, tags=OLD, units=8), instance("i-new", units=8), wanted=32)
        (roll,) = groups(rolling(max_unavailable=2, weights={"g5.xlarge": 8}), heavy)
        assert (roll.surge, roll.spare) == (8, 2)
        assert go(rolling(max_unavailable=2, weights={"g5.xlarge": 8}), heavy) == []

    def test_the_excess_of_a_heavy_instance_replaces_nothing(self) -> None:
        heavy = stock(instance("i-old", tags=OLD, units=2), wanted=1)
        assert swaps(rolling(weights={"g5.xlarge": 2}), heavy).surge == 1


class TestKinds:
    def test_the_most_urgent_are_replaced_first_and_none_twice(self) -> None:
        spot = pool(update="rolling", on_rebalance="replace_first", fallback={"after_minutes": 5})
        some = stock(
            *several(2, tags=OLD),
            instance("i-risk", tags=OLD),
            instance("i-temporary", market=Market.ON_DEMAND, tags=OLD),
            at_risk=frozenset({"i-risk"}),
        )
        found = groups(spot, some)
        assert [ids(one.instances) for one in found[:2]] == [["i-risk"], ["i-temporary"]]
        assert set(ids(found[2].instances)) == {"i-risk", "i-temporary", "i-old-00", "i-old-01"}
        assert swaps(spot, some).surge == 2, (
            "for the one at risk and the temporary one; what comes for them is the trial"
        )

    def test_without_room_an_update_does_not_wait_for_what_else_would_replace_its_instances(self) -> None:
        spot = rolling(fallback={"after_minutes": 5})
        some = stock(instance("i-new"), *several(3, "i-temporary", market=Market.ON_DEMAND, tags=OLD), limit=4)
        assert go(spot, some) == ["i-temporary-00"]

    @pytest.mark.parametrize(
        ("ready", "gone"),
        [
            (("i-risk-00", "i-risk-01", "i-risk-02"), []),
            (("i-risk-00", "i-risk-01", "i-risk-02", "i-new"), ["i-risk-00"]),
        ],
    )
    def test_an_idle_instance_is_no_replacement(self, ready: tuple[str, ...], gone: list[str]) -> None:
        """A protected one that never got ready counts six of six; without those at risk nobody would work."""
        heavy = instance("i-idle", units=6, tags=PROTECTED)
        new = [instance("i-new")] if "i-new" in ready else []
        risky = several(3, "i-risk")
        some = stock(
            heavy,
            *risky,
            *new,
            wanted=6,
            limit=12,
            at_risk=frozenset(one.id for one in risky),
            idle=frozenset({"i-idle"}),
            unready=frozenset({"i-idle"}),
        )
        assert go(pool(on_rebalance="replace_first"), some) == gone

    def test_instances_at_risk_or_temporary_ones_stay_until_they_are_replaced(self) -> None:
        spot = pool(on_rebalance="replace_first", fallback={"after_minutes": 5})
        some = stock(
            instance("i-risk"), instance("i-temporary", market=Market.ON_DEMAND), at_risk=frozenset({"i-risk"})
        )
        assert [(one.surge, one.spare) for one in groups(spot, some)] == [(1, 0), (1, 0)]
        assert go(spot, some) == []

    def test_ignored_risks_replace_nothing(self) -> None:
        assert groups(pool(), stock(instance("i-1"), at_risk=frozenset({"i-1"}))) == ()

    def test_a_pool_at_its_limit_terminates_nothing_if_others_make_room(self) -> None:
        temporary = several(2, "i-then-temporary", tags=OLD, market=Market.ON_DEMAND)
        some = stock(*several(4, tags=OLD), *temporary, wanted=4, limit=6)
        assert go(rolling(fallback={"after_minutes": 5}), some) == ids(temporary)

    def test_if_enough_instances_stay_nothing_is_launched_for_the_others(self) -> None:
        some = stock(*several(3, tags=OLD), *several(2, "i-new"), wanted=2)
        assert swaps(rolling(), some).surge == 0

    def test_a_newly_excluded_type_is_outdated_and_wider_requirements_replace_nothing(self) -> None:
        before = pool(instance_types=(), requirements={"vcpus": {"min": 4}})
        made = {MACHINE_TAG: before.machine_digest}
        some = stock(instance("i-1", tags=made))
        wider = pool(instance_types=(), requirements={"vcpus": {"min": 2}})
        narrower = pool(instance_types=(), requirements={"vcpus": {"min": 4}, "excluded_types": ("g5.*",)})
        assert outdated(wider, some) == []
        assert ids(outdated(narrower, some)) == ["i-1"]


class TestRecommendedAgain:
    """If EC2 warns about every instance of an offering, it is not emptied and filled repeatedly."""

    ITEM = pool(on_rebalance="replace_first")
    SERIES = Series(since=NOW, tries=1, until=NOW + timedelta(minutes=10), attempts=("in-place",))

    def some(self, attempt: str) -> Stock:
        return stock(instance("i-1", tags={ATTEMPT_TAG: attempt}), at_risk=frozenset({"i-1"}))

    def test_a_replacement_that_is_itself_at_risk_waits_with_a_message(self) -> None:
        again = swaps(self.ITEM, self.some("in-place"), Memory(risks=self.SERIES))
        assert (again.surge, again.groups) == (0, ())
        assert ["the next try is at 00:10 UTC" in why for _, why in again.stuck] == [True]

    def test_an_instance_from_before_does_not_wait(self) -> None:
        assert swaps(self.ITEM, self.some("earlier"), Memory(risks=self.SERIES)).surge == 1

    def test_after_the_pause_it_is_tried_once_more(self) -> None:
        over = self.SERIES.model_copy(update={"until": NOW})
        assert swaps(self.ITEM, self.some("in-place"), Memory(risks=over)).surge == 1


class TestReturningAtTheLimit:
    """Without room for a replacement, on-demand instances return to spot one at a time, if spot has no refusals."""

    ITEM = pool(fallback={"after_minutes": 30}, max_instances=3)
    FULL = stock(*several(1), *several(2, "i-temporary", market=Market.ON_DEMAND), limit=3)

    def test_one_on_demand_instance_makes_room(self) -> None:
        found = swaps(self.ITEM, self.FULL)
        assert found.returning
        assert go(self.ITEM, self.FULL) == ["i-temporary-00"]
        assert found.surge == 0

    @pytest.mark.parametrize(
        "memory",
        [
            Memory(holds={Market.SPOT: Hold(reason=Reason.QUOTA, until=LATER, failures=1, message="")}),
            Memory(returns=Series(since=NOW, tries=1, until=LATER)),
        ],
        ids=["a quota", "tried lately"],
    )
    def test_not_while_spot_refuses(self, memory: Memory) -> None:
        found = swaps(self.ITEM, self.FULL, memory)
        assert not found.returning
        assert len(found.stuck) == 2

    @pytest.mark.parametrize(
        "changes",
        [
            {"unready": frozenset({"i-old-00"})},
            {"wanted": 4},
            {"noticed": several(1, "i-gone")},
            {"in_flight": 1},
        ],
        ids=["one is not ready", "one is missing", "one is taken", "an answer is open"],
    )
    def test_not_during_any_other_trouble(self, changes: dict[str, Any]) -> None:
        assert not swaps(self.ITEM, replace(self.FULL, **changes)).returning

    def test_with_room_beside_it_the_successor_comes_first(self) -> None:
        found = swaps(self.ITEM, replace(self.FULL, limit=4))
        assert (found.returning, found.surge) == (False, 1)


class TestLettingGo:
    def test_as_many_return_as_ready_instances_replace(self) -> None:
        some = stock(*several(4, tags=OLD), *several(2, "i-new"), wanted=4)
        assert go(rolling(max_unavailable=1), some) == ["i-old-00", "i-old-01", "i-old-02"]

    def test_instances_that_are_not_ready_go_first_at_no_cost(self) -> None:
        some = stock(*several(4, tags=OLD), instance("i-new"), wanted=4, unready=frozenset({"i-old-03"}))
        assert go(rolling(), some)[0] == "i-old-03"

    def test_none_goes_without_a_replacement_while_there_are_more_than_wanted(self) -> None:
        some = stock(*several(4, tags=OLD), *several(2, "i-new"), wanted=2)
        calm = swaps(rolling(), some, held=6)
        assert replaced(some, calm, 6) == []
        assert len(replaced(some, swaps(rolling(), some), 2)) == 4

    def test_in_any_pool_enough_instances_are_left(self) -> None:
        dice = random.Random(11)  # noqa: S311  random cases, not secrets
        moved = 0
        for _ in range(2000):
            spot = pool(
                update="rolling",
                on_rebalance="replace_first",
                max_unavailable=dice.randint(1, 5),
                on_demand_base=dice.randint(0, 3),
                fallback=dice.choice((None, {"after_minutes": 1})),
                weights=dice.choice(({}, {"g5.xlarge": 2})),
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
                limit=dice.choice((99, 14, 16)),
                unready=frozenset(one.id for one in running if dice.random() < 0.3),
                at_risk=frozenset(one.id for one in running if dice.random() < 0.2),
            )
            held = some.wanted + dice.choice((0, 0, 3))
            found = plan_swaps(spot, some, Memory(failed_starts=dice.choice((0, 0, 1))), NOW, held)
            gone = [one for one, _ in replaced(some, found, held)]
            moved += len(gone)
            left = some.without(set(ids(gone)))
            spare = max((one.spare for one in found.groups), default=0)
            floor = max(held, some.wanted) - (0 if held > some.wanted else spare)
            assert not [one for one in gone if one.protected]
            assert found.surge <= max(0, some.headroom - some.missing), "what is to come fits"
            if gone:
                assert left.serving >= floor
            if [one for one in gone if some.is_ready(one)]:
                assert units(left.ready) >= floor
        assert moved > 1000, "the cases let some go"
