"""A headless Chromium, driven by the W3C WebDriver protocol: Debian's chromium and chromium-driver, nothing else."""

from __future__ import annotations

import base64
import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.error import HTTPError

from localcloud.processes import HOST, Child, port_to_use
from tests.support.empty_aws import answers

PROGRAMS = ("chromium", "chromedriver")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # tests may run as root, and the page is our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PATIENCE = 20.0
"""Seconds that a test waits for what the page must show."""


def missing() -> str:
    """Why no browser can be started on this machine; empty if one can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"no {' and no '.join(absent)} on this machine: install Debian's chromium and chromium-driver" * bool(absent)


class Browser:
    """One window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Load a page, and wait for its scripts."""
        self._ask("url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script as the body of a function, and return what it returns."""
        return self._ask("execute/sync", script=script, args=list(arguments))

    def result(self, script: str) -> Any:
        """Wait for a promise, and return what it gives."""
        waiting = (
            f"const done = arguments[arguments.length - 1]; ({script}).then(done, (e) => done({{error: String(e)}}))"
        )
        return self._ask("execute/async", script=waiting, args=[])

    def wait(self, script: str, seconds: float = PATIENCE) -> Any:
        """Wait until a script returns something true, and return that."""
        end = monotonic() + seconds
        while not (found := self.run(script)):
            assert monotonic() < end, f"not within {seconds} s: {script}\n{self.text()[:3000]}"
            sleep(0.05)
        return found

    def text(self) -> str:
        """All text that is shown."""
        return str(self.run("return document.body.innerText"))

    def screen(self, width: int, height: int = 844, *, dark: bool = False) -> None:
        """Show pages on a screen of this size, in light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def press(self, key: str) -> None:
        """Press and release a key, such as Tab or Enter."""
        text = {"text": "\r"} if key == "Enter" else {}
        codes = {"Tab": 9, "Enter": 13}
        for kind in ("keyDown", "keyUp"):
            self.devtools(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes.get(key, 0), **text
            )

    def picture(self, file: Path) -> None:
        """Save the whole page as a picture."""
        found = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def complaints(self) -> list[str]:
        """What the browser's console complained about since the last call."""
        return [str(one["message"]) for one in self._ask("se/log", type="browser")]

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol."""
        return self._ask("goog/cdp/execute", cmd=command, params=parameters)

    def _ask(self, what: str, **asked: Any) -> Any:
        return _post(f"{self._session}/{what}", asked)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile in a folder."""
    port = port_to_use(0)
    driver = Child(
        "chromedriver",
        ["chromedriver", f"--port={port}", "--allowed-ips="],
        log=folder / "chromedriver.log",
        environment=dict(os.environ),
        directory=folder,
    )
    url = f"http://{HOST}:{port}"
    options = {"args": [*OPTIONS, f"--user-data-dir={folder / 'profile'}"], "binary": shutil.which("chromium")}
    wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    try:
        driver.wait_until(lambda: answers(f"{url}/status"), seconds=30)
        session = f"{url}/session/{_post(f'{url}/session', {'capabilities': {'alwaysMatch': wanted}})['sessionId']}"
        yield Browser(session)
        urllib.request.urlopen(urllib.request.Request(session, method="DELETE"), timeout=30).close()  # noqa: S310  our own driver
    finally:
        driver.stop()


def _post(url: str, content: dict[str, Any]) -> Any:
    asked = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})  # noqa: S310  our own driver
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:  # noqa: S310  our own driver
            return json.load(answer)["value"]
    except HTTPError as error:
        raise AssertionError(error.read().decode()) from None
