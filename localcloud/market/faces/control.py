"""The market's control interface: JSON over HTTP, with which tests and people change the market (docs/market.md).

Amounts of money are decimal strings. A call that fails has a status of 4xx and ``{"error": "..."}``, and changes
nothing.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from localcloud.market.faces.conditions import Body, change_conditions, described_boots, json_of
from localcloud.market.model.errors import ControlError
from localcloud.market.model.instances import Instance
from localcloud.market.model.market import POOL_TAG, Market, iso
from localcloud.market.model.offerings import Offering, default_offerings
from localcloud.market.model.settings import Fault, Seconds, Settings
from localcloud.market.model.trace import CAPACITY_WHEN_AVAILABLE, Replay, TraceError, play, read_trace

Price = Annotated[Decimal, Field(gt=0, allow_inf_nan=False)]
Capacity = Annotated[int, Field(ge=0)]


class MachineChange(Body):
    """Hardware attributes in ``PUT /market/offerings/{type}/{zone}``."""

    memory_mib: Annotated[int, Field(ge=1)] | None = None
    architecture: Literal["x86_64", "arm64"] | None = None
    cpu_manufacturer: Literal["intel", "amd", "amazon-web-services"] | None = None
    gpus: Capacity | None = None
    gpu_name: str | None = None
    gpu_manufacturer: str | None = None
    generation: Literal["current", "previous"] | None = None
    listed: bool | None = None


class OfferingChange(MachineChange):
    """Body of ``PUT /market/offerings/{type}/{zone}``."""

    capacity: Capacity | None = None
    spot_price: Price | None = None
    on_demand_price: Price | None = None
    on_demand_capacity: Capacity | None = None
    spot: bool | None = None
    vcpus: Annotated[int, Field(ge=1)] | None = None


class SpotInstances(Body):
    """Body of ``POST /market/interrupt`` and ``/market/rebalance``: instances by id, or a number of a pool."""

    instance_ids: Annotated[list[str], Field(min_length=1)] | None = None
    pool: str | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    notice_seconds: Seconds | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "SpotInstances":
        if (self.instance_ids is None) == (self.pool is None) or (self.pool is None) != (self.count is None):
            raise ValueError('give either "instance_ids", or "pool" and "count"')
        return self


class DescribeLag(Body):
    """Body of ``POST /market/faults`` that makes EC2's descriptions lag."""

    action: Literal["DescribeInstances"] = "DescribeInstances"
    describe_lag_seconds: Seconds


class ReplayOrder(Body):
    """Body of ``POST /market/replay``."""

    trace: Path
    speed: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    start: AwareDatetime | None = None
    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    zones: str = ""
    capacity_when_available: Annotated[int, Field(ge=1)] = CAPACITY_WHEN_AVAILABLE
    on_demand_price: Price | None = None


