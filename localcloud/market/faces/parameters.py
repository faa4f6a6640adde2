"""Parameters of the local cloud's SSM, for launches with an image ``resolve:ssm:``."""

import os
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud.market.model.surroundings import PUBLIC_PARAMETERS


class Parameters:
    """Looks up parameters in the AWS at ``AWS_ENDPOINT_URL``. If that is not set, there are none."""

    def __init__(self, region: str) -> None:
        self._client: Any = None
        self._public: dict[str, str | None] = {}
        """AWS's own parameters, which do not change while the cloud runs."""
        if url := os.environ.get("AWS_ENDPOINT_URL"):
            settings = Config(connect_timeout=5, read_timeout=5)
            self._client = boto3.client("ssm", endpoint_url=url, region_name=region, config=settings)

    def __call__(self, name: str) -> str | None:
        """Return a parameter's value. None: there is no such parameter."""
        if self._client is None:
            return None
        if not name.startswith(PUBLIC_PARAMETERS):
            return self._read(name)
        if name not in self._public:
            self._public[name] = self._read(name)
        return self._public[name]

    def _read(self, name: str) -> str | None:
        try:
            return str(self._client.get_parameter(Name=name)["Parameter"]["Value"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ParameterNotFound":
                return None
            raise
