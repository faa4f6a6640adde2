"""Items written as YAML read back as the same items, whatever DynamoDB holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.files import read_entries
from cli.item_text import as_plain, as_yaml, same, shown

TEXTS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20) | st.sampled_from(
    [
        "yes",
        "1",
        "0.45",
        "1e3",
        "null",
        "2024-01-01",
        "~",
        "#!/bin/bash\nmount /data\n",
        "a\n  b\n",
        " x",
        "x: y",
        "0x1",
    ]
)
NUMBERS = st.integers(-(10**9), 10**9).map(Decimal) | st.decimals(
    min_value=0, max_value=10_000, places=6, allow_nan=False
)
VALUES = st.recursive(
    TEXTS | NUMBERS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS.filter(lambda name: name not in ("pools", "resource_pools", "pool_name")), VALUES))
def test_an_item_written_as_yaml_reads_back_the_same(item: dict[str, Any]) -> None:
    whole = {"pool_name": "p", **item}
    (entry,) = read_entries(as_yaml(whole))
    assert same(entry.item, whole)


@pytest.mark.parametrize(("one", "other", "alike"), [
    (Decimal("3.0"), 3, True),
    (True, Decimal(1), False),
    ([Decimal(1)], [1], True),
    ({"a": True}, {"a": 1}, False),
    ("3", 3, False),
    (None, None, True),
])  # fmt: skip
def test_two_values_are_equal_if_they_are_equal_to_dynamodb(one: object, other: object, alike: bool) -> None:
    assert same(one, other) is alike


def test_numbers_are_shown_exactly() -> None:
    assert as_plain({"a": Decimal(3), "b": Decimal("0.45"), "c": {Decimal(2), Decimal(1)}}) == {
        "a": 3,
        "b": "0.45",
        "c": [1, 2],
    }
    assert shown([{"min": Decimal(4)}, True]) == "[{min: 4}, true]"
