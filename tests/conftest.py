"""For all tests: those in tests/unit and tests/flow are pure, so they have no network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NoReturn

import pytest

PURE = ("unit", "flow")


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(request.path).relative_to(Path(__file__).parent).parts[0]
    if folder not in PURE:
        return

    def refuse(*_: object) -> NoReturn:
        raise AssertionError(f"tests/{folder} is pure: nothing there may open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
