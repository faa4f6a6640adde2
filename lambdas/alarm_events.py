"""Parses CloudWatch's alarm events, as EventBridge delivers them.

Shapes: an alarm's from the CloudWatch User Guide (alarm events and EventBridge); a contributor's, which names the pool,
from a capture of a real account. An alarm by query sends both: its own event names no pool, so only its contributors'
count.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, ValidationError

from lambdas.domain.alarm.message import Change
from lambdas.domain.alarm.names import informs_directly, trouble_of
from lambdas.events import MalformedEventError, Outside, first_fault
from lambdas.metrics import POOL_DIMENSION

ALARM = "CloudWatch Alarm State Change"
CONTRIBUTOR = "CloudWatch Alarm Contributor State Change"


class _State(Outside):
    value: Literal["OK", "ALARM", "INSUFFICIENT_DATA"]
    reason: str = ""
    timestamp: AwareDatetime


class _Previous(Outside):
    value: str = ""


class _Query(Outside):
    expression: str = ""


class _Configuration(Outside):
    metrics: tuple[_Query, ...] = ()


class _Contributor(Outside):
    attributes: dict[str, str] = Field(default_factory=dict)


class _Detail(Outside):
    alarm_name: Annotated[str, Field(alias="alarmName", min_length=1)]
    state: _State
    previous: Annotated[_Previous, Field(alias="previousState")] = _Previous()
    configuration: _Configuration = _Configuration()
    contributor: Annotated[_Contributor | None, Field(alias="alarmContributor")] = None


class _Event(Outside):
    kind: Literal["CloudWatch Alarm State Change", "CloudWatch Alarm Contributor State Change"] = Field(
        alias="detail-type"
    )
    detail: _Detail


def parse_alarm_event(body: str, stack: str) -> Change | str:
    """The change that an event reports, or in words why nobody need know of it.

    Raises MalformedEventError for a message that is no alarm event.
    """
    try:
        event = _Event.model_validate_json(body)
    except ValidationError as error:
        raise MalformedEventError(first_fault("alarm event", error)) from error
    detail, state = event.detail, event.detail.state
    found = trouble_of(detail.alarm_name, stack)
    if found is None:
        return "it is no alarm of this stack"
    if state.value == "INSUFFICIENT_DATA":
        return "missing data is no trouble"
    if event.kind == ALARM and any(query.expression for query in detail.configuration.metrics):
        return "its contributors have events of their own"
    if event.kind == ALARM and state.value == "OK" and detail.previous.value != "ALARM":
        return "there was no trouble before"
    if state.value == "ALARM" and informs_directly(*found):
        return "CloudWatch itself informs people of it"
    pool = detail.contributor.attributes.get(POOL_DIMENSION) if detail.contributor else None
    trouble, about = found
    return Change(
        trouble=trouble,
        over=state.value == "OK",
        at=state.timestamp,
        pools=(pool,) if pool else (),
        about=about,
        said=state.reason,
    )
