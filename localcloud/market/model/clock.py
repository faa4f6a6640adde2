"""Clocks for the market: the machine's clock, and one that is moved by calls."""

from datetime import UTC, datetime, timedelta

_START = datetime(2026, 1, 1, tzinfo=UTC)


def system_clock() -> datetime:
    """Return the machine's time in UTC."""
    return datetime.now(UTC)


class ManualClock:
    """A clock for tests and simulations that moves only when ``forward`` is called."""

    def __init__(self, start: datetime = _START) -> None:
        self.now = start

    def __call__(self) -> datetime:
        """Return the present moment."""
        return self.now

    def forward(self, seconds: float) -> None:
        """Move the clock forward by this many seconds."""
        self.now += timedelta(seconds=seconds)
