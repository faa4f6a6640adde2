"""Decisions of the local cloud's IAM evaluator on requests under statements of the template or of a document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

NAMES = {"<AWS::Partition>": "aws", "<AWS::Region>": "us-east-1", "<AWS::AccountId>": "123456789012"}
"""Values that the deployment fills in."""


def flat(value: Any) -> Any:
    """Shorten the intrinsic functions in texts, lists and maps."""
    if isinstance(value, list):
        return [flat(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "Fn::Join" in value:
        return "".join(str(flat(part)) for part in value["Fn::Join"][1])
    if "Ref" in value:
        return f"<{value['Ref']}>"
    if "Fn::GetAtt" in value:
        return f"<{'.'.join(value['Fn::GetAtt'])}>"
    return {name: flat(one) for name, one in value.items()}


def deployed(value: Any) -> Any:
    """Fill in a value as a deployment in us-east-1 does. References to resources stay."""
    match flat(value):
        case dict() as pairs:
            return {name: deployed(one) for name, one in pairs.items()}
        case list() as several:
            return [deployed(one) for one in several]
        case str() as text:
            return re.sub("<AWS::\\w+>", lambda token: NAMES[token[0]], text)
        case other:
            return other


def decision(statements: Iterable[Mapping[str, Any]], action: str, resource: str, context: Mapping[str, Any]) -> str:
    """Return ``Allow``, ``Deny`` or ``ImplicitDeny``. Principals are not checked."""
    named = [{name: part for name, part in deployed(dict(one)).items() if name != "Principal"} for one in statements]
    text = json.dumps(named)
    for key, value in context.items():
        text = text.replace(f"${{{key}}}", str(value))  # policy variables, which the evaluator does not fill in
    request = EvalContext(
        principal_arn="arn:aws:sts::123456789012:assumed-role/function/function",
        principal_type="AssumedRole",
        principal_account="123456789012",
        action=action,
        resource_arn=resource,
        region="us-east-1",
        # The evaluator reads condition keys in lower case.
        service_context={key.lower(): value for key, value in context.items()},
    )
    policy = parse_policy_document({"Version": "2012-10-17", "Statement": json.loads(text)})
    return str(evaluate(request, [policy]).decision)
