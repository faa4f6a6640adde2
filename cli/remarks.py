"""What to know about a file's pools that is no fault: what is skipped or not applied, and what looks wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cli.files import Entry
from cli.known_names import unknown_names
from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Pool, warnings_of

WARNINGS: tuple[Callable[[Pool], Iterable[str]], ...] = (unknown_names, warnings_of)
"""Each finds what is allowed in a valid pool and yet looks wrong; in sentences that begin with the attribute."""


@dataclass(frozen=True)
class Remark:
    """One remark: in which line, of which pool."""

    line: int
    pool: str
    message: str


def remarks(entry: Entry) -> Iterator[Remark]:
    """Everything to know about one pool of a file."""
    if entry.skipped:
        yield Remark(entry.line_of(""), entry.name, f"skipped: {entry.skipped}")
        return
    for told in entry.absent:
        yield Remark(entry.line_of(""), entry.name, told)
    for name, why in entry.not_applied.items():
        yield Remark(entry.line_of(name), entry.name, f"{name} is not applied: {why}")
    pool = parse_pool(entry.item)
    if isinstance(pool, Pool):
        for told in (told for warnings in WARNINGS for told in warnings(pool)):
            place = told.split(maxsplit=1)[0].rstrip(":")
            written = place if place in entry.item else place.removesuffix("s")  # instance_type is a way to write it
            yield Remark(entry.line_of(written), entry.name, f"warning: {told}")
