"""The page written once into one file, for a ticket or a colleague: it needs no command and no network."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from cli.exits import AwsFaultError, RefusedError
from cli.listing import AT_ONCE
from cli.page import document
from cli.page.panels import Panels

MOST_POOLS = 20
"""Pools whose own pages are written unless some are named: each takes about ten calls to AWS."""

ABSENT = "This file does not have the pool's own page. Name the pool: spotpools page --out FILE --pool POOL"


def write(panels: Panels, file: Path, pools: Iterable[str] = ()) -> int:
    """Write the list and the pages of these pools, or else of the first ones of the list, which puts trouble first.

    Returns how many pools have their page in it. Raises AwsFaultError if the pools cannot be read, RefusedError if the
    file cannot be written.
    """
    fleet = panels.answer("fleet")
    if fleet is None or fleet["fault"]:
        raise AwsFaultError(fleet["fault"] if fleet else "")
    named = list(pools) or [line["pool"] for line in fleet["data"]["pools"][:MOST_POOLS]]
    asked = [(panel, pool) for pool in named for panel in panels.of_pool]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = threads.map(lambda one: panels.answer(*one), asked)
        found = {
            f"{panel}?pool={quote(pool, safe=UNQUOTED)}": answer
            for (panel, pool), answer in zip(asked, answers, strict=True)
        }
    saved = {"panels": {"fleet": fleet, "sizes": panels.answer("sizes"), **found}, "absent": ABSENT}
    try:
        file.write_text(document.whole(saved), encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"--out {file}: {error.strerror}") from None
    return len(named)


UNQUOTED = "!'()*~"
"""What encodeURIComponent leaves as it is, besides letters, digits and -_. which quote leaves too."""
