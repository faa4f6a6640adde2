"""How long to wait after failures."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta

A_DAY = timedelta(days=1)


@dataclass(frozen=True)
class BackoffPolicy:
    """How long to wait after a failure: from ``base``, doubling, to ``longest``."""

    base: timedelta
    longest: timedelta

    def after(self, failures: int, salt: str) -> timedelta:
        """The pause after so many failures in a row, up to a quarter shorter by a jitter that ``salt`` decides.

        Offerings that failed together have the same salt, so that one call tries them again together.
        """
        jitter = zlib.crc32(salt.encode()) / 2**32
        doubled: timedelta = self.base * (1 << min(failures - 1, 20))
        return min(doubled, self.longest) * (1 - jitter / 4)

    def seldom(self, tries: int) -> timedelta:
        """The pause after so many tries that have not helped and are not urgent: it doubles, up to a day."""
        doubled: timedelta = self.longest * (1 << min(tries, 12))
        return min(doubled, A_DAY)

    @property
    def avoidance(self) -> timedelta:
        """How long an offering with an interruption is avoided while there are others."""
        return 2 * self.longest
