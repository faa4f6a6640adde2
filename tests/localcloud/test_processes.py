"""Children always end with their parent. A port in use is reported in one line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from localcloud.processes import Child, LocalCloudError, last_line, port_to_use

SLEEPER = """
import subprocess, sys, time
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(grandchild.pid, flush=True)
time.sleep(600)
"""

PARENT = """
import os, sys, time
from pathlib import Path
from localcloud.processes import Child
child = Child("sleeper", [sys.executable, "-c", sys.argv[2]], log=Path(sys.argv[1]), environment=os.environ,
              directory=Path.cwd())
time.sleep(600)
"""


def eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs. An ended process that was not collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def child_of(tmp_path: Path, code: str) -> Child:
    command = [sys.executable, "-c", code]
    return Child("try", command, log=tmp_path / "log", environment=os.environ, directory=tmp_path)


def test_stop_ends_the_command_and_what_it_started(tmp_path: Path) -> None:
    child = child_of(tmp_path, SLEEPER)
    eventually(lambda: last_line(child.log))
    grandchild = int(last_line(child.log))
    assert alive(grandchild)
    child.stop()
    eventually(lambda: not alive(grandchild))


def test_children_of_a_killed_parent_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(log), SLEEPER])  # noqa: S603  the code above
    eventually(lambda: last_line(log))
    grandchild = int(last_line(log))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    eventually(lambda: not alive(grandchild))


def test_a_command_that_fails_names_its_log(tmp_path: Path) -> None:
    child = child_of(tmp_path, "import sys; sys.exit('no good')")
    with pytest.raises(LocalCloudError, match="try failed with exit status 1") as caught:
        child.wait(seconds=10)
    assert caught.value.log == child.log
    assert last_line(child.log) == "no good"


def test_a_command_that_ends_before_it_is_ready_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(LocalCloudError, match="ended before it was ready"):
        child_of(tmp_path, "").wait_until(lambda: False, seconds=60)


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    child = child_of(tmp_path, SLEEPER)
    with pytest.raises(LocalCloudError, match="longer than 1 s"):
        child.wait(seconds=1)
    assert child.status is not None


def test_a_free_port_is_found_and_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port_to_use(0) != port
        with pytest.raises(LocalCloudError, match=f"port {port} of 127.0.0.1 is in use") as caught:
            port_to_use(port)
    assert "\n" not in str(caught.value)


def test_make_local_on_a_port_in_use_ends_with_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "localcloud", "--name", "port-test", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own module
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is in use" in done.stderr
