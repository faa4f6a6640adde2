"""``watch``: the list, redrawn in place after each look."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

from pydantic_core import to_jsonable_python
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cli import listing
from cli.answers import Answers
from cli.aws_errors import expected_errors
from cli.deployment import Deployment
from cli.exits import AwsFaultError
from cli.output import Format, clock, draw

PRICES_LAST = timedelta(minutes=1)
"""Spot prices change a few times a day, so not every frame asks for them."""

Frame = tuple[listing.Listing, datetime]


def frames(deployment: Deployment, *, every: float, times: int | None) -> Iterator[Frame]:
    """Yield a listing every ``every`` seconds, ``times`` times if given. If a later look fails, repeat the last."""
    keep = Answers(deployment.now, {"spot prices": PRICES_LAST, "list prices": PRICES_LAST})
    listed: listing.Listing | None = None
    for number in count(1):
        now = deployment.now()
        try:
            with expected_errors():
                data = listing.look(deployment, keep)
        except AwsFaultError as fault:
            if listed is None:
                raise
            listed = replace(listed, notes=(f"Showing older data: {fault}",))
        else:
            listed = listing.listing_of(data)
        yield listed, now
        if number == times:
            return
        time.sleep(every)


def watch(found: Iterator[Frame], console: Console, output: Format, write: Callable[[str], object]) -> None:
    """Draw each frame over the last one. As JSON, write one line per frame."""
    if output is Format.JSON:
        for listed, at in found:
            write(json.dumps(to_jsonable_python({"at": at, "listing": listed}), ensure_ascii=False))
        return
    if not console.is_terminal:
        for listed, at in found:
            draw(page(listed, at), console)
        return
    # On the alternate screen a frame overwrites the last one without clearing it, so nothing flickers.
    first = Text("Reading the pools …", style="dim")
    with Live(first, console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        for listed, at in found:
            live.update(fitting(listed, at, console), refresh=True)


def page(listed: listing.Listing, at: datetime, most: int | None = None, *, width: int = listing.WIDE) -> Group:
    """Make a frame with at most ``most`` pools."""
    return Group(listing.render(listed, at, most, width=width), Text(f"{clock(at)}, Ctrl-C ends", style="dim"))


def fitting(listed: listing.Listing, at: datetime, console: Console) -> Group:
    """Make the frame with as many pools as the screen has room for: on a narrow one a row has several lines."""

    def height(most: int) -> int:
        return len(console.render_lines(page(listed, at, most, width=console.width), pad=False))

    fits = bisect_right(range(1, len(listed.pools) + 1), console.height, key=height)
    return page(listed, at, max(1, fits), width=console.width)
