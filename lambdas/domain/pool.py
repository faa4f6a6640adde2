"""What the user wants: one item of the Pools table, validated field by field, all faults reported at once.

The model below is the one definition of a pool item: the reference in docs/ and the JSON Schema are generated from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

LOWEST_PRICE = Decimal("0.001")
"""EC2 refuses a maximum price that is not above this (botocore's CreateFleet model)."""

HIGHEST_PRICE = Decimal(10_000)
"""Far above any instance-hour: a slip of the decimal point is told, not paid."""

PRICE_DIGITS = 6
"""Decimals that AWS writes a price with."""

INSTANCES_LIMIT = 1000
SHOWN_VALUE_LENGTH = 120
SHOWN_FAULTS = 20
"""An item may hold thousands of unknown attributes; the status must stay small."""


def _whole_number(value: object) -> object:
    """Numbers arrive as DynamoDB numbers (Decimal) or, from hand edits, as numeric strings."""
    if isinstance(value, bool):
        raise ValueError("not a number")  # noqa: TRY004  pydantic takes only ValueError as a fault of the input
    if isinstance(value, str | Decimal):
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise ValueError("not a number") from None
        # Bounded before it is expanded: 1e999999999 is a short text and an endless integer.
        if not number.is_finite() or not -1 < number <= INSTANCES_LIMIT or number != number.to_integral_value():
            raise ValueError("not a whole number within bounds")
        return int(number)
    return value


def _price(value: object) -> object:
    if isinstance(value, bool | float):
        # A float has already lost the price that was meant.
        raise ValueError("not a decimal number")  # noqa: TRY004  pydantic takes only ValueError as a fault of the input
    try:
        price = Decimal(str(value).strip())
        sound = price.is_finite() and LOWEST_PRICE < price <= HIGHEST_PRICE and price == round(price, PRICE_DIGITS)
    except ArithmeticError:
        raise ValueError("not a decimal number") from None
    if not sound:
        raise ValueError("out of range")
    return price


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else sorted(value) if isinstance(value, set | frozenset) else value


def format_price(price: Decimal) -> str:
    """A price as EC2 takes it: plain digits, no exponent, no trailing zeros."""
    text = format(price, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


Size = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=INSTANCES_LIMIT)]
InstanceType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$")]
SubnetId = Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-z]+$")]
Price = Annotated[Decimal, BeforeValidator(_price), PlainSerializer(format_price)]


def _spec(meaning: str, rule: str, remedy: str) -> dict[str, Any]:
    return {"description": meaning, "json_schema_extra": {"rule": rule, "remedy": remedy}}


