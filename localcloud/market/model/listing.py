"""Filters with wildcards, and pages: common to all of EC2's listings."""

import base64
import fnmatch
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import TypeVar

from localcloud.market.model.errors import EC2Error
from localcloud.market.model.requests import Params

Row = TypeVar("Row")
Attributes = Mapping[str, Collection[str]]
"""The values of a row, by filter name."""

MOST_RESULTS = 1000
MOST_FILTER_VALUES = 200
"""In all filters of a call together."""


def filters_of(params: Params, known: set[str], *, tags: bool = True) -> dict[str, list[str]]:
    """Return a request's filters by name. Unknown filters are errors; ``tag:`` filters are allowed if ``tags``."""
    filters: dict[str, list[str]] = {}
    for asked in params.get("Filters") or []:
        name = asked["Name"]
        if name not in known and not (tags and name.startswith("tag:")):
            known_to_ec2 = "" if name.startswith("tag") else " (or unknown to this market)"
            raise EC2Error("InvalidParameterValue", f"The filter '{name}' is invalid{known_to_ec2}")
        filters[name] = list(asked["Values"])
    if sum(map(len, filters.values())) > MOST_FILTER_VALUES:
        raise EC2Error(
            "FilterLimitExceeded",
            f"The maximum number of filter values specified on a single call is {MOST_FILTER_VALUES}",
        )
    return filters


def matching(filters: Mapping[str, Iterable[str]]) -> Callable[[Attributes], bool]:
    """Return a test: whether, for each filter, one attribute matches one of its values (with * and ?)."""
    tests = [(name, _any_of(list(patterns))) for name, patterns in filters.items()]
    return lambda attributes: all(any(map(test, attributes.get(name, ()))) for name, test in tests)


def _any_of(patterns: Collection[str]) -> Callable[[str], bool]:
    if not any(set(pattern) & {"*", "?"} for pattern in patterns):
        return frozenset(patterns).__contains__
    globs = [re.compile(fnmatch.translate(pattern.replace("[", "[[]"))) for pattern in patterns]
    return lambda value: any(glob.match(value) for glob in globs)


def tag_attributes(tags: Mapping[str, str]) -> dict[str, Collection[str]]:
    """Return the values for filters by tag."""
    return {"tag-key": tags.keys(), **{f"tag:{key}": (value,) for key, value in tags.items()}}


def page_of(
    rows: Iterable[Row],
    params: Params,
    *,
    key: Callable[[Row], int],
    where: Callable[[Row], bool] = lambda _: True,
    most: int = MOST_RESULTS,
) -> tuple[list[Row], str | None]:
    """Return a page of the rows for which ``where`` holds, and the next page's token: the last row's number.

    ``rows`` are in the order of their numbers. Only the rows that the page needs are read.
    """
    last = shown_up_to(params)
    size = min(params.get("MaxResults") or most, most)
    page = list(islice((row for row in rows if key(row) > last and where(row)), size + 1))
    if len(page) <= size:
        return page, None
    return page[:size], base64.urlsafe_b64encode(str(key(page[size - 1])).encode()).decode()


def shown_up_to(params: Params) -> int:
    """Return the number of the last row of the previous page. -1: this is the first page."""
    token = params.get("NextToken")
    if not token:
        return -1
    try:
        return int(base64.urlsafe_b64decode(token.encode()))
    except ValueError:
        raise EC2Error("InvalidNextToken", f"The token '{token}' is invalid") from None
