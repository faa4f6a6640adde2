"""Announces interruptions: an event on the default bus, and the pool's drain command through Systems Manager."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.aws.asking import ask, code_of, in_parts
from lambdas.domain.model.errors import failure
from lambdas.domain.model.instances import Instance
from lambdas.domain.model.results import DrainResult, Failure
from lambdas.domain.model.status import ANNOUNCED, Drained, Reason
from lambdas.ports import Clock, FleetError

SOURCE = "spotpools"
DETAIL_TYPE = "Pool Instance Draining"
DOCUMENT = "AWS-RunShellScript"
EVENTS_BATCH = 10
COMMAND_SECONDS = 60
"""Systems Manager gives up starting a command after this time."""

NOTICE_SECONDS = 120
"""How long the instance may still run, and so its command."""

NOT_SENT = "NotSent"


class EventsAndCommands:
    """The Drainer port over EventBridge and Systems Manager."""

    def __init__(self, events: Any, ssm: Any, *, stack: str, clock: Clock) -> None:
        self._events = events
        self._ssm = ssm
        self._stack = stack
        self._clock = clock

    def tell(self, pool_name: str, instances: Iterable[Instance], command: str | None) -> DrainResult:
        """Announce in batches, then run the command on each: an instance without an agent must not block the others."""
        failures: list[Failure] = []
        announced: list[Instance] = []
        for batch in in_parts(instances, EVENTS_BATCH):
            refused = self._announce(pool_name, batch)
            failures += refused
            announced += batch if not refused else []
        drained: list[Drained] = []
        for instance in announced:
            result, refusal = self._run(instance, command) if command else (self._drained(instance, ANNOUNCED), None)
            drained.append(result)
            failures += [refusal] if refusal else []
        return DrainResult(tuple(drained), tuple(failures))

    def states(self, running: Iterable[Drained]) -> Mapping[str, str]:
        """The states of commands; a command that Systems Manager has forgotten is left out."""
        found: dict[str, str] = {}
        for drain in running:
            try:
                answer = ask(self._ssm.get_command_invocation, CommandId=drain.command_id, InstanceId=drain.instance_id)
            except FleetError as error:
                if error.failure.code != "InvocationDoesNotExist":
                    raise
                continue
            found[drain.instance_id] = str(answer["Status"])
        return found

    def _announce(self, pool_name: str, instances: list[Instance]) -> list[Failure]:
        entries = [
            {
                "Source": SOURCE,
                "DetailType": DETAIL_TYPE,
                "Detail": json.dumps(
                    {
                        "stack": self._stack,
                        "pool": pool_name,
                        "instance-id": instance.id,
                        "instance-type": instance.instance_type,
                        "availability-zone": instance.zone,
                    }
                ),
            }
            for instance in instances
        ]
        try:
            answer = self._events.put_events(Entries=entries)
        except ClientError as error:
            return [failure(code_of(error), error.response["Error"].get("Message", ""))]
        except BotoCoreError as error:
            return [Failure(Reason.UNKNOWN, "NoAnswer", f"EventBridge did not answer: {error}")]
        refused = (entry for entry in answer["Entries"] if "ErrorCode" in entry)
        return [failure(entry["ErrorCode"], entry.get("ErrorMessage", "")) for entry in refused]

    def _run(self, instance: Instance, command: str) -> tuple[Drained, Failure | None]:
        try:
            answer = self._ssm.send_command(
                DocumentName=DOCUMENT,
                InstanceIds=[instance.id],
                Parameters={"commands": [command], "executionTimeout": [str(NOTICE_SECONDS)]},
                TimeoutSeconds=COMMAND_SECONDS,
                Comment=f"{self._stack}: EC2 interrupts this instance",
            )
        except ClientError as error:
            refused = failure(code_of(error), error.response["Error"].get("Message", ""))
            return self._drained(instance, f"{NOT_SENT}: {refused.code}"), refused
        except BotoCoreError as error:
            lost = Failure(Reason.UNKNOWN, "NoAnswer", f"Systems Manager did not answer: {error}")
            return self._drained(instance, f"{NOT_SENT}: {lost.code}"), lost
        sent = answer["Command"]
        return self._drained(instance, "Pending", sent["CommandId"]), None

    def _drained(self, instance: Instance, status: str, command_id: str | None = None) -> Drained:
        return Drained(instance_id=instance.id, at=self._clock(), status=status, command_id=command_id)
