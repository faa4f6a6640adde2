"""Quantities in words, as messages and commands show them."""

from __future__ import annotations

from datetime import timedelta

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def lasting(span: timedelta) -> str:
    """Write a time span in its two largest units: 2 d 3 h, 4 min 10 s."""
    seconds = int(span.total_seconds())
    for place, (unit, size) in enumerate(UNITS):
        if seconds >= size:
            rest = UNITS[place + 1 : place + 2]
            second = [f"{seconds % size // smaller} {name}" for name, smaller in rest if seconds % size // smaller]
            return " ".join([f"{seconds // size} {unit}", *second])
    return "0 s"


def closed(text: str) -> str:
    """End a text with a full stop if it has no end, as some messages of EC2 do, so that another sentence can follow."""
    return text if text.endswith((".", "!", "?", "…", ":")) else f"{text}."


def counted(number: int, one: str, several: str | None = None) -> str:
    """Write a number with its noun: 1 pool, 2 pools. ``several`` is the plural if it is not ``one`` with an s."""
    return f"{number} {one if number == 1 else several or one + 's'}"
