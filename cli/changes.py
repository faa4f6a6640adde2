"""``apply`` and ``validate``: the changes that a file makes to the Pools table: all are valid, or none is written."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cli.exits import RefusedError
from cli.files import Entry, Fault, FileFaultError, read_entries
from cli.item_text import as_plain, ordered, same, shown
from cli.output import err, plain, print_error
from cli.pool_items import PoolItems, Stored
from cli.remarks import Remark, remarks

NEW, CHANGED, UNCHANGED = "new", "changed", "unchanged"
MANY = 20
"""With this many writes a progress bar is shown; this many unchanged pools are only counted."""

LONGEST_VALUE = 100


@dataclass(frozen=True)
class Attribute:
    """One attribute that an apply changes. None means absent."""

    name: str
    old: object
    new: object


@dataclass(frozen=True)
class Change:
    """What an apply does to one pool."""

    pool: str
    change: str
    attributes: tuple[Attribute, ...]
    item: Mapping[str, Any]
    before: Stored | None


@dataclass(frozen=True)
class ApplyOutcome:
    """What an apply did, or would do without ``--dry-run``."""

    dry_run: bool
    written: int
    pools: tuple[Change, ...]
    remarks: tuple[Remark, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """The outcome as plain values, for JSON."""
        return {
            "dry_run": self.dry_run,
            "written": self.written,
            "pools": [
                {
                    "pool": change.pool,
                    "change": change.change,
                    "attributes": [
                        {"name": attribute.name, "old": as_plain(attribute.old), "new": as_plain(attribute.new)}
                        for attribute in change.attributes
                    ],
                }
                for change in self.pools
            ],
            "remarks": self.remarks,
        }


class FaultyFileError(RefusedError):
    """A file has faults. The error holds all of them, each with its line."""

    def __init__(self, file: str, faults: tuple[Fault, ...]) -> None:
        pools = len({fault.pool for fault in faults})
        among = f" in {pools} pools" if pools > 1 else ""
        super().__init__(f"{file}: {len(faults)} fault{'s' * (len(faults) != 1)}{among}; nothing was written.")
        self.file, self.faults = file, faults


def read(file: str) -> list[Entry]:
    """Read the pools of a file, or of standard input for ``-``. Print remarks on standard error.

    Raises FaultyFileError with every fault of every pool.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        entries = read_entries(text)
    except OSError as error:
        raise RefusedError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RefusedError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except FileFaultError as fault:
        raise RefusedError(f"{file}: {fault}") from None
    for remark in remarks_on(entries):
        print_error(f"{remark.pool}: {remark.message}", style="yellow")
    _refuse(file, (fault for entry in entries for fault in entry.faults))
    return entries


def remarks_on(entries: Iterable[Entry]) -> tuple[Remark, ...]:
    """Return the remarks on all pools of a file."""
    return tuple(remark for entry in entries for remark in remarks(entry))


def plan(file: str, entries: Iterable[Entry], stored: Mapping[str, Stored]) -> list[Change]:
    """Work out the changes. Raises FaultyFileError if the stored target_size makes an imported pool invalid."""
    changes: list[Change] = []
    faults: list[Fault] = []
    for entry in entries:
        if entry.skipped:
            continue
        before = stored.get(entry.name)
        item = dict(entry.item)
        if entry.imported and before is not None and "target_size" in before.item:
            item["target_size"] = before.item["target_size"]
            faults += entry.faults_of(item)
        changes.append(_change(entry.name, item, before))
    _refuse(file, faults)
    return changes


def _refuse(file: str, faults: Iterable[Fault]) -> None:
    if found := tuple(faults):
        raise FaultyFileError(file, found)


def _change(pool: str, item: dict[str, Any], before: Stored | None) -> Change:
    old = before.item if before else {}
    names = [name for name in ordered({**old, **item}) if name != "pool_name"]
    differing = tuple(
        Attribute(name, old.get(name), item.get(name))
        for name in names
        if (name in old) != (name in item) or not same(old.get(name), item.get(name))
    )
    kind = NEW if before is None else CHANGED if differing else UNCHANGED
    return Change(pool, kind, differing, item, before)


def write(changes: Iterable[Change], pools: PoolItems) -> Generator[Change]:
    """Write new and changed items one by one, and yield each. Raises ChangedMeanwhileError."""
    for change in changes:
        if change.change != UNCHANGED:
            pools.write(change.item, change.before)
            yield change


def write_all(changes: list[Change], pools: PoolItems, console: Console = err) -> int:
    """Write the changes and return how many. Many writes on a terminal show a progress bar."""
    total = sum(change.change != UNCHANGED for change in changes)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=total < MANY or not console.is_terminal,
    )
    written = 0
    try:
        with bar:
            task = bar.add_task("Writing pools", total=total)
            for change in write(changes, pools):
                written += 1
                bar.update(task, advance=1, description=f"Writing {plain(change.pool)}")
    except BaseException:
        if written:
            print_error(f"{written} of {total} pools are written; run it again to continue.", style="yellow")
        raise
    return written


def render(applied: ApplyOutcome) -> RenderableType:
    """Render the changes as a diff, with a count below."""
    resting = [one.pool for one in applied.pools if one.change == UNCHANGED]
    parts = [_diff(one) for one in applied.pools if one.change != UNCHANGED]
    if len(resting) < MANY:
        parts += [Text(f"= {plain(pool)}  unchanged", style="dim") for pool in resting]
    to_write = len(applied.pools) - len(resting)
    done = f"{to_write} would be written" if applied.dry_run else f"{applied.written} written"
    return Group(*parts, Text(f"{done}, {len(resting)} unchanged."))


def _diff(change: Change) -> Text:
    sign, style = ("+", "green") if change.change == NEW else ("~", "yellow")
    text = Text(f"{sign} {plain(change.pool)}  {change.change}", style=style)
    widest = max((len(attribute.name) for attribute in change.attributes), default=0)
    for attribute in change.attributes:
        text.append(f"\n    {plain(attribute.name):{widest}}  ", style="default")
        if change.change == CHANGED:
            text.append(_cut(attribute.old), style="red")
            text.append(" → ", style="default")
        text.append(_cut(attribute.new), style="green")
    return text


def _cut(value: object) -> str:
    text = "(absent)" if value is None else plain(shown(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
