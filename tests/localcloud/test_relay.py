"""The relay with ministack: log lines become metrics, and missing data and dead letters set off alarms."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from lambdas.alarm_events import parse_alarm_event
from lambdas.domain.alarm.message import Change
from lambdas.domain.guide import Trouble
from localcloud.cloud import MINISTACK_COMMAND, REGION, answers, client_of, ministack_environment
from localcloud.processes import Child, port_to_use
from localcloud.relay import LogReader, Relay, breaches, failed, metric_data

NAMESPACE = "SpotPools/test"
FUNCTION = "some-function"

Client = Callable[[str], Any]


class Stopping:
    """Lets ``closing`` end a child."""

    def __init__(self, child: Child) -> None:
        self.close = child.stop


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    directory, port = tmp_path_factory.mktemp("ministack"), port_to_use(0)
    url = f"http://127.0.0.1:{port}"
    environment = ministack_environment(port, directory, ec2_url=url)
    (directory / "tmp").mkdir()
    child = Child("ministack", MINISTACK_COMMAND, log=directory / "log", environment=environment, directory=Path.cwd())
    with closing(Stopping(child)):
        child.wait_until(lambda: answers(f"{url}/_ministack/ready"), seconds=30)
        clients: dict[str, Any] = {}
        yield lambda service: clients.setdefault(service, client_of(service, url))


def emf(values: dict[str, float], *, pool: str | None = None, at: datetime | None = None) -> str:
    """A metric line in the form of Powertools."""
    names = ["Pool"] if pool else []
    metrics = [{"Name": name, "Unit": "Count"} for name in values]
    return json.dumps(
        {
            "_aws": {
                "Timestamp": int((at or datetime.now(UTC)).timestamp() * 1000),
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": metrics}],
            },
            **{name: [value] for name, value in values.items()},
            **({"Pool": pool} if pool else {}),
        }
    )


def write(client: Client, group: str, stream: str, *lines: str) -> None:
    """Write the lines of an invocation, as ministack does at its end."""
    logs = client("logs")
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    now = int(datetime.now(UTC).timestamp() * 1000)
    logs.put_log_events(
        logGroupName=group, logStreamName=stream, logEvents=[{"timestamp": now, "message": line} for line in lines]
    )


def put_alarm(client: Client, name: str, **more: Any) -> None:
    """Put an alarm on a metric of ours; by default it looks for a value of at least 1 in a minute."""
    usual: dict[str, Any] = {
        "Namespace": NAMESPACE,
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    }
    client("cloudwatch").put_metric_alarm(AlarmName=name, **{**usual, **more})


def samples(client: Client, name: str, **dimensions: str) -> float:
    """The number of data of a metric in the last minutes."""
    now = datetime.now(UTC)
    points = client("cloudwatch").get_metric_statistics(
        Namespace=NAMESPACE,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - timedelta(minutes=5),
        EndTime=now + timedelta(minutes=1),
        Period=60,
        Statistics=["SampleCount"],
    )["Datapoints"]
    return float(sum(point["SampleCount"] for point in points))


def state(client: Client, alarm: str) -> str:
    return str(client("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"][0]["StateValue"])


def step_until(relay: Relay, condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        sleep(0.1)
        relay.step()


def test_a_metric_document_becomes_data_with_its_own_time_and_dimensions() -> None:
    at = datetime(2026, 11, 23, 12, 0, 0, 500_000, tzinfo=UTC)
    ((namespace, datum),) = metric_data(emf({"Running": 3}, pool="a", at=at))
    assert namespace == NAMESPACE
    assert datum == {
        "MetricName": "Running",
        "Unit": "Count",
        "Timestamp": at,
        "Dimensions": [{"Name": "Pool", "Value": "a"}],
        "Values": [3.0],
    }


def test_a_document_without_dimensions_has_one_datum_for_each_metric() -> None:
    data = [datum for _, datum in metric_data(emf({"Wanted": 2, "Running": 0}))]
    assert [(datum["MetricName"], datum["Values"], datum["Dimensions"]) for datum in data] == [
        ("Wanted", [2.0], []),
        ("Running", [0.0], []),
    ]


def test_several_dimension_sets_make_a_datum_each() -> None:
    document = json.loads(emf({"Running": 1}, pool="a"))
    document["_aws"]["CloudWatchMetrics"][0]["Dimensions"] = [[], ["Pool"]]
    assert [len(datum["Dimensions"]) for _, datum in metric_data(json.dumps(document))] == [0, 1]


@pytest.mark.parametrize(
    "line",
    [
        "START RequestId: 1",
        '{"level":"INFO","message":"reconciled"}',
        '{"_aws": {"CloudWatchMetrics": [{}], "Timestamp": 0}}',
        'cut off: {"_aws": {"CloudWatchMetrics"',
    ],
)
def test_other_lines_are_not_metrics(line: str) -> None:
    assert metric_data(line) == []


def test_unhandled_errors_are_distinguished_from_logged_ones() -> None:
    assert failed(["START", "Traceback (most recent call last):", "  File", "END"])
    assert failed(["Task timed out after 20.00 seconds"])
    assert failed(["Worker process died"])
    assert not failed(["START", '{"level":"ERROR","exception":"Traceback (most recent call last):"}', "END"])


def test_a_threshold_is_compared_as_the_alarm_says() -> None:
    at_least = {"ComparisonOperator": "GreaterThanOrEqualToThreshold", "Threshold": 1.0}
    assert breaches(at_least, 1)
    assert not breaches(at_least, 0)
    assert breaches({"ComparisonOperator": "LessThanThreshold", "Threshold": 1.0}, 0)


def test_each_invocation_is_read_once(client: Client) -> None:
    client("logs").create_log_group(logGroupName="once")
    reader = LogReader(client("logs"), "once", FUNCTION)
    write(client, "once", "first", "a", "b")
    assert [lines for _, lines in reader.new_invocations()] == [["a", "b"]]
    assert reader.new_invocations() == []
    write(client, "once", "second", "c")
    assert [lines for _, lines in reader.new_invocations()] == [["c"]]


def test_a_function_that_was_never_called_has_no_lines(client: Client) -> None:
    assert LogReader(client("logs"), "no-such-group", FUNCTION).new_invocations() == []


@pytest.fixture
def group(client: Client, request: pytest.FixtureRequest) -> str:
    """A separate log group for the test, like that of a function."""
    name = str(request.node.name)
    client("logs").create_log_group(logGroupName=name)
    return name


@pytest.fixture
def relay(client: Client, group: str, monkeypatch: pytest.MonkeyPatch) -> Relay:
    monkeypatch.setattr("localcloud.relay.log_group_of", lambda *_: group)  # instead of deploying a function
    return Relay(client, [FUNCTION])


def test_logged_metrics_arrive_once_and_set_off_an_alarm(client: Client, relay: Relay, group: str) -> None:
    put_alarm(client, "invalid", MetricName="PoolsInvalid", Statistic="Maximum", Period=10, TreatMissingData="ignore")
    write(client, group, "one", emf({"PoolsInvalid": 1}), emf({"Running": 3}, pool="a"), emf({"Running": 4}, pool="b"))
    step_until(relay, lambda: state(client, "invalid") == "ALARM")
    relay.step()
    assert samples(client, "PoolsInvalid") == 1
    assert samples(client, "Running", Pool="a") == 1
    assert samples(client, "Running", Pool="b") == 1


def test_a_failed_invocation_counts_as_an_error(client: Client, relay: Relay, group: str) -> None:
    put_alarm(
        client,
        "errors",
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Dimensions=[{"Name": "FunctionName", "Value": FUNCTION}],
        Statistic="Sum",
        TreatMissingData="notBreaching",
    )
    write(client, group, "failed", "START", "Traceback (most recent call last):", "KeyError", "END")
    step_until(relay, lambda: state(client, "errors") == "ALARM")


def test_a_missing_heartbeat_sets_off_the_alarm_and_a_new_one_ends_it(client: Client, relay: Relay, group: str) -> None:
    put_alarm(
        client,
        "heartbeat",
        MetricName="Heartbeat",
        Statistic="Sum",
        Period=1,
        EvaluationPeriods=2,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="breaching",
    )
    step_until(relay, lambda: state(client, "heartbeat") == "ALARM")
    write(client, group, "alive", emf({"Heartbeat": 1}))
    step_until(relay, lambda: state(client, "heartbeat") == "OK", seconds=1.5)
    step_until(relay, lambda: state(client, "heartbeat") == "ALARM")


def test_a_dead_letter_sets_off_only_the_alarm_of_its_queue(client: Client, relay: Relay) -> None:
    for name in ("dead-one", "dead-two"):
        client("sqs").create_queue(QueueName=name)
        put_alarm(
            client,
            name,
            Namespace="AWS/SQS",
            MetricName="ApproximateNumberOfMessagesVisible",
            Dimensions=[{"Name": "QueueName", "Value": name}],
            Statistic="Maximum",
            TreatMissingData="notBreaching",
        )
    url = client("sqs").get_queue_url(QueueName="dead-one")["QueueUrl"]
    client("sqs").send_message(QueueUrl=url, MessageBody="a letter")
    step_until(relay, lambda: (state(client, "dead-one"), state(client, "dead-two")) == ("ALARM", "OK"))
    client("sqs").purge_queue(QueueUrl=url)
    step_until(relay, lambda: state(client, "dead-one") == "OK")


def test_the_alarm_sends_a_message_to_its_topic(client: Client, relay: Relay) -> None:
    may_send = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [may_send]})
    queue = client("sqs").create_queue(QueueName="subscribed", Attributes={"Policy": policy})["QueueUrl"]
    topic = client("sns").create_topic(Name="alarms")["TopicArn"]
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=f"arn:aws:sqs:{REGION}:000000000000:subscribed")
    put_alarm(
        client,
        "silent",
        AlarmActions=[topic],
        MetricName="NeverPublished",
        Statistic="Sum",
        Period=1,
        ComparisonOperator="LessThanThreshold",
        TreatMissingData="breaching",
    )
    step_until(relay, lambda: state(client, "silent") == "ALARM")
    (message,) = client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    said = json.loads(json.loads(message["Body"])["Message"])
    assert (said["AlarmName"], said["NewStateValue"]) == ("silent", "ALARM")


def test_each_change_of_an_alarm_is_an_event_that_the_function_understands(client: Client, relay: Relay) -> None:
    queue = client("sqs").create_queue(QueueName="changes")["QueueUrl"]
    pattern = {"source": ["aws.cloudwatch"], "detail-type": ["CloudWatch Alarm State Change"]}
    client("events").put_rule(Name="changes", EventPattern=json.dumps(pattern))
    client("events").put_targets(
        Rule="changes", Targets=[{"Id": "q", "Arn": "arn:aws:sqs:us-east-1:000000000000:changes"}]
    )
    put_alarm(client, "prod-quota-reached", MetricName="PoolsQuota", Statistic="Maximum", TreatMissingData="ignore")
    seen: list[Change | str] = []

    def received(number: int) -> bool:
        found = client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        seen.extend(parse_alarm_event(one["Body"], "prod") for one in found if "prod-quota-reached" in str(one["Body"]))
        for one in found:
            client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])
        return len(seen) >= number

    for number, state_value in enumerate(("ALARM", "OK"), start=1):
        client("cloudwatch").set_alarm_state(
            AlarmName="prod-quota-reached", StateValue=state_value, StateReason="a test"
        )
        step_until(relay, lambda: received(number))  # noqa: B023  called at once
    began, ended = seen
    assert isinstance(began, Change)
    assert isinstance(ended, Change)
    assert [(one.trouble, one.over, one.said) for one in (began, ended)] == [
        (Trouble.QUOTA, False, "a test"),
        (Trouble.QUOTA, True, "a test"),
    ]