class LaunchTemplate(BaseModel):
    """A ready EC2 launch template; it must carry this stack's tag, or EC2 refuses the launch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^lt-[0-9a-z]+$")] | None = None
    name: Annotated[str, StringConstraints(min_length=3, max_length=128)] | None = None
    version: Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else str(value))] = Field(
        "$Default", pattern=r"^(\$Default|\$Latest|[1-9][0-9]*)$"
    )

    @field_validator("name")
    @classmethod
    def _one_of_both(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name and info.data.get("id"):
            raise ValueError("both")
        return name


class Pool(BaseModel):
    """A valid pool item."""

    # Bounds stand before what they bound: a validator sees only the fields above it.
    model_config = ConfigDict(frozen=True, extra="forbid")

    pool_name: str = Field(
        pattern=r"^[a-z0-9-]{1,63}$",
        **_spec(
            "Name of the pool; the item's key.",
            "1 to 63 of a-z, 0-9 and -",
            "Create the item under a name of lower-case letters, digits and hyphens.",
        ),
    )
    max_instances: Size = Field(
        5,
        **_spec(
            "The most instances alive at any instant, those under notice included.",
            f"a whole number from 0 to {INSTANCES_LIMIT}",
            f"Set max_instances to a whole number from 0 to {INSTANCES_LIMIT}.",
        ),
    )
    min_instances: Size = Field(
        0,
        **_spec(
            "The fewest instances the pool asks for.",
            "a whole number from 0 to max_instances",
            "Lower min_instances, or raise max_instances.",
        ),
    )
    target_size: Size = Field(
        0,
        **_spec(
            "Instances to keep.",
            "a whole number from 0 to max_instances",
            "Lower target_size, or raise max_instances.",
        ),
    )
    instance_types: Annotated[tuple[InstanceType, ...], BeforeValidator(_listed)] = Field(
        min_length=1,
        max_length=60,
        **_spec(
            'Instance types, any of which will do. instance_type = "TYPE" is short for a list of one.',
            "1 to 60 instance types, such as g4dn.metal",
            'List EC2 instance types, for example ["g5.xlarge", "g4dn.xlarge"].',
        ),
    )
    subnet_ids: Annotated[tuple[SubnetId, ...], BeforeValidator(_listed)] = Field(
        (),
        max_length=32,
        **_spec(
            "Subnets to launch into; more zones, more capacity. Empty: the stack's subnets, else the default VPC's.",
            "up to 32 subnet ids, such as subnet-0abc",
            "List ids of existing subnets, or leave the attribute out.",
        ),
    )
    launch_template: LaunchTemplate | None = Field(
        None,
        **_spec(
            "A ready launch template, tagged for this stack. Absent: the stack's own.",
            "a map of id or name, and version ($Default, $Latest or a number)",
            'Give {"id": "lt-…"} or {"name": "…"}, not both, and optionally a version.',
        ),
    )
    spot: bool = Field(
        default=True,
        strict=True,
        **_spec(
            "true: spot instances. false: an on-demand pool.",
            "true or false",
            "Set spot to the boolean true or false (not a text).",
        ),
    )
    spot_max_price: Price | None = Field(
        None,
        **_spec(
            "USD per instance-hour; no spot instance is started above it. Absent: the on-demand price is the cap.",
            f"a decimal number above {LOWEST_PRICE}, at most {HIGHEST_PRICE}, with at most {PRICE_DIGITS} decimals",
            'Set spot_max_price to USD per instance-hour, for example "0.918", or leave it out.',
        ),
    )
    paused: bool = Field(
        default=False,
        strict=True,
        **_spec(
            "true: observe and report, change nothing.",
            "true or false",
            "Set paused to the boolean true or false (not a text).",
        ),
    )

    @field_validator("min_instances", "target_size")
    @classmethod
    def _within_max(cls, size: int, info: ValidationInfo) -> int:
        limit = info.data.get("max_instances")
        if limit is not None and size > limit:
            raise ValueError(f"above max_instances ({limit})")
        return size

    @field_validator("launch_template")
    @classmethod
    def _named(cls, template: LaunchTemplate | None) -> LaunchTemplate | None:
        if template is not None and template.id is None and template.name is None:
            raise ValueError("neither id nor name")
        return template

    @property
    def wanted(self) -> int:
        """How many instances to have."""
        return max(self.min_instances, min(self.target_size, self.max_instances))

    def launch_terms(self) -> dict[str, Any]:
        """All that a launch depends on: the spec without its sizes and its pause."""
        return self.model_dump(mode="json", exclude={"max_instances", "min_instances", "target_size", "paused"})


class SpecError(BaseModel):
    """One fault of a pool item: where, what stands there, what should, and how to mend it."""

    model_config = ConfigDict(frozen=True)

    field: str
    value: str
    rule: str
    remedy: str


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
        else _fault(str(fault["loc"][0]), item)
        for fault in found[:SHOWN_FAULTS]
    ]
    if len(found) > SHOWN_FAULTS:
        more = f"{len(found) - SHOWN_FAULTS} more faults"
        shown.append(SpecError(field="(item)", value=more, rule="a valid pool item", remedy="Mend the others first."))
    return shown


def _fault(name: str, item: Mapping[str, Any]) -> SpecError:
    written = "instance_type" if name == "instance_types" and name not in item else name
    extra = Pool.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)  # noqa: S101  every field is declared with _spec
    rule = str(extra["rule"])
    if name in ("min_instances", "target_size"):
        rule += f" (max_instances is {_shown(item.get('max_instances', Pool.model_fields['max_instances'].default))})"
    if written not in item:
        return SpecError(field=name, value="(absent)", rule=f"required: {rule}", remedy=str(extra["remedy"]))
    return SpecError(field=written, value=_shown(item[written]), rule=rule, remedy=str(extra["remedy"]))


def _unknown(name: str, value: object) -> SpecError:
    nearest = difflib.get_close_matches(name, KNOWN_NAMES, n=1, cutoff=0.6)
    remedy = (
        f"Did you mean {nearest[0]}? Rename it." if nearest else f"Remove it. Known names: {', '.join(KNOWN_NAMES)}."
    )
    return SpecError(field=_shown(name), value=_shown(value), rule="a known attribute name", remedy=remedy)


def _shown(value: object) -> str:
    """A value as its owner would recognise it, cut to a readable length."""
    text = str(value)
    return text if len(text) <= SHOWN_VALUE_LENGTH else text[: SHOWN_VALUE_LENGTH - 1] + "…"
