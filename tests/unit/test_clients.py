"""The Region of the price list, for each partition of AWS."""

from __future__ import annotations

import pytest

from lambdas.aws.clients import price_list_region


@pytest.mark.parametrize(
    ("region", "served_from"),
    [
        ("us-east-1", "us-east-1"),
        ("eu-west-1", "us-east-1"),
        ("eu-central-1", "eu-central-1"),
        ("ap-south-1", "ap-south-1"),
        ("cn-north-1", "cn-northwest-1"),
        ("eusc-de-east-1", "eusc-de-east-1"),
        ("us-gov-west-1", None),
    ],
)
def test_the_price_list_of_the_own_partition_is_used_if_there_is_one(region: str, served_from: str | None) -> None:
    assert price_list_region(region) == served_from
