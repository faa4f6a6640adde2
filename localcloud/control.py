"""Speaks to the market's control interface: JSON over HTTP, as design section "the local cloud" describes it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from decimal import Decimal
from typing import Any


class MarketRefusedError(Exception):
    """The market did not do what it was asked; the message is its answer."""


class MarketControl:
    """What a test or a demo does to the market, by name."""

    def __init__(self, url: str) -> None:
        self.url = url

    def state(self) -> dict[str, Any]:
        """Every offering with capacity, use and prices, and the number of EC2 calls by action."""
        return self.ask("GET", "/market")

    def calls(self, action: str) -> int:
        """How many EC2 calls of this action the market has answered since it was last reset."""
        return int(self.state()["calls"].get(action, 0))

    def offer(
        self, instance_type: str, zone: str, *, capacity: int | None = None, spot_price: Decimal | str | None = None
    ) -> None:
        """Create or change an offering: instances to be had in all, USD per instance-hour."""
        change: dict[str, Any] = {}
        if capacity is not None:
            change["capacity"] = capacity
        if spot_price is not None:
            change["spot_price"] = str(spot_price)
        self.ask("PUT", f"/market/offerings/{instance_type}/{zone}", change)

    def interrupt(self, *instance_ids: str, **more: object) -> dict[str, Any]:
        """Give spot notice to these instances, or as ``more`` says: ``pool`` and ``count``, ``notice_seconds``."""
        named: dict[str, object] = {"instance_ids": list(instance_ids)} if instance_ids else {}
        return self.ask("POST", "/market/interrupt", named | more)

    def fault(self, **fault: object) -> None:
        """Make coming EC2 calls fail as told, for instance ``action``, ``error`` and ``times``."""
        self.ask("POST", "/market/faults", fault)

    def reset(self) -> None:
        """Back to the default offerings, with no instance and no call counted."""
        self.ask("POST", "/market/reset", {})

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One control call; raises MarketRefusedError when the market refuses it."""
        request = urllib.request.Request(  # noqa: S310 - the URL is the local market's own
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
                text = response.read()
        except urllib.error.HTTPError as error:
            raise MarketRefusedError(
                f"{method} {path}: {error.code} {error.read().decode(errors='replace')}"
            ) from error
        answer = json.loads(text) if text else {}
        return answer if isinstance(answer, dict) else {"answer": answer}
