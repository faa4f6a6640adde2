"""A window and the pools that the tests of the page in a browser look at."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from cli.deployment import Deployment
from cli.page.panels import Panels
from cli.page.server import PageServer
from tests.cli.site import Site
from tests.cli.test_page import HOSTILE, publish
from tests.support.browser import Browser

DESKTOP, PHONE = 1280, 390
"""Widths of a window, in pixels."""

ROWS = "return [...document.querySelectorAll('#pools tbody tr')].filter((row) => !row.hidden).length"
CARDS = """
return document.querySelector('#pool .card')
  && [...document.querySelectorAll('#pool .card')].every((card) => card.children[1].childElementCount)
"""


@contextmanager
def served() -> Iterator[str]:
    """Serve the page of this environment's stack, as the command does. Yields its address."""
    with PageServer(Panels(Deployment())) as server:
        server.panels.answer("fleet")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.url
        server.shutdown()


def several(site: Site) -> None:
    """Write pools in many states, with a long and a hostile name."""
    site.market.set_offering("g5.xlarge", "us-east-1a", spot_price=Decimal("0.4"))
    site.put("calm", target_size=2, spot_max_price="0.45")
    site.put("waits", target_size=3, spot_max_price="0.01", max_instances=4)
    site.put("wrong", targt_size=1)
    site.put(f"a-pool-with-a-long-name-{'x' * 39}", target_size=1, paused=True)
    site.put(HOSTILE, target_size=1)
    publish(site, "calm", wanted=[2, 2, 2], running=[2, 1, 2])
    publish(site, "waits", wanted=[3, 3], running=[0, 0])
    line = {"message": "reconciled", "pool": "waits", "wanted": 3, "running": 0, "steps": [], "failures": ["No."]}
    site.log("PoolDueFunction", line)


def settled(page: Browser) -> None:
    """Wait until each card of a pool's page has its content."""
    page.wait(CARDS)
