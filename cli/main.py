"""The commands of ``spotpools`` with their options. The other modules do the work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from cli import (
    bundle,
    changes,
    costs,
    doctor,
    drill,
    explanation,
    explanation_page,
    history,
    listing,
    live_listing,
    pool_edits,
)
from cli.aws_errors import expected_errors
from cli.changes import ApplyOutcome, FaultyFileError
from cli.console_links import console_links
from cli.deployment import Deployment
from cli.exits import MEANING, Exit, ExpectedError
from cli.files import Entry
from cli.item_text import as_plain, as_yaml, ordered
from cli.output import Format, clock, err, out, plain, print_error, print_result
from cli.page import saved
from cli.page.panels import Panels
from cli.page.server import PageServer
from lambdas import __version__
from lambdas.domain.wording import counted, lasting

EXITS = "Exit status:\n\n" + "\n\n".join(f"{int(status)}: {meaning}" for status, meaning in MEANING.items())


EVERY = 5.0
"""Seconds between two looks at a status while a command waits."""

ALIASES = {"drain": "empty"}
"""Earlier names of commands, which still work."""


class Commands(TyperGroup):
    """Ends a command that raises an expected error with one message and its exit status."""

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]  # as below
        """Find a command by its name or its alias."""
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # click's own context, under typer's name
        """Run the command."""
        try:
            with expected_errors():
                return super().invoke(ctx)
        except FaultyFileError as faulty:
            _print_faults(faulty)
            raise typer.Exit(faulty.status) from None
        except ExpectedError as fault:
            print_error(str(fault))
            raise typer.Exit(fault.status) from None
        except KeyboardInterrupt:
            raise typer.Exit(Exit.STOPPED) from None


def _print_faults(faulty: FaultyFileError) -> None:
    for fault in faulty.faults:
        print_error(f"{faulty.file}:{fault.line}: {fault.pool}: {fault.message}", style="")
    print_error(str(faulty))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Keeps pools of EC2 instances at the size you want.",
    epilog=EXITS,
)


def _pool_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return pool names for shell completion, or none if they cannot be read."""
    try:
        with expected_errors():
            names = Deployment(ctx.params.get("stack"), ctx.params.get("region")).pools.names()
    except ExpectedError:
        return []
    return [name for name in names if name.startswith(incomplete)]


File = Annotated[
    str,
    typer.Argument(metavar="FILE", help="YAML or JSON: pool items, or a Determined resource_pools list; - for stdin."),
]
PoolName = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.", autocompletion=_pool_names)]
Stack = Annotated[str | None, typer.Option(help="The stack's name. Default: SPOTPOOLS_STACK, then spotpools.")]
Region = Annotated[
    str | None, typer.Option(help="The stack's Region. Default: AWS_REGION, AWS_DEFAULT_REGION, then the profile's.")
]
Output = Annotated[Format, typer.Option("--output", "-o", help="A table for people, or JSON for programs.")]


def _show_version(wanted: bool) -> None:  # noqa: FBT001  typer passes it by position
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
    """Keeps pools of EC2 instances at the size you want."""


@app.command()
def validate(file: File, output: Output = Format.TABLE) -> None:
    """Check the pools of a file without AWS. Every fault of every pool is reported with its line."""
    try:
        entries = changes.read(file)
    except FaultyFileError as faulty:
        if output is Format.JSON:
            found = {"valid": False, "file": file, "pools": [], "faults": faulty.faults, "remarks": ()}
            print_result(found, "", output)
        raise
    names = [entry.name for entry in entries if not entry.skipped]
    found = {"valid": True, "file": file, "pools": names, "faults": [], "remarks": changes.remarks_on(entries)}
    print_result(found, Text(plain(f"{len(names)} valid: {', '.join(names)}")), output)


