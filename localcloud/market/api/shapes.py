"""Refuses values that AWS's service models do not allow, for every action, as AWS does.

Before it sends a request, botocore checks types and the minimum of lengths and numbers. AWS checks the rest: the
maximum, patterns, and the values of enumerations.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape

from localcloud.market.model.errors import EC2Error
from localcloud.market.model.requests import Params

_GROWING = frozenset({"InstanceType"})
"""Enumerations that AWS extends so often that no model has all values."""

_SHOWN = 80


@cache
def operation(service: str, action: str) -> OperationModel:
    """Return botocore's model of an action of a service."""
    return _service(service).operation_model(action)


@cache
def _service(service: str) -> ServiceModel:
    return ServiceModel(Loader(include_default_search_paths=True).load_service_model(service, "service-2"), service)


def refuse_beyond_model(service: str, action: str, params: Params) -> None:
    """Raise AWS's error for the first value of a request that the action's model does not allow."""
    shape = operation(service, action).input_shape
    for path, value, rule in _faults(shape, params, "") if shape else ():
        shown = str(value)[:_SHOWN]
        if service == "ec2":
            raise EC2Error("InvalidParameterValue", f"Value ({shown}) for parameter {path} is invalid. {rule}")
        raise EC2Error(
            "ValidationException",
            f"1 validation error detected: Value '{shown}' at '{path}' failed to satisfy constraint: {rule}",
        )


def _faults(shape: Shape, value: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """Yield each forbidden part of a value: its path, the part, and the rule."""
    if rule := _broken(shape, value):
        yield path, value, rule
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _faults(member, value[name], f"{path}.{name}" if path else name)
    elif shape.type_name == "list":
        for number, member in enumerate(value, 1):
            yield from _faults(shape.member, member, f"{path}.{number}")
    elif shape.type_name == "map":
        for key, member in value.items():
            yield from _faults(shape.value, member, f"{path}.{key}")


def _broken(shape: Shape, value: Any) -> str:
    """Return the rule of a shape that a value breaks. Empty if it breaks none."""
    sized = isinstance(value, str | list | dict)
    size = len(value) if sized else value
    most = shape.metadata.get("max")
    if most is not None and size > most:
        return f"Member must have {'length' if sized else 'value'} less than or equal to {most}"
    if isinstance(value, str):
        pattern, values = shape.metadata.get("pattern"), shape.metadata.get("enum")
        if pattern and not _compiled(pattern).fullmatch(value):
            return f"Member must satisfy regular expression pattern: {pattern}"
        if values and value not in values and shape.name not in _GROWING:
            return f"Member must satisfy enum value set: [{', '.join(values)}]"
    return ""


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # Python does not know Unicode classes. They occur only in parameters that the market does not support.
    return re.compile(re.sub(r"\\p\{\w+\}", r"\\w", pattern))
