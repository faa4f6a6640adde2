"""Whether the tick, which looks at every pool each minute, is alive; and whether somebody has switched it off."""

from __future__ import annotations

from datetime import datetime, timedelta

from cli.deployment import Deployment
from lambdas.metrics import HEARTBEAT_MINUTES, Metric, namespace

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LATE = timedelta(minutes=HEARTBEAT_MINUTES)


def last_heartbeat(deployment: Deployment) -> datetime | None:
    """The end of the last minute in which a tick finished; None if there was none within the hour."""
    now = deployment.now()
    points = deployment.client("cloudwatch").get_metric_statistics(
        Namespace=namespace(deployment.stack),
        MetricName=Metric.HEARTBEAT,
        StartTime=now - HOUR,
        EndTime=now,
        Period=60,
        Statistics=["Sum"],
    )["Datapoints"]
    # A datapoint bears the beginning of its minute.
    return max(one["Timestamp"] for one in points) + MINUTE if points else None


def silent_since(deployment: Deployment) -> datetime | None:
    """Since when no tick has finished, if that is too long; a stack that was just deployed has its first minutes."""
    deployed = datetime.fromisoformat(deployment.reconciler["LastModified"])
    last = max(last_heartbeat(deployment) or deployed, deployed)
    return last if deployment.now() - last > LATE else None


def switched_off(deployment: Deployment) -> list[str]:
    """What is switched off of that which makes the tick run."""
    function = deployment.output("TickFunction")
    names = deployment.resources("AWS::Scheduler::Schedule").values()
    schedules = [deployment.client("scheduler").get_schedule(Name=name) for name in names]
    found = [f"schedule {one['Name']} is {one['State']}" for one in schedules if one["State"] != "ENABLED"]
    limit = deployment.client("lambda").get_function_concurrency(FunctionName=function)
    if limit.get("ReservedConcurrentExecutions") == 0:
        found.append(f"function {function} has a reserved concurrency of 0")
    return found
