"""Threads of which exactly one runs at a time: whoever holds the baton.

So code that blocks can be interleaved at will, and the same order of hand-overs gives the same run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class KilledError(BaseException):
    """The process is gone: nothing after it runs, no lease is released. No ``except Exception`` sees it."""


class Strand:
    """A thread that runs one job after another, each in turns with whoever resumes it."""

    def __init__(self) -> None:
        self._go = threading.Lock()
        self._back = threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._job: Callable[[], None] | None = None
        self.done = True
        threading.Thread(target=self._run, daemon=True).start()

    def begin(self, job: Callable[[], None]) -> None:
        """Run a job, which must not raise, until it pauses or ends."""
        self._job, self.done = job, False
        self.resume()

    def resume(self) -> None:
        """Hand the baton over; it comes back when the job pauses or ends."""
        self._go.release()
        self._back.acquire()

    def pause(self) -> None:
        """Called from within the job: hand the baton back until resumed."""
        self._back.release()
        self._go.acquire()

    def end(self) -> None:
        """Let the thread go; only when no job runs."""
        self._job = None
        self._go.release()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._job is None:
                return
            self._job()
            self.done = True
            self._back.release()
