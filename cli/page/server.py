"""The page's server: on this machine's loopback address only, for reading only."""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cli.exits import RefusedError
from cli.page import document
from cli.page.panels import Panels

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""Names under which a browser may ask. Another name that leads here is another site's (DNS rebinding)."""

OWN_SITES = (None, "same-origin", "none")
"""What a browser says in Sec-Fetch-Site about a request of this page, or one that the user typed."""

HEADERS = {
    "Content-Security-Policy": document.SERVED_POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
HTML, JSON, TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"


class PageServer(ThreadingHTTPServer):
    """Serves the page and its panels. Port 0 is a free one. Raises RefusedError if the port cannot be used."""

    daemon_threads = True
    block_on_close = False  # Ctrl-C ends at once; an answer that is still awaited is not needed

    def __init__(self, panels: Panels, port: int = 0) -> None:
        self.panels = panels
        try:
            super().__init__((HOST, port), _Request)
        except OSError as error:
            raise RefusedError(f"--port {port}: {error.strerror}. Name another one, or leave it out.") from None
        own = self.server_address[1]
        self.hosts = {f"{name}:{own}" for name in NAMES} | (set(NAMES) if own == HTTP_PORT else set())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a browser that went away, which is no fault. A real one is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_address[1]}/"


HTTP_PORT = 80
"""A browser leaves it out of the name of the host."""


class _Request(BaseHTTPRequestHandler):
    """One request."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def version_string(self) -> str:
        """Name the server."""
        return "spotpools"

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer without the content."""
        self._answer()

    def __getattr__(self, name: str) -> Any:
        """Refuse every other method: there is nothing to write."""
        if name.startswith("do_"):
            return lambda: self._send(HTTPStatus.METHOD_NOT_ALLOWED, "This page only reads.", allow="GET, HEAD")
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name that http.server gives it
        """Say nothing: the terminal belongs to the command."""

    def _answer(self) -> None:
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, f"Ask for {self.server.url}")
            return
        asked = urlsplit(self.path)
        if asked.path == "/":
            self._send(HTTPStatus.OK, document.served(), HTML)
            return
        if self.headers.get("Sec-Fetch-Site") not in OWN_SITES:
            self._send(HTTPStatus.FORBIDDEN, "Another site asked.")
            return
        name = asked.path.removeprefix("/")
        if name in (*document.STYLES, *document.SCRIPTS):
            self._send(HTTPStatus.OK, document.asset(name), document.KINDS[name.rpartition(".")[2]])
            return
        found = None
        if name.startswith("api/"):
            pool = parse_qs(asked.query, keep_blank_values=True).get("pool", [None])[0]
            found = self.server.panels.answer(name.removeprefix("api/"), pool)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, "There is no such page.")
        else:
            self._send(HTTPStatus.OK, json.dumps(found), JSON)

    def _send(self, status: HTTPStatus, text: str, kind: str = TEXT, allow: str = "") -> None:
        content = text.encode("utf-8")
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, **({"Allow": allow} if allow else {})}.items():
            self.send_header(name, value)
        if status is HTTPStatus.METHOD_NOT_ALLOWED:  # its body was not read, so nothing can follow it
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
