"""``page`` in a real browser: readable and usable by all, and with nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.market.model.market import Market
from localcloud.market.model.settings import Fault
from tests.cli.page_window import DESKTOP, PHONE, ROWS, served, settled, several
from tests.cli.site import Site, new_site
from tests.cli.test_page import HOSTILE, ROOT
from tests.support.browser import Browser, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
SHOWN = """
const shown = [...document.querySelectorAll('body *')].filter((one) => one.checkVisibility({visibilityProperty: true})
  && !one.closest('.unseen, .skip, thead')
  && [...one.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
"""
SMALLEST = f"{SHOWN} return Math.min(...shown.map((one) => parseFloat(getComputedStyle(one).fontSize)))"
WIDEST = f"""{SHOWN}
return Math.max(document.documentElement.scrollWidth, ...shown.map((one) => one.getBoundingClientRect().right))
"""


@pytest.fixture(scope="module")
def site(aws_url: str, ec2: tuple[str, Market]) -> Iterator[Site]:
    """One stack for all tests here: they only look."""
    with pytest.MonkeyPatch.context() as patch:
        made = new_site(aws_url, *ec2)
        made.enter(patch)
        several(made)
        yield made


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    assert site.environment
    with served() as address:
        yield address


def faults(page: Browser) -> list[str]:
    """What axe-core finds wrong with the page as it is shown, by the rules of WCAG 2.2 AA and its best practices."""
    page.run(AXE.read_text(encoding="utf-8"))
    found = page.result("axe.run(document, {resultTypes: ['violations']})")
    assert "violations" in found, found
    return [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found["violations"] for node in one["nodes"]]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_all_is_readable_and_the_accessibility_check_finds_nothing(
    url: str, page: Browser, width: int, dark: bool
) -> None:
    page.screen(width, dark=dark)
    page.open(url)
    page.wait(f"{ROWS} === 5")
    page.wait("return document.querySelectorAll('.sparkline canvas').length > 0")
    readable(page, width)
    page.open(f"{url}#/pool/waits")
    settled(page)
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    readable(page, width)


def readable(page: Browser, width: int) -> None:
    """Check that nothing is small, nothing needs scrolling to the side, and axe-core finds no fault."""
    assert page.run(WIDEST) <= width
    assert page.run(SMALLEST) >= 12
    assert faults(page) == []


def test_a_pool_is_reached_with_the_keyboard_alone(url: str, page: Browser) -> None:
    page.open(url)
    page.wait(f"{ROWS} === 5")
    focused = []
    for _ in range(6):
        page.press("Tab")
        focused.append(page.run("return document.activeElement.id || document.activeElement.textContent"))
    assert focused == ["Skip to the pools", "Spot Pools", "filter", "only", HOSTILE, "waits"]
    assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter")
    settled(page)
    assert page.run("return document.activeElement.textContent") == "waits", (
        "a screen reader continues at the new heading"
    )
    assert page.run("return document.title") == "waits - Spot Pools"
    page.press("Tab")
    assert "Item as YAML".lower() in page.run("return document.activeElement.textContent").lower()


def test_the_list_is_filtered_by_name_and_by_trouble(url: str, page: Browser) -> None:
    page.open(url)
    page.wait(f"{ROWS} === 5")
    page.run("const it = document.getElementById('filter'); it.value = 'WA'; it.dispatchEvent(new Event('input'))")
    assert page.run(ROWS) == 1
    assert "1 of 5 pools" in page.text()
    page.run("const it = document.getElementById('filter'); it.value = ''; it.dispatchEvent(new Event('input'))")
    page.run("document.getElementById('only').click()")
    assert page.run(ROWS) == 3


def test_a_hostile_name_is_only_a_text(url: str, page: Browser) -> None:
    page.open(url)
    page.wait(f"{ROWS} === 5")
    assert HOSTILE in page.text()
    page.run("[...document.querySelectorAll('#pools a')].find((one) => one.textContent.startsWith('<')).click()")
    settled(page)
    assert page.run("return document.querySelector('h1[tabindex]').textContent") == HOSTILE
    assert page.run("return document.querySelectorAll('main script').length") == 0
    assert "no valid item" in page.text()


def test_the_page_asks_nobody_but_the_command(url: str, page: Browser) -> None:
    page.open(url)
    page.wait(f"{ROWS} === 5")
    page.run("location.hash = '#/pool/waits'")
    settled(page)
    asked = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert len(asked) > 5
    assert [one for one in asked if not one.startswith(url)] == []
    assert page.run("return [document.cookie, localStorage.length, sessionStorage.length]") == ["", 0, 0]


def test_a_refusal_is_in_its_own_card_and_the_others_are_filled(site: Site, url: str, page: Browser) -> None:
    message = "User: arn:aws:iam::1:user/x is not authorized to perform: ec2:DescribeSpotPriceHistory"
    page.open(url)
    page.wait(f"{ROWS} === 5")
    site.market.faults.append(
        Fault(action="DescribeSpotPriceHistory", error="UnauthorizedOperation", message=message, times=99)
    )
    page.run("location.hash = '#/pool/calm'")
    settled(page)
    shown = page.run("return [...document.querySelectorAll('.fault')].map((one) => one.textContent)")
    assert len(shown) == 1
    assert "lack the permission ec2:DescribeSpotPriceHistory" in shown[0]
    assert "by target_size 2" in page.text()
    site.market.faults.clear()


def test_the_file_shows_the_same_without_the_command(site: Site, page: Browser, tmp_path: Path) -> None:
    file = tmp_path / "pools.html"
    assert site.run("page", "--out", str(file)).exit_code == 0
    page.screen(PHONE)
    page.open(file.as_uri())
    page.wait(f"{ROWS} === 5")
    assert "it does not refresh" in page.text()
    assert page.run("return document.querySelectorAll('.sparkline canvas').length") > 0
    page.run(
        "[...document.querySelectorAll('#pools a')].find((one) => one.textContent === arguments[0]).click()", HOSTILE
    )
    settled(page)
    page.open("about:blank")
    page.open(f"{file.as_uri()}#/pool/waits")
    settled(page)
    assert "You can: Raise spot_max_price" in page.text()
    assert faults(page) == []
    assert page.run("return performance.getEntriesByType('resource').length") == 0
