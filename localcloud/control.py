"""A client of the market's control interface: JSON over HTTP, as docs/market.md describes it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from decimal import Decimal
from typing import Any


class MarketRefusedError(Exception):
    """The market refused a control call. The message is its answer."""


class MarketControl:
    """The control calls that tests and the demo make, by name."""

    def __init__(self, url: str) -> None:
        self.url = url

    def state(self) -> dict[str, Any]:
        """Every offering with its capacity, use and prices, and the number of EC2 calls by action."""
        return self.ask("GET", "/market")

    def calls(self, action: str) -> int:
        """How many EC2 calls of this action the market has answered since the last reset."""
        return int(self.state()["calls"].get(action, 0))

    def offer(
        self, instance_type: str, zone: str, *, capacity: int | None = None, spot_price: Decimal | str | None = None
    ) -> None:
        """Create or change an offering: its total number of instances, and its price in USD per instance-hour."""
        change: dict[str, Any] = {}
        if capacity is not None:
            change["capacity"] = capacity
        if spot_price is not None:
            change["spot_price"] = str(spot_price)
        self.ask("PUT", f"/market/offerings/{instance_type}/{zone}", change)

    def interrupt(self, *instance_ids: str, **more: object) -> dict[str, Any]:
        """Send interruption notices to these instances, or to ``count`` of a ``pool``. ``more``: ``notice_seconds``."""
        named: dict[str, object] = {"instance_ids": list(instance_ids)} if instance_ids else {}
        return self.ask("POST", "/market/interrupt", named | more)

    def rebalance(self, *instance_ids: str, **more: object) -> dict[str, Any]:
        """Send rebalance recommendations to these instances, or to ``count`` of a ``pool``."""
        named: dict[str, object] = {"instance_ids": list(instance_ids)} if instance_ids else {}
        return self.ask("POST", "/market/rebalance", named | more)

    def maintenance(self, *instance_ids: str, **more: object) -> dict[str, Any]:
        """Let AWS Health announce maintenance of these instances. ``more`` may hold ``event_type_code``."""
        return self.ask("POST", "/market/maintenance", {"instance_ids": list(instance_ids), **more})

    def boot(self, outcome: str, **how: object) -> None:
        """Let machines of an ``image_id``, or whose ``user_data_contains`` a text, fail from now on."""
        self.ask("POST", "/market/boots", {"outcome": outcome, **how})

    def boot_well(self) -> None:
        """Let all machines start normally from now on."""
        self.ask("DELETE", "/market/boots")

    def missing(self, *ids: str) -> None:
        """Declare which images, security groups, key pairs and public parameters do not exist. All others exist."""
        self.ask("PUT", "/market/missing", {"ids": list(ids)})

    def parameters(self, parameters: dict[str, str]) -> None:
        """Set the parameters by name that ``resolve:ssm:`` finds."""
        self.ask("PUT", "/market/parameters", {"parameters": parameters})

    def account(self, **changes: object) -> None:
        """Change settings of the account, such as ``volume_key`` and ``spot_key_grants``."""
        self.ask("PUT", "/market/account", changes)

    def commands(self) -> list[dict[str, Any]]:
        """The commands that SSM was asked to send, oldest first, with their results."""
        return list(self.ask("GET", "/market/commands")["commands"])

    def command_result(self, **result: object) -> None:
        """Set the result of commands from now on: ``status``, ``contains``, ``instance_id`` and others."""
        self.ask("POST", "/market/commands", result)

    def settings(self, **changes: object) -> None:
        """Change settings, such as ``status_check_seconds``."""
        self.ask("PUT", "/market/settings", changes)

    def fault(self, **fault: object) -> None:
        """Let the next EC2 calls fail, as ``action``, ``error``, ``times`` and others say."""
        self.ask("POST", "/market/faults", fault)

    def reset(self) -> None:
        """Restore the default offerings, without instances and with all counters at zero."""
        self.ask("POST", "/market/reset", {})

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Make a control call. Raises MarketRefusedError if the market refuses it."""
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
