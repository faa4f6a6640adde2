"""Commands: apply and validate pool items, list pools."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table

from cli.files import Entry, FileFaultError, read_entries
from cli.tables import AwsFaultError, find_tables
from lambdas.domain.status import Answer

INVALID, AWS_FAILED = 1, 3
"""Exit statuses: the input is wrong (nothing was written); AWS did not do it. 2 is wrong usage."""

app = typer.Typer(no_args_is_help=True, add_completion=True, help="Pools of EC2 instances, kept at size.")
out = Console(soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, markup=False, emoji=False)

File = Annotated[str, typer.Argument(help="YAML or JSON: pool items, or a Determined resource_pools list; - is stdin.")]
Stack = Annotated[str | None, typer.Option(help="The stack's name, if it is not spotpools or SPOTPOOLS_STACK.")]


@app.command()
def validate(file: File) -> None:
    """Check the pools of a file; write nothing."""
    entries = _valid(file)
    out.print(f"{len(entries)} valid: {', '.join(entry.name for entry in entries)}", highlight=False)


@app.command()
def apply(file: File, stack: Stack = None) -> None:
    """Write the pools of a file to the Pools table: all of them, or none if one is invalid."""
    entries = _valid(file)
    try:
        tables = find_tables(stack)
        for entry in entries:
            (tables.merge if entry.imported else tables.put)(entry.item)
            out.print(f"applied {entry.name}", highlight=False)
    except AwsFaultError as fault:
        _stop(str(fault), AWS_FAILED)


@app.command(name="list")
def list_pools(stack: Stack = None) -> None:
    """Show every pool: wanted, running, and why the rest waits."""
    try:
        tables = find_tables(stack)
        items, statuses = tables.all_items(), tables.all_statuses()
    except AwsFaultError as fault:
        _stop(str(fault), AWS_FAILED)
    table = Table(Column("pool", no_wrap=True), "wanted", "running", "starting", "noticed", "waiting", "why", box=None)
    for name in sorted({*items, *statuses}):
        table.add_row(_plain(name), *(_plain(cell) for cell in _cells(statuses.get(name))))
    out.print(table)


def _cells(status: Mapping[str, Any] | None) -> list[str]:
    """A status as a row; one that is none, as the control plane's log and alarm say too, says so here."""
    unknown = ["-", "-", "-", "-", ""]
    if status is None:
        return [*unknown, ""]
    try:
        answer = Answer.model_validate(status)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        return [*unknown, f"its PoolStatus item is not as the control plane writes it: {where}: {fault['msg']}"]
    waiting = answer.waiting
    faults = [f"{one.field} = {one.value}: must be {one.rule}" for one in answer.spec_errors]
    why = "; ".join(([f"{waiting.reason}: {waiting.message}"] if waiting else []) + faults)
    sizes = (answer.wanted, answer.running, answer.starting, answer.noticed)
    return [*map(str, sizes), str(waiting.count) if waiting else "", why]


def _valid(file: str) -> list[Entry]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        entries = read_entries(text)
    except OSError as error:
        _stop(f"{file}: {error.strerror}", INVALID)
    except UnicodeDecodeError as error:
        _stop(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8", INVALID)
    except FileFaultError as fault:
        _stop(f"{file}: {fault}", INVALID)
    for entry in entries:
        for name, why in entry.not_applied.items():
            err.print(_plain(f"{entry.name}: {name} is not applied: {why}"), style="yellow", highlight=False)
    faults = [(entry, wrong) for entry in entries for wrong in entry.faults]
    for entry, wrong in faults:
        told = f"{entry.name}: {wrong.field} = {wrong.value}: must be {wrong.rule}. {wrong.remedy}"
        err.print(_plain(told), highlight=False)
    if faults:
        _stop(f"{file}: {len(faults)} fault(s); nothing was written.", INVALID)
    return entries


def _stop(message: str, status: int) -> NoReturn:
    err.print(_plain(message), style="red", highlight=False)
    raise typer.Exit(status)


def _plain(text: str) -> str:
    """Text that can do nothing to a terminal: what is not to be seen is written out."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


if __name__ == "__main__":
    app()
