"""What a terminal shows, as a picture for a document: a console that records, and its SVG."""

from __future__ import annotations

import io
import re

from rich.console import Console

FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
"""Rich names fonts to be loaded. An image in a page may load nothing: the reader's own monospace serves."""


def recording(columns: int, lines: int | None = None) -> Console:
    """A console that writes nowhere and remembers what it was given."""
    return Console(
        record=True,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        width=columns,
        height=lines,
        markup=False,
        emoji=False,
        highlight=False,
    )


def svg(page: Console, title: str) -> str:
    """What it was given since it was last asked, in a window of this title."""
    return FONT_FACE.sub("", page.export_svg(title=title))
