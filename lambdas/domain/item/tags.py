"""Users' tags: which keys and values EC2 accepts, and which keys instance metadata can show."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StringConstraints

from lambdas.domain.item.fields import BrokenRuleError, as_text

TAGS_LIMIT = 40
"""EC2 accepts 50 for each resource; the control plane sets some itself, and AWS may add its own."""

KEY_LENGTH = 127
"""From EC2's service model."""

VALUE_LENGTH = 256

RESERVED = ("aws:", "spotpools:")

TAG_TEXT = re.compile(r"[\w .:/=+\-@]*")
"""Letters, digits and spaces of any script, and these signs (EC2 User Guide, tag restrictions)."""

SIGNS = "letters, digits, spaces and . : / = + - @ _ only (EC2's rule for tags)"

SHOWABLE = re.compile(r"[0-9A-Za-z\-_+=,.@:]+")
NOT_SHOWABLE = (".", "..", "_index")
"""If instance metadata shows tags, EC2 refuses other keys, and these (EC2 User Guide, tags in instance metadata)."""


def _key(key: str) -> str:
    if key.lower().startswith(RESERVED):
        raise BrokenRuleError(f"a key that does not begin with {' or '.join(RESERVED)}", "Rename the tag.")
    if not TAG_TEXT.fullmatch(key):
        raise BrokenRuleError(SIGNS, "Rename the tag.")
    return key


def _value(value: str) -> str:
    if not TAG_TEXT.fullmatch(value):
        raise BrokenRuleError(SIGNS, "Write the value without other signs, such as commas.")
    return value


TagKey = Annotated[str, StringConstraints(min_length=1, max_length=KEY_LENGTH), AfterValidator(_key)]
TagValue = Annotated[str, BeforeValidator(as_text), StringConstraints(max_length=VALUE_LENGTH), AfterValidator(_value)]


def showable(key: str) -> bool:
    """Whether instance metadata can show a tag of this key."""
    return SHOWABLE.fullmatch(key) is not None and key not in NOT_SHOWABLE


def check_ready_tag(ready_tag: str) -> None:
    """Raise BrokenRuleError for a tag (KEY or KEY=VALUE) that a workload cannot set on its instance."""
    key, _, value = ready_tag.partition("=")
    if key.lower().startswith(RESERVED) or len(key) > KEY_LENGTH or len(value) > VALUE_LENGTH:
        raise BrokenRuleError(
            f"KEY or KEY=VALUE; keys up to {KEY_LENGTH} characters, none beginning aws: or spotpools:, values up to "
            f"{VALUE_LENGTH}",
            "Choose a short key of your own.",
        )
