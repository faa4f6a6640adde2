"""The command in a shell and a terminal: completion, Ctrl-C, options, and no flicker."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pyte
import pytest

from cli.main import app
from tests.cli.site import Site


def test_the_shell_completes_commands_and_the_names_of_pools(site: Site) -> None:
    site.put("training", target_size=0)
    site.put("tests", target_size=0)

    def completed(*words: str) -> list[str]:
        asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        environment = {**os.environ, **site.environment, **asked, "_SPOTPOOLS_COMPLETE": "complete_bash"}
        code = "from cli.main import app; app(prog_name='spotpools')"
        done = subprocess.run(  # noqa: S603  our own command
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    assert completed("spotpools", "exp") == ["explain"]
    assert completed("spotpools", "explain", "t") == ["tests", "training"]


def test_ctrl_c_exits_with_its_own_status_and_no_traceback(site: Site) -> None:
    site.put("a", target_size=0)
    # A test run in the background ignores Ctrl-C, and its child processes inherit that.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from cli.main import app; app()"
    command = [sys.executable, "-c", code, "watch", "--every", "60", "-o", "json"]
    with subprocess.Popen(  # noqa: S603  our own command
        command,
        env={**os.environ, **site.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("{")
        watching.send_signal(signal.SIGINT)
        _, complaint = watching.communicate(timeout=30)
    assert (watching.returncode, complaint) == (130, "")


class Emulator:
    """A terminal that draws byte by byte, like the slowest one, and keeps each state that it showed."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.shown: list[list[str]] = []

    def show(self, written: bytes) -> None:
        for one in written:
            self.stream.feed(bytes([one]))
            self.shown.append(list(self.screen.display))

    def whole(self) -> bool:
        """Return whether a frame is complete."""
        return any("Ctrl-C ends" in line for line in self.screen.display)


def test_watch_draws_each_frame_over_the_last_one(site: Site) -> None:
    site.put("always", target_size=1)
    terminal = Emulator(100, 10)
    command = [sys.executable, "-m", "cli.main", "watch", "--every", "1", "--times", "4"]
    size = {"COLUMNS": "100", "LINES": "10", "TERM": "xterm-256color"}
    ours, its = pty.openpty()
    first = 0
    with subprocess.Popen(command, env={**os.environ, **site.environment, **size}, stdout=its) as watching:  # noqa: S603  our own command
        os.close(its)
        while written := _read(ours):
            terminal.show(written)
            if not first and terminal.whole():
                first = len(terminal.shown)
                site.put("second", target_size=2)
    os.close(ours)
    assert watching.returncode == 0
    later = terminal.shown[first:]
    assert [line for line in later[-1] if line.startswith("second")], "a later frame was drawn"
    assert {state[0] for state in later} == {terminal.shown[first - 1][0]}, "the heading is there at each instant"
    assert len({state[1] for state in later}) == 1, "and so is a row that does not change"
    assert later[-1][1].startswith("always")


def _read(terminal: int) -> bytes:
    """Read new output; empty when the command has ended."""
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux raises this when no process has the terminal open
        return b""


def test_the_stack_can_be_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=0)
    monkeypatch.setenv("SPOTPOOLS_STACK", "another")
    monkeypatch.setenv("SPOTPOOLS_POOLS_TABLE", "another-pools")
    monkeypatch.setenv("SPOTPOOLS_STATUS_TABLE", "another-status")
    assert site.run("list").exit_code == 3
    listed = site.json("list", "--stack", site.settings.stack)
    assert [one["pool"] for one in listed["pools"]] == ["a"]


def test_each_command_has_a_help_text() -> None:
    for one in app.registered_commands:
        assert one.callback is not None
        assert one.callback.__doc__
