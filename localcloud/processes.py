"""Child processes that end with their parent, and free ports of 127.0.0.1 for them."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep

from localcloud import leash

HOST = "127.0.0.1"
STOP_SECONDS = leash.GRACE_SECONDS + 4


class LocalCloudError(Exception):
    """A one-line message for the user. ``log`` is the file with the details, if there is one."""

    def __init__(self, message: str, *, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


def port_to_use(wanted: int) -> int:
    """The wanted port, or a free one for 0. Raises LocalCloudError if the wanted port is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise LocalCloudError(f"port {wanted} of {HOST} is in use; choose another, or 0 for a free one") from error
        return int(probe.getsockname()[1])


class Child:
    """A running command whose output goes to a file. It ends at ``stop``, or when this process ends."""

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str], directory: Path
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._leash = subprocess.Popen(  # noqa: S603 - commands of our own
                [sys.executable, "-I", "-S", leash.__file__, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,  # Ctrl-C goes to the parent, which stops its children in order
            )

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._leash.poll()

    def wait(self, *, seconds: float | None = None, watch: Callable[[], None] | None = None) -> None:
        """Wait for a successful end, calling ``watch`` meanwhile. Raises LocalCloudError for any other end."""
        deadline = None if seconds is None else monotonic() + seconds
        while (status := self.status) is None:
            if deadline is not None and monotonic() > deadline:
                self.stop()
                raise LocalCloudError(f"{self.name} took longer than {seconds:.0f} s", log=self.log)
            if watch is not None:
                watch()
            sleep(0.05)
        if status != 0:
            raise LocalCloudError(f"{self.name} failed with exit status {status}", log=self.log)

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until the command is ready. Raises LocalCloudError if it ends first or takes too long."""
        deadline = monotonic() + seconds
        while not ready():
            if self.status is not None:
                raise LocalCloudError(f"{self.name} ended before it was ready: status {self.status}", log=self.log)
            if monotonic() > deadline:
                raise LocalCloudError(f"{self.name} is not ready after {seconds:.0f} s", log=self.log)
            sleep(0.05)

    def stop(self) -> None:
        """Close the pipe, which ends the command, and wait for the end."""
        if self._leash.stdin is not None:
            self._leash.stdin.close()
        try:
            self._leash.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._leash.kill()
            self._leash.wait()


def last_line(log: Path) -> str:
    """The newest line of a log that is not empty."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
