"""Runs every minute: one listing for all pools, every gauge, and a reconcile for each pool that needs one."""

from __future__ import annotations

from typing import Any

from lambdas.telemetry import logger, tracer
from lambdas.tick import tick
from lambdas.wiring import control_plane


@tracer.capture_lambda_handler(capture_response=False)
@logger.inject_lambda_context
def handler(_event: dict[str, Any], _context: Any) -> None:
    """Run one tick."""
    tick(control_plane())
