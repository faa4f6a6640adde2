"""Kills functions' processes at a chosen or a drawn call: a gate stands between the functions and AWS, and sees each.

A call is a point of a function's work that a test can name: before it nothing of it has happened, after it all has, and
the function does not know yet. The process at the other end of the call's connection gets SIGKILL there. The functions
are told of the gate by their environment, as endpoints always are; their code is the deployed one.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from localcloud.cloud import LocalCloud
from localcloud.processes import HOST

When = Literal["before", "after"]

HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "keep-alive"}
"""What concerns one connection alone; the gate has two."""

ENDED_BY_US = (ConnectionError, http.client.HTTPException)


@dataclass(frozen=True)
class Call:
    """One call that a function makes."""

    action: str
    body: str


@dataclass(frozen=True)
class Blow:
    """A kill to come: at the first call that fits. ``late`` seconds after it, wherever the process is then."""

    name: str
    fits: Callable[[Call], bool]
    when: When
    late: float = 0.0


@dataclass(frozen=True)
class Kill:
    """A process that was killed."""

    at: datetime
    name: str
    pid: int
    action: str


class Gate:
    """Passes the functions' calls on to AWS and EC2, and kills as planned; use it in a ``with`` statement."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.kills: list[Kill] = []
        self._cloud = cloud
        self._plan: list[Blow] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            endpoints = {
                "AWS_ENDPOINT_URL": self._serve(undo, self._cloud.endpoint_url),
                "AWS_ENDPOINT_URL_EC2": self._serve(undo, self._cloud.market.url),
            }
            for function in functions_of(self._cloud):
                before = self._variables(function)
                self._tell(function, before | endpoints)
                undo.callback(self._tell, function, before)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def plan(self, *blows: Blow) -> None:
        """Strike once each, at the first call that fits."""
        with self._lock:
            self._plan.extend(blows)

    @property
    def planned(self) -> list[str]:
        """The names of the blows that have not fallen yet."""
        with self._lock:
            return [blow.name for blow in self._plan]

    def cancel(self) -> None:
        """Strike no more."""
        with self._lock:
            self._plan.clear()

    def passing(self, call: Call, when: When, process: Callable[[], int]) -> bool:
        """Strike if it is time to; True if the process is dead."""
        with self._lock:
            blow = next((one for one in self._plan if one.when == when and one.fits(call)), None)
            if blow is None:
                return False
            self._plan.remove(blow)
        if blow.late:
            threading.Timer(blow.late, self._strike, [blow, call, process()]).start()
            return False
        self._strike(blow, call, process())
        return True

    def _strike(self, blow: Blow, call: Call, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.kills.append(Kill(at=datetime.now(UTC), name=blow.name, pid=pid, action=call.action))

    def _serve(self, undo: ExitStack, upstream: str) -> str:
        server = _Server((HOST, 0), _Passage, self, upstream)
        threading.Thread(target=server.serve_forever, args=[0.1], name="gate", daemon=True).start()
        undo.callback(server.server_close)
        undo.callback(server.shutdown)
        return f"http://{HOST}:{server.server_port}"

    def _variables(self, function: str) -> dict[str, str]:
        configuration = self._cloud.client("lambda").get_function_configuration(FunctionName=function)
        return dict(configuration["Environment"]["Variables"])

    def _tell(self, function: str, variables: dict[str, str]) -> None:
        self._cloud.client("lambda").update_function_configuration(
            FunctionName=function, Environment={"Variables": variables}
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[_Passage], gate: Gate, upstream: str) -> None:
        super().__init__(address, handler)
        self.gate, self.upstream = gate, urlsplit(upstream).netloc

    def handle_error(self, *_: Any) -> None:
        """A connection whose other end we have killed is no news."""


class _Passage(BaseHTTPRequestHandler):
    """One connection of a function: its calls one after the other."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call = Call(action=_action(self.headers.get("X-Amz-Target", ""), body), body=body.decode())
        gate = self.server.gate
        if gate.passing(call, "before", self._process):
            self.close_connection = True
            return
        status, headers, answer = self._passed_on(body)
        if gate.passing(call, "after", self._process):
            self.close_connection = True
            return
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_HEADERS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            upstream.request("POST", self.path, body=body, headers=headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _process(self) -> int:
        return process_behind(self.client_address[1])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _action(target: str, body: bytes) -> str:
    return target.rpartition(".")[2] or parse_qs(body.decode())["Action"][0]


def functions_of(cloud: LocalCloud) -> list[str]:
    """The names of the stack's functions."""
    return [value for key, value in cloud.outputs.items() if key.endswith("Function")]


def process_behind(port: int) -> int:
    """The function's process whose connection to us comes from this port of the machine."""
    local = f"0100007F:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:])
    socket = next(f"socket:[{row[9]}]" for row in rows if row[1] == local)
    return next(
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and b"_worker.py" in _command(process) and socket in _files(process)
    )


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""  # it ended while we looked


def _files(process: Path) -> set[str]:
    try:
        return {str(one.readlink()) for one in (process / "fd").iterdir()}
    except OSError:
        return set()  # as above
