"""The command as a shell meets it: completion, Ctrl-C, the stack by option."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

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


def test_ctrl_c_ends_with_its_own_status_and_no_traceback(site: Site) -> None:
    site.put("a", target_size=0)
    # Whoever runs the tests in the background has Ctrl-C ignored, and hands that down.
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


def test_the_stack_can_be_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=0)
    monkeypatch.setenv("SPOTPOOLS_STACK", "another")
    monkeypatch.setenv("SPOTPOOLS_POOLS_TABLE", "another-pools")
    monkeypatch.setenv("SPOTPOOLS_STATUS_TABLE", "another-status")
    assert site.run("list").exit_code == 3
    listed = site.told("list", "--stack", site.settings.stack)
    assert [one["pool"] for one in listed["pools"]] == ["a"]


def test_each_command_says_in_its_help_what_it_is_for() -> None:
    for one in app.registered_commands:
        assert one.callback is not None
        assert one.callback.__doc__
