"""DescribeInstanceStatus: the status checks of instances, as EC2's lagging view shows them."""

from datetime import datetime
from typing import Any, Literal

from localcloud.market.api.visible import all_visible, seen_at, visible_or_error
from localcloud.market.model.errors import EC2Error
from localcloud.market.model.instances import Instance, State, described_state
from localcloud.market.model.listing import Attributes, filters_of, matching, page_of
from localcloud.market.model.market import Market
from localcloud.market.model.requests import Answer, Params, refuse_unknown

Health = Literal["initializing", "ok", "impaired", "not-applicable"]

_ACTION = "DescribeInstanceStatus"
_MOST_IDS = 100
_REACHABILITY: dict[Health, str] = {"initializing": "initializing", "ok": "passed", "impaired": "failed"}


def describe_instance_status(market: Market, params: Params) -> Answer:
    """List the status checks of running instances, or with ``IncludeAllInstances`` of all, by id or filters."""
    known = {"InstanceIds", "Filters", "MaxResults", "NextToken", "IncludeAllInstances"}
    refuse_unknown("DescribeInstanceStatus", params, known)
    if ids := params.get("InstanceIds"):
        if params.get("MaxResults"):
            raise EC2Error(
                "InvalidParameterCombination", "The parameter instancesSet cannot be used with the parameter maxResults"
            )
        if len(ids) > _MOST_IDS:  # a repeated id counts twice
            raise EC2Error(
                "InvalidRequest",
                f"{len(ids)} exceeds the maximum number of instance IDs that can be specificied ({_MOST_IDS}). Please "
                f"specify fewer than {_MOST_IDS} instance IDs.",
            )
        chosen = visible_or_error(market, _ACTION, ids)
    else:
        chosen = list(all_visible(market, _ACTION))
    if not params.get("IncludeAllInstances"):
        chosen = [(instance, state) for instance, state in chosen if state == "running"]
    filters = filters_of(
        params,
        {"availability-zone", "instance-state-name", "instance-status.status", "system-status.status"},
        tags=False,
    )
    rows = [(instance.number, _described(market, instance, state)) for instance, state in chosen]
    fits = matching(filters)
    rows = [row for row in rows if fits(_attributes(row[1]))]
    rows.sort(key=lambda row: row[0])
    page, token = page_of(rows, params, key=lambda row: row[0])
    answer: Answer = {"InstanceStatuses": [row for _, row in page]}
    return {**answer, "NextToken": token} if token else answer


def health(market: Market, instance: Instance, state: State, at: datetime) -> tuple[Health, Health]:
    """Return the system status and the instance status at a moment, for an instance in this state."""
    running_at = instance.running_at()
    if state != "running" or running_at is None:
        return "not-applicable", "not-applicable"
    boot = instance.boot
    if at < running_at + market.drawn(market.settings.status_check_seconds, instance.id, "checks"):
        return "initializing", "initializing"
    if boot and boot.outcome == "never_ready":
        return "initializing", "initializing"
    if boot and boot.outcome == "impaired":
        ill = at >= instance.launched_at + market.lasting(boot.after_seconds or 0)
        return "ok", "impaired" if ill else "ok"
    return "ok", "ok"


def _described(market: Market, instance: Instance, state: State) -> dict[str, Any]:
    system, own = health(market, instance, state, seen_at(market, instance, _ACTION) or market.clock())
    return {
        "InstanceId": instance.id,
        "AvailabilityZone": instance.zone,
        "InstanceState": described_state(state),
        "SystemStatus": _summary(system),
        "InstanceStatus": _summary(own),
    }


def _summary(status: Health) -> dict[str, Any]:
    if status not in _REACHABILITY:
        return {"Status": status}
    return {"Status": status, "Details": [{"Name": "reachability", "Status": _REACHABILITY[status]}]}


def _attributes(described: dict[str, Any]) -> Attributes:
    return {
        "availability-zone": (described["AvailabilityZone"],),
        "instance-state-name": (described["InstanceState"]["Name"],),
        "instance-status.status": (described["InstanceStatus"]["Status"],),
        "system-status.status": (described["SystemStatus"]["Status"],),
    }
