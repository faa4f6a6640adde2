"""Errors of AWS, of its SDK and of the adapters as one-line messages that name the next step."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    ConnectionError,  # noqa: A004  botocore's own
    CredentialRetrievalError,
    HTTPClientError,
    InvalidConfigError,
    InvalidRegionError,
    LoginError,
    MissingDependencyException,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)

from cli.exits import AwsFaultError, RefusedError
from lambdas.ports import FleetError, UnreadableStatusError

DENIED = (
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "UnauthorizedOperation",
)
BAD_CREDENTIALS = (
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
)
WHAT_TO_DO = {
    "No AWS credentials were found: run aws configure or aws sso login, or set AWS_PROFILE.": (NoCredentialsError,),
    "No AWS Region is set: give --region, or export AWS_REGION, for example us-east-1.": (NoRegionError,),
    "{error} Give --region, or export AWS_REGION, for example us-east-1.": (InvalidRegionError,),
    "{error}. Set AWS_PROFILE to one of aws configure list-profiles.": (ProfileNotFound,),
    "Your sign-in to AWS is invalid or has expired: run aws sso login{profile}. The SDK says: {error}": (
        SSOError,
        TokenRetrievalError,
    ),
    "Your sign-in to AWS is invalid or has expired: run aws login{profile}. The SDK says: {error}": (LoginError,),
    "AWS could not be reached: {error}. Check the network and the Region.": (ConnectionError, HTTPClientError),
    "Your AWS configuration gives no credentials: {error}. Try aws sts get-caller-identity.": (
        ConfigParseError,
        CredentialRetrievalError,
        InvalidConfigError,
        MissingDependencyException,
        PartialCredentialsError,
        RefreshWithMFAUnsupportedError,
    ),
}
"""The message for each error class of the SDK. ``{profile}`` becomes the option ``--profile NAME``, or nothing."""
ACTION = re.compile(r"perform: ([a-z0-9-]+:[A-Za-z*]+)")


@contextmanager
def expected_errors() -> Iterator[None]:
    """Turn the errors that a command must expect into AwsFaultError or RefusedError."""
    try:
        yield
    except ClientError as error:
        raise AwsFaultError(client_error_text(error)) from None
    except BotoCoreError as error:
        raise AwsFaultError(sdk_error_text(error)) from None
    except FleetError as error:
        raise AwsFaultError(refusal_text(error.failure.code, error.failure.message)) from None
    except UnreadableStatusError as error:
        raise RefusedError(str(error)) from None


def sdk_error_text(error: BotoCoreError) -> str:
    """Say why the SDK got no answer from AWS, and what to do. The message quotes the SDK."""
    text = next((text for text, kinds in WHAT_TO_DO.items() if isinstance(error, kinds)), "The AWS SDK failed: {error}")
    name = os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE")  # the same order as boto3
    return text.format(error=error, profile=f" --profile {name}" if name else "")


def client_error_text(error: ClientError) -> str:
    """Say what AWS answered, and what to do."""
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code == "ResourceNotFoundException":
        return (
            f"It does not exist ({message or error.operation_name}). Is the stack deployed in this account and Region?"
        )
    if code == "ValidationError" and "does not exist" in message:
        return f"{message}. Deploy it with make deploy, or name yours with --stack, its Region with --region."
    return refusal_text(code, message, error.operation_name)


def refusal_text(code: str, message: str, operation: str = "") -> str:
    """Put a refusal into words. A missing permission has the name that IAM policies use."""
    if code in DENIED:
        named = ACTION.search(message)
        action = named.group(1) if named else operation or "for this call"
        return (
            f"Your credentials lack the permission {action}. Ask for it, or use other credentials. "
            f"AWS says: {code}: {message}"
        )
    if code in BAD_CREDENTIALS:
        return f"AWS does not accept these credentials ({code}: {message}). Try aws sts get-caller-identity."
    return f"AWS answered {code}: {message}"
