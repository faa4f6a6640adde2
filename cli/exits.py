"""Exit statuses of the command, and the expected errors that lead to them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses. ``MEANING`` makes the table in docs/commands.md and the help."""

    DONE = 0
    INVALID = 1
    USAGE = 2
    AWS = 3
    NO_POOL = 4
    CHANGED = 5
    STOPPED = 130


MEANING = {
    Exit.DONE: "Success, or there was nothing to do.",
    Exit.INVALID: "The input is wrong, or the request makes no sense; nothing was written. Doctor: a check failed.",
    Exit.USAGE: "Wrong usage: an unknown option or a missing argument.",
    Exit.AWS: "AWS refused or did not answer: credentials, Region, stack, permission or connection. Read the message.",
    Exit.NO_POOL: "The pool does not exist.",
    Exit.CHANGED: "Someone else changed the item at the same time; nothing was written. Run the command again.",
    Exit.STOPPED: "Stopped with Ctrl-C. What was written stays; run apply again to continue.",
}


class ExpectedError(Exception):
    """An expected error: one message that says what to do next, without a traceback."""

    status = Exit.INVALID


class RefusedError(ExpectedError):
    """The input is wrong, or the request makes no sense."""


class AwsFaultError(ExpectedError):
    """AWS refused a request or did not answer."""

    status = Exit.AWS


class ChangedMeanwhileError(ExpectedError):
    """Another user changed the item after the command read it and before it wrote."""

    status = Exit.CHANGED

    def __init__(self, pool_name: str) -> None:
        super().__init__(
            f"Pool {pool_name} was changed by someone else at the same time. Nothing was written; run the command "
            "again."
        )


class NoSuchPoolError(ExpectedError):
    """No pool has this name."""

    status = Exit.NO_POOL

    def __init__(self, pool_name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        nearest = difflib.get_close_matches(pool_name, names, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(nearest)}?" if nearest else "Run `spotpools list` to see all pools."
        super().__init__(f"There is no pool {pool_name}. {hint}")