class Control:
    """Carries out control calls on a market. The caller holds the market's lock."""

    def __init__(
        self,
        market: Market,
        *,
        settings: Settings,
        replay_defaults: Mapping[str, Any] | None = None,
        event_counts: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.market = market
        self.replay: Replay | None = None
        self._first_settings = settings
        self._replay_defaults = dict(replay_defaults or {})
        self._event_counts = event_counts

    def handle(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        """Answer a control call: HTTP status and JSON."""
        self.market.catch_up()
        try:
            return 200, self._answer(method, path.strip("/").split("/")[1:], query, body)
        except ControlError as error:
            return error.status, {"error": str(error)}
        except ValidationError as error:
            return 400, {"error": "; ".join(_explained(one) for one in error.errors())}
        except json.JSONDecodeError as error:
            return 400, {"error": f"the body is not JSON: {error}"}

    def _answer(self, method: str, path: list[str], query: Mapping[str, str], body: bytes) -> Any:
        answer: Any
        match method, path:
            case "GET", []:
                answer = self._overview()
            case "GET", ["record"]:
                answer = self._record(query)
            case "PUT", ["offerings", instance_type, zone]:
                answer = self._change_offerings(instance_type, zone, OfferingChange.model_validate(json_of(body)))
            case "PUT", ["settings"]:
                self.market.settings = self.market.settings.changed(json_of(body))
                answer = self.market.settings.model_dump()
            case "POST", ["interrupt" | "rebalance" as what]:
                answer = self._notify(what, SpotInstances.model_validate(json_of(body)))
            case "POST", ["faults"]:
                answer = self._inject_fault(json_of(body))
            case "DELETE", ["faults"]:
                self.market.faults.clear()
                self.market.settings = self.market.settings.changed({"describe_lag_seconds": 0})
                answer = {"faults": []}
            case "POST", ["replay"]:
                answer = self._start_replay(json_of(body))
            case "POST", ["reset"]:
                self.replay = None
                self.market.reset(default_offerings(), self._first_settings)
                answer = self._overview()
            case _:
                answer = change_conditions(self.market, method, path, json_of(body))
        return answer

    def _overview(self) -> dict[str, Any]:
        market = self.market
        return {
            "time": iso(market.clock()),
            "region": market.region,
            "account": market.account,
            "offerings": [self._offering(one) for _, one in sorted(market.offerings.items())],
            "instances": [_instance(one) for one in market.instances.values()],
            "calls": dict(market.calls),
            "faults": [one.model_dump(exclude_defaults=True) for one in market.faults],
            "boots": described_boots(market),
            "missing": sorted(market.surroundings.missing),
            "free_addresses": market.free_addresses(),
            "account_settings": market.surroundings.account.model_dump(),
            "settings": market.settings.model_dump(),
            "replay": self.replay.describe(market.clock()) if self.replay else None,
            "events": dict(self._event_counts()),
        }

    def _offering(self, offering: Offering) -> dict[str, Any]:
        spot = self.market.live(offering.key, "spot")
        return {
            "instance_type": offering.instance_type,
            "availability_zone": offering.zone,
            "capacity": offering.capacity,
            "in_use": len(spot),
            "noticed": sum(one.notice is not None for one in spot),
            "spot": offering.spot,
            "spot_price": str(offering.spot_price),
            "on_demand_price": str(offering.on_demand_price),
            "on_demand_capacity": offering.on_demand_capacity,
            "on_demand_in_use": len(self.market.live(offering.key, "on-demand")),
            "vcpus": offering.vcpus,
            **asdict(offering.machine),
        }

    def _record(self, query: Mapping[str, str]) -> dict[str, Any]:
        since = query.get("since", "0")
        if not since.isdecimal():
            raise ControlError(400, f"since must be a number of entries, not '{since}'")
        entries = self.market.record[int(since) :]
        return {"record": entries, "next": len(self.market.record)}

    def _change_offerings(self, instance_type: str, zone: str, change: OfferingChange) -> dict[str, Any]:
        keys = [(instance_type, zone)]
        if "*" in (instance_type, zone):
            keys = [key for key in self.market.offerings if instance_type in ("*", key[0]) and zone in ("*", key[1])]
            if not keys:
                raise ControlError(404, f"there is no offering {instance_type} in {zone}")
        machine = change.model_dump(include=set(MachineChange.model_fields), exclude_none=True)
        rest = change.model_dump(exclude=set(MachineChange.model_fields))
        changed = [self.market.set_offering(*key, machine=machine, **rest) for key in keys]
        return {"offerings": [self._offering(one) for one in changed]}

    def _notify(self, what: str, wanted: SpotInstances) -> dict[str, Any]:
        if wanted.instance_ids is not None:
            chosen = self.market.live_spot_named(wanted.instance_ids)
        else:
            chosen = self.market.running_spot_of(wanted.pool or "", wanted.count or 0)
        for instance in chosen:
            if what == "rebalance":
                self.market.recommend_rebalance(instance)
            else:
                self.market.notice(instance, seconds=wanted.notice_seconds)
        return {"instance_ids": [one.id for one in chosen], "instances": [_instance(one) for one in chosen]}

    def _inject_fault(self, body: dict[str, Any]) -> dict[str, Any]:
        if "describe_lag_seconds" in body:
            lag = DescribeLag.model_validate(body)
            self.market.settings = self.market.settings.changed({"describe_lag_seconds": lag.describe_lag_seconds})
        else:
            self.market.faults.append(Fault.model_validate(body))
        return {"faults": [one.model_dump(exclude_defaults=True) for one in self.market.faults]}

    def _start_replay(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start to play a trace now. Missing fields of the body come from the command line."""
        order = ReplayOrder.model_validate({**self._replay_defaults, **body})
        if self.replay and not self.replay.describe(self.market.clock())["ended"]:
            raise ControlError(409, "a replay is running; POST /market/reset stops it")
        try:
            trace = read_trace(order.trace, zones=order.zones).window(order.start, order.hours)
        except (OSError, TraceError) as error:
            raise ControlError(400, f"{order.trace}: {error}") from error
        self.replay = play(
            self.market,
            trace,
            speed=order.speed,
            capacity_when_available=order.capacity_when_available,
            on_demand_price=order.on_demand_price,
        )
        return self.replay.describe(self.market.clock())


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "instance_id": instance.id,
        "instance_type": instance.instance_type,
        "availability_zone": instance.zone,
        "lifecycle": instance.lifecycle,
        "state": instance.state,
        "launched_at": iso(instance.launched_at),
        "noticed_at": iso(instance.notice.at) if instance.notice else None,
        "gone_at": iso(instance.notice.gone_at) if instance.notice else None,
        "max_price": None if instance.max_price is None else str(instance.max_price),
        "image_id": instance.image_id,
        "launch_template": instance.template and f"{instance.template.name}:{instance.template.version}",
        "pool": instance.tags.get(POOL_TAG),
        "tags": dict(instance.tags),
    }


def _explained(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the body"
    return f"{where}: {error['msg']} (got {error['input']!r})"
