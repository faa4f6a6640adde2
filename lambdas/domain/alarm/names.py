"""The names of alarms: which trouble each reports, how urgent it is, and which pools it is about."""

from __future__ import annotations

from enum import StrEnum

from lambdas.domain.guide import Trouble
from lambdas.domain.model.status import INVALID_ITEM, Reason, Status, troubles_of


class Severity(StrEnum):
    """How urgent an alarm is: ``page`` wakes a person, ``notice`` can wait until the morning."""

    PAGE = "page"
    NOTICE = "notice"


NOTICES = frozenset(
    {
        Trouble.PRICE_ABOVE_MAX,
        Trouble.THROTTLED,
        Trouble.INTERRUPTIONS,
        Trouble.TERMINATIONS_REFUSED,
        Trouble.DRAINS_REFUSED,
        Trouble.FUNCTION_ERRORS,
        Trouble.FUNCTION_THROTTLES,
    }
)
"""Troubles in which the control plane goes on by itself, or that the owner's own cap causes. All others are pages."""

OWN_ALARM = {
    Trouble.PRICE_ABOVE_MAX: str(Reason.PRICE_ABOVE_MAX),
    Trouble.QUOTA: str(Reason.QUOTA),
    Trouble.CONFIG: str(Reason.CONFIG),
    Trouble.ITEM_INVALID: INVALID_ITEM,
    Trouble.THROTTLED: str(Reason.THROTTLED),
}
"""Troubles with an alarm of their own, with their names in the metrics. All others raise ``pool-below-target``."""

_WITH_OWN_ALARM = frozenset(OWN_ALARM.values())

WITHOUT_ALARM = (Trouble.NO_CAPACITY, Trouble.NO_ADDRESSES, Trouble.MAX_INSTANCES, Trouble.UNKNOWN)
"""Reasons that raise the alarm of pools below target."""

ALARMS = tuple(trouble for trouble in Trouble if trouble not in WITHOUT_ALARM)
"""Troubles that an alarm is named after."""

OF_POOLS = frozenset({*OWN_ALARM, Trouble.BELOW_TARGET, Trouble.WAITING_LONG})
"""Alarms about how long a pool has been in trouble, which PoolStatus explains."""

ENDINGS = (("-errors", Trouble.FUNCTION_ERRORS), ("-throttles", Trouble.FUNCTION_THROTTLES))


EXPLAINER = ("on-alarm", "alarm-events")
"""The function that explains alarms, and its queue."""


def informs_directly(trouble: Trouble, about: str) -> bool:
    """Whether CloudWatch itself informs people of an alarm, because it may mean that nothing is explained."""
    return trouble is Trouble.HEARTBEAT or about in EXPLAINER


def severity(trouble: Trouble) -> Severity:
    """How urgent the alarm of a trouble is."""
    return Severity.NOTICE if trouble in NOTICES else Severity.PAGE


def trouble_of(alarm_name: str, stack: str) -> tuple[Trouble, str] | None:
    """The trouble that an alarm of this stack reports, and the function or queue it is about, if any.

    None for an alarm that is not this stack's: another stack's name may begin like this one's.
    """
    name = alarm_name.removeprefix(f"{stack}-")
    if name == alarm_name:
        return None
    if name in set(Trouble):
        return Trouble(name), ""
    for ending, trouble in ENDINGS:
        if name.startswith("on-") and name.endswith(ending):
            return trouble, name.removesuffix(ending)
    if name.startswith("dead-"):
        return Trouble.DEAD_LETTERS, name.removeprefix("dead-")
    if name.endswith("-waiting"):
        return Trouble.QUEUE_AGE, name.removesuffix("-waiting")
    return None


def troubles_under(trouble: Trouble, status: Status) -> tuple[str, ...]:
    """Those troubles of a pool, by their names in the metrics, that this alarm is about."""
    return tuple(name for name in troubles_of(status.answer, status.memory) if covers(trouble, name))


def covers(trouble: Trouble, name: str) -> bool:
    """Whether an alarm is about a trouble of a pool, by its name in the metrics."""
    if trouble in OWN_ALARM:
        return name == OWN_ALARM[trouble]
    return trouble is Trouble.WAITING_LONG or (trouble is Trouble.BELOW_TARGET and name not in _WITH_OWN_ALARM)
