"""Output of the command: tables for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from pydantic_core import to_jsonable_python
from rich.console import Console, RenderableType

from lambdas.domain.wording import lasting


class Format(StrEnum):
    """The output format of a command."""

    TABLE = "table"
    JSON = "json"


PIPE_WIDTH = 100_000
out = Console(soft_wrap=True, markup=False, emoji=False, highlight=False)
err = Console(stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False)


def print_result(found: object, rendered: RenderableType, output: Format) -> None:
    """Print the data as JSON, or the rendered form."""
    if output is Format.JSON:
        print(json.dumps(to_jsonable_python(found), indent=2, ensure_ascii=False))  # noqa: T201  a console would wrap or colour it
    else:
        draw(rendered, out)


def draw(rendered: RenderableType, console: Console) -> None:
    """Print the rendered form. A terminal wraps lines; a pipe gets whole lines."""
    console.print(rendered, soft_wrap=False, width=None if console.is_terminal else PIPE_WIDTH)


def print_error(message: str, style: str = "red") -> None:
    """Print to standard error."""
    err.print(plain(message), style=style)


def plain(text: object) -> str:
    """Make a text harmless to a terminal: write unprintable characters as escapes."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in str(text))


def step_text(action: str, names: Iterable[str], why: str, most: int | None = None) -> str:
    """Put a step of a plan into words, such as ``terminate i-1, i-2 and 3 more: too many``."""
    shown = list(map(str, names))
    more = f" and {len(shown) - most} more" if most and len(shown) > most else ""
    return f"{action} {', '.join(shown[:most])}{more}: {why}"


def ago(moment: datetime, now: datetime) -> str:
    """Write how far a moment is from now, past or future, in its two largest units."""
    return lasting(abs(now - moment))


def is_younger(reason: datetime, shortfall: datetime) -> bool:
    """Whether a reason began so much later than the shortfall, by a minute, that both ages are worth showing."""
    return reason - shortfall > timedelta(minutes=1)


def clock(moment: datetime) -> str:
    """Write a moment for people, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def dollars(amount: Decimal | None) -> str:
    """Write an amount in USD per hour, or a dash if it is unknown."""
    return "-" if amount is None else f"{amount:.4f}"
