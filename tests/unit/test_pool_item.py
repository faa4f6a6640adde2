"""A pool item: what is accepted, and how each fault is told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from lambdas.domain.pool import KNOWN_NAMES, Pool, SpecError, format_price, parse_pool

SOUND: dict[str, Any] = {"pool_name": "p", "instance_types": ["g5.xlarge"]}


def pool(**attributes: Any) -> Pool:
    parsed = parse_pool({**SOUND, **attributes})
    assert isinstance(parsed, Pool), parsed
    return parsed


def faults(**attributes: Any) -> dict[str, SpecError]:
    parsed = parse_pool({**SOUND, **attributes})
    assert not isinstance(parsed, Pool)
    return {fault.field: fault for fault in parsed}


def test_an_item_needs_only_a_name_and_a_type() -> None:
    assert pool() == Pool(pool_name="p", instance_types=("g5.xlarge",))
    assert (pool().target_size, pool().min_instances, pool().max_instances) == (0, 0, 5)
    assert pool().spot
    assert not pool().paused


@pytest.mark.parametrize("six", [6, "6", Decimal(6), Decimal("6.0"), "6.0"])
def test_numbers_come_as_numbers_or_as_numeric_texts(six: object) -> None:
    assert pool(target_size=six, max_instances="10").target_size == 6


@pytest.mark.parametrize(
    "wrong", [-1, "six", "", "6.5", Decimal("6.5"), True, None, [6], {"N": 6}, 1001, "NaN", "1e999999999", 10**40]
)
def test_a_size_is_a_whole_number_within_bounds(wrong: object) -> None:
    assert "max_instances" in faults(max_instances=wrong)


@pytest.mark.parametrize("price", ["0.918", Decimal("0.918"), "0.9180", " 0.918 "])
def test_a_price_stays_exact(price: object) -> None:
    cap = pool(spot_max_price=price).spot_max_price
    assert cap == Decimal("0.918")
    assert format_price(cap) == "0.918"


@pytest.mark.parametrize(
    "wrong", ["0", "0.001", "-1", "free", 0.918, True, "NaN", "1e999999999", "0.9180001", [], "60%"]
)
def test_a_price_that_is_none_is_refused(wrong: object) -> None:
    assert "spot_max_price" in faults(spot_max_price=wrong)


def test_prices_are_sent_as_plain_digits() -> None:
    assert [format_price(Decimal(text)) for text in ("1E+1", "1.50", "100", "0.0100")] == ["10", "1.5", "100", "0.01"]


def test_instance_type_is_short_for_a_list_of_one() -> None:
    parsed = parse_pool({"pool_name": "p", "instance_type": "g4dn.metal"})
    assert isinstance(parsed, Pool)
    assert parsed.instance_types == ("g4dn.metal",)


def test_a_fault_in_instance_type_is_told_under_that_name() -> None:
    parsed = parse_pool({"pool_name": "p", "instance_type": "metal"})
    assert not isinstance(parsed, Pool)
    assert [fault.field for fault in parsed] == ["instance_type"]


def test_both_spellings_at_once_are_refused() -> None:
    assert "both" in faults(instance_type="g4dn.metal")["instance_type"].rule


def test_all_faults_are_told_at_once_with_value_rule_and_remedy() -> None:
    found = faults(max_instnaces=10, min_instances=-1, target_size="99")
    assert set(found) == {"max_instnaces", "min_instances", "target_size"}
    assert found["target_size"].value == "99"
    assert "max_instances is 5" in found["target_size"].rule
    assert "raise max_instances" in found["target_size"].remedy
    assert found["max_instnaces"].remedy == "Did you mean max_instances? Rename it."


def test_an_unlike_name_is_answered_with_the_known_ones() -> None:
    assert all(name in faults(zzz=1)["zzz"].remedy for name in KNOWN_NAMES)


def test_a_missing_attribute_says_that_it_is_required() -> None:
    parsed = parse_pool({"pool_name": "p"})
    assert not isinstance(parsed, Pool)
    assert (parsed[0].field, parsed[0].value) == ("instance_types", "(absent)")
    assert parsed[0].rule.startswith("required")


@pytest.mark.parametrize(
    "template", [{"id": "lt-1"}, {"name": "mine"}, {"name": "mine", "version": 3}, {"id": "lt-1", "version": "$Latest"}]
)
def test_a_launch_template_has_an_id_or_a_name(template: dict[str, Any]) -> None:
    assert pool(launch_template=template).launch_template


@pytest.mark.parametrize(
    "wrong", [{}, {"version": 3}, {"id": "lt-1", "name": "mine"}, {"id": "ami-1"}, {"name": "mine", "x": 1}, "lt-1"]
)
def test_a_launch_template_that_names_none_or_two_is_refused(wrong: object) -> None:
    assert "launch_template" in faults(launch_template=wrong)


@pytest.mark.parametrize("wrong", ["true", 1, "no", None])
def test_spot_and_paused_are_booleans(wrong: object) -> None:
    assert set(faults(spot=wrong, paused=wrong)) == {"spot", "paused"}


@pytest.mark.parametrize("wrong", ["", "Upper", "a_b", "x" * 64, "ünicode"])
def test_a_pool_name_is_short_and_plain(wrong: str) -> None:
    assert "pool_name" in faults(pool_name=wrong)


def test_a_huge_value_is_cut_where_it_is_shown() -> None:
    assert len(faults(x="y" * 400_000)["x"].value) <= 120


@pytest.mark.parametrize(("sizes", "wanted"), [((3, 0, 5), 3), ((1, 2, 5), 2), ((0, 0, 0), 0)])
def test_wanted_is_the_target_within_the_bounds(sizes: tuple[int, int, int], wanted: int) -> None:
    target, low, high = sizes
    assert pool(target_size=target, min_instances=low, max_instances=high).wanted == wanted


def test_sizes_and_pause_are_no_terms_of_a_launch() -> None:
    assert pool(target_size=1, paused=True).launch_terms() == pool(target_size=2).launch_terms()
    assert pool(spot_max_price="1").launch_terms() != pool(spot_max_price="2").launch_terms()


def test_thousands_of_faults_are_told_briefly() -> None:
    parsed = parse_pool({**SOUND, **{f"x{number}": "y" * 1000 for number in range(10_000)}})
    assert not isinstance(parsed, Pool)
    assert len(parsed) == 21
    assert parsed[-1].value == "9980 more faults"
