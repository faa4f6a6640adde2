"""Kills functions' processes at a chosen or random call. A gate between the functions and AWS sees each call.

A call is a point of a function's work that a test can name. Before it, it had no effect; after it, it took effect, but
the function does not know yet. There the process at the other end of the connection gets SIGKILL. The functions get the
gate's address by their environment, like any endpoint. Their code is the deployed one.
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
"""Headers of a single connection. The gate has two connections per call."""


@dataclass(frozen=True)
class Call:
    """A call that a function makes."""

    action: str
    body: str


@dataclass(frozen=True)
class Blow:
    """A planned kill at the first call that fits, or ``late`` seconds after it."""

    name: str
    fits: Callable[[Call], bool]
    when: When
    late: float = 0.0


@dataclass(frozen=True)
class Kill:
    """A process that was killed."""

    at: datetime
    name: str
    function: str
    action: str

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S.%f} {self.name}: {self.function} at {self.action}"


class Gate:
    """Forwards the functions' calls to AWS and EC2, and kills as planned. Use it in a ``with`` statement.

    It opens before its cloud starts and closes after the cloud has ended, so functions always reach it.
    """

    def __init__(self) -> None:
        self.kills: list[Kill] = []
        self._functions: list[str] = []
        self._plan: list[Blow] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._servers = {name: self._serve(undo) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2")}
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def guard(self, cloud: LocalCloud) -> None:
        """Send this cloud's functions' calls to AWS and EC2 through the gate from now on."""
        self._functions = [value for key, value in cloud.outputs.items() if key.endswith("Function")]
        self._servers["AWS_ENDPOINT_URL"].upstream = urlsplit(cloud.endpoint_url).netloc
        self._servers["AWS_ENDPOINT_URL_EC2"].upstream = urlsplit(cloud.market.url).netloc
        endpoints = {name: f"http://{HOST}:{server.server_port}" for name, server in self._servers.items()}
        functions = cloud.client("lambda")
        for name in self._functions:
            variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
            functions.update_function_configuration(
                FunctionName=name, Environment={"Variables": {**variables, **endpoints}}
            )

    def start_over(self) -> None:
        """Forget all planned and past kills."""
        with self._lock:
            self._plan.clear()
            self.kills = []

    def plan(self, *blows: Blow) -> None:
        """Plan kills, each at the first call that fits."""
        with self._lock:
            self._plan.extend(blows)

    @property
    def planned(self) -> list[str]:
        """The names of the planned kills that have not happened yet."""
        with self._lock:
            return [blow.name for blow in self._plan]

    def passing(self, call: Call, when: When, process: Callable[[], Process | None]) -> bool:
        """Kill the process if planned. Returns whether the process is dead."""
        with self._lock:
            blow = next((one for one in self._plan if one.when == when and one.fits(call)), None)
            found = process() if blow else None
            if blow is None or found is None:
                return False
            self._plan.remove(blow)
        if blow.late:
            threading.Timer(blow.late, self._strike, [blow, call, found]).start()
            return False
        self._strike(blow, call, found)
        return True

    def _strike(self, blow: Blow, call: Call, process: Process) -> None:
        if process.kill():
            function = next(one for one in self._functions if one in process.command)
            self.kills.append(Kill(at=datetime.now(UTC), name=blow.name, function=function, action=call.action))

    def _serve(self, undo: ExitStack) -> _Server:
        server = _Server(self)
        threading.Thread(target=server.serve_forever, args=[0.1], name="gate", daemon=True).start()
        undo.callback(server.server_close)
        undo.callback(server.shutdown)
        return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, gate: Gate) -> None:
        super().__init__((HOST, 0), _Passage)
        self.gate, self.upstream = gate, ""

    def handle_error(self, *_: Any) -> None:
        """Ignore errors of connections whose other end was killed."""


class _Passage(BaseHTTPRequestHandler):
    """A connection of a function, with its calls one after the other."""

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

    def _process(self) -> Process | None:
        return process_behind(self.client_address[1])

    def log_message(self, *_: Any) -> None:
        """Do nothing."""


def _action(target: str, body: bytes) -> str:
    return target.rpartition(".")[2] or parse_qs(body.decode())["Action"][0]


@dataclass(frozen=True)
class Process:
    """A function's process and its start arguments."""

    id: int
    command: str

    def kill(self) -> bool:
        """Kill the process with SIGKILL. False if it has ended already."""
        if _command(Path(f"/proc/{self.id}")) != self.command:
            return False
        os.kill(self.id, signal.SIGKILL)
        return True


def process_behind(port: int) -> Process | None:
    """The function's process whose connection comes from this port of the machine. None if it has ended."""
    local = f"0100007F:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:])
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1] == local}
    for process in Path("/proc").iterdir():
        command = _command(process) if process.name.isdigit() else ""
        if "_worker.py" in command and sockets & _files(process):
            return Process(id=int(process.name), command=command)
    return None


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode()
    except OSError:
        return ""  # it has ended meanwhile


def _files(process: Path) -> set[str]:
    try:
        return {str(one.readlink()) for one in (process / "fd").iterdir()}
    except OSError:
        return set()  # as above
