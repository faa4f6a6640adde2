"""Applies an injected fault to a call. Every face of the market uses it."""

from collections.abc import Callable
from typing import TypeVar

from localcloud.market.model.errors import ConnectionDroppedError, EC2Error
from localcloud.market.model.settings import FAULT_TEXT, Fault

Reply = TypeVar("Reply")


def through(fault: Fault | None, effect: Callable[[], Reply], sleep: Callable[[float], None]) -> Reply:
    """Let a call take effect and return its answer, except where its fault changes this.

    ``sleep`` carries out the fault's delay, in seconds of real time. Raises ``EC2Error`` or ``ConnectionDroppedError``.
    """
    if fault is None:
        return effect()
    if fault.where == "before":
        sleep(fault.delay_seconds)
        _fail(fault)
        return effect()
    answer = effect()
    sleep(fault.delay_seconds)
    if fault.where == "after":
        _fail(fault)
    elif fault.drop_connection:
        raise ConnectionDroppedError
    return answer


def _fail(fault: Fault) -> None:
    if fault.drop_connection:
        raise ConnectionDroppedError
    if fault.error:
        raise EC2Error(fault.error, fault.message or FAULT_TEXT)
