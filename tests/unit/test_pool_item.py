"""A pool item: what is accepted, and how each fault is reported."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lambdas.domain.item.faults import KNOWN_NAMES, SpecError, parse_pool
from lambdas.domain.item.fields import format_price
from lambdas.domain.item.pool import Market, Pool

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
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
def test_numbers_may_be_numbers_or_numeric_texts(six: object) -> None:
    assert pool(target_size=six, max_instances="10").target_size == 6


@pytest.mark.parametrize(
    "wrong", [-1, "six", "", "6.5", Decimal("6.5"), True, None, [6], {"N": 6}, 1001, "NaN", "1e999999999", 10**40]
)
def test_a_size_is_a_whole_number_within_bounds(wrong: object) -> None:
    assert "max_instances" in faults(max_instances=wrong)


@pytest.mark.parametrize("price", ["0.918", Decimal("0.918"), "0.9180", " 0.918 "])
def test_a_price_stays_exact(price: object) -> None:
    item = pool(spot_max_price=price)
    assert item.spot_max_price == "0.918"
    assert item.cap(None) == Decimal("0.918")


@pytest.mark.parametrize(("share", "on_demand", "cap"), [("60%", "1.006", "0.6036"), ("33.3%", "0.1", "0.0333")])
def test_a_share_of_the_on_demand_price_is_a_cap_of_its_type(share: str, on_demand: str, cap: str) -> None:
    assert pool(spot_max_price=share).cap(Decimal(on_demand)) == Decimal(cap)


def test_a_cap_that_is_a_share_is_rounded_down() -> None:
    assert pool(spot_max_price="33.333333%").cap(Decimal("0.000019")) == Decimal("0.000006")


def test_a_share_of_an_unknown_price_is_not_a_cap() -> None:
    with pytest.raises(ValueError, match="not known"):
        pool(spot_max_price="60%").cap(None)


@pytest.mark.parametrize(
    "wrong", ["0", "0.001", "-1", "free", 0.918, True, "NaN", "1e999999999", "0.9180001", [], "0.5%", "101%", "%"]
)
def test_an_invalid_price_is_refused(wrong: object) -> None:
    assert "spot_max_price" in faults(spot_max_price=wrong)


@pytest.mark.parametrize(
    ("cap", "weights", "named"),
    [
        ("0.70", {"g5.xlarge": 1, "g4dn.metal": 768}, "g4dn.metal has the weight 768"),
        ("0.768", {"g4dn.metal": 768}, "above 0.768"),
        ("0.998", {"g5.xlarge": 999}, "g5.xlarge has the weight 999"),
        ("0.002", {"g5.xlarge": 2}, "above 0.002"),
    ],
)
def test_a_cap_too_low_for_a_unit_is_refused_with_cap_and_weight(cap: str, weights: dict[str, int], named: str) -> None:
    fault = faults(spot_max_price=cap, weights=weights, instance_types=["g5.xlarge", "g4dn.metal"])["spot_max_price"]
    assert fault.value == cap
    assert named in f"{fault.rule}; {fault.remedy}"


@pytest.mark.parametrize(
    "attributes", [{"spot_max_price": "0.769"}, {"spot_max_price": "60%"}, {"spot_max_price": "0.70", "spot": False}]
)
def test_a_cap_that_ec2_accepts_for_a_unit_is_accepted(attributes: dict[str, Any]) -> None:
    item = pool(weights={"g5.xlarge": 768}, **attributes)
    if item.spot and not item.share:
        assert item.unit_cap(None, 768) == Decimal("0.001001")


def test_prices_are_sent_as_plain_digits() -> None:
    assert [format_price(Decimal(text)) for text in ("1E+1", "1.50", "100", "0.0100")] == ["10", "1.5", "100", "0.01"]


def test_instance_type_is_short_for_a_list_of_one() -> None:
    parsed = parse_pool({"pool_name": "p", "instance_type": "g4dn.metal"})
    assert isinstance(parsed, Pool)
    assert parsed.instance_types == ("g4dn.metal",)


def test_a_fault_in_instance_type_is_reported_under_that_name() -> None:
    parsed = parse_pool({"pool_name": "p", "instance_type": "metal"})
    assert not isinstance(parsed, Pool)
    assert [fault.field for fault in parsed] == ["instance_type"]


def test_both_spellings_at_once_are_refused() -> None:
    assert "both" in faults(instance_type="g4dn.metal")["instance_type"].rule


@pytest.mark.parametrize(
    "attributes",
    [
        {"requirements": {"vcpus": {"min": -1}}, "instance_types": None},
        {"requirements": {"vcpus": {"min": 4, "max": 2}}, "instance_types": None},
        {"requirements": "large", "instance_types": None},
        {"requirements": {"cpus": 4}, "weights": {"g5.xlarge": 2}, "instance_types": None},
        {"requirements": {"architecture": "mips"}},
        {"instance_types": ["metal"], "weights": {"g5.xlarge": 2}},
        {"instance_types": [], "weights": {"g5.xlarge": 2}},
        {"max_instances": "many", "target_size": 9, "min_instances": 9, "on_demand_base": 9},
        {"max_instances": -1, "schedule": [{"cron": "0 8 * * *", "target_size": 900}]},
        {"schedule": [{"cron": "8 o'clock", "target_size": 1}]},
        {"schedule": [{"cron": "0 8 * * *", "target_size": 9, "min_instances": 8}]},
        {"spot": "no", "fallback": {"after_minutes": 5}},
        {"spot_max_price": "0", "weights": {"g5.xlarge": 2}},
        {"weights": {"g5.xlarge": 0}, "spot_max_price": "0.002"},
        {"launch_template": {"id": "ami-1", "name": "mine"}},
        {"launch_template": {"id": "ami-1"}, "image_id": "ami-1"},
        {"image_id": "none", "launch_template": {"name": "mine"}},
        {"tags": {"aws:x": "1"}},
        {"tags": {"x": ["1"]}},
        {"root_volume_type": "st1", "root_volume_size_gib": 500},
        {"user_data": 7},
        {"ready_tag": ""},
    ],
    ids=str,
)
def test_one_fault_is_reported_once(attributes: dict[str, Any]) -> None:
    item = {name: value for name, value in {**SOUND, **attributes}.items() if value is not None}
    found = parse_pool(item)
    assert not isinstance(found, Pool)
    assert len(found) == 1, found


def test_as_many_security_groups_as_ec2_can_allow_at_most() -> None:
    groups = [f"sg-{number:02}" for number in range(17)]
    assert len(pool(security_group_ids=groups[:16]).security_group_ids) == 16
    assert "security_group_ids" in faults(security_group_ids=groups)


def test_all_faults_are_reported_at_once_with_value_rule_and_remedy() -> None:
    found = faults(max_instnaces=10, min_instances=-1, target_size="99")
    assert set(found) == {"max_instnaces", "min_instances", "target_size"}
    assert found["target_size"].value == "99"
    assert "max_instances is 5" in found["target_size"].rule
    assert "raise max_instances" in found["target_size"].remedy
    assert found["max_instnaces"].remedy == "Did you mean max_instances? Rename it."


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
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
    "wrong",
    [
        {},
        {"version": 3},
        {"id": "lt-1", "name": "mine"},
        {"id": "ami-1"},
        {"name": "mine", "x": 1},
        {"name": "my template"},
        {"name": "me"},
        {"name": "m" * 129},
        "lt-1",
    ],
)
def test_a_launch_template_with_both_id_and_name_or_neither_is_refused(wrong: object) -> None:
    assert any(field.startswith("launch_template") for field in faults(launch_template=wrong))


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
    assert pool(target_size=target, min_instances=low, max_instances=high).wanted(NOW) == wanted


@pytest.mark.parametrize("utc", ["2026-11-23T07:30:00+00:00", "2026-07-23T06:30:00+00:00"])
def test_a_schedule_is_read_in_its_own_time_zone(utc: str) -> None:
    entries = [
        {"cron": "0 8 * * MON-FRI", "timezone": "Europe/Berlin", "target_size": 4, "min_instances": 1},
        {"cron": "0 20 * * *", "timezone": "Europe/Berlin", "target_size": 0},
    ]
    item, at = pool(schedule=entries, target_size=2), datetime.fromisoformat(utc)
    assert [item.wanted(at + timedelta(minutes=m)) for m in (-31, 0, 12 * 60)] == [0, 4, 0]


def test_without_an_entry_in_force_the_items_own_size_holds() -> None:
    assert pool(target_size=2, schedule=[{"cron": "0 0 29 2 *", "target_size": 5}]).wanted(NOW) == 2


@pytest.mark.parametrize(
    "entry",
    [
        {"cron": "0 8 * *", "target_size": 1},
        {"cron": "61 8 * * *", "target_size": 1},
        {"cron": "0 8 * * *", "target_size": 6},
        {"cron": "0 8 * * *", "target_size": 1, "timezone": "Mars/Phobos"},
        {"cron": "0 8 * * *"},
    ],
)
def test_a_wrong_schedule_is_refused(entry: dict[str, Any]) -> None:
    assert any(field.startswith("schedule") for field in faults(schedule=[entry]))


def test_types_of_two_architectures_cannot_share_an_image() -> None:
    assert "instance_types" in faults(instance_types=["m7g.large", "m7i.large"])
    assert pool(instance_types=["m7g.large", "im4gn.large"]).architecture == "arm64"
    assert pool(instance_types=["g5.xlarge", "gr6.4xlarge"]).architecture == "x86_64"


def test_a_type_named_twice_is_one_type() -> None:
    assert pool(instance_types=["g5.xlarge", "g4dn.metal", "g5.xlarge"]).instance_types == ("g5.xlarge", "g4dn.metal")


@pytest.mark.parametrize("types", [["mac1.metal"], ["m7g.large", "mac2.metal"]])
def test_types_that_need_a_dedicated_host_are_refused(types: list[str]) -> None:
    assert "dedicated hosts" in faults(instance_types=types)["instance_types"].rule


def test_types_are_named_or_described_but_not_both() -> None:
    described = parse_pool({"pool_name": "p", "requirements": {"vcpus": {"min": 4}}})
    assert isinstance(described, Pool)
    assert "instance_types" in faults(requirements={"vcpus": {"min": 4}})


def test_a_machine_is_described_inline_or_by_a_template() -> None:
    assert pool(image_id="ami-0abc", tags={"team": "ml", "cost": 7}).described
    assert not pool().described
    assert "launch_template" in faults(image_id="ami-0abc", launch_template={"name": "mine"})


@pytest.mark.parametrize("key", ["aws:x", "spotpools:pool", "", "k" * 128, "a\nb"])
def test_tags_of_others_are_refused(key: str) -> None:
    assert any(field.startswith("tags") for field in faults(tags={key: "1"}))


def test_user_data_has_ec2s_limit_in_bytes() -> None:
    assert pool(user_data="x" * 16_384).described
    assert "user_data" in faults(user_data="ü" * 8_193)


def test_only_attributes_of_the_machine_change_its_digest() -> None:
    same = pool(target_size=3, spot_max_price="1", subnet_ids=["subnet-1"], instance_types=["g4dn.xlarge"])
    assert same.machine_digest == pool().machine_digest
    others = [pool(user_data="x"), pool(image_id="ami-1"), pool(launch_template={"name": "mine"})]
    assert len({one.machine_digest for one in [*others, pool()]}) == 4


def test_a_pool_on_demand_needs_no_fallback() -> None:
    assert pool(spot=False).market is Market.ON_DEMAND
    assert "fallback" in faults(spot=False, fallback={"after_minutes": 5})


def test_sizes_and_pause_are_not_terms_of_a_launch() -> None:
    assert pool(target_size=1, paused=True).launch_terms == pool(target_size=2).launch_terms
    assert pool(spot_max_price="1").launch_terms != pool(spot_max_price="2").launch_terms


def test_thousands_of_faults_are_reported_briefly() -> None:
    parsed = parse_pool({**SOUND, **{f"x{number}": "y" * 1000 for number in range(10_000)}})
    assert not isinstance(parsed, Pool)
    assert len(parsed) == 21
    assert parsed[-1].value == "9980 more faults"


@pytest.mark.parametrize(
    ("attributes", "field", "rule", "remedy"),
    [
        ({"schedule": [{"cron": "0 24 * * *", "target_size": 1}]}, "schedule.0.cron", "(Bad hour)", "0 8 * * MON-FRI"),
        ({"schedule": [{"cron": "0 8 * *", "target_size": 1}]}, "schedule.0.cron", "five fields: minute", "MON-FRI"),
        (
            {"schedule": [{"cron": "0 8 * * *", "timezone": "europe/london", "target_size": 1}]},
            "schedule.0.timezone", "an IANA time zone name", "Did you mean Europe/London?",
        ),
        ({"schedule": [{"cron": "0 8 * * *"}]}, "schedule.0.target_size", "given (schedule: ", ""),
        ({"tags": {"team": "a,b"}}, "tags.team", "letters, digits, spaces and . : / = + - @ _ only", "such as commas"),
        ({"tags": {"team": "x" * 300}}, "tags.team", "at most 256 characters, not 300 (tags: ", ""),
        ({"fallback": {"after_minutes": -1}}, "fallback.after_minutes", "greater than or equal to 0 (fallback: ", ""),
        ({"fallback": {"after_minutes": 5, "back": True}}, "fallback.back", "a known name (fallback: ", ""),
        ({"requirements": {"vcpus": {"min": 4, "max": 2}}}, "requirements.vcpus.max", "at least min (4)", "lower min"),
    ],
)  # fmt: skip
def test_a_fault_inside_an_attribute_names_the_rule_that_is_broken(
    attributes: dict[str, Any], field: str, rule: str, remedy: str
) -> None:
    item = {"pool_name": "p", "max_instances": 3, "instance_types": ["m5.large"], **attributes}
    if "requirements" in item:
        del item["instance_types"]
    found = parse_pool(item)
    assert isinstance(found, tuple)
    (fault,) = found
    assert fault.field == field
    assert rule in fault.rule
    assert remedy in fault.remedy
