"""The message that an alarm sends to people: which pools, how many are missing, why, what comes next, what to do.

All pools with the same trouble are in one message. It says what PoolStatus says when it is sent: a pool that has
recovered by then is shown as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from lambdas.domain.alarm.names import OF_POOLS, OWN_ALARM, Severity, covers, severity, troubles_under
from lambdas.domain.guide import GUIDE, OF_A_REASON, Advice, Trouble
from lambdas.domain.item.fields import bounded
from lambdas.domain.model.status import Answer, Reason, RolloutState, Status, Waiting, reason_of_trouble
from lambdas.domain.wording import counted, lasting

SUBJECT = 99
"""Characters: SNS takes fewer than 100, in ASCII and on one line."""

SHOWN_POOLS = 20
SHOWN_FAULTS = 5
LATELY = timedelta(minutes=15)
"""An alarm comes within minutes of what it is about, and so does the end of one."""

QUOTED = 600
"""Characters of a reason's message: a message of 20 pools stays far below the 256 KB that SNS takes."""


@dataclass(frozen=True)
class Change:
    """A change of an alarm: its trouble, and the pools of which it says so (empty: it names none).

    ``about`` is a function or a queue, ``over`` whether the trouble has ended, ``said`` CloudWatch's own words,
    ``patience`` how long the trouble must last before the alarm.
    """

    trouble: Trouble
    over: bool
    at: datetime
    pools: tuple[str, ...] = ()
    about: str = ""
    said: str = ""
    patience: timedelta = timedelta(0)

    def ended(self, status: Status) -> list[str]:
        """The troubles of a pool that ended just now and that the alarm is about.

        None as long as the pool is still in one. A trouble that was far too short for the alarm is none of them. Half
        of the patience counts as long: the alarm counts from the beginning of the shortfall, whose reason may have
        changed.
        """
        memory = status.memory
        if troubles_under(self.trouble, status):
            return []
        return [
            name
            for name, at in memory.over.items()
            if covers(self.trouble, name)
            and self.at - at < LATELY
            and (name not in memory.begun or at - memory.begun[name] >= self.patience / 2)
        ]


@dataclass(frozen=True)
class Links:
    """Where a message sends people. ``runbook`` is a path or a URL, ``dashboard`` a URL."""

    runbook: str
    dashboard: str


@dataclass(frozen=True)
class Message:
    """A message to people, as plain text."""

    subject: str
    body: str
    severity: Severity


def message(
    change: Change, statuses: Mapping[str, Status | None], *, stack: str, links: Links, now: datetime
) -> Message:
    """The message about a change. A status is None if it cannot be read; a pool without one was deleted."""
    pools = change.pools or _pools_in(change, statuses, now)
    if change.over:
        title, blocks = _over(change, pools, statuses)
    else:
        title, blocks = _begun(change, pools, statuses, now)
    level = severity(change.trouble)
    lines = [*blocks, *_more(pools), *_advice(change, pools, statuses), *_links(change, links)]
    return Message(_subject(f"[{'over' if change.over else level}] {stack}: {title}"), "\n".join(lines) + "\n", level)


def _pools_in(change: Change, statuses: Mapping[str, Status | None], now: datetime) -> tuple[str, ...]:
    """The pools that an alarm is about, where the alarm itself names none."""
    trouble, names = change.trouble, []
    for name, status in sorted(statuses.items()):
        if status is None:
            found = trouble is Trouble.STATUS_UNREADABLE and not change.over
        elif change.over:
            found = bool(change.ended(status))
        else:
            found = bool(troubles_under(trouble, status)) or _was_refused(trouble, status, now)
        if found:
            names.append(name)
    return tuple(names)


def _was_refused(trouble: Trouble, status: Status, now: datetime) -> bool:
    if trouble is Trouble.INTERRUPTIONS:
        return status.answer.noticed > 0
    error = status.answer.last_error
    refused = trouble in (Trouble.TERMINATIONS_REFUSED, Trouble.DRAINS_REFUSED)
    return refused and error is not None and now - error.at < LATELY


def _begun(
    change: Change, pools: Sequence[str], statuses: Mapping[str, Status | None], now: datetime
) -> tuple[str, list[str]]:
    if not pools:
        return _alarm(change), [f"CloudWatch: {change.said}", ""]
    heads = {name: _head(change, name, statuses.get(name)) for name in pools}
    title = heads[pools[0]] if len(pools) == 1 else f"{len(pools)} pools: {_words(change.trouble)}"
    blocks = [line for name in pools[:SHOWN_POOLS] for line in _block(change, name, heads[name], statuses, now)]
    return title, blocks


def _head(change: Change, name: str, status: Status | None) -> str:
    """One line about a pool in trouble."""
    if status is None:
        return f"the status of {name} cannot be read" if change.trouble is Trouble.STATUS_UNREADABLE else name
    if change.trouble is Trouble.ITEM_INVALID:
        faults = len(status.answer.spec_errors)
        return f"{name}: its item has {counted(faults, 'fault')}" if faults else f"{name}: its item is valid again"
    return _size(name, status.answer) if change.trouble in OF_POOLS else f"{name}: {_words(change.trouble)}"


def _size(name: str, answer: Answer) -> str:
    if answer.waiting is not None:
        return f"{name} lacks {answer.waiting.count} of {answer.wanted}: {answer.waiting.reason}"
    if answer.rollout is not None and answer.rollout.state is RolloutState.STOPPED:
        return f"the rolling update of {name} has stopped"
    if answer.running < answer.wanted:
        return f"{name} runs {answer.running} of {answer.wanted}: the others have not started"
    return f"{name} has recovered: it runs {answer.running} of {answer.wanted}"


