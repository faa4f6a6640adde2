"""Remarks on the pools of a file: what is skipped or not applied, and what is valid but looks wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cli.files import Entry
from cli.known_names import unknown_names
from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Pool, warnings_of

WARNINGS: tuple[Callable[[Pool], Iterable[str]], ...] = (unknown_names, warnings_of)
"""Each finds what is valid but looks wrong. Its sentences start with the attribute's name."""


@dataclass(frozen=True)
class Remark:
    """One remark with its line and pool."""

    line: int
    pool: str
    message: str


def remarks(entry: Entry) -> Iterator[Remark]:
    """Yield the remarks on one pool of a file."""
    if entry.skipped:
        yield Remark(entry.line_of(""), entry.name, f"skipped: {entry.skipped}")
        return
    for message in entry.absent:
        yield Remark(entry.line_of(""), entry.name, message)
    for name, why in entry.not_applied.items():
        yield Remark(entry.line_of(name), entry.name, f"{name} is not applied: {why}")
    pool = parse_pool(entry.item)
    if isinstance(pool, Pool):
        for message in (message for warnings in WARNINGS for message in warnings(pool)):
            place = message.split(maxsplit=1)[0].rstrip(":")
            written = (
                place if place in entry.item else place.removesuffix("s")
            )  # instance_type is short for instance_types
            yield Remark(entry.line_of(written), entry.name, f"warning: {message}")
