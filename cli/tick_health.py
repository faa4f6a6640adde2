"""The health of the tick, which checks every pool each minute: its last heartbeat, and what is switched off."""

from __future__ import annotations

from datetime import datetime, timedelta

from cli.aws_errors import expected_errors
from cli.deployment import Deployment
from cli.exits import AwsFaultError
from lambdas.metrics import HEARTBEAT_MINUTES, Metric, namespace

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LATE = timedelta(minutes=HEARTBEAT_MINUTES)


def last_heartbeat(deployment: Deployment) -> datetime | None:
    """Return the end of the last minute in which a tick finished, or None if none did in the last hour."""
    now = deployment.now()
    points = deployment.client("cloudwatch").get_metric_statistics(
        Namespace=namespace(deployment.stack),
        MetricName=Metric.HEARTBEAT,
        StartTime=now - HOUR,
        EndTime=now,
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    # The timestamp of a datapoint is the start of its minute.
    return max(one["Timestamp"] for one in points) + MINUTE if points else None


def silent_since(deployment: Deployment) -> datetime | None:
    """Return since when no tick has finished, or None if that is not too long. A new stack has a few minutes' time."""
    deployed = datetime.fromisoformat(deployment.reconciler["LastModified"])
    last = max(last_heartbeat(deployment) or deployed, deployed)
    return last if deployment.now() - last > LATE else None


def checked_silence(deployment: Deployment) -> tuple[datetime | None, str]:
    """Return since when the tick is silent, as ``silent_since`` does, and why that is unknown, if it is."""
    try:
        with expected_errors():
            return silent_since(deployment), ""
    except AwsFaultError as fault:
        return None, f"Could not check whether the tick runs: {fault}"


def switched_off(deployment: Deployment) -> list[str]:
    """List what is switched off and keeps the tick from running: its schedule or its function."""
    function = deployment.output("TickFunction")
    names = deployment.resources("AWS::Scheduler::Schedule").values()
    schedules = [deployment.client("scheduler").get_schedule(Name=name) for name in names]
    found = [f"schedule {one['Name']} is {one['State']}" for one in schedules if one["State"] != "ENABLED"]
    limit = deployment.client("lambda").get_function_concurrency(FunctionName=function)
    if limit.get("ReservedConcurrentExecutions") == 0:
        found.append(f"function {function} has a reserved concurrency of 0")
    return found
