"""Reads a pool item: a valid pool, or all of its faults at once, each with its rule and its remedy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lambdas.domain.item import user_data
from lambdas.domain.item.fields import BrokenRuleError, bounded
from lambdas.domain.item.pool import Pool

SHOWN_VALUE_LENGTH = 120
SHOWN_FAULTS = 20
"""An item may hold thousands of unknown attributes; the status must stay small."""


class SpecError(BaseModel):
    """One fault of a pool item: where, the value, the rule, and how to fix it."""

    model_config = ConfigDict(frozen=True)

    field: str
    value: str
    rule: str
    remedy: str


BOUNDED = ("min_instances", "target_size", "on_demand_base")
KNOWN_NAMES = (*Pool.model_fields, "instance_type")


def parse_pool(item: Mapping[str, Any]) -> Pool | tuple[SpecError, ...]:
    """Read a pool item; all its faults together if it has any."""
    values = dict(item)
    faults: list[SpecError] = []
    if "instance_type" in values:
        single = values.pop("instance_type")
        if "instance_types" in values:
            faults.append(_twice(single))
        else:
            values["instance_types"] = single
    try:
        pool = Pool.model_validate(values)
    except ValidationError as error:
        faults += _faults(error, item)
        return tuple(dict.fromkeys(faults))
    return tuple(faults) or pool


def recalled(remembered: Mapping[str, Any] | None) -> Pool | None:
    """A remembered item as a pool; None if there is none, or if this version no longer accepts it."""
    try:
        return Pool.model_validate(remembered, context=user_data.REMEMBERED) if remembered else None
    except ValidationError:
        return None


def _twice(single: object) -> SpecError:
    return SpecError(
        field="instance_type",
        value=_shown(single),
        rule="instance_type or instance_types, not both",
        remedy="Keep instance_types and remove instance_type.",
    )


def _faults(error: ValidationError, item: Mapping[str, Any]) -> list[SpecError]:
    found = error.errors(include_url=False)
    shown = [
        _unknown(str(fault["loc"][0]), fault["input"])
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1
        else _fault(fault, item)
        for fault in found[:SHOWN_FAULTS]
    ]
    if len(found) > SHOWN_FAULTS:
        more = f"{len(found) - SHOWN_FAULTS} more faults"
        shown.append(SpecError(field="(item)", value=more, rule="a valid pool item", remedy="Fix the others first."))
    return shown


def _fault(fault: Mapping[str, Any], item: Mapping[str, Any]) -> SpecError:
    place, value = fault["loc"], fault["input"]
    name = str(place[0])
    written = "instance_type" if name == "instance_types" and "instance_type" in item else name
    extra = Pool.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)  # noqa: S101  every field is declared with spec()
    rule, remedy = str(extra["rule"]), str(extra["remedy"])
    if name in BOUNDED:
        rule += f" (max_instances is {_shown(item.get('max_instances', Pool.model_fields['max_instances'].default))})"
    broken = fault.get("ctx", {}).get("error")
    if isinstance(broken, BrokenRuleError):
        rule, remedy = broken.rule, broken.remedy
    elif len(place) > 1 and (reason := _reason(fault)):
        rule = f"{reason} ({name}: {rule})"
    if written not in item:
        return SpecError(field=name, value="(absent)", rule=f"required: {rule}", remedy=remedy)
    inner = len(place) > 1 and isinstance(item[written], Mapping | list)
    where = ".".join(str(step) for step in place) if inner else written
    shown = _secret(item[written]) if name == "user_data" else _shown(value if inner else item[written])
    return SpecError(field=_shown(where), value=shown, rule=rule, remedy=remedy)


def _reason(fault: Mapping[str, Any]) -> str:
    """The rule that a part of an attribute breaks, from pydantic's message; empty if it names none."""
    kinds = {"missing": "given", "extra_forbidden": "a known name"}
    if fault["type"] in kinds:
        return kinds[fault["type"]]
    message = str(fault["msg"]).replace(" items after validation", " characters")
    _, found, rule = message.partition(" should be ")
    if found:
        return rule
    _, found, rule = message.partition(" should have ")
    return f"a value with {rule}" if found else ""


def _unknown(name: str, value: object) -> SpecError:
    """A long text is not shown, because it may be user data under a wrong name."""
    nearest = _nearest(name)
    remedy = f"Did you mean {nearest}? Rename it." if nearest else f"Remove it. Known names: {', '.join(KNOWN_NAMES)}."
    shown = _secret(value) if isinstance(value, str) and len(value) > SHOWN_VALUE_LENGTH else _shown(value)
    return SpecError(field=_shown(name), value=shown, rule="a known attribute name", remedy=remedy)


@lru_cache(maxsize=256)
def _nearest(name: str) -> str | None:
    """Cached, because every reconcile reads the item, and this search takes most of that time."""
    return next(iter(difflib.get_close_matches(name, KNOWN_NAMES, n=1, cutoff=0.6)), None)


def _secret(value: object) -> str:
    """What a fault shows of a value that may hold secrets."""
    return f"({len(value)} characters)" if isinstance(value, str) else f"({type(value).__name__})"


def _shown(value: object) -> str:
    """A value as its owner would recognise it, cut to a readable length."""
    return bounded(str(value), SHOWN_VALUE_LENGTH)
