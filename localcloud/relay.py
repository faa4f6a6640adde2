"""Does what AWS does between its services and ministack does not. It is one thread, for five gaps.

1. **Metrics from logs.** CloudWatch turns lines of embedded metric format (EMF) in a function's log into metrics.
   ministack only stores the lines. The relay reads the log groups and puts the data.
2. **Errors of functions called by event sources.** ministack counts an error only if the Invoke API made the call.
   A failed batch of a queue or a stream leaves a traceback in the log and no metric.
3. **Missing data.** ministack evaluates an alarm only when data arrive, so it misses a heartbeat that stops.
   The relay sets an alarm without data as its ``TreatMissingData`` says. New data set it back.
4. **Queue depth.** ministack publishes no AWS/SQS metrics, so dead-letter alarms would never fire. The relay reads the
   depth and sets the state of the queue's alarms. It puts no AWS/SQS data: ministack ignores dimensions when it
   evaluates, so one dead letter would set off every queue's alarm.
5. **Alarm events.** ministack sends none to EventBridge. The relay sends an alarm's change of state as CloudWatch does.

One difference from AWS remains: in ministack, an alarm on a metric with dimensions looks at all series of that name.
"""

from __future__ import annotations

import json
import logging
import operator
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from localcloud.market.faces.events import EventBridge

POLL_SECONDS = 0.3
ALARM_SECONDS = 1.0
LOOK_BACK_MS = 5_000  # a line may be stored this long after its timestamp
DATA_PER_CALL = 1_000  # PutMetricData's limit

UNHANDLED = ("Traceback (most recent call last):", "Task timed out after ", "Worker process died", "[ERROR]")
COMPARISONS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
}

log = logging.getLogger(__name__)

Datum = dict[str, Any]


def metric_data(line: str) -> list[tuple[str, Datum]]:
    """The metric data in a log line, each with its namespace. Empty if the line is not an EMF document."""
    if '"CloudWatchMetrics"' not in line:
        return []
    try:
        document = json.loads(line)
        directives = document["_aws"]["CloudWatchMetrics"]
        at = datetime.fromtimestamp(document["_aws"]["Timestamp"] / 1000, UTC)
        return [
            (
                directive["Namespace"],
                {
                    "MetricName": metric["Name"],
                    "Unit": metric.get("Unit", "None"),
                    "Timestamp": at,
                    "Dimensions": [{"Name": name, "Value": str(document[name])} for name in names],
                    "Values": [float(value) for value in _as_list(document[metric["Name"]])],
                },
            )
            for directive in directives
            for names in directive.get("Dimensions") or [[]]
            for metric in directive["Metrics"]
        ]
    except (ValueError, KeyError, TypeError):
        log.warning("not a metric document: %s", line)
        return []


def failed(lines: Iterable[str]) -> bool:
    """Whether an invocation's log lines show that the function ended with an error."""
    return any(line.startswith(UNHANDLED) for line in lines)


def breaches(alarm: Mapping[str, Any], value: float) -> bool:
    """Whether a value is on the wrong side of an alarm's threshold."""
    compare, _ = COMPARISONS[alarm["ComparisonOperator"]]
    return compare(value, float(alarm["Threshold"]))


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


