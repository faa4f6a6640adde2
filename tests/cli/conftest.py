"""One emulated AWS for all tests of the command, and one stack for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localcloud.market.model.market import Market
from tests.cli.page_window import DESKTOP
from tests.cli.site import Site, new_site, served_market
from tests.support.browser import Browser, browser
from tests.support.empty_aws import empty_aws


@pytest.fixture(scope="package")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with empty_aws(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture(scope="package")
def ec2() -> Iterator[tuple[str, Market]]:
    with served_market() as served:
        yield served


@pytest.fixture
def site(aws_url: str, ec2: tuple[str, Market], monkeypatch: pytest.MonkeyPatch) -> Site:
    """A new stack that the environment points to."""
    made = new_site(aws_url, *ec2)
    made.enter(monkeypatch)
    return made


@pytest.fixture(scope="package")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless browser. Tests that use it are skipped where none is installed."""
    with browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def page(window: Browser) -> Iterator[Browser]:
    """An empty window of a desktop, in light. After the test its console must have no complaint."""
    window.open("about:blank")
    window.screen(DESKTOP)
    window.complaints()
    yield window
    window.open("about:blank")
    assert window.complaints() == []


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """Write a file and return its name."""

    def write(text: str) -> str:
        path = tmp_path / "pools.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
