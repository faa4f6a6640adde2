"""Which instances EC2's lagging view shows now, and in which state."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from localcloud.market.errors import EC2Error
from localcloud.market.instances import Instance, State
from localcloud.market.model import Market

_WELL_FORMED = re.compile(r"i-(?:[0-9a-fA-F]{1,8}|[0-9a-fA-F]{17})")


def view_at(market: Market) -> datetime:
    """Return the moment that EC2's lagging view shows now."""
    return market.clock() - market.lasting(market.settings.describe_lag_seconds)


def all_visible(market: Market, after: int = -1) -> Iterator[tuple[Instance, State]]:
    """Yield the instances that EC2's lagging view shows now, in the order of their launch, each with its state there.

    Those up to the number ``after`` were on an earlier page.
    """
    moment = view_at(market)
    for one in market.instances.values():
        if one.number > after and (state := one.state_at(moment)):
            yield one, state


def visible_or_error(market: Market, instance_ids: Sequence[str]) -> list[tuple[Instance, State]]:
    """Return the instances of these ids, each once, with the state in which they are seen, or raise EC2's error."""
    for instance_id in instance_ids:
        if not _WELL_FORMED.fullmatch(instance_id):
            raise EC2Error("InvalidInstanceID.Malformed", f'Invalid id: "{instance_id}"')
    seen, unknown, moment = [], [], view_at(market)
    for instance_id in dict.fromkeys(instance_ids):
        instance = market.instances.get(instance_id)
        state = instance.state_at(moment) if instance else None
        if instance and state:
            seen.append((instance, state))
        else:
            unknown.append(instance_id)
    if unknown:
        plural, verb = ("s", "do") if len(unknown) > 1 else ("", "does")
        raise EC2Error("InvalidInstanceID.NotFound", f"The instance ID{plural} '{', '.join(unknown)}' {verb} not exist")
    return seen
