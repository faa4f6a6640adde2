"""Clocks for the market: the machine's own, and one that moves only when told."""

from datetime import UTC, datetime, timedelta

_START = datetime(2026, 1, 1, tzinfo=UTC)


def system_clock() -> datetime:
    """Return the machine's time in UTC."""
    return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until ``forward`` is called: for tests and simulations."""

    def __init__(self, start: datetime = _START) -> None:
        self.now = start

    def __call__(self) -> datetime:
        """Return the present moment."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.now += timedelta(seconds=seconds)
