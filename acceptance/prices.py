"""The highest price that an instance of a run can have, in US dollars an hour."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from cli.deployment import Deployment

ASSUMED = Decimal("0.0188")
"""Without credentials a dry run assumes this price: above that of the default types in most Regions."""


def highest(deployment: Deployment, types: Iterable[str]) -> Decimal:
    """The highest of the types' on-demand and current spot prices.

    No launch of a run pays more: pools without a price of their own pay at most the on-demand price.
    """
    names = list(types)
    offerings = deployment.offerings()
    found = [*offerings.list_prices(names).values(), *offerings.spot_prices(names).values()]
    return max(found, default=ASSUMED)
