"""Fresh seeds. Code is fixed until known seeds pass, so only new ones can show new faults."""

from __future__ import annotations

import os
import secrets


def fresh_seed(variable: str = "SEED") -> int:
    """A new seed each time, or the one in the environment variable of this name, to repeat a run."""
    return int(os.environ.get(variable) or secrets.randbelow(10**9))
