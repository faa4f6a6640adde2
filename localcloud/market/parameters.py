"""The parameters of the local cloud's SSM, for launches whose image is named ``resolve:ssm:``."""

import os
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


class Parameters:
    """Looks parameters up in the AWS at ``AWS_ENDPOINT_URL``; without one there are none."""

    def __init__(self, region: str) -> None:
        self._client: Any = None
        if url := os.environ.get("AWS_ENDPOINT_URL"):
            settings = Config(connect_timeout=5, read_timeout=5)
            self._client = boto3.client("ssm", endpoint_url=url, region_name=region, config=settings)

    def __call__(self, name: str) -> str | None:
        """Return a parameter's value; None: there is none of this name."""
        if self._client is None:
            return None
        try:
            return str(self._client.get_parameter(Name=name)["Parameter"]["Value"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ParameterNotFound":
                return None
            raise
