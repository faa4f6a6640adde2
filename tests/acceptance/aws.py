"""AWS as the steps that only AWS can play see it: each request is checked against botocore's model, none is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from acceptance.place import Place
from acceptance.run import Run
from acceptance.state import State
from localcloud.progress import Progress

STACK, REGION = "spotpools-accept", "eu-west-1"
OUTPUTS = {
    "PoolsTable": "pools",
    "StatusTable": "statuses",
    "AlarmTopic": f"arn:aws:sns:{REGION}:123456789012:alarms",
    "MessagesTopic": f"arn:aws:sns:{REGION}:123456789012:messages",
    "DefaultLaunchTemplate": f"{STACK}-default",
    "DueQueueUrl": "https://sqs/due",
    "EditedQueueUrl": "https://sqs/edited",
    "NoticesQueueUrl": "https://sqs/notices",
    "TickFunction": "tick",
    "PoolEditFunction": "edit",
    "PoolDueFunction": "due",
    "SpotNoticeFunction": "notice",
    "AlarmFunction": "alarm",
    "Dashboard": f"{STACK}-fleet",
}
CALLER = {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/someone"}

Answer = dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any]]


@cache
def session() -> Any:
    """One for all clients: it keeps the models that it has read."""
    return boto3.Session("key", "secret", region_name=REGION)


class RefusedByAws(Exception):  # noqa: N818 - it stands for an answer
    """Makes the played AWS answer with an error code."""

    def __init__(self, code: str, message: str = "no") -> None:
        super().__init__(code)
        self.answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {}}


class PlayedAws:
    """Answers calls by ``service.Operation``. A call that no test expects is an error. ``calls`` has all, in order."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {
            "ec2.DescribeInstances": {"Reservations": []},
            "sts.GetCallerIdentity": CALLER,
            "cloudformation.DescribeStacks": {
                "Stacks": [
                    {
                        "StackName": STACK,
                        "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
                        "StackStatus": "CREATE_COMPLETE",
                        "Outputs": [{"OutputKey": key, "OutputValue": value} for key, value in OUTPUTS.items()],
                    }
                ]
            },
            "lambda.GetFunctionConfiguration": lambda asked: {"FunctionName": asked["FunctionName"]},
        }
        self.dates: Callable[[], str] = lambda: "Thu, 01 Jan 2026 12:00:00 GMT"
        self._clients: dict[str, Any] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def client(self, service: str, *_: Any, **__: Any) -> Any:
        """A client that answers from ``answers``."""
        if service in self._clients:
            return self._clients[service]
        made = self._clients[service] = session().client(service, region_name=REGION)
        asked: dict[str, dict[str, Any]] = {}

        def note(params: dict[str, Any], model: Any, **_: Any) -> None:
            asked[model.name] = dict(params)

        def answer(model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
            name = f"{service}.{model.name}"
            self.calls.append((name, asked[model.name]))
            given = self.answers[name]
            try:
                found = given(asked[model.name]) if callable(given) else given
            except RefusedByAws as refused:
                return SimpleNamespace(status_code=400), refused.answer
            headers = {"date": self.dates()}
            return SimpleNamespace(status_code=200), {**found, "ResponseMetadata": {"HTTPHeaders": headers}}

        made.meta.events.register(f"before-parameter-build.{service}", note)
        made.meta.events.register(f"before-call.{service}", answer)
        return made

    def asked(self, name: str) -> list[dict[str, Any]]:
        """The parameters of all calls of this name."""
        return [params for called, params in self.calls if called == name]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> PlayedAws:
    """Every client of the product and of the acceptance is the played AWS's."""
    played = PlayedAws()
    for variable in ("SPOTPOOLS_MARKET_URL", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(variable, raising=False)
    for place in ("cli.deployment.client", "acceptance.steps.fleets.client", "acceptance.steps.stack.client"):
        monkeypatch.setattr(place, played.client)
    monkeypatch.setattr("acceptance.run.sleep", lambda _: None)
    monkeypatch.setattr("acceptance.cleaning.sleep", lambda _: None)
    return played


@pytest.fixture
def run(aws: PlayedAws, tmp_path: Path) -> Run:
    """A run on the played AWS, whose stack is deployed."""
    assert aws
    now = datetime.now(UTC)
    state = State(
        path=tmp_path / "state.json",
        stack=STACK,
        place="AWS",
        account=CALLER["Account"],
        region=REGION,
        started=now,
        deadline=now + timedelta(hours=1),
        budget=Decimal(2),
        most_instances=4,
        types=["t3.nano", "t3a.nano"],
        price=Decimal("0.006"),
        stack_since=now,
    )
    return Run(Place(STACK, REGION, folder=tmp_path, progress=Progress()), state)
