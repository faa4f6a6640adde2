"""Runs the commands of README.md and docs on the local cloud, one after the other, like a user."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from localcloud.cloud import LocalCloud
from localcloud.demo.watch import Watcher
from tests.support.documents import ROOT, blocks, session

pytestmark = pytest.mark.long

MAY_FAIL = {"spotpools doctor": "functions", "spotpools doctor --bundle help.zip": "functions"}
"""The only check that may fail: on a busy machine, a function's first call reaches its time limit."""

Shell = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def own_cloud() -> Iterator[LocalCloud]:
    """A cloud without leftovers of other tests."""
    with LocalCloud(family="documents", tick_seconds=2) as started:
        yield started


PLACEHOLDERS = {"POOL": "training", "TOPIC": "$SPOTPOOLS_MESSAGES_TOPIC", "ALARMS": "$SPOTPOOLS_ALARM_TOPIC"}
"""What the documents' commands leave to the reader."""


@pytest.fixture
def shell(own_cloud: LocalCloud, tmp_path: Path) -> Shell:
    """A shell in a folder like a clone in which make local runs."""
    binaries, state = tmp_path / ".venv" / "bin", tmp_path / ".localcloud"
    binaries.mkdir(parents=True)
    state.mkdir()
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shutil.copy(own_cloud.env_files[0], state / "env")
    (binaries / "activate").write_text(f"export PATH={shlex.quote(str(binaries))}:$PATH\n")
    for name, module in {"spotpools": "cli.main", "aws": "tests.support.aws"}.items():
        (binaries / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        (binaries / name).chmod(0o755)
    (pool,) = [one.text for one in blocks() if one.language == "yaml" and one.document == "README.md"]
    (tmp_path / "pool.yaml").write_text(pool, encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        ready = command
        for name, value in PLACEHOLDERS.items():
            ready = re.sub(rf"\b{name}\b", value, ready)
        return subprocess.run(  # noqa: S603  what our own documents say
            ["/bin/bash", "-ec", f". .localcloud/env; . .venv/bin/activate; {ready}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_each_command_of_the_documents_answers_as_it_should(own_cloud: LocalCloud, shell: Shell) -> None:
    waiting = Watcher(own_cloud)  # it does not poll: the documents' commands read the alarm queue
    for command, says in session().items():
        waiting.until(partial(answered, shell, command, says), f"{command}: {says}", seconds=60)


def answered(shell: Shell, command: str, says: str) -> bool:
    """Run a command until its exit status and output are as expected, because some effects take time."""
    done = shell(command)
    sys.stdout.write(f"$ {command}\n{done.stdout}{done.stderr}")  # for the report of a failed test
    assert "Traceback" not in done.stderr
    failed = set(re.findall(r"^fail  *(.+?)  ", done.stdout, re.MULTILINE))
    excused = done.returncode == 1 and failed == {MAY_FAIL.get(command)}
    return (done.returncode == 0 or excused) and says in done.stdout