class Relay:
    """Connects the services of a local cloud until it is stopped.

    ``client`` returns a boto3 client of a service. ``functions`` are the names of the functions whose logs it reads.
    ``alarms``: whether it looks after the alarms of the whole cloud. Only one relay of a cloud may do that, because
    each one sends an event for each change.
    """

    def __init__(self, client: Callable[[str], Any], functions: Sequence[str], *, alarms: bool = True) -> None:
        self._cloudwatch, self._sqs = client("cloudwatch"), client("sqs")
        self._bus = EventBridge(self._cloudwatch.meta.endpoint_url, client)
        self._states: dict[str, str] = {}
        self._alarms = alarms
        self._readers = [LogReader(client("logs"), log_group_of(client("lambda"), name), name) for name in functions]
        self._pending: defaultdict[str, list[Datum]] = defaultdict(list)
        self._started = datetime.now(UTC)
        self._alarms_at = monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current round."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.step()
            except (BotoCoreError, ClientError):
                log.exception("this round failed; the next one catches up")

    def step(self) -> None:
        """Do one round: first the new log lines, then, once a second, the alarms."""
        self._relay_logs()
        if self._alarms and monotonic() >= self._alarms_at:
            self._alarms_at = monotonic() + ALARM_SECONDS
            self._relay_alarms()

    def _relay_logs(self) -> None:
        for reader in self._readers:
            for at, lines in reader.new_invocations():
                for line in lines:
                    for namespace, datum in metric_data(line):
                        self._pending[namespace].append(datum)
                if failed(lines):
                    self._pending["AWS/Lambda"].append(_error(reader.function, at))
        for namespace, waiting in self._pending.items():
            while waiting:
                self._cloudwatch.put_metric_data(Namespace=namespace, MetricData=waiting[:DATA_PER_CALL])
                del waiting[:DATA_PER_CALL]  # only now, so that failed data are put again

    def _relay_alarms(self) -> None:
        for page in self._cloudwatch.get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm"]):
            for alarm in page["MetricAlarms"]:
                self._relay_change(alarm)
                if alarm.get("Namespace") == "AWS/SQS":
                    self._relay_queue(alarm)
                elif alarm.get("MetricName"):
                    self._relay_silence(alarm)

    def _relay_change(self, alarm: Mapping[str, Any]) -> None:
        """Send the event that CloudWatch sends when an alarm changes its state."""
        name, state = alarm["AlarmName"], alarm["StateValue"]
        before = self._states.get(name, "INSUFFICIENT_DATA")
        if state == before:
            return
        self._bus.deliver([change_event(alarm, before)])
        self._states[name] = state

    def _relay_silence(self, alarm: Mapping[str, Any]) -> None:
        state = {"breaching": "ALARM", "notBreaching": "OK"}.get(alarm.get("TreatMissingData", "missing"))
        window = timedelta(seconds=alarm["Period"] * alarm["EvaluationPeriods"])
        now = datetime.now(UTC)
        if state is None or alarm["StateValue"] == state or now - self._started < window:
            return
        points = self._cloudwatch.get_metric_statistics(
            Namespace=alarm["Namespace"],
            MetricName=alarm["MetricName"],
            Dimensions=alarm.get("Dimensions", []),
            StartTime=now - window,
            EndTime=now + timedelta(seconds=1),
            Period=alarm["Period"],
            Statistics=["SampleCount"],
        )["Datapoints"]
        if not points:
            self._set(alarm, state, f"no datapoint for {window.total_seconds():.0f} s was treated as {state}")

    def _relay_queue(self, alarm: Mapping[str, Any]) -> None:
        name = next((d["Value"] for d in alarm.get("Dimensions", []) if d["Name"] == "QueueName"), None)
        if name is None or alarm["MetricName"] != "ApproximateNumberOfMessagesVisible":
            return
        url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        wanted = ["ApproximateNumberOfMessages"]
        depth = int(self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)["Attributes"][wanted[0]])
        breaching = breaches(alarm, depth)
        state = "ALARM" if breaching else "OK"
        if alarm["StateValue"] != state:
            _, words = COMPARISONS[alarm["ComparisonOperator"]]
            comparison = f"was {'' if breaching else 'not '}{words} the threshold ({alarm['Threshold']})"
            self._set(alarm, state, f"Threshold Crossed: 1 datapoint [{depth}.0] {comparison}")

    def _set(self, alarm: Mapping[str, Any], state: str, reason: str) -> None:
        self._cloudwatch.set_alarm_state(AlarmName=alarm["AlarmName"], StateValue=state, StateReason=reason)


def change_event(alarm: Mapping[str, Any], before: str) -> dict[str, Any]:
    """The event of an alarm's change of state. Shape: CloudWatch User Guide, alarm events and EventBridge."""
    at, arn = alarm["StateUpdatedTimestamp"], alarm["AlarmArn"]
    metric = {"namespace": alarm.get("Namespace", ""), "name": alarm.get("MetricName", ""), "dimensions": {}}
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": arn.split(":")[4],
        "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "region": arn.split(":")[3],
        "resources": [arn],
        "detail": {
            "alarmName": alarm["AlarmName"],
            "state": {"value": alarm["StateValue"], "reason": alarm["StateReason"], "timestamp": at.isoformat()},
            "previousState": {"value": before},
            "configuration": {
                "description": alarm.get("AlarmDescription", ""),
                "metrics": [{"id": "m1", "metricStat": {"metric": metric}, "returnData": True}],
            },
        },
    }


class LogReader:
    """Reads a function's log group, each invocation once.

    ministack writes the lines of an invocation together, at its end, into a separate stream. So each stream is read
    once.
    """

    def __init__(self, logs: Any, group: str, function: str) -> None:
        self.function = function
        self._logs = logs
        self._group = group
        self._newest_ms = int(datetime.now(UTC).timestamp() * 1000)
        self._done: dict[str, int] = {}

    def new_invocations(self) -> list[tuple[datetime, list[str]]]:
        """The invocations that ended since the last call: when each ended, and its lines."""
        start_ms = self._newest_ms - LOOK_BACK_MS
        try:
            events = self._logs.filter_log_events(logGroupName=self._group, startTime=start_ms)["events"]
        except self._logs.exceptions.ResourceNotFoundException:
            return []  # the function was never called
        found: dict[str, tuple[int, list[str]]] = {}
        for event in events:
            if event["logStreamName"] not in self._done:
                found.setdefault(event["logStreamName"], (event["timestamp"], []))[1].append(event["message"])
        self._done |= {stream: at for stream, (at, _) in found.items()}
        self._newest_ms = max([self._newest_ms, *(at for at, _ in found.values())])
        self._done = {stream: at for stream, at in self._done.items() if at >= self._newest_ms - LOOK_BACK_MS}
        return [(datetime.fromtimestamp(at / 1000, UTC), lines) for at, lines in found.values()]


def log_group_of(functions: Any, name: str) -> str:
    """The log group of a function. ``functions`` is the boto3 client of Lambda."""
    configuration = functions.get_function_configuration(FunctionName=name)
    return str(configuration.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{name}"))


def _error(function: str, at: datetime) -> Datum:
    return {
        "MetricName": "Errors",
        "Unit": "Count",
        "Timestamp": at,
        "Dimensions": [{"Name": "FunctionName", "Value": function}],
        "Values": [1.0],
    }
