"""Calls the tick function more often than EventBridge Scheduler does (once a minute), for demos and fast replays.

It uses the Lambda API and the function's own role, so the deployed code cannot see a difference.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

log = logging.getLogger(__name__)


class Ticks:
    """Ticks every ``seconds`` until stopped. A tick that takes longer delays the next, so ticks never overlap."""

    def __init__(self, client: Callable[[str], Any], function: str, *, seconds: float) -> None:
        self._invoke = client("lambda").invoke
        self._function = function
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticks", daemon=True)
        self._started: deque[float] = deque(maxlen=1000)
        self.count = 0

    @property
    def measured_seconds(self) -> float | None:
        """The mean time between ticks so far. None before the second tick."""
        if len(self._started) < 2:  # noqa: PLR2004 - an interval has two ends
            return None
        return (self._started[-1] - self._started[0]) / (len(self._started) - 1)

    def start(self) -> None:
        """Start the thread. The first tick is immediate."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current tick."""
        self._stop.set()
        self._thread.join(timeout=20)

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            begun = monotonic()
            self._started.append(begun)
            self.count += 1
            try:
                answer = self._invoke(FunctionName=self._function, Payload=json.dumps({}))
                if "FunctionError" in answer:
                    log.error("a tick failed: %s", answer["Payload"].read().decode())
            except (BotoCoreError, ClientError):
                log.exception("the tick function could not be called")
            wait = max(0.0, begun + self._seconds - monotonic())
