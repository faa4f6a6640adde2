"""Makes pictures of terminal output for documents: a console that records, and its SVG."""

from __future__ import annotations

import io
import re

from rich.console import Console

FONT_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
"""Rich adds fonts to be loaded. An image in a page may not load anything, so the reader's monospace font is used."""


def recording(columns: int, lines: int | None = None) -> Console:
    """A console that writes nowhere and records its output."""
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
    """The output since the last call, as a window with this title."""
    return FONT_FACE.sub("", page.export_svg(title=title))
