"""Declares the commands; what they do stands in the module of each subject."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from cli import apply as applying
from cli import change, doctor, drill, explain, history, show, story, watch
from cli.apply import Applied, FaultyFileError
from cli.deployment import Deployment
from cli.exits import MEANING, Exit, ExpectedError
from cli.faults import told_plainly
from cli.files import Entry
from cli.items import as_plain, as_yaml, ordered
from cli.output import Format, clock, complain, err, out, plain
from cli.output import show as put_out
from lambdas import __version__

EXITS = "Exit status:\n\n" + "\n\n".join(f"{int(status)}: {meaning}" for status, meaning in MEANING.items())


class Commands(TyperGroup):
    """Ends every command that meets an expected fault with one message and its exit status."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # click's own context, under typer's name
        """Run the command."""
        try:
            with told_plainly():
                return super().invoke(ctx)
        except FaultyFileError as faulty:
            _tell_faults(faulty)
            raise typer.Exit(faulty.status) from None
        except ExpectedError as fault:
            complain(str(fault))
            raise typer.Exit(fault.status) from None
        except KeyboardInterrupt:
            raise typer.Exit(Exit.STOPPED) from None


def _tell_faults(faulty: FaultyFileError) -> None:
    for fault in faulty.faults:
        complain(f"{faulty.file}:{fault.line}: {fault.pool}: {fault.message}", style="")
    complain(str(faulty))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Pools of EC2 instances, kept at size.",
    epilog=EXITS,
)


def _pool_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names for the shell to complete; none if they cannot be had."""
    try:
        with told_plainly():
            names = Deployment(ctx.params.get("stack"), ctx.params.get("region")).pools.names()
    except ExpectedError:
        return []
    return [name for name in names if name.startswith(incomplete)]


File = Annotated[
    str,
    typer.Argument(metavar="FILE", help="YAML or JSON: pool items, or a Determined resource_pools list; - is stdin."),
]
PoolName = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.", autocompletion=_pool_names)]
Stack = Annotated[str | None, typer.Option(help="The stack's name, if it is not SPOTPOOLS_STACK or spotpools.")]
Region = Annotated[
    str | None, typer.Option(help="The stack's Region, if it is not AWS_REGION, AWS_DEFAULT_REGION or the profile's.")
]
Output = Annotated[Format, typer.Option("--output", "-o", help="A table for people, or JSON for programs.")]


def _show_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it so
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def spotpools(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Pools of EC2 instances, kept at size."""


@app.command()
def validate(file: File, output: Output = Format.TABLE) -> None:
    """Check the pools of a file, without AWS; every fault of every pool is told with its line."""
    try:
        entries = applying.read(file)
    except FaultyFileError as faulty:
        if output is Format.JSON:
            put_out({"valid": False, "file": file, "pools": [], "faults": faulty.faults, "remarks": []}, "", output)
        raise
    names = [entry.name for entry in entries if not entry.skipped]
    found = {"valid": True, "file": file, "pools": names, "faults": [], "remarks": applying.told(entries)}
    put_out(found, Text(plain(f"{len(names)} valid: {', '.join(names)}")), output)


