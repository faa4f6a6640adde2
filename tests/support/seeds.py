"""Seeds that nobody has seen: code is mended until those that one knows are green, so those show nothing any more."""

from __future__ import annotations

import os
import secrets


def fresh_seed(variable: str = "SEED") -> int:
    """Another one each time, or what the environment variable of this name asks to repeat."""
    return int(os.environ.get(variable) or secrets.randbelow(10**9))
