"""Asks the local cloud's IAM what a caller of EC2 may do: the role of its key, and the policies of that role.

Keys, policies and their evaluation are ministack's. A change holds from the next request on: policies are read for
every request; requests that wait for a reading share the next one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self

import boto3
from ministack.core.iam_evaluator import (
    EvalContext,
    ParsedStatement,
    evaluate,
    is_root_access_key,
    parse_policy_document,
)
from ministack.core.lambda_runtime import execution_credentials

from localcloud.market.api.checks import SPOT, UNAUTHORIZED, IamCheck
from localcloud.market.model.errors import EC2Error

Policies = list[list[ParsedStatement]]

_ENCODED = f". Encoded authorization failure message: {'-0aB' * 200}"
"""The end of EC2's refusals to change something. It is much longer than the message."""

_WHY = {
    "Deny": "with an explicit deny in an identity-based policy",
    "ImplicitDeny": "because no identity-based policy allows the {action} action",
}


@dataclass(frozen=True)
class CallerFunction:
    """A function that calls EC2, and its role."""

    name: str
    role: str
    """The role's name."""


class Iam:
    """IAM and Lambda of the local cloud, called with an administrator's credentials."""

    def __init__(self, region: str, url: str) -> None:
        session: Any = boto3.Session(region_name=region)
        self.client = session.client("iam", endpoint_url=url)
        self.region = region
        self._lambda = session.client("lambda", endpoint_url=url)
        self._functions: dict[str, CallerFunction] = {}
        """By access key. A function with another role has another key."""
        self._read: dict[str, tuple[float, RoleRights]] = {}
        """By access key: when the last reading began, and its result."""
        self._reading = threading.Lock()

    @classmethod
    def from_environment(cls, region: str) -> Self | None:
        """Return the IAM at ``AWS_ENDPOINT_URL`` if it is enforced (``AUTH=true``, as for ministack), else None."""
        url = os.environ.get("AWS_ENDPOINT_URL")
        return cls(region, url) if url and os.environ.get("AUTH", "").lower() == "true" else None

    def rights(self, access_key: str) -> RoleRights | None:
        """Return the rights of a key. None: all, as an administrator. ``EC2Error``: unknown key."""
        if is_root_access_key(access_key):
            return None
        asked = monotonic()
        with self._reading:
            began, rights = self._read.get(access_key, (0.0, None))
            if rights is None or began < asked:
                began, rights = monotonic(), RoleRights(self, self._function(access_key))
                self._read[access_key] = began, rights
            return rights

    def _function(self, access_key: str) -> CallerFunction:
        if access_key not in self._functions:
            self._functions = self._read_functions()
        function = self._functions.get(access_key)
        if function is None:
            raise EC2Error("AuthFailure", "AWS was not able to validate the provided access credentials")
        return function

    def _read_functions(self) -> dict[str, CallerFunction]:
        pages = self._lambda.get_paginator("list_functions").paginate()
        made = (each for page in pages for each in page["Functions"])
        functions = {execution_credentials(each)["AWS_ACCESS_KEY_ID"]: each for each in made}
        return {
            key: CallerFunction(each["FunctionName"], each["Role"].split("/")[-1]) for key, each in functions.items()
        }


class RoleRights:
    """What a function's role allows at this moment."""

    def __init__(self, iam: Iam, function: CallerFunction) -> None:
        self._iam = iam
        # One answer has all roles, so that no policy changes between two calls.
        account = iam.client.get_account_authorization_details(Filter=["Role", "LocalManagedPolicy"])
        self._roles: list[dict[str, Any]] = account["RoleDetailList"]
        (role,) = (one for one in self._roles if one["RoleName"] == function.role)
        self._account = role["Arn"].split(":")[4]
        self._caller = f"arn:aws:sts::{self._account}:assumed-role/{function.role}/{function.name}"
        managed = {one["Arn"]: one for one in account["Policies"]}
        self._policies: Policies = [
            *(parse_policy_document(one["PolicyDocument"]) for one in role["RolePolicyList"]),
            *(self._managed(one["PolicyArn"], managed) for one in role["AttachedManagedPolicies"]),
        ]
        boundary = iam.client.get_role(RoleName=function.role)["Role"].get("PermissionsBoundary")
        self._limits = [[self._managed(boundary["PermissionsBoundaryArn"], managed)]] if boundary else []

    def demand(self, checks: Iterable[IamCheck]) -> None:
        """Raise ``EC2Error`` for the first check that the caller's policies do not allow."""
        for check in checks:
            decision = self._decision(check)
            encoded = check.refusal == UNAUTHORIZED and not check.action.startswith("ec2:Describe")
            if decision != "Allow":
                raise EC2Error(
                    check.refusal,
                    f"You are not authorized to perform this operation. User: {self._caller} is not authorized to "
                    f"perform: {check.action} on resource: {check.resource} "
                    f"{_WHY[decision].format(action=check.action)}{_ENCODED if encoded else ''}",
                )

    def allow(self, checks: Iterable[IamCheck]) -> bool:
        """Return whether the caller's policies allow all checks."""
        return all(self._decision(check) == "Allow" for check in checks)

    def roles_of_profile(self, profile: str) -> list[str]:
        """Return the ARNs of an instance profile's roles, by its name or ARN. ``EC2Error`` if there is none."""
        name = profile.rsplit("/", maxsplit=1)[-1]
        found = [
            role["Arn"]
            for role in self._roles
            if name in (one["InstanceProfileName"] for one in role["InstanceProfileList"])
        ]
        if not found:
            text = f"Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
            raise EC2Error("InvalidParameterValue", text)
        return found

    def demand_spot_role(self, check: IamCheck) -> None:
        """Create the account's service-linked role for spot if it is missing. ``EC2Error`` if the caller may not."""
        if not any(role["Path"] == f"/aws-service-role/{SPOT}/" for role in self._roles):
            self.demand([check])
            with suppress(self._iam.client.exceptions.EntityAlreadyExistsException):  # another launch was first
                self._iam.client.create_service_linked_role(AWSServiceName=SPOT)

    def _managed(self, arn: str, of_the_account: Mapping[str, Mapping[str, Any]]) -> list[ParsedStatement]:
        """Read a managed policy: one of the account, or one of AWS."""
        if arn in of_the_account:
            versions = of_the_account[arn]["PolicyVersionList"]
            (document,) = (one["Document"] for one in versions if one["IsDefaultVersion"])
        else:
            version = self._iam.client.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            answer = self._iam.client.get_policy_version(PolicyArn=arn, VersionId=version)
            document = answer["PolicyVersion"]["Document"]
        return list(parse_policy_document(document))

    def _decision(self, check: IamCheck) -> str:
        context = EvalContext(
            principal_arn=self._caller,
            principal_type="AssumedRole",
            principal_account=self._account,
            action=check.action,
            resource_arn=check.resource,
            region=self._iam.region,
            service_context=_context(check, self._iam.region),
        )
        return str(evaluate(context, self._policies, *self._limits).decision)


def _context(check: IamCheck, region: str) -> dict[str, Any]:
    """Return the condition keys of a request in lower case, as the evaluator expects them."""
    keys: Mapping[str, Any] = {
        "ec2:Region": region,
        "aws:TagKeys": list(check.request_tags) or None,
        **{f"aws:RequestTag/{key}": value for key, value in check.request_tags.items()},
        **{f"aws:ResourceTag/{key}": value for key, value in check.resource_tags.items()},
        **{f"ec2:ResourceTag/{key}": value for key, value in check.resource_tags.items()},
        **check.keys,
    }
    return {key.lower(): value for key, value in keys.items()}
