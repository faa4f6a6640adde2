"""The queue of pools to reconcile soon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lambdas.aws.asking import in_parts

BATCH = 10
"""SQS accepts no more messages in one call."""


class SqsDueQueue:
    """The DueQueue port over SQS."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    def send(self, pools: Mapping[str, str], after: timedelta = timedelta(0)) -> None:
        """Send one message for each pool, ten in one call."""
        delay = {"DelaySeconds": int(after.total_seconds())} if after else {}
        for batch in in_parts(pools.items(), BATCH):
            entries = [
                {"Id": str(number), "MessageBody": json.dumps({"pool_name": name, "why": why}), **delay}
                for number, (name, why) in enumerate(batch)
            ]
            answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
            if failed := answer.get("Failed"):
                refused = ", ".join(f"{batch[int(entry['Id'])][0]} ({entry['Code']})" for entry in failed)
                raise RuntimeError(f"SQS did not accept the reconcile of {refused}; it will be sent again.")
