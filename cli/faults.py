"""Turns whatever AWS, its SDK or the control plane's adapters raise into one line that names the next step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
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
ACTION = re.compile(r"perform: ([a-z0-9-]+:[A-Za-z*]+)")


@contextmanager
def told_plainly() -> Iterator[None]:
    """Raise AwsFaultError or RefusedError for what a command must expect."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError):
        raise AwsFaultError("No AWS credentials were found: run aws configure or aws sso login.") from None
    except NoRegionError:
        raise AwsFaultError("No AWS Region is set: export AWS_REGION, for example us-east-1.") from None
    except ProfileNotFound as error:
        raise AwsFaultError(f"{error}. Set AWS_PROFILE to one of aws configure list-profiles.") from None
    except ClientError as error:
        raise AwsFaultError(explained(error)) from None
    except BotoCoreError as error:
        raise AwsFaultError(f"AWS could not be reached: {error}") from None
    except FleetError as error:
        raise AwsFaultError(refused(error.failure.code, error.failure.message)) from None
    except UnreadableStatusError as error:
        raise RefusedError(str(error)) from None


def explained(error: ClientError) -> str:
    """What AWS answered, with what to do about it."""
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    if code == "ResourceNotFoundException":
        return (
            f"It does not exist ({message or error.operation_name}). Is the stack deployed in this account and Region?"
        )
    if code == "ValidationError" and "does not exist" in message:
        return f"{message}. Deploy it with make deploy, or name yours with --stack."
    return refused(code, message, error.operation_name)


def refused(code: str, message: str, operation: str = "") -> str:
    """A refusal in words; a missing right is named as a policy would name it."""
    if code in DENIED:
        named = ACTION.search(message)
        action = named.group(1) if named else operation or "the call"
        return f"Your credentials lack the right {action}; ask for it, or use others. AWS says: {code}: {message}"
    if code in BAD_CREDENTIALS:
        return f"AWS does not take these credentials ({code}: {message}). Try aws sts get-caller-identity."
    return f"AWS answered {code}: {message}"
