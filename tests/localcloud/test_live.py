"""A story told without a terminal: plain lines, each once."""

from __future__ import annotations

import io
from typing import cast

from rich.console import Console

from localcloud.demo.live import Screen
from localcloud.demo.watch import Watcher


def test_what_is_awaited_in_several_parts_is_said_once() -> None:
    page = io.StringIO()
    screen = Screen(Console(file=page, width=80), cast("Watcher", None), [])  # only the live view looks at the cloud
    for text in ("first", "first", "second", "first"):
        screen.doing(text)
    assert page.getvalue().splitlines() == ["… first", "… second", "… first"]
