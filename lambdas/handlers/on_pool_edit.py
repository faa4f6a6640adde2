"""Reads the stream of the Pools table: requests a reconcile for each edited pool at once."""

from __future__ import annotations

from typing import Any

from lambdas.events import edited_pools
from lambdas.telemetry import logger, tracer
from lambdas.wiring import edited_queue


@tracer.capture_lambda_handler(capture_response=False)
@logger.inject_lambda_context
def handler(event: dict[str, Any], _context: Any) -> None:
    """Ask for a reconcile of each pool in the batch."""
    names = edited_pools(event.get("Records"))
    edited_queue().send(dict.fromkeys(names, "its item was edited"))
    logger.info("edited", pools=names)
