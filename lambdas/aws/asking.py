"""Read calls to AWS, page by page. A call without an answer raises FleetError; it is never an empty answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.domain.model.errors import failure
from lambdas.domain.model.results import Failure
from lambdas.domain.model.status import Reason
from lambdas.ports import FleetError

Call = Callable[..., Mapping[str, Any]]
Value = TypeVar("Value")

FILTER_VALUES = 200
"""EC2 accepts no more values over all filters of one call (FilterLimitExceeded)."""


def ask(call: Call, **asked: Any) -> Mapping[str, Any]:
    """Make one call. Raises FleetError with the meaning of the refusal."""
    try:
        return call(**asked)
    except ClientError as error:
        raise FleetError(failure(code_of(error), error.response["Error"].get("Message", ""))) from error
    except BotoCoreError as error:
        raise FleetError(Failure(Reason.UNKNOWN, "NoAnswer", f"AWS did not answer: {error}")) from error


def pages(call: Call, **asked: Any) -> Iterator[Mapping[str, Any]]:
    """All pages of an answer. Raises FleetError."""
    token: str | None = None
    while True:
        page = ask(call, **asked, **({"NextToken": token} if token else {}))
        yield page
        token = page.get("NextToken")
        if not token:
            return


def in_parts(values: Iterable[Value], most: int = FILTER_VALUES) -> Iterator[list[Value]]:
    """The values in lists of at most ``most``, for calls that accept no more."""
    rest = iter(values)
    while part := list(islice(rest, most)):
        yield part


def named_in(message: str, ids: Iterable[str]) -> list[str]:
    """The ids that a message of EC2 names."""
    named = set(re.findall(r"i-[0-9a-f]+", message))
    return [id_ for id_ in ids if id_ in named]


def code_of(error: ClientError) -> str:
    """AWS's name for the error."""
    return str(error.response["Error"]["Code"])
