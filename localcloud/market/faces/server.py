"""The market as EC2 over HTTP, with its control interface under ``/market``.

moto's parser and serializer read requests and write answers by botocore's service model, so they are what boto3 really
sends and expects. The market answers its own actions, and moto's EC2 backend the others. Other actions on instances are
refused, because moto does not know the market's instances.
"""

import json
import logging
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any, cast
from urllib.parse import parse_qsl

from botocore.utils import parse_timestamp
from moto.core.parse import EC2QueryParser, RequestDict
from moto.core.serialize import EC2Serializer, SerializationContext
from moto.core.utils import get_service_model
from moto.ec2.exceptions import EC2ClientError
from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from localcloud.market.api.actions import ACTIONS, carry_out
from localcloud.market.api.checks import Rights, anything, may_launch, of_request
from localcloud.market.faces.control import Control
from localcloud.market.faces.json_services import action_of, forward, json_answer, json_error, rights_needed
from localcloud.market.faces.through import through
from localcloud.market.model.errors import ConnectionDroppedError, EC2Error
from localcloud.market.model.market import Event, Market
from localcloud.market.model.requests import Params
from localcloud.market.model.settings import Fault

HOST = "127.0.0.1"

_REFUSED = {
    "RunInstances",
    "StartInstances",
    "StopInstances",
    "RebootInstances",
    "DescribeInstanceAttribute",
    "RequestSpotInstances",
    "CancelSpotInstanceRequests",
    "DescribeSpotInstanceRequests",
    "RequestSpotFleet",
    "CancelSpotFleetRequests",
    "DeleteFleets",
    "DescribeFleets",
    "DescribeFleetInstances",
    "DescribeFleetHistory",
    "ModifyFleet",
}

_log = logging.getLogger("localcloud.market")

Environ = dict[str, Any]
Sink = Callable[[list[Event]], None]
RightsOf = Callable[[str], Rights | None]


