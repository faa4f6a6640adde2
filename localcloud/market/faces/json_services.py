"""Other AWS services of the market over HTTP, with AWS JSON 1.1: the price list, and SSM's commands.

Other SSM calls are forwarded to the SSM at ``AWS_ENDPOINT_URL``, so that a function needs only one address.
"""

import http.client
import json
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from werkzeug.wrappers import Request, Response

from localcloud.market.api.checks import IamCheck
from localcloud.market.api.pricing import PRICING_ACTIONS
from localcloud.market.api.ssm import DOCUMENT, SSM_ACTIONS
from localcloud.market.model.errors import EC2Error
from localcloud.market.model.market import Market
from localcloud.market.model.requests import Actions, Answer, Params

_TARGETS: dict[str, Actions] = {"AWSPriceListService": PRICING_ACTIONS, "AmazonSSM": SSM_ACTIONS}
_CONTENT_TYPE = "application/x-amz-json-1.1"
_FORWARDED = ("Authorization", "Content-Type", "X-Amz-Target", "X-Amz-Date", "X-Amz-Security-Token", "User-Agent")
_FORWARD_SECONDS = 30
_REFUSAL = "AccessDeniedException"


def action_of(request: Request) -> str | None:
    """Return the action of a JSON request. None: the request must be forwarded."""
    service, _, action = request.headers["X-Amz-Target"].partition(".")
    if service not in _TARGETS:
        raise EC2Error("UnknownOperationException", f"This market does not support {service}.")
    if action in _TARGETS[service]:
        return action
    if service != "AmazonSSM":
        raise EC2Error("UnknownOperationException", f"This market does not support {action} of {service}.")
    return None


def rights_needed(market: Market, action: str, params: Params) -> Iterator[IamCheck]:
    """Yield the checks for one of these actions."""
    if action != "SendCommand":
        service = "pricing" if action in PRICING_ACTIONS else "ssm"
        yield IamCheck(f"{service}:{action}", refusal=_REFUSAL)
        return
    resources: list[tuple[str, dict[str, str]]] = [(f"arn:aws:ssm:{market.region}::document/{DOCUMENT}", {})]
    for instance_id in params.get("InstanceIds") or []:
        instance = market.instances.get(instance_id)
        arn = f"arn:aws:ec2:{market.region}:{market.account}:instance/{instance_id}"
        resources.append((arn, instance.tags if instance else {}))
    for arn, tags in resources:
        keys = {f"ssm:resourceTag/{key}": value for key, value in tags.items()}
        yield IamCheck("ssm:SendCommand", arn, resource_tags=tags, keys=keys, refusal=_REFUSAL)


def json_answer(answer: Answer) -> Response:
    """Write an answer. Times are seconds since 1970."""
    return Response(json.dumps(answer, default=_seconds), content_type=_CONTENT_TYPE)


def json_error(error: EC2Error) -> Response:
    """Write an error."""
    body = json.dumps({"__type": error.code, "message": error.message})
    return Response(body, status=error.status, content_type=_CONTENT_TYPE)


def forward(request: Request, body: bytes) -> Response:
    """Forward a request unchanged and return the answer."""
    url = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    if not url.hostname:
        raise EC2Error("UnknownOperationException", "This market cannot forward the call: AWS_ENDPOINT_URL is not set.")
    connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=_FORWARD_SECONDS)
    try:
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        connection.request("POST", "/", body=body, headers=headers)
        answer = connection.getresponse()
        return Response(answer.read(), status=answer.status, content_type=answer.getheader("Content-Type"))
    finally:
        connection.close()


def _seconds(value: Any) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"{value!r} cannot be written into an answer")
