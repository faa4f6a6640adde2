"""Refuses tags as EC2 does: by key, by number, and those that instance metadata cannot show."""

import re
from collections.abc import Iterable

from localcloud.market.model.errors import EC2Error

_MOST_TAGS = 50
_MOST_KEY_CHARACTERS = 127
"""From the service model (Tag)."""
_MOST_VALUE_CHARACTERS = 256

_SHOWN = re.compile(r"[0-9a-zA-Z\-_+=,.@:]{1,255}")
_RESERVED = (".", "..", "_index")


def check_tags(tags: dict[str, str]) -> None:
    """Raise EC2's error for tags that no resource may have."""
    for key, value in tags.items():
        if key.lower().startswith("aws:"):
            text = f"Tag keys starting with 'aws:' are reserved for internal use: {key}"
        elif not key:
            text = "Tag key cannot be empty"
        elif len(key) > _MOST_KEY_CHARACTERS:
            text = f"Tag key exceeds the maximum length of {_MOST_KEY_CHARACTERS} characters"
        elif len(value) > _MOST_VALUE_CHARACTERS:
            text = f"Tag value exceeds the maximum length of {_MOST_VALUE_CHARACTERS} characters"
        else:
            continue
        raise EC2Error("InvalidParameterValue", text)


def check_number(keys: Iterable[str]) -> None:
    """Raise EC2's error if a resource would have too many tags. AWS's own tags do not count."""
    if sum(not key.startswith("aws:") for key in keys) > _MOST_TAGS:
        raise EC2Error("TagLimitExceeded", f"The maximum number of tags, {_MOST_TAGS}, has been reached.")


def check_shown(keys: Iterable[str]) -> None:
    """Raise EC2's error for a key that instance metadata cannot show. For instances whose metadata shows tags."""
    for key in keys:
        if not _SHOWN.fullmatch(key) or key in _RESERVED:
            raise EC2Error(
                "InvalidParameterValue",
                f"'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}}), and "
                "must not be a reserved name ('.', '..', '_index')",
            )
