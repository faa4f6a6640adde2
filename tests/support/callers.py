"""EC2 as a function sees it: a client with the credentials that the local cloud gives the function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import boto3
from botocore.config import Config
from ministack import app
from ministack.core.lambda_runtime import execution_credentials


def ec2_as(function: Mapping[str, Any], url: str) -> Any:
    """An EC2 client of a function, from the function's configuration in Lambda. It does not retry."""
    return client_as(function, url, "ec2")


def client_as(function: Mapping[str, Any], url: str, service: str) -> Any:
    """The same for any service."""
    with patch.object(app, "AUTH", new=True):  # as in the cloud: without it functions have no credentials of their own
        credentials = execution_credentials(dict(function))
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=credentials["AWS_SESSION_TOKEN"],
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )
