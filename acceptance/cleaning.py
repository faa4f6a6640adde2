"""Removes everything that a run made, whatever its state, and lists what is left.

It needs no state except for the resources that AWS keeps after the stack's deletion: those names are random, so a run
saves them before it deletes the stack. All other names follow from the stack's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from acceptance import roles
from acceptance.instances import alive
from acceptance.place import UNEXPECTED
from acceptance.run import Run
from acceptance.steps.alarms import queue_name
from acceptance.steps.stack import GOING_ON, note_resources
from cli.aws_errors import client_error_text, sdk_error_text
from lambdas.aws.tables import scan_items
from lambdas.domain.model.instances import STACK_TAG
from localcloud.processes import LocalCloudError

OWN_SECONDS, END_SECONDS, STABLE_SECONDS, TABLE_SECONDS = 60, 300, 900, 120
"""How long the stack's functions have to end the instances; then how long EC2 has; CloudFormation; DynamoDB."""

GONE = (
    "ResourceNotFoundException",
    "NoSuchEntity",
    "NotFoundException",
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "InvalidLaunchTemplateName.NotFoundException",
    "InvalidLaunchTemplateId.NotFound",
)

Say = Callable[[str], None]


class Cleaner:
    """One removal. ``faults`` has what could not be done, each in words; it goes on after each."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._say = run.place.progress.say
        self.faults: list[str] = []

    def clean(self) -> list[str]:
        """Remove everything. Returns what is left, in words; nothing if all is gone."""
        stands = False
        with self._goes_on("look for the stack"):
            stands = self._settled()
        if stands:
            with self._goes_on("save what the stack leaves"):
                note_resources(self._run)
            with self._goes_on("delete the pool items"):
                self._delete_items()
        with self._goes_on("end the instances"):
            self._end_instances()
        if stands:
            with self._goes_on("delete the stack"):
                self._run.place.destroy()
        # The functions may have launched once more until they were deleted.
        with self._goes_on("end late instances"):
            self._end_instances()
        self._judge_rest()
        for kind, name in self._run.state.resources:
            with self._goes_on(f"delete {name}"):
                self._delete_rest(kind, name)
        with self._goes_on("delete launch templates"):
            self._delete_templates()
        with self._goes_on("delete the queue"):
            self._delete_queue()
        for name in roles.names(self._run.place.stack):
            with self._goes_on(f"delete the role {name}"):
                self._delete_role(name)
        if not self._run.local:
            with self._goes_on("delete experiment templates"):
                self._delete_experiments()
        return self.left()

    def left(self) -> list[str]:
        """Whatever of the run still exists, and each look that failed."""
        found: list[str] = []
        looks = (
            self._instances_left,
            self._stack_left,
            self._rest_left,
            self._templates_left,
            self._queue_left,
            self._roles_left,
        )
        for look in looks:
            before = len(self.faults)
            with self._goes_on("look for what is left"):
                found += look()
            found += [f"unknown: {fault}" for fault in self.faults[before:]]
        return found

    @contextmanager
    def _goes_on(self, what: str) -> Iterator[None]:
        """Record a fault and go on: one refusal must not keep the rest alive."""
        try:
            yield
        except ClientError as error:
            if error.response["Error"]["Code"] not in GONE:
                self._fault(f"{what}: {client_error_text(error)}")
        except BotoCoreError as error:
            self._fault(f"{what}: {sdk_error_text(error)}")
        except LocalCloudError as error:
            self._fault(f"{what}: {error}" + (f" (log: {error.log})" if error.log else ""))
        except UNEXPECTED as error:
            log = self._run.place.note_fault(what)
            self._fault(f"{what}: an answer has another shape than expected: {error!r} (traceback: {log})")

    def _fault(self, text: str) -> None:
        self.faults.append(text)
        self._say(f"! {text}")

    def _client(self, service: str) -> Any:
        return self._run.client(service)

    def _until(self, condition: Callable[[], bool], seconds: float) -> bool:
        begun = monotonic()
        while not condition():
            if monotonic() - begun > seconds:
                return False
            sleep(self._run.place.poll_seconds)
        return True

    def _settled(self) -> bool:
        """Wait until CloudFormation is done with a deployment that was cut short. Whether there is a stack."""
        self._until(lambda: not (self._run.place.status() or "").endswith(GOING_ON), STABLE_SECONDS)
        return self._run.place.exists()

    def _delete_items(self) -> None:
        outputs = self._run.deployment.outputs
        if table := outputs.get("PoolsTable"):
            dynamodb = self._client("dynamodb")
            for item in list(scan_items(dynamodb, table)):
                dynamodb.delete_item(TableName=table, Key={"pool_name": {"S": item["pool_name"]}})

    def _end_instances(self) -> None:
        """The items are gone, so the functions may end the instances; what they leave is ended here."""

        def none_alive() -> bool:
            return not alive(self._run.instances())

        def none_running() -> bool:
            return not [one for one in self._run.instances() if one.state in ("pending", "running", "stopped")]

        if none_alive():
            return
        if not self._until(none_running, 0 if self._run.local else OWN_SECONDS):
            ids = sorted(one.id for one in alive(self._run.instances()))
            self._say(f"Terminating {len(ids)} instances: {', '.join(ids)}")
            self._client("ec2").terminate_instances(InstanceIds=ids)
        self._until(none_alive, END_SECONDS)

    def _judge_rest(self) -> None:
        """Say what the deleted stack left: three claims that only AWS can answer."""
        run, rest = self._run, self._run.state.resources
        if run.local or run.place.exists() or not rest:
            return
        with self._goes_on("look at what the stack left"):
            tables = [name for kind, name in rest if "DynamoDB" in kind]
            groups = [name for kind, name in rest if kind == "AWS::Logs::LogGroup"]
            here = [name for name in tables if self._table(name)] + [name for name in groups if self._group(name)]
            run.judge(
                "leaves-data",
                f"{len(here)} of {len(tables)} tables and {len(groups)} log groups are left",
                holds=len(here) == len(tables) + len(groups),
            )
        with self._goes_on("look at the key"):
            for kind, name in rest:
                if kind == "AWS::KMS::Key":
                    key = self._client("kms").describe_key(KeyId=name)["KeyMetadata"]
                    text = f"{key['KeyState']}, to be deleted on {key.get('DeletionDate', 'no date')}"
                    run.judge("key-restorable", text, holds=key["KeyState"] == "PendingDeletion")

    def _delete_rest(self, kind: str, name: str) -> None:
        if kind == "AWS::Logs::LogGroup":
            self._client("logs").delete_log_group(logGroupName=name)
        elif "DynamoDB" in kind and (table := self._table(name)):
            self._delete_table(name, protected=bool(table.get("DeletionProtectionEnabled")))

    def _delete_table(self, name: str, *, protected: bool) -> None:
        dynamodb = self._client("dynamodb")
        if protected:
            try:
                dynamodb.delete_table(TableName=name)
                self._run.judge("table-refuses", "a protected table was deleted", holds=False)
            except ClientError as error:
                self._run.judge("table-refuses", client_error_text(error)[:200], holds=True)
                dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
                self._until(lambda: (self._table(name) or {}).get("TableStatus") == "ACTIVE", TABLE_SECONDS)
                dynamodb.delete_table(TableName=name)
        else:
            dynamodb.delete_table(TableName=name)
        self._until(lambda: self._table(name) is None, TABLE_SECONDS)

    def _table(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(self._client("dynamodb").describe_table(TableName=name)["Table"])
        except ClientError as error:
            if error.response["Error"]["Code"] not in GONE:
                raise
            return None

    def _group(self, name: str) -> bool:
        found = self._client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        return any(one["logGroupName"] == name for one in found)

    def _templates(self) -> list[dict[str, Any]]:
        """The stack's launch templates: those of pools, and the default one if the deletion left it."""
        filters = [{"Name": f"tag:{STACK_TAG}", "Values": [self._run.place.stack]}]
        return list(self._client("ec2").describe_launch_templates(Filters=filters)["LaunchTemplates"])

    def _delete_templates(self) -> None:
        for one in self._templates():
            self._client("ec2").delete_launch_template(LaunchTemplateId=one["LaunchTemplateId"])

    def _delete_queue(self) -> None:
        sqs = self._client("sqs")
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=queue_name(self._run.place.stack))["QueueUrl"])

    def _delete_role(self, name: str) -> None:
        iam = self._client("iam")
        with self._goes_on(f"delete the policy of {name}"):
            iam.delete_role_policy(RoleName=name, PolicyName=roles.POLICY)
        iam.delete_role(RoleName=name)

    def _delete_experiments(self) -> None:
        fis = self._client("fis")
        for page in fis.get_paginator("list_experiment_templates").paginate():
            for one in page["experimentTemplates"]:
                if one.get("tags", {}).get(STACK_TAG) == self._run.place.stack:
                    fis.delete_experiment_template(id=one["id"])

    def _instances_left(self) -> list[str]:
        return [f"instance {one.id} ({one.state})" for one in alive(self._run.instances())]

    def _stack_left(self) -> list[str]:
        status = self._run.place.status()
        return [f"stack {self._run.place.stack} ({status})"] if status else []

    def _rest_left(self) -> list[str]:
        rest = self._run.state.resources
        tables = [f"table {name}" for kind, name in rest if "DynamoDB" in kind and self._table(name)]
        return tables + [
            f"log group {name}" for kind, name in rest if kind == "AWS::Logs::LogGroup" and self._group(name)
        ]

    def _templates_left(self) -> list[str]:
        return [f"launch template {one['LaunchTemplateName']}" for one in self._templates()]

    def _queue_left(self) -> list[str]:
        found = self._client("sqs").list_queues(QueueNamePrefix=queue_name(self._run.place.stack)).get("QueueUrls", [])
        return [f"queue {url}" for url in found]

    def _roles_left(self) -> list[str]:
        left = []
        for name in roles.names(self._run.place.stack):
            with self._goes_on("look for a role"):
                self._client("iam").get_role(RoleName=name)
                left.append(f"role {name}")
        return left