class MarketServer:
    """Serves a market on a port of this machine, advances its time, and passes its events to a sink.

    ``sink`` is called in its own thread with the events of a moment, oldest first. ``rights`` returns what the holder
    of an access key may do. None: everything.
    """

    def __init__(
        self,
        market: Market,
        control: Control,
        *,
        port: int = 0,
        sink: Sink | None = None,
        rights: RightsOf = lambda _: None,
    ) -> None:
        self._market = market
        self._control = control
        self._sink = sink
        self._rights = rights
        self._changed = threading.Condition(threading.RLock())
        self._stopped = False
        self._to_deliver: queue.SimpleQueue[list[Event] | None] = queue.SimpleQueue()
        self._ec2 = get_service_model("ec2")
        self._moto = create_backend_app("ec2")
        self._server = make_server(HOST, port, self._answer, threaded=True, request_handler=_QuietHandler)
        self._server.daemon_threads = True  # type: ignore[attr-defined]  # only the threaded server has it
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._server.serve_forever, self._tick, self._deliver)
        ]

    @property
    def url(self) -> str:
        """Return the URL."""
        return f"http://{HOST}:{self._server.server_port}"

    def start(self) -> None:
        """Start serving in the background."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop serving. Returns when all events are delivered, or after 10 s."""
        self._server.shutdown()
        self._server.server_close()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads[:2]:
            thread.join()
        self._to_deliver.put(None)
        self._threads[2].join(timeout=10)

    # Time and events

    def _tick(self) -> None:
        with self._changed:
            while not self._stopped:
                if events := self._market.advance():
                    self._to_deliver.put(events)
                due = self._market.next_due()
                self._changed.wait((due - self._market.clock()).total_seconds() if due else None)

    def _deliver(self) -> None:
        while (events := self._to_deliver.get()) is not None:
            if self._sink:
                self._sink(events)

    # HTTP

    def _answer(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        body = request.get_data()
        answer = self._ec2_call
        if request.path.split("/")[1] == "market":
            answer = self._control_call
        elif "X-Amz-Target" in request.headers:
            answer = self._json_call
        return answer(request, body)(environ, start_response)

    def _control_call(self, request: Request, body: bytes) -> Response:
        with self._changed:
            status, answer = self._control.handle(request.method, request.path, request.args, body)
            self._changed.notify_all()
        return Response(json.dumps(answer), status=status, content_type="application/json")

    def _json_call(self, request: Request, body: bytes) -> Response:
        try:
            action = action_of(request)
            if action is None:
                return forward(request, body)
            return self._played(action, request, lambda fault: self._json_effect(action, request, body, fault))
        except EC2Error as error:
            return json_error(error)

    def _json_effect(self, action: str, request: Request, body: bytes, fault: Fault | None) -> Response:
        rights, params = self._rights(_access_key(request)), json.loads(body)
        with self._changed:
            if rights:
                rights.demand(rights_needed(self._market, action, params))
            return json_answer(carry_out(self._market, action, params, fault))

    def _ec2_call(self, request: Request, body: bytes) -> Response:
        values = dict(parse_qsl(body.decode(), keep_blank_values=True))
        action = values.get("Action", "")
        try:
            return self._played(action, request, lambda fault: self._effect(action, values, body, request, fault))
        except EC2Error as error:
            return self._error(error)

    def _played(self, action: str, request: Request, effect: Callable[[Fault | None], Response]) -> Response:
        """Count a call, apply its fault, and log it."""
        began = time.monotonic()
        outcome = "answered"
        try:
            with self._changed:
                fault = self._market.begin(action)
            return through(fault, lambda: effect(fault), time.sleep)
        except EC2Error as error:
            outcome = error.code
            raise
        except ConnectionDroppedError as error:
            outcome = "connection dropped"
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError from error
        finally:
            _log.info("%s: %s in %.0f ms", action, outcome, 1000 * (time.monotonic() - began))

    def _effect(
        self, action: str, values: Mapping[str, str], body: bytes, request: Request, fault: Fault | None
    ) -> Response:
        rights = self._rights(_access_key(request))  # outside the lock: this calls IAM over HTTP
        params = self._params(action, values) if rights or action in ACTIONS else {}
        if rights:
            with self._changed:
                rights.demand(of_request(self._market, action, params))
        if action in _REFUSED:
            raise EC2Error("UnsupportedOperation", f"This market does not support {action}; use CreateFleet to launch.")
        if action not in ACTIONS or not _about_ours(action, values):
            return Response.from_app(self._moto, {**request.environ, "wsgi.input": BytesIO(body)}, buffered=True)
        with self._changed:
            permit = may_launch(self._market, rights) if rights else anything
            answer = carry_out(self._market, action, params, fault, permit)
            context = SerializationContext(request_id=self._market.new_uuid())
            self._changed.notify_all()
        serializer = EC2Serializer(operation_model=self._ec2.operation_model(action), context=context)
        serialized = serializer.serialize(answer)
        return Response(serialized["body"], status=serialized["status_code"], headers=serialized["headers"])

    def _params(self, action: str, values: Mapping[str, str]) -> Params:
        parser = EC2QueryParser(self._ec2.operation_model(action), timestamp_parser=parse_timestamp)
        # The parser of this protocol reads only the form's values.
        return dict(parser.parse(cast("RequestDict", {"values": values})))

    def _error(self, error: EC2Error) -> Response:
        # Any action's model: all EC2 errors have the same form.
        serializer = EC2Serializer(operation_model=self._ec2.operation_model("DescribeInstances"))
        serialized = serializer.serialize(EC2ClientError(error.code, error.message))
        return Response(serialized["body"], status=error.status, headers=serialized["headers"])


class _QuietHandler(WSGIRequestHandler):
    """Logs no line per request. Calls are logged by name above."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Do nothing."""


def _access_key(request: Request) -> str:
    """Return the key of a request's signature, which is not verified. Empty if it is not signed."""
    signed = re.search(r"Credential=([^/,\s]+)", request.headers.get("Authorization", ""))
    return signed[1] if signed else ""


def _about_ours(action: str, values: Mapping[str, str]) -> bool:
    """Say whether a call is about resources of the market. Only tagging may be about others."""
    if action not in ("CreateTags", "DeleteTags"):
        return True
    about = {value.startswith(("i-", "lt-")) for name, value in values.items() if name.startswith("ResourceId.")}
    if about == {True, False}:
        raise EC2Error("UnsupportedOperation", "This market tags its own and other resources only in separate calls.")
    return True in about
