"""What a deployer may choose: the CDK context keys, their meaning, and the error for a key that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

RECORD = "Choices"
"""The stack's output that records its choices, as JSON: the next deployment keeps them."""

DEFAULT_STACK = "spotpools"

OF_THE_LOCAL_CLOUD = ("stage", "pace")
"""Keys that only the local cloud sets."""


class ContextError(ValueError):
    """A context key or value that cannot be deployed. The message is one line and names the key."""


@dataclass(frozen=True)
class Choice:
    """A context key. ``example`` is a valid value, ``default`` what applies without one, in words."""

    meaning: str
    example: str
    default: str = "none"


CHOICES = {
    "stack": Choice(
        "name of the stack, prefix of its resources and value of the tag `spotpools:stack`: 1 to 63 letters, digits "
        "and hyphens, a letter first",
        "spotpools-test",
        f"`{DEFAULT_STACK}`",
    ),
    "alarm_email": Choice("e-mail address that receives the messages about alarms", "name@example.com"),
    "subnet_ids": Choice(
        "subnets for pools that list none; a list in `cdk.json`, or separated by commas; about 90 at most fit into a "
        "function's environment",
        "subnet-0123456789abcdef0",
        "the default VPC's",
    ),
    "instance_role_arns": Choice(
        "the only IAM roles that pools' launch templates may give to instances",
        "arn:aws:iam::123456789012:role/name (no wildcards)",
    ),
    "image_parameter_arns": Choice(
        "your own Systems Manager parameters that pools may take their image from",
        "arn:aws:ssm:eu-west-1:123456789012:parameter/images/ml",
    ),
    "volume_key_arns": Choice(
        "your own KMS keys for encrypted volumes: [below](#volumes-with-a-key-of-your-own)",
        "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-… (no alias)",
    ),
    "interruptions_per_hour": Choice("interruption notices of one pool within an hour that raise an alarm", "20", "10"),
    "price_above_cap_minutes": Choice(
        "minutes for which every offering of a pool may cost more than its `spot_max_price` before an alarm", "60", "15"
    ),
    "runbook": Choice(
        "path or URL of the runbook in alarms, at most 225 characters; the section's name follows as a fragment",
        "https://example.com/runbook",
        "`docs/runbook.md`",
    ),
    "permissions_boundary": Choice(
        "ARN of a managed policy that bounds every role of the stack", "arn:aws:iam::123456789012:policy/name"
    ),
}
"""Everything that a deployer may choose, by its context key."""


def refuse_unknown(keys: Iterable[str]) -> None:
    """Raise ``ContextError`` for a key that is neither ours nor the CDK's, which have ``:``, ``/``, ``@`` or hyphens.

    A misspelt ``alarm_email`` would deploy alarms that no one receives.
    """
    known = (*CHOICES, *OF_THE_LOCAL_CLOUD)
    for key in keys:
        if key in known or set(key) & set(":/@"):
            continue
        near = difflib.get_close_matches(key.replace("-", "_").lower(), CHOICES, n=1, cutoff=0.5)
        if "-" in key and not near:  # such as cli-telemetry
            continue
        hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(CHOICES)}"
        raise ContextError(f"{key}: there is no such choice; {hint}")
