"""Dead letters: a message in a dead-letter queue is sent back to its work queue."""

from __future__ import annotations

import json
from typing import Any

from acceptance.run import NotSeenError, Run

MOVE_SECONDS = 240
ENDS = ("COMPLETED", "FAILED", "CANCELLED")
NO_POOL = "accept-no-such-pool"
"""The functions do nothing for a pool without item and without instances."""


def move(run: Run) -> str:
    """Put a message into the dead-letter queue of due pools and move it to their queue."""
    sqs, queues = run.client("sqs"), run.deployment.resources("AWS::SQS::Queue")
    dead = next((url for name, url in queues.items() if "DueDead" in name), None)
    if dead is None:
        raise NotSeenError(f"no dead-letter queue of due pools among {sorted(queues)}")
    sqs.send_message(QueueUrl=dead, MessageBody=json.dumps({"pool_name": NO_POOL, "why": "acceptance"}))
    source, target = _arn(sqs, dead), _arn(sqs, run.deployment.output("DueQueueUrl"))
    sqs.start_message_move_task(SourceArn=source, DestinationArn=target)

    def ended() -> dict[str, Any] | None:
        tasks = sqs.list_message_move_tasks(SourceArn=source)["Results"]
        return next((dict(one) for one in tasks if one["Status"] in ENDS), None)

    task = run.until(ended, "the end of the move", seconds=MOVE_SECONDS)
    text = f"{task['Status']}, {task.get('ApproximateNumberOfMessagesMoved', 0)} moved {task.get('FailureReason', '')}"
    run.judge("dead-letter-move", text.strip(), holds=task["Status"] == "COMPLETED")
    return text.strip()


def _arn(sqs: Any, url: str) -> str:
    return str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])