@app.command()
def apply(
    file: File,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")] = False,
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Write the pools of a file to the Pools table, and show what changes: all are valid, or none is written.

    Pools that are already as the file says are left alone, so an apply that was stopped goes on where it was. A pool
    that somebody else changes meanwhile is left as it is. Pools that the file does not name stay.
    """
    entries = applying.read(file)
    pools = Deployment(stack, region).pools
    changes = applying.plan(file, entries, pools.all())
    written = 0 if dry_run else applying.write_all(changes, pools)
    applied = Applied(dry_run, written, tuple(changes), applying.told(entries))
    put_out(applied.as_data(), applying.render(applied), output)


@app.command()
def get(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Show a pool's item as YAML, which apply takes."""
    item = Deployment(stack, region).pools.get(pool).item
    put_out(as_plain(ordered(item)), Text(as_yaml(item).rstrip()), output)


@app.command()
def edit(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Open a pool's item in $VISUAL or $EDITOR; write it when it is valid and nobody else has changed it meanwhile."""

    def again(faulty: FaultyFileError) -> bool:
        _tell_faults(faulty)
        return err.is_terminal and typer.confirm("Edit it again?", default=True, err=True)

    changed = change.edit(Deployment(stack, region).pools, pool, again)
    written = int(changed.change != applying.UNCHANGED)
    applied = Applied(
        dry_run=False, written=written, pools=(changed,), remarks=applying.told([Entry(dict(changed.item))])
    )
    put_out(applied.as_data(), applying.render(applied), output)


@app.command(name="list")
def list_pools(stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Show every pool: wanted, running, ready, waiting and why, the lowest spot price against the cap, USD an hour."""
    seen = show.look(Deployment(stack, region))
    listed = show.listing(seen)
    put_out(listed, show.render(listed, seen.now), output)


@app.command(name="watch")
def watch_pools(
    every: Annotated[float, typer.Option(min=1, help="Seconds between two updates.")] = 5,
    times: Annotated[int | None, typer.Option(min=1, help="Exit after this many updates.")] = None,
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the list, live, until Ctrl-C; as JSON, one line a look."""
    watch.watch(watch.frames(Deployment(stack, region), every=every, times=times), out, output, typer.echo)


@app.command(name="explain")
def explain_pool(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Tell a pool's story: what is wanted, what runs where, why the rest waits, what comes next, what you can do.

    It looks at EC2 with your own credentials and changes nothing.
    """
    told = explain.tell(explain.look(Deployment(stack, region), pool))
    put_out(told, story.render(told), output)


@app.command(name="history")
def history_of(
    pool: PoolName,
    *,
    since: Annotated[str, typer.Option(help="How far back: a number and a unit, such as 90m, 6h or 2d.")] = "1h",
    most: Annotated[int, typer.Option(min=1, help="Show this many of the newest decisions.")] = 50,
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what was decided for a pool and why, from the functions' logs; decisions alike in a row as one."""
    back = history.span(since)
    found = history.look(Deployment(stack, region), pool, since=datetime.now(UTC) - back, most=most)
    put_out(found, history.render(found), output)


@app.command()
def pause(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Observe and report a pool, and change nothing, until resume."""
    _tell_changed(change.pause(Deployment(stack, region).pools, pool), output)


@app.command()
def resume(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """End a pause: the pool is brought to its size again."""
    _tell_changed(change.resume(Deployment(stack, region).pools, pool), output)


@app.command()
def drain(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Set a pool's sizes to zero and keep its item; refused if a schedule would bring instances back."""
    _tell_changed(change.drain(Deployment(stack, region).pools, pool), output)


def _tell_changed(changed: change.Changed, output: Format) -> None:
    if changed.advice:
        complain(changed.advice, style="yellow")
    note = "" if changed.change == applying.CHANGED else " (already so)"
    put_out(changed, Text(plain(f"{changed.pool} is {changed.message}{note}.")), output)


@app.command(name="drill")
def drill_pool(
    pool: PoolName,
    *,
    count: Annotated[int, typer.Option(min=1, help="How many running spot instances to interrupt.")] = 1,
    role_arn: Annotated[
        str | None,
        typer.Option(
            envvar="SPOTPOOLS_DRILL_ROLE_ARN",
            help="On AWS: the role of the experiment; it trusts fis.amazonaws.com and allows ec2:DescribeInstances and "
            "ec2:SendSpotInstanceInterruptions.",
        ),
    ] = None,
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Interrupt instances of a pool as EC2 would, to see that they are replaced and that the workload stands it.

    On AWS it is an experiment of the Fault Injection Service, which is billed by the minute and action; on the local
    cloud the market does it. The instances get their notice at once and go two minutes later.
    """
    ordered_ = drill.start(Deployment(stack, region), pool, count=count, role_arn=role_arn)
    experiment = f" (experiment {ordered_.experiment})" if ordered_.experiment else ""
    text = (
        f"{ordered_.by}{experiment} interrupts {', '.join(ordered_.instances)} at {clock(datetime.now(UTC))}. "
        f"Follow it with: spotpools explain {pool}"
    )
    put_out(ordered_, Text(plain(text)), output)


@app.command(name="doctor")
def examine(stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Check that a deployment can do its work; each finding with its remedy. The exit status is 1 if a check fails."""
    checks = doctor.examine(Deployment(stack, region))
    put_out({"checks": checks}, doctor.render(checks), output)
    if any(one.state is doctor.State.FAIL for one in checks):
        raise typer.Exit(Exit.INVALID)


if __name__ == "__main__":
    app(prog_name="spotpools")
