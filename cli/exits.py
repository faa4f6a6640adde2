"""How a command ends: one exit status for each kind of end, and the expected faults that lead there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses. The table in docs/commands.md and the help are made from ``MEANING``."""

    DONE = 0
    INVALID = 1
    USAGE = 2
    AWS = 3
    NO_POOL = 4
    CHANGED = 5
    STOPPED = 130


MEANING = {
    Exit.DONE: "It is done, or there was nothing to do.",
    Exit.INVALID: "The input is wrong, or what was asked would do no good; nothing was written. For doctor: a check "
    "failed.",
    Exit.USAGE: "The command was called wrongly: an unknown option, a missing argument.",
    Exit.AWS: "AWS did not do it: credentials, Region, stack, a missing right, no connection. The message says which.",
    Exit.NO_POOL: "There is no such pool.",
    Exit.CHANGED: "Somebody else changed the item meanwhile; it was left as it is. Run the command again.",
    Exit.STOPPED: "It was stopped with Ctrl-C. What was written so far stays; apply goes on where it was stopped.",
}


class ExpectedError(Exception):
    """An expected end of a command: one message that says what to do next, and no traceback."""

    status = Exit.INVALID


class RefusedError(ExpectedError):
    """The input is wrong, or what was asked would do no good."""


class AwsFaultError(ExpectedError):
    """AWS did not do what was asked."""

    status = Exit.AWS


class ChangedMeanwhileError(ExpectedError):
    """Somebody else changed an item between our look and our write."""

    status = Exit.CHANGED

    def __init__(self, pool_name: str) -> None:
        super().__init__(f"Pool {pool_name} was changed by somebody else meanwhile and is left as it is; run it again.")


class NoSuchPoolError(ExpectedError):
    """There is no pool of this name."""

    status = Exit.NO_POOL

    def __init__(self, pool_name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        nearest = difflib.get_close_matches(pool_name, names, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(nearest)}?" if nearest else "See those that there are: spotpools list"
        super().__init__(f"There is no pool {pool_name}. {hint}")
