"""The demo's output without a terminal: plain lines without repetitions."""

from __future__ import annotations

import io
from typing import cast

from rich.console import Console

from localcloud.demo.live import Screen
from localcloud.demo.watch import Watcher


def test_a_text_is_printed_once_in_a_row() -> None:
    page = io.StringIO()
    screen = Screen(Console(file=page, width=80), cast("Watcher", None), [])  # only the live view looks at the cloud
    for text in ("first", "first", "second", "first"):
        screen.doing(text)
    assert page.getvalue().splitlines() == ["… first", "… second", "… first"]
