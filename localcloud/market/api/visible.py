"""EC2's lagging view: which instances it shows now, and in which state."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from localcloud.market.model.errors import EC2Error
from localcloud.market.model.instances import Instance, State
from localcloud.market.model.market import Market

_WELL_FORMED = re.compile(r"i-(?:[0-9a-fA-F]{1,8}|[0-9a-fA-F]{17})")


def view_at(market: Market) -> datetime:
    """Return the moment that the lagging view shows now, if the lag does not vary."""
    return market.clock() - market.lasting(market.settings.describe_lag_seconds)


def seen_at(market: Market, instance: Instance, action: str) -> datetime | None:
    """Return the moment of an instance's life that an action sees now. None: it does not see the instance yet."""
    now, most = market.clock(), market.settings.describe_lag_seconds
    if not (market.settings.lag_varies and most):
        moment = view_at(market)
        return moment if moment >= instance.launched_at else None
    if now < instance.launched_at + market.drawn((0, most), instance.id, action):
        return None
    # Each second another lag, as if another server answered: an ended instance may be shown as ending again.
    lag = market.drawn((0, most), instance.id, action, str(int(now.timestamp())))
    return max(now - lag, instance.launched_at)


def all_visible(market: Market, action: str, after: int = -1) -> Iterator[tuple[Instance, State]]:
    """Yield the instances that an action sees now, in the order of their launch, each with the visible state.

    Instances up to the number ``after`` were on an earlier page.
    """
    for instance in market.instances.values():
        if instance.number > after and (state := _state(market, instance, action)):
            yield instance, state


def visible_or_error(market: Market, action: str, instance_ids: Sequence[str]) -> list[tuple[Instance, State]]:
    """Return the instances with these ids, each once, with the state that an action sees, or raise EC2's error."""
    for instance_id in instance_ids:
        if not _WELL_FORMED.fullmatch(instance_id):
            raise EC2Error("InvalidInstanceID.Malformed", f'Invalid id: "{instance_id}"')
    seen, unknown = [], []
    for instance_id in dict.fromkeys(instance_ids):
        instance = market.instances.get(instance_id)
        state = _state(market, instance, action) if instance else None
        if instance and state:
            seen.append((instance, state))
        else:
            unknown.append(instance_id)
    if unknown:
        plural, verb = ("s", "do") if len(unknown) > 1 else ("", "does")
        raise EC2Error("InvalidInstanceID.NotFound", f"The instance ID{plural} '{', '.join(unknown)}' {verb} not exist")
    return seen


def _state(market: Market, instance: Instance, action: str) -> State | None:
    moment = seen_at(market, instance, action)
    return instance.state_at(moment) if moment else None
