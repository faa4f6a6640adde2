"""The types of values in a pool item: lenient where DynamoDB and hand edits differ, strict otherwise."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints

LOWEST_PRICE = Decimal("0.001")
"""EC2 refuses a maximum price that is not above this (botocore's CreateFleet model)."""

HIGHEST_PRICE = Decimal(10_000)
"""Far above any instance-hour, so that a misplaced decimal point is an error and no cost."""

PRICE_DIGITS = 6
"""Decimals of the prices that AWS writes."""

INSTANCES_LIMIT = 1000
"""The largest size of a pool, in instances or, with weights, in units."""

LARGEST_NUMBER = 10**9


class BrokenRuleError(ValueError):
    """A value that breaks a rule of its own; its ``rule`` and ``remedy`` replace those of the attribute."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


def spec(meaning: str, rule: str, remedy: str) -> dict[str, Any]:
    """What the reference and the faults say about an attribute."""
    return {"description": meaning, "json_schema_extra": {"rule": rule, "remedy": remedy}}


def whole_number(value: object) -> object:
    """Numbers arrive as DynamoDB numbers (Decimal) or, from hand edits, as numeric strings."""
    if isinstance(value, bool):
        raise ValueError("not a number")  # noqa: TRY004  pydantic takes only ValueError as a fault of the input
    if isinstance(value, str | Decimal):
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise ValueError("not a number") from None
        # Checked before the conversion: 1e999999999 is a short text and a huge integer.
        if not number.is_finite() or not -1 < number <= LARGEST_NUMBER or number != number.to_integral_value():
            raise ValueError("not a whole number within bounds")
        return int(number)
    return value


def price(value: object) -> Decimal:
    """USD per instance-hour; raises ValueError for a price that EC2 would not accept."""
    if isinstance(value, bool | float):
        # A float has already lost the exact price.
        raise ValueError("not a decimal number")  # noqa: TRY004  pydantic takes only ValueError as a fault of the input
    try:
        found = Decimal(str(value).strip())
        sound = found.is_finite() and LOWEST_PRICE < found <= HIGHEST_PRICE and found == round(found, PRICE_DIGITS)
    except ArithmeticError:
        raise ValueError("not a decimal number") from None
    if not sound:
        raise ValueError("out of range")
    return found


def listed(value: object) -> object:
    """A single text becomes a list of one; a DynamoDB set has no order, so it is sorted."""
    return [value] if isinstance(value, str) else sorted(value) if isinstance(value, set | frozenset) else value


def as_text(value: object) -> object:
    """Numbers and booleans as the user's text; DynamoDB and YAML turn ``01`` or ``true`` into other types."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | Decimal) else value


def format_price(amount: Decimal) -> str:
    """A price as EC2 accepts it: plain digits, no exponent, no trailing zeros."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def bounded(text: str, most: int) -> str:
    """A text cut to at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def rounded_down(amount: Decimal) -> Decimal:
    """A price cut to the decimals that EC2 accepts; never above the original."""
    return amount.quantize(Decimal(1).scaleb(-PRICE_DIGITS), rounding=ROUND_DOWN)


WholeNumber = Annotated[int, BeforeValidator(whole_number)]
Size = Annotated[int, BeforeValidator(whole_number), Field(ge=0, le=INSTANCES_LIMIT)]
InstanceType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$", max_length=64)]
SubnetId = Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-z]+$", max_length=64)]
SecurityGroupId = Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-z]+$", max_length=64)]
Price = Annotated[Decimal, BeforeValidator(price), PlainSerializer(format_price)]
