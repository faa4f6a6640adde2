"""The market as a boto3 client in the same process, for fast tests and simulations of code that takes a client.

It is a client of EC2, of the price list or of SSM, with boto3's methods, keywords, answers and errors. It checks
arguments against botocore's service model, so only what boto3 would send passes. There are no retries: each fault
reaches the caller.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError, ConnectionClosedError
from botocore.loaders import Loader
from botocore.paginate import Paginator, PaginatorModel
from botocore.validate import validate_parameters

from localcloud.market.api.actions import SERVICES, carry_out
from localcloud.market.api.shapes import operation
from localcloud.market.faces.through import through
from localcloud.market.model.errors import ConnectionDroppedError, EC2Error
from localcloud.market.model.market import Market
from localcloud.market.model.requests import Answer

_METHODS = {service: {xform_name(action): action for action in actions} for service, actions in SERVICES.items()}
"""The methods of a client and their actions, by service."""


class MarketClient:
    """A client of a market. ``sleep`` carries out the delays of faults (by default they take no time)."""

    def __init__(
        self,
        market: Market,
        *,
        service: str = "ec2",
        sleep: Callable[[float], None] = lambda _: None,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._market = market
        self._service = service
        self._sleep = sleep
        self._lock = lock or threading.RLock()

    def __getattr__(self, name: str) -> Callable[..., Answer]:
        """Return the method of an action, such as ``create_fleet``. It takes boto3's keywords."""
        action = None if name.startswith("_") else _METHODS[self._service].get(name)
        if action is None:
            raise AttributeError(f"the market's client has no {name}")
        return lambda **params: self._call(action, params)

    def get_paginator(self, operation_name: str) -> Paginator:
        """Return boto3's paginator of a method."""
        action = _METHODS[self._service][operation_name]
        pages = _paginators(self._service).get_paginator(action)
        return Paginator(getattr(self, operation_name), pages, operation(self._service, action))

    def _call(self, action: str, params: dict[str, Any]) -> Answer:
        validate_parameters(params, operation(self._service, action).input_shape)
        try:
            with self._lock:
                fault = self._market.begin(action)
            answer = through(fault, lambda: self._carry_out(action, params, fault), self._sleep)
        except EC2Error as error:
            raise ClientError(
                {
                    "Error": {"Code": error.code, "Message": error.message},
                    "ResponseMetadata": {
                        "RequestId": "",
                        "HostId": "",
                        "HTTPStatusCode": error.status,
                        "HTTPHeaders": {},
                        "RetryAttempts": 0,
                    },
                },
                action,
            ) from error
        except ConnectionDroppedError as error:
            raise ConnectionClosedError(endpoint_url="the market in this process") from error
        return answer | {"ResponseMetadata": {"HTTPStatusCode": 200}}

    def _carry_out(self, action: str, params: dict[str, Any], fault: Any) -> Answer:
        with self._lock:
            return carry_out(self._market, action, params, fault)


@cache
def _paginators(service: str) -> PaginatorModel:
    return PaginatorModel(Loader(include_default_search_paths=True).load_service_model(service, "paginators-1"))