@app.command()
def apply(
    file: File,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")] = False,
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Write the pools of a file to the Pools table, and show what changes. If one pool is invalid, none is written.

    Pools that already match the file are left alone, so you can run a stopped apply again. If someone else changes a
    pool at the same time, apply stops and does not overwrite it. Pools that the file does not name stay.
    """
    entries = changes.read(file)
    pools = Deployment(stack, region).pools
    planned = changes.plan(file, entries, pools.all())
    written = 0 if dry_run else changes.write_all(planned, pools)
    applied = ApplyOutcome(dry_run, written, tuple(planned), changes.remarks_on(entries))
    print_result(applied.as_data(), changes.render(applied), output)


@app.command()
def get(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Show a pool's item as YAML. apply accepts the output."""
    item = Deployment(stack, region).pools.get(pool).item
    print_result(as_plain(ordered(item)), Text(as_yaml(item).rstrip()), output)


@app.command()
def edit(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Open a pool's item in $VISUAL or $EDITOR. It is written if it is valid and no one else changed it meanwhile."""

    def ask_again(faulty: FaultyFileError) -> bool:
        _print_faults(faulty)
        return err.is_terminal and typer.confirm("Edit it again?", default=True, err=True)

    changed = pool_edits.edit(Deployment(stack, region).pools, pool, ask_again)
    written = int(changed.change != changes.UNCHANGED)
    applied = ApplyOutcome(
        dry_run=False, written=written, pools=(changed,), remarks=changes.remarks_on([Entry(dict(changed.item))])
    )
    print_result(applied.as_data(), changes.render(applied), output)


@app.command(name="list")
def list_pools(stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Show all pools: wanted, running, ready, waiting, lowest spot price and cap, USD per hour, and what is wrong."""
    data = listing.look(Deployment(stack, region))
    listed = listing.listing_of(data)
    width = out.width if out.is_terminal else listing.WIDE
    print_result(listed, listing.render(listed, data.now, width=width), output)


@app.command(name="watch")
def watch_pools(
    every: Annotated[float, typer.Option(min=1, help="Seconds between two updates.")] = 5,
    times: Annotated[int | None, typer.Option(min=1, help="Exit after this many updates.")] = None,
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the list live until Ctrl-C. As JSON, print one line per update."""
    frames = live_listing.frames(Deployment(stack, region), every=every, times=times)
    live_listing.watch(frames, out, output, typer.echo)


@app.command(name="explain")
def explain_pool(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Explain a pool: what is wanted, what runs where, why the rest waits, what comes next, what you can do.

    It reads EC2 with your own credentials and changes nothing.
    """
    explained = explanation.explain(explanation.look(Deployment(stack, region), pool))
    print_result(explained, explanation_page.render(explained), output)


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
    """Show what was decided for a pool and why, from the functions' logs. Equal decisions in a row are merged."""
    back = history.span(since)
    found = history.look(Deployment(stack, region), pool, since=datetime.now(UTC) - back, most=most)
    print_result(found, history.render(found), output)


@app.command(name="page")
def serve_page(
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port. 0 is a free one.")] = 0,
    file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write one HTML file that needs no command, and exit.")
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POOL",
            help="With --out: a pool whose own page is in the file; can be repeated. Default: the list's first 20.",
            autocompletion=_pool_names,
        ),
    ] = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Show all pools in a browser, live until Ctrl-C: sizes over time, why they wait, prices against caps, decisions.

    The page is served on 127.0.0.1 only, so only programs of this machine reach it. It reads AWS with your own
    credentials and changes nothing. A part that AWS refuses says why; the others stay.
    """
    deployment = Deployment(stack, region)
    panels, table = Panels(deployment), deployment.pools.table
    if file is not None:
        pools = counted(saved.write(panels, file, pool or ()), "pool")
        out.print(plain(f"{file} has the list of table {table} and the own pages of {pools}."))
        return
    with PageServer(panels, port) as server:
        panels.answer("fleet")  # the first answer is slow: it makes the clients and asks for all prices
        out.print(plain(f"{server.url} shows the pools of table {table}. Ctrl-C ends it."))
        server.serve_forever()


@app.command()
def scale(
    pool: PoolName,
    size: Annotated[int, typer.Argument(metavar="SIZE", min=0, help="The new target_size.")],
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Set a pool's target_size. Refused if the size is not valid, or if a schedule sets it."""
    _print_outcome(pool_edits.scale(Deployment(stack, region).pools, pool, size), output)


@app.command()
def pause(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Stop changing a pool until resume. It is still observed and reported."""
    _print_outcome(pool_edits.pause(Deployment(stack, region).pools, pool), output)


@app.command()
def resume(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """End a pause: the pool returns to its size."""
    _print_outcome(pool_edits.resume(Deployment(stack, region).pools, pool), output)


@app.command()
def empty(pool: PoolName, stack: Stack = None, region: Region = None, output: Output = Format.TABLE) -> None:
    """Set a pool's sizes to zero and keep its item. Refused if a schedule would bring instances back.

    Its earlier name drain still works.
    """
    _print_outcome(pool_edits.empty(Deployment(stack, region).pools, pool), output)


@app.command()
def delete(
    pool: PoolName,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the pool's instances have ended.")] = False,
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Delete a pool's item. Its instances are terminated after the grace period, except protected ones.

    The item is printed as a file for apply: apply it within the grace period, and the instances stay.
    """
    deployment = Deployment(stack, region)
    grace = lasting(timedelta(seconds=deployment.settings.drain_grace_seconds))
    item = pool_edits.delete(deployment.pools, pool).item
    print_result(as_plain(ordered(item)), Text(as_yaml(item).rstrip()), output)
    print_error(f"{pool} is deleted: its instances are terminated in {grace}. To keep them, apply the item.", "yellow")
    if wait:
        stores = deployment.pools, deployment.statuses, deployment.fleet()
        pool_edits.wait_until_gone(*stores, pool, every=EVERY, say=lambda text: print_error(text, "dim"))
        print_error(f"{pool} is gone.", "green")


def _print_outcome(changed: pool_edits.EditOutcome, output: Format) -> None:
    if changed.advice:
        print_error(changed.advice, style="yellow")
    already = "" if changed.change == changes.CHANGED else "already "
    print_result(changed, Text(plain(f"{changed.pool} is {already}{changed.message}.")), output)


@app.command(name="drill")
def drill_pool(
    pool: PoolName,
    *,
    count: Annotated[int, typer.Option(min=1, help="How many running spot instances to interrupt.")] = 1,
    role_arn: Annotated[
        str | None,
        typer.Option(
            envvar="SPOTPOOLS_DRILL_ROLE_ARN",
            help="On AWS: the role of the experiment. It trusts fis.amazonaws.com and allows ec2:DescribeInstances and "
            "ec2:SendSpotInstanceInterruptions.",
        ),
    ] = None,
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Interrupt instances of a pool as EC2 does, to test that they are replaced and that the workload survives.

    On AWS a drill is an experiment of the Fault Injection Service, billed per minute and action. On the local cloud
    the market interrupts. The instances get their notice at once and are terminated two minutes later.
    """
    started = drill.start(Deployment(stack, region), pool, count=count, role_arn=role_arn)
    experiment = f" (experiment {started.experiment})" if started.experiment else ""
    text = (
        f"{started.by}{experiment} interrupts {', '.join(started.instances)} at {clock(datetime.now(UTC))}. "
        f"Follow it with: spotpools explain {pool}"
    )
    print_result(started, Text(plain(text)), output)


@app.command(name="cost")
def cost_of(
    *,
    pools: Annotated[int, typer.Option(min=0, help="How many pools.")],
    waiting: Annotated[int, typer.Option(min=0, help="How many of them wait for capacity, all month.")] = 0,
    output: Output = Format.TABLE,
) -> None:
    """Calculate what the control plane costs a month, without its instances. It needs no account."""
    found = costs.cost(pools, waiting)
    print_result(found, costs.render(found), output)


@app.command(name="doctor")
def examine(
    *,
    file: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE.zip",
            help="Also write what helps others to help you: checks, items, statuses, alarms and log lines of the last "
            "hour, without user_data, drain commands, e-mail addresses, access keys and account numbers.",
        ),
    ] = None,
    stack: Stack = None,
    region: Region = None,
    output: Output = Format.TABLE,
) -> None:
    """Check a deployment. Each finding has its remedy. The exit status is 1 if a check fails."""
    deployment = Deployment(stack, region)
    checks = doctor.examine(deployment)
    links = console_links(deployment) if all(one.state is not doctor.State.FAIL for one in checks[:2]) else {}
    print_result({"checks": checks, "links": links}, doctor.render(checks, links), output)
    if file is not None:
        written = bundle.write(deployment, checks, file)
        print_error(f"{written.file} has {len(written.parts)} files. Read them before you send it to others.", "yellow")
    if any(one.state is doctor.State.FAIL for one in checks):
        raise typer.Exit(Exit.INVALID)


if __name__ == "__main__":
    app(prog_name="spotpools")
