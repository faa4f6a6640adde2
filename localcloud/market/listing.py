"""What EC2's listings have in common: filters with wildcards, and pages."""

import base64
import fnmatch
from collections.abc import Callable, Iterable
from typing import TypeVar

from localcloud.market.errors import EC2Error
from localcloud.market.requests import Params

Row = TypeVar("Row")
MOST_RESULTS = 1000


def filters_of(params: Params, known: set[str]) -> dict[str, list[str]]:
    """Return a request's filters by name; ``tag:`` is known everywhere, any other unknown one is an error."""
    filters: dict[str, list[str]] = {}
    for asked in params.get("Filters") or []:
        name = asked["Name"]
        if name not in known and not name.startswith("tag:"):
            raise EC2Error("InvalidParameterValue", f"The filter '{name}' is invalid (or unknown to this market)")
        filters[name] = list(asked["Values"])
    return filters


def matches(attributes: Iterable[tuple[str, str]], name: str, patterns: list[str]) -> bool:
    """Say whether one of the attributes of that name has one of the values, in which * and ? stand for anything."""
    globs = [pattern.replace("[", "[[]") for pattern in patterns]
    return any(key == name and any(fnmatch.fnmatchcase(value, glob) for glob in globs) for key, value in attributes)


def page_of(
    rows: list[Row], params: Params, *, key: Callable[[Row], int], most: int = MOST_RESULTS
) -> tuple[list[Row], str | None]:
    """Return the rows of one page and the token of the next; the token holds the last row's number."""
    if token := params.get("NextToken"):
        try:
            last = int(base64.urlsafe_b64decode(token.encode()))
        except ValueError:
            raise EC2Error("InvalidNextToken", f"The token '{token}' is invalid") from None
        rows = [row for row in rows if key(row) > last]
    size = min(params.get("MaxResults") or most, most)
    if len(rows) <= size:
        return rows, None
    return rows[:size], base64.urlsafe_b64encode(str(key(rows[size - 1])).encode()).decode()
