"""The kinds of value that a pool item holds: lenient where DynamoDB and hand edits differ, strict otherwise."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints

LOWEST_PRICE = Decimal("0.001")
"""EC2 refuses a maximum price that is not above this (botocore's CreateFleet model)."""

HIGHEST_PRICE = Decimal(10_000)
"""Far above any instance-hour: a slip of the decimal point is told, not paid."""

PRICE_DIGITS = 6
"""Decimals that AWS writes a price with."""

INSTANCES_LIMIT = 1000
"""The largest size of a pool, in instances or, with weights, in units."""

LARGEST_NUMBER = 10**9


class BrokenRuleError(ValueError):
    """A value that breaks a rule in a way of its own; ``rule`` and ``remedy`` are told instead of the attribute's."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


def spec(meaning: str, rule: str, remedy: str) -> dict[str, Any]:
    """What the reference and the faults say of an attribute."""
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
        # Bounded before it is expanded: 1e999999999 is a short text and an endless integer.
        if not number.is_finite() or not -1 < number <= LARGEST_NUMBER or number != number.to_integral_value():
            raise ValueError("not a whole number within bounds")
        return int(number)
    return value


def price(value: object) -> Decimal:
    """USD per instance-hour; raises ValueError for what is no price that EC2 would take."""
    if isinstance(value, bool | float):
        # A float has already lost the price that was meant.
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
    """A single text stands for a list of one; a DynamoDB set is a list without an order."""
    return [value] if isinstance(value, str) else sorted(value) if isinstance(value, set | frozenset) else value


def as_text(value: object) -> object:
    """Numbers and booleans as the text that was meant; DynamoDB and YAML turn ``01`` or ``true`` into other types."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | Decimal) else value


def format_price(amount: Decimal) -> str:
    """A price as EC2 takes it: plain digits, no exponent, no trailing zeros."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def bounded(text: str, most: int) -> str:
    """A text cut to so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def rounded_down(amount: Decimal) -> Decimal:
    """A price cut to the decimals that EC2 takes; never above what it was."""
    return amount.quantize(Decimal(1).scaleb(-PRICE_DIGITS), rounding=ROUND_DOWN)


WholeNumber = Annotated[int, BeforeValidator(whole_number)]
Size = Annotated[int, BeforeValidator(whole_number), Field(ge=0, le=INSTANCES_LIMIT)]
InstanceType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*\.[a-z0-9-]+$", max_length=64)]
SubnetId = Annotated[str, StringConstraints(pattern=r"^subnet-[0-9a-z]+$", max_length=64)]
SecurityGroupId = Annotated[str, StringConstraints(pattern=r"^sg-[0-9a-z]+$", max_length=64)]
Price = Annotated[Decimal, BeforeValidator(price), PlainSerializer(format_price)]
