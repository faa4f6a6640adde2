"""The topic for people: plain text, with attributes by which a subscription can filter."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.domain.alarm.message import Message
from lambdas.ports import NotSentError


class MessageTopic:
    """The Messages port over SNS."""

    def __init__(self, client: Any, topic: str) -> None:
        self._client = client
        self._topic = topic

    def send(self, message: Message) -> None:
        """Publish one message. Raises NotSentError, so that the alarm's event comes back and is tried again."""
        try:
            self._client.publish(
                TopicArn=self._topic,
                Subject=message.subject,
                Message=message.body,
                MessageAttributes={"severity": {"DataType": "String", "StringValue": str(message.severity)}},
            )
        except (BotoCoreError, ClientError) as error:
            raise NotSentError(str(error)) from error
