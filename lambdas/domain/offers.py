"""Which offerings may be tried now, and when the others may: back-off after no capacity, price against the cap.

An offering that just lost an instance to an interruption is avoided while another one can be tried. One that had no
capacity is not tried before its back-off ends. One dearer than ``spot_max_price`` is not tried at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from lambdas.domain.observed import Offer
from lambdas.domain.pool import Pool, format_price
from lambdas.domain.status import NOTICE_COUNTS, Status


@dataclass(frozen=True)
class Choice:
    """A pool's offerings, sorted by whether they may be tried."""

    usable: tuple[Offer, ...]
    backed_off: tuple[Offer, ...]
    too_dear: tuple[Offer, ...]
    retry_at: datetime | None

    def prices(self) -> str:
        """The cheapest of the offerings that cost too much, in words."""
        cheapest = min(self.too_dear, key=lambda offer: (offer.spot_price or Decimal(0), offer.offering))
        price = format_price(cheapest.spot_price or Decimal(0))
        return f"cheapest is {cheapest.instance_type} in {cheapest.zone} at {price} USD/h"


def choose(pool: Pool, offers: Iterable[Offer], status: Status, now: datetime) -> Choice:
    """Sort the offers of a pool at the moment ``now``."""
    memory = status.memory
    taken = {notice.offering for notice in status.notices.values() if now - notice.at < NOTICE_COUNTS}
    usable: list[Offer] = []
    backed_off: list[Offer] = []
    too_dear: list[Offer] = []
    for offer in sorted(offers):
        backoff = memory.backoff.get(offer.offering)
        if above_cap(pool, offer):
            too_dear.append(offer)
        elif backoff is not None and backoff.until > now:
            backed_off.append(offer)
        else:
            usable.append(offer)
    calm = [offer for offer in usable if offer.offering not in taken]
    return Choice(
        usable=tuple(calm or usable),
        backed_off=tuple(backed_off),
        too_dear=tuple(too_dear),
        retry_at=min((memory.backoff[offer.offering].until for offer in backed_off), default=None),
    )


def above_cap(pool: Pool, offer: Offer) -> bool:
    """Whether the offer's price is known and above what the pool pays; equal is not above."""
    cap = pool.spot_max_price
    return pool.spot and cap is not None and offer.spot_price is not None and offer.spot_price > cap
