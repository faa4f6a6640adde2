"""From where the price list is asked, for each partition that AWS has."""

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
def test_the_price_list_is_asked_in_its_own_partition_if_that_has_one(region: str, served_from: str | None) -> None:
    assert price_list_region(region) == served_from
