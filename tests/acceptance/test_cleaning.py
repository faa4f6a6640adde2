"""The removal on AWS: what the stack leaves, refusals that stop nothing, and a list of what is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from acceptance.claims import Verdict
from acceptance.cleaning import Cleaner
from acceptance.place import Place
from acceptance.run import Run
from acceptance.state import load
from tests.acceptance.aws import PlayedAws, RefusedByAws
from tests.acceptance.test_on_aws import instance, listing

TABLE, GROUP, KEY = "spotpools-accept-Pools-1", "/logs/spotpools-accept-1", "key-1"
RESOURCES = (("AWS::DynamoDB::GlobalTable", TABLE), ("AWS::Logs::LogGroup", GROUP), ("AWS::KMS::Key", KEY))


class Account:
    """What is left of a stack on AWS, and what happens to it."""

    def __init__(self, aws: PlayedAws) -> None:
        self.stack = True
        self.table: dict[str, Any] | None = {
            "TableName": TABLE,
            "TableStatus": "ACTIVE",
            "DeletionProtectionEnabled": True,
        }
        self.group = True
        self.instances = [instance("i-1")]
        self.templates = [{"LaunchTemplateId": "lt-1", "LaunchTemplateName": "spotpools-accept/story"}]
        self.denied: set[str] = set()
        described = aws.answers["cloudformation.DescribeStacks"]
        assert isinstance(described, dict)
        self.described = described
        aws.answers |= {
            name: self._allowed(name, answer)
            for name, answer in {
                "cloudformation.DescribeStacks": self._stack,
                "cloudformation.ListStackResources": lambda _: {
                    "StackResourceSummaries": [
                        {"ResourceType": kind, "PhysicalResourceId": name, "LogicalResourceId": "x"}
                        for kind, name in (*RESOURCES, ("AWS::SQS::Queue", "q"))
                    ]
                },
                "dynamodb.Scan": lambda _: {"Items": [{"pool_name": {"S": "story"}}]},
                "dynamodb.DeleteItem": lambda _: {},
                "ec2.DescribeInstances": lambda _: listing(*self.instances),
                "ec2.TerminateInstances": self._terminate,
                "dynamodb.DescribeTable": self._table,
                "dynamodb.UpdateTable": self._unprotect,
                "dynamodb.DeleteTable": self._delete_table,
                "logs.DescribeLogGroups": lambda _: {"logGroups": [{"logGroupName": GROUP}] if self.group else []},
                "logs.DeleteLogGroup": self._delete_group,
                "kms.DescribeKey": lambda _: {
                    "KeyMetadata": {
                        "KeyId": KEY,
                        "KeyState": "PendingDeletion",
                        "DeletionDate": datetime.now(UTC) + timedelta(days=7),
                    }
                },
                "ec2.DescribeLaunchTemplates": lambda _: {"LaunchTemplates": self.templates},
                "ec2.DeleteLaunchTemplate": self._delete_template,
                "sqs.GetQueueUrl": lambda _: {"QueueUrl": "https://sqs/accept"},
                "sqs.DeleteQueue": lambda _: {},
                "sqs.ListQueues": lambda _: {},
                "iam.DeleteRolePolicy": lambda _: {},
                "iam.DeleteRole": lambda _: {},
                "iam.GetRole": self._no_role,
                "fis.ListExperimentTemplates": lambda _: {"experimentTemplates": []},
            }.items()
        }

    def _allowed(self, name: str, answer: Any) -> Any:
        def answered(asked: dict[str, Any]) -> dict[str, Any]:
            if name in self.denied:
                raise RefusedByAws("AccessDenied", f"not authorized to perform: {name.replace('.', ':')}")
            return dict(answer(asked))

        return answered

    def _stack(self, _: object) -> dict[str, Any]:
        if not self.stack:
            raise RefusedByAws("ValidationError", "Stack with id spotpools-accept does not exist")
        return self.described

    def _terminate(self, _: object) -> dict[str, Any]:
        self.instances = [instance("i-1", State={"Name": "terminated"})]
        return {}

    def _table(self, _: object) -> dict[str, Any]:
        if self.table is None:
            raise RefusedByAws("ResourceNotFoundException")
        return {"Table": self.table}

    def _unprotect(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self.table is not None
        self.table["DeletionProtectionEnabled"] = asked["DeletionProtectionEnabled"]
        return {}

    def _delete_table(self, _: object) -> dict[str, Any]:
        assert self.table is not None
        if self.table["DeletionProtectionEnabled"]:
            raise RefusedByAws("ValidationException", "Resource cannot be deleted as it is currently protected")
        self.table = None
        return {}

    def _delete_group(self, _: object) -> dict[str, Any]:
        self.group = False
        return {}

    def _delete_template(self, _: object) -> dict[str, Any]:
        self.templates = []
        return {}

    def _no_role(self, _: object) -> dict[str, Any]:
        raise RefusedByAws("NoSuchEntity")


@pytest.fixture
def account(aws: PlayedAws, monkeypatch: pytest.MonkeyPatch) -> Account:
    made = Account(aws)

    def destroy(_: Place) -> None:
        made.stack = False

    monkeypatch.setattr(Place, "destroy", destroy)
    monkeypatch.setattr("acceptance.cleaning.OWN_SECONDS", 0)
    return made


def test_everything_goes_and_what_the_stack_leaves_answers_three_claims(run: Run, account: Account) -> None:
    assert Cleaner(run).clean() == []
    assert (account.table, account.group, account.templates) == (None, False, [])
    for claim in ("leaves-data", "table-refuses", "key-restorable"):
        assert run.state.findings[claim].verdict == Verdict.SEEN
    assert "currently protected" in run.state.findings["table-refuses"].text


def test_the_names_of_what_the_stack_leaves_are_saved_before_it_is_deleted(
    run: Run, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Place) -> None:
        account.stack = False
        raise KeyboardInterrupt

    monkeypatch.setattr(Place, "destroy", killed)
    with pytest.raises(KeyboardInterrupt):
        Cleaner(run).clean()
    saved = load(run.state.path)
    assert saved is not None
    assert Cleaner(Run(run.place, saved)).clean() == []
    assert account.table is None


@pytest.mark.usefixtures("account")
def test_a_second_removal_finds_nothing(run: Run) -> None:
    assert Cleaner(run).clean() == []
    assert Cleaner(run).clean() == []


def test_an_answer_of_another_shape_keeps_nothing_else_from_being_removed(
    run: Run, aws: PlayedAws, account: Account
) -> None:
    aws.answers["fis.ListExperimentTemplates"] = {}
    aws.answers["kms.DescribeKey"] = {}
    cleaner = Cleaner(run)
    assert cleaner.clean() == []
    assert len(cleaner.faults) == 2
    assert "KeyError" in cleaner.faults[0]
    assert (account.stack, account.table, account.group) == (False, None, False)


@pytest.mark.parametrize(
    ("denied", "left"),
    [
        ("ec2.TerminateInstances", "instance i-1 (running)"),
        ("dynamodb.UpdateTable", f"table {TABLE}"),
        ("logs.DeleteLogGroup", f"log group {GROUP}"),
        ("ec2.DeleteLaunchTemplate", "launch template spotpools-accept/story"),
        ("sqs.ListQueues", "unknown: look for what is left: Your credentials lack the permission sqs:ListQueues"),
        ("iam.GetRole", "unknown: look for a role: Your credentials lack the permission iam:GetRole"),
    ],
)
def test_a_refusal_stops_nothing_else_and_what_is_left_is_listed(
    run: Run, account: Account, monkeypatch: pytest.MonkeyPatch, denied: str, left: str
) -> None:
    monkeypatch.setattr("acceptance.cleaning.END_SECONDS", 0)
    account.denied = {denied}
    found = Cleaner(run).clean()
    assert len([one for one in found if one.startswith(left)]) >= 1
    assert all(one.startswith(left) for one in found), found
    assert not account.stack
