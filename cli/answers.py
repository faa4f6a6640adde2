"""Answers of AWS that are kept for some seconds, so that a display that refreshes asks AWS seldom."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Protocol, TypeVar

Answered = TypeVar("Answered")


class Keep(Protocol):
    """Gives the answer to a question: a kept one, or a new one."""

    def __call__(self, what: str, about: Hashable, ask: Callable[[], Answered], /) -> Answered:
        """Return the answer to the question ``what`` about something."""


def keep_none(_what: str, _about: Hashable, ask: Callable[[], Answered]) -> Answered:
    """Ask each time."""
    return ask()


@dataclass
class _Kept:
    """One question: its lock is held while it is asked, so that two who want it at once ask once."""

    lock: Lock = field(default_factory=Lock)
    until: datetime | None = None
    value: Any = None
    error: Exception | None = None


REFUSED_LASTS = timedelta(seconds=15)
"""A refusal is not kept longer: a missing permission may be given at any time."""


class Answers:
    """Keeps answers and refusals, each kind of question for its own time. All threads share it.

    ``times`` says how long; a kind that is not in it is not kept.
    """

    def __init__(self, clock: Callable[[], datetime], times: dict[str, timedelta]) -> None:
        self._clock, self._times = clock, times
        self._lock = Lock()
        self._kept: dict[Hashable, _Kept] = {}

    def __call__(self, what: str, about: Hashable, ask: Callable[[], Answered], /) -> Answered:
        """Return the kept answer, or ask. Raises what ``ask`` raised, also from the kept answer."""
        if what not in self._times:
            return ask()
        kept = self._of((what, about))
        with kept.lock:
            if kept.until is None or self._clock() >= kept.until:
                kept.value, kept.error, lasts = None, None, self._times[what]
                try:
                    kept.value = ask()
                except Exception as error:
                    kept.error, lasts = error, min(lasts, REFUSED_LASTS)
                    raise
                finally:
                    kept.until = self._clock() + lasts
            elif kept.error is not None:
                raise kept.error.with_traceback(None)
            answer: Answered = kept.value
            return answer

    def _of(self, question: Hashable) -> _Kept:
        """Return the place of a question, and forget old answers: a page may be open for days."""
        with self._lock:
            now = self._clock()
            old = [one for one, kept in self._kept.items() if kept.until is not None and kept.until <= now]
            for one in old:
                if one != question and not self._kept[one].lock.locked():
                    del self._kept[one]
            return self._kept.setdefault(question, _Kept())
