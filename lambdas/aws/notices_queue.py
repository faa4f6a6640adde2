"""The queue of EC2's events: a message that could not be handled returns soon."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError


class SqsNoticesQueue:
    """Shortens how long SQS hides a message."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    def come_back(self, receipt: str, seconds: int) -> str | None:
        """Make a message return after so many seconds. If SQS refuses, return why; the queue's time-out applies."""
        try:
            self._client.change_message_visibility(QueueUrl=self._url, ReceiptHandle=receipt, VisibilityTimeout=seconds)
        except (BotoCoreError, ClientError) as error:
            return str(error)
        return None
