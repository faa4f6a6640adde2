"""What ``explain`` says, part by part: for the terminal here, and for the page in the browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from cli.explanation import Explanation, Member
from cli.files import in_words
from cli.output import ago, clock, is_younger, plain
from lambdas.domain.wording import counted

LABEL_WIDTH = 13
READY = "ready"


class Kind(StrEnum):
    """What a part is: a title, a labelled line, a heading, a text below one of these, the instances, or a note."""

    TITLE = "title"
    LINE = "line"
    HEAD = "head"
    ITEM = "item"
    INSTANCES = "instances"
    NOTE = "note"


@dataclass(frozen=True)
class Part:
    """One part. ``style`` is a colour of the terminal: yellow for trouble, red for a fault, green for a remedy."""

    kind: Kind
    text: str = ""
    label: str = ""
    style: str = ""


def render(explanation: Explanation) -> RenderableType:
    """Render an explanation: what is wanted, what runs, why the rest waits, what comes next, what to do."""
    return Group(*(_drawn(part, explanation) for part in parts(explanation)))


def _drawn(part: Part, explanation: Explanation) -> RenderableType:
    text = plain(part.text)
    match part.kind:
        case Kind.TITLE:
            return Text(text, style="bold")
        case Kind.HEAD:
            return Text(f"\n{text}", style="bold")
        case Kind.LINE:
            line = Table.grid(Column(width=LABEL_WIDTH, style="bold"), Column(overflow="fold"))
            line.add_row(part.label, Text(text, style=part.style))
            return line
        case Kind.ITEM:
            return _indented(Text(text, style=part.style))
        case Kind.INSTANCES:
            return _indented(_instances(explanation))
        case Kind.NOTE:
            return Text(text, style=part.style)


def parts(explanation: Explanation) -> Iterator[Part]:
    """Yield all parts in their order. Texts are as AWS and the items have them: make them ``plain`` to show them."""
    yield Part(Kind.TITLE, explanation.pool)
    yield _line("Wanted", f"{explanation.wanted.count}, by {explanation.wanted.by}")
    there = f"{explanation.running} running ({explanation.ready} ready), {explanation.starting} starting"
    there += f", {explanation.noticed} under notice"
    yield _line("Instances", f"{there}, {explanation.on_demand} of them on demand" if explanation.on_demand else there)
    if explanation.paused:
        yield _line("Paused", "it is observed and reported, but not changed", "yellow")
    if explanation.draining_since:
        end = f"; instances are terminated at {clock(explanation.drain_at)}" if explanation.drain_at else ""
        yield _line("Draining", f"since {clock(explanation.draining_since)}{end}", "yellow")
    if explanation.tick_silent_since:
        silence = ago(explanation.tick_silent_since, explanation.at)
        yield _line("Tick", f"stopped for {silence}: only edits and notices are handled", "red")
    yield from _troubles(explanation)
    if explanation.instances:
        yield _head("What runs where")
        yield Part(Kind.INSTANCES)
    yield from _course(explanation)
    for advice in explanation.advice:
        yield _head(f"About {advice.what}")
        yield _item(f"{advice.means} {advice.does}")
        yield _item(f"You can: {advice.do}", "green")
    for note in explanation.notes:
        yield Part(Kind.NOTE, note, style="yellow")
    if explanation.links:
        yield _head("In the AWS console")
    for name, address in explanation.links.items():
        yield _item(f"{name}: {address}", "dim")


def _troubles(explanation: Explanation) -> Iterator[Part]:
    if waiting := explanation.waiting:
        began = explanation.reason_since or waiting.since
        since = f" for {ago(began, explanation.at)}" if is_younger(began, waiting.since) else ""
        text = f"{waiting.count} for {ago(waiting.since, explanation.at)}: {waiting.reason}{since}"
        yield _line("Waiting", text, "yellow")
        yield _item(waiting.message)
        ahead = waiting.next_attempt_at > explanation.at and not explanation.tick_silent_since
        when = f"in {ago(waiting.next_attempt_at, explanation.at)}" if ahead else _next_look(explanation)
        launches = counted(waiting.attempts, "launch", "launches")
        yield _item(f"Since {clock(waiting.since)}; {launches} tried; next try {when}.")
    for fault in explanation.spec_errors:
        yield _line("Item invalid", in_words(fault), "red")
    # EC2's own words are shown, unless the reason for waiting already quotes them.
    if (error := explanation.last_error) and not (waiting and (error.message or error.code) in waiting.message):
        yield _line("Last error", f"{error.code}, {ago(error.at, explanation.at)} ago: {error.message}")


def _next_look(explanation: Explanation) -> str:
    return "when the tick runs again" if explanation.tick_silent_since else "with the next tick, within a minute"


def _course(explanation: Explanation) -> Iterator[Part]:
    if rollout := explanation.rollout:
        yield _line("Rollout", f"{rollout.state}: {rollout.outdated} outdated, {rollout.updated} updated")
        yield _item(rollout.message)
    if replacing := explanation.replacing:
        why = f": {replacing.reason}" if replacing.reason else ""
        yield _line("Replacing", f"{replacing.count}{why}", "yellow" if replacing.reason else "")
        at = replacing.next_attempt_at
        again = f" Next try in {ago(at, explanation.at)}." if at and at > explanation.at else ""
        yield _item(replacing.message + again)
    for drained in explanation.drains[-3:]:
        yield _line("Drained", f"{drained.instance_id}, {ago(drained.at, explanation.at)} ago: {drained.status}")
    if explanation.next is None:
        return
    yield _head("What the next reconcile would do")
    for step in explanation.next.steps:
        yield _item(step, "cyan")
    if explanation.waiting and explanation.waiting.message in explanation.next.otherwise:
        rest = "The rest waits for the next try." if explanation.next.steps else "Nothing before the next try."
        yield _item(rest)
    elif explanation.next.otherwise:
        yield _item(explanation.next.otherwise)
    if explanation.next.due:
        yield _item(f"It runs {_next_look(explanation)}: {explanation.next.due}.")


def _instances(explanation: Explanation) -> Table:
    others = (Column(name, overflow="fold") for name in ("type", "zone", "market", "age", "state", ""))
    # An id that is cut cannot be copied.
    table = Table(Column("instance", no_wrap=True), *others, box=None, header_style="dim", pad_edge=False)
    for instance in explanation.instances:
        table.add_row(
            plain(instance.id),
            plain(instance.instance_type),
            plain(instance.zone),
            instance.market,
            ago(instance.launched_at, explanation.at),
            _state(instance),
            plain("; ".join(instance.notes)),
        )
    return table


def state(instance: Member) -> str:
    """Write an instance's state; one that runs may not be ready yet."""
    if instance.ready:
        return READY
    return "running, not ready" if instance.state == "running" else instance.state


def _state(instance: Member) -> Text:
    return Text(plain(state(instance)), style="green" if instance.ready else "yellow")


def _head(text: str) -> Part:
    return Part(Kind.HEAD, text)


def _line(label: str, text: str, style: str = "") -> Part:
    return Part(Kind.LINE, text, label, style)


def _item(text: str, style: str = "") -> Part:
    return Part(Kind.ITEM, text, style=style)


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)