def _block(change: Change, name: str, head: str, statuses: Mapping[str, Status | None], now: datetime) -> Iterator[str]:
    yield head
    status = statuses.get(name)
    if status is not None:
        answer = status.answer
        if change.trouble is Trouble.ITEM_INVALID:
            for fault in answer.spec_errors[:SHOWN_FAULTS]:
                yield f"  {fault.field} = {bounded(fault.value, QUOTED)}: {fault.rule}. {fault.remedy}"
        elif change.trouble in OF_POOLS and answer.waiting is not None:
            yield from _waiting(answer.waiting, now)
        elif answer.rollout is not None and answer.rollout.state is RolloutState.STOPPED:
            yield f"  Why:   {bounded(answer.rollout.message, QUOTED)}"
        if change.trouble not in OF_POOLS:
            yield f"  CloudWatch: {bounded(change.said, QUOTED)}"
            if answer.last_error is not None and change.trouble is not Trouble.INTERRUPTIONS:
                error = answer.last_error
                yield f"  Error: {error.code}: {bounded(error.message, QUOTED)} ({_at(error.at, now)})"
    yield ""


def _waiting(waiting: Waiting, now: datetime) -> Iterator[str]:
    yield f"  Since: {_at(waiting.since, now)}"
    yield f"  Why:   {bounded(waiting.message, QUOTED)}"
    until = waiting.next_attempt_at
    when = f"at {_clock(until)}, in {lasting(until - now)}" if until > now else "now"
    yield f"  Next:  it tries again {when} ({counted(waiting.attempts, 'launch', 'launches')} so far)"


def _over(change: Change, pools: Sequence[str], statuses: Mapping[str, Status | None]) -> tuple[str, list[str]]:
    words = _words(change.trouble)
    if not pools:
        return f"{_alarm(change)} is over", [f"CloudWatch: {change.said}", ""]
    lasted = {name: _lasted(change, status) for name in pools if (status := statuses.get(name)) is not None}
    first = pools[0]
    if len(pools) > 1:
        title = f"{len(pools)} pools: {words} is over"
    elif first not in statuses:
        title = f"{first} was deleted: {words} is over"
    else:
        title = f"{first}: {words} is over{lasted.get(first, '')}"
    return title, [line for name in pools[:SHOWN_POOLS] for line in _end(name, statuses, lasted)]


def _end(name: str, statuses: Mapping[str, Status | None], lasted: Mapping[str, str]) -> Iterator[str]:
    if name not in statuses:
        yield f"{name}: the pool was deleted, and nothing of it is left."
    elif (status := statuses[name]) is None:
        yield f"{name}: its status cannot be read."
    else:
        answer, reason = status.answer, reason_of_trouble(status.answer)
        starting = f", {answer.starting} more are starting" if answer.starting else ""
        lacking = f", {answer.waiting.count} are missing for another reason: {reason}" if answer.waiting else ""
        yield f"{name}: over{lasted[name]}. It runs {answer.running} of {answer.wanted}{starting}{lacking}."
    yield ""


def _lasted(change: Change, status: Status) -> str:
    memory = status.memory
    spans = [memory.over[name] - memory.begun[name] for name in change.ended(status) if name in memory.begun]
    return f" after {lasting(max(spans))}" if spans else ""


def _more(pools: Sequence[str]) -> Iterator[str]:
    if rest := pools[SHOWN_POOLS:]:
        yield f"And {len(rest)} more: {bounded(', '.join(rest), QUOTED)}"
        yield ""


def _advice(change: Change, pools: Sequence[str], statuses: Mapping[str, Status | None]) -> Iterator[str]:
    if change.over:
        return
    found = GUIDE[_cause(change, pools, statuses)]
    yield f"Means: {found.means}"
    yield f"Does:  {found.does}"
    yield f"Do:    {found.do}"
    yield from _look(found, pools)


def _look(found: Advice, pools: Sequence[str]) -> Iterator[str]:
    if found.look:
        commands = " or ".join(command.format(pool=pools[0] if pools else "POOL") for command in found.look)
        yield f"Look:  {commands}"


def _cause(change: Change, pools: Sequence[str], statuses: Mapping[str, Status | None]) -> Trouble:
    """The trouble whose advice helps: where an alarm covers several reasons, that of the first pool's reason."""
    known = [status for name in pools if (status := statuses.get(name)) is not None]
    reasons = [found for status in known if isinstance(found := reason_of_trouble(status.answer), Reason)]
    several = change.trouble in (Trouble.BELOW_TARGET, Trouble.WAITING_LONG)
    return OF_A_REASON[reasons[0]] if several and reasons else change.trouble


def _links(change: Change, links: Links) -> Iterator[str]:
    yield f"Runbook: {links.runbook}#{change.trouble}"
    yield f"Dashboard: {links.dashboard}"


def _alarm(change: Change) -> str:
    """The trouble, and the function or queue that has it."""
    return f"{_words(change.trouble)} ({change.about})" if change.about else _words(change.trouble)


def _words(trouble: Trouble) -> str:
    return OWN_ALARM.get(trouble, trouble.value.replace("-", " "))


def _subject(text: str) -> str:
    plain = "".join(one if one.isprintable() else " " for one in text.encode("ascii", "replace").decode())
    return plain if len(plain) <= SUBJECT else f"{plain[: SUBJECT - 3]}..."


def _at(moment: datetime, now: datetime) -> str:
    return f"{moment:%Y-%m-%d} {_clock(moment)} ({lasting(now - moment)} ago)"


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
