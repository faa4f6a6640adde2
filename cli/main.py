"""Commands: apply and validate pool items, list pools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Column, Table

from cli.files import Entry, FileFaultError, read_entries
from cli.tables import AwsFaultError, find_tables

INVALID, AWS_FAILED = 1, 3
"""Exit statuses: the input is wrong (nothing was written); AWS did not do it. 2 is wrong usage."""

app = typer.Typer(no_args_is_help=True, add_completion=True, help="Pools of EC2 instances, kept at size.")
out = Console(soft_wrap=True, markup=False)
err = Console(stderr=True, soft_wrap=True, markup=False)

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
        status = statuses.get(name, {})
        sizes = [str(status.get(key, "-")) for key in ("wanted", "running", "starting", "noticed")]
        waiting = status.get("waiting", {})
        faults = [f"{one['field']} = {one['value']}: must be {one['rule']}" for one in status.get("spec_errors", [])]
        why = "; ".join(([f"{waiting['reason']}: {waiting['message']}"] if waiting else []) + faults)
        table.add_row(name, *sizes, str(waiting.get("count", "")), why)
    out.print(table)


def _valid(file: str) -> list[Entry]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        entries = read_entries(text)
    except OSError as error:
        _stop(f"{file}: {error.strerror}", INVALID)
    except (FileFaultError, UnicodeDecodeError) as fault:
        _stop(f"{file}: {fault}", INVALID)
    for entry in entries:
        for name, why in entry.not_applied.items():
            err.print(f"{entry.name}: {name} is not applied: {why}", style="yellow", highlight=False)
    faults = [(entry, wrong) for entry in entries for wrong in entry.faults]
    for entry, wrong in faults:
        err.print(f"{entry.name}: {wrong.field} = {wrong.value}: must be {wrong.rule}. {wrong.remedy}", highlight=False)
    if faults:
        _stop(f"{file}: {len(faults)} fault(s); nothing was written.", INVALID)
    return entries


def _stop(message: str, status: int) -> NoReturn:
    err.print(message, style="red", highlight=False)
    raise typer.Exit(status)


if __name__ == "__main__":
    app()
