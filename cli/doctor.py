"""``doctor``: checks of a deployment, each with its finding and the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from operator import itemgetter
from typing import Any

from botocore.exceptions import ClientError
from rich.console import Group, RenderableType
from rich.text import Text

from cli import tick_health
from cli.aws_errors import expected_errors
from cli.deployment import FUNCTIONS, Deployment
from cli.exits import ExpectedError
from cli.logs import lines, raised
from cli.output import ago, plain
from lambdas import __version__
from lambdas.domain.guide import GUIDE, Trouble
from lambdas.domain.item.faults import parse_pool
from lambdas.domain.item.pool import Pool
from lambdas.domain.model.errors import SERVICE_ROLE_COMMAND

SPOT_ROLE = "AWSServiceRoleForEC2Spot"
HOUR, FRESH = timedelta(hours=1), timedelta(minutes=5)
SPOT_QUOTA = re.compile(r"All (?P<families>.+) Spot Instance Requests")
FAMILY = re.compile(r"(?P<letters>[a-z]+)(?P<generation>\d*)")


class State(StrEnum):
    """The result of a check. ``skip``: the check does not apply here."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Check:
    """One check: what it found, and what to do if that is not ok."""

    name: str
    state: State
    found: str
    remedy: str = ""


Finding = tuple[State, str, str] | tuple[State, str]
NOT_LOCAL: Finding = (State.SKIP, "the local cloud has none")


def examine(deployment: Deployment) -> list[Check]:
    """Run all checks in order. Without credentials or a stack the other checks cannot run, so they are left out."""
    checks = []
    for name, check in (("credentials", credentials), ("stack", stack)):
        checks.append(_done(name, check, deployment))
        if checks[-1].state is State.FAIL:
            return checks
    for service in ("cloudwatch", "dynamodb", "iam", "lambda", "logs", "scheduler", "service-quotas", "sns", "sqs"):
        deployment.client(service)  # before the threads start: making clients in boto3 is not thread-safe
    with ThreadPoolExecutor(len(CHECKS)) as threads:
        return checks + list(threads.map(lambda name: _done(name, CHECKS[name], deployment), CHECKS))


def _done(name: str, check: Callable[[Deployment], Finding], deployment: Deployment) -> Check:
    try:
        with expected_errors():
            return Check(name, *check(deployment))
    except ExpectedError as fault:
        severe = name in ("credentials", "stack", "tables")
        return Check(name, State.FAIL if severe else State.WARN, "could not be checked", str(fault))


def credentials(deployment: Deployment) -> Finding:
    """Check that AWS accepts the credentials."""
    caller = deployment.client("sts").get_caller_identity()
    return State.OK, f"account {caller['Account']}, {deployment.region}, as {caller['Arn']}"


def stack(deployment: Deployment) -> Finding:
    """Check that the stack exists, is complete, and is a Spot Pools stack."""
    status = str(deployment.description["StackStatus"])
    deployment.output("PoolsTable")
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        return State.OK, f"{deployment.stack}: {status}"
    going = status.endswith("_IN_PROGRESS")
    remedy = "Wait until it ends." if going else "Fix the cause (see its events in CloudFormation) and deploy again."
    return State.WARN, f"{deployment.stack}: {status}", remedy


def version(deployment: Deployment) -> Finding:
    """Check that stack and command have the same version."""
    deployed = deployment.outputs.get("Version")
    if deployed == __version__:
        return State.OK, f"stack and command are {__version__}"
    found = f"the stack is {deployed or 'too old to have a version'}, the command is {__version__}"
    return State.WARN, found, "Deploy the stack from this command's version, or use the command of the stack's version."


def tables(deployment: Deployment) -> Finding:
    """Check that both tables are active and that the Pools table has a stream."""
    dynamodb = deployment.client("dynamodb")
    names = (deployment.pools.table, deployment.output("StatusTable"))
    found = [dynamodb.describe_table(TableName=name)["Table"] for name in names]
    inactive = [one["TableName"] for one in found if one["TableStatus"] != "ACTIVE"]
    if inactive:
        return State.FAIL, f"not active: {', '.join(inactive)}", "Wait until DynamoDB has finished, or restore them."
    if not found[0].get("StreamSpecification", {}).get("StreamEnabled"):
        return State.FAIL, "the Pools table has no stream: edits take effect a minute late", "Deploy the stack again."
    return State.OK, f"{names[0]}, {names[1]}"


def functions(deployment: Deployment) -> Finding:
    """Check for function errors in the last hour, and quote the newest logged error."""
    now = deployment.now()
    names = {output: deployment.output(output) for output in FUNCTIONS}
    answer = deployment.client("cloudwatch").get_metric_data(
        StartTime=now - HOUR,
        EndTime=now,
        MetricDataQueries=[
            {"Id": f"m{number}", "MetricStat": _sum("AWS/Lambda", "Errors", {"FunctionName": name})}
            for number, name in enumerate(names.values())
        ],
    )
    counts = {one["Id"]: sum(one["Values"]) for one in answer["MetricDataResults"]}
    failed = [output for number, output in enumerate(names) if counts.get(f"m{number}")]
    if not failed:
        return State.OK, "no error within the last hour"
    moments = [moment for one in answer["MetricDataResults"] for moment in one["Timestamps"]]
    total = int(sum(counts.values()))
    last = _last_error(deployment, failed, now - HOUR)
    found = f"{total} errors within the last hour ({', '.join(failed)}), the last {ago(max(moments), now)} ago{last}"
    state = State.FAIL if now - max(moments) < FRESH else State.WARN
    return state, found, GUIDE[Trouble.FUNCTION_ERRORS].do


def _last_error(deployment: Deployment, outputs: Iterable[str], since: datetime) -> str:
    logs = deployment.client("logs")
    found = [
        (at, line)
        for output in outputs
        for at, line in lines(logs, deployment.log_group(output), since, '{ $.level = "ERROR" }')
        if line.get("level") == "ERROR"
    ]
    if not found:
        return ""
    _, newest = max(found, key=itemgetter(0))
    parts = (str(newest.get("message")), raised(newest))
    return f": {': '.join(part for part in parts if part)[:300]}"


def heartbeat(deployment: Deployment) -> Finding:
    """Check the age of the tick's last heartbeat."""
    last, now = tick_health.last_heartbeat(deployment), deployment.now()
    if last and now - last <= tick_health.LATE:
        return State.OK, "the tick runs"
    age = f"the last heartbeat was {ago(last, now)} ago" if last else "none in the last hour"
    return State.FAIL, age, GUIDE[Trouble.HEARTBEAT].do


def schedule(deployment: Deployment) -> Finding:
    """Check that nothing keeps the tick from running, also before its heartbeat is late."""
    if off := tick_health.switched_off(deployment):
        return State.FAIL, "; ".join(off), "Switch it on again. Until then only edits and notices are handled."
    return State.OK, "the tick's schedule and function are switched on"


def dead_letters(deployment: Deployment) -> Finding:
    """Check that the dead-letter queues are empty."""
    found = deployment.resources("AWS::SQS::Queue")
    queues = {name: url for name, url in found.items() if "Dead" in name}
    depths = {name: _depth(deployment.client("sqs"), url) for name, url in queues.items()}
    full = [f"{name}: {depth}" for name, depth in depths.items() if depth]
    if full:
        return State.FAIL, f"messages wait in {', '.join(full)}", GUIDE[Trouble.DEAD_LETTERS].do
    return State.OK, f"{len(queues)} queues, all empty"


def _depth(sqs: Any, url: str) -> int:
    name = "ApproximateNumberOfMessages"
    return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def service_role(deployment: Deployment) -> Finding:
    """Check that the account has the service-linked role of EC2 Spot."""
    if deployment.market_url:
        return NOT_LOCAL
    try:
        deployment.client("iam").get_role(RoleName=SPOT_ROLE)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise
        return State.FAIL, f"{SPOT_ROLE} does not exist", f"Create it once per account: {SERVICE_ROLE_COMMAND}"
    return State.OK, f"{SPOT_ROLE} exists"


def quotas(deployment: Deployment) -> Finding:
    """Check the spot vCPU quotas of the instance families that the pools use."""
    if deployment.market_url:
        return NOT_LOCAL
    found = spot_quotas(deployment)
    parsed = [parse_pool(stored.item) for stored in deployment.pools.all().values()]
    types = sorted({name for pool in parsed if isinstance(pool, Pool) and pool.spot for name in pool.instance_types})
    return judged(found, types)


def spot_quotas(deployment: Deployment) -> dict[str, float]:
    """Read the account's spot quotas: vCPUs by the families that count."""
    pages = deployment.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="ec2")
    return {
        match["families"]: float(quota["Value"])
        for page in pages
        for quota in page["Quotas"]
        if (match := SPOT_QUOTA.fullmatch(quota["QuotaName"]))
    }


def judged(found: dict[str, float], types: Iterable[str]) -> Finding:
    """Judge whether the quotas allow the instance types."""
    by_family: dict[str, list[str]] = {}
    for name in types:
        if family := next((one for one in found if counts_for(one, name)), None):
            by_family.setdefault(family, []).append(name)
    limits = "; ".join(f"{family}: {found[family]:g} vCPUs" for family in by_family or found)
    none = [f"{family} (for {', '.join(some[:3])})" for family, some in by_family.items() if not found[family]]
    if none:
        return State.FAIL, f"no spot vCPUs for {'; '.join(none)}", GUIDE[Trouble.QUOTA].do
    return State.OK, limits or "no spot quota is listed"


def counts_for(families: str, instance_type: str) -> bool:
    """Return whether a type counts against a quota with a name such as "G and VT" or "Standard (A, C, D)"."""
    listed = families.partition("(")[2] or families
    tokens = {token.lower() for token in re.findall(r"[A-Za-z]+\d*", listed)} - {"and"}
    match = FAMILY.match(instance_type)
    if match is None:
        return False
    letters, generation = match["letters"], match["generation"]
    standard = families.startswith("Standard") and letters[0] in tokens and letters in ("im", "is")
    return standard or not tokens.isdisjoint({letters, letters + generation})


def subscribers(deployment: Deployment) -> Finding:
    """Check that the topic for people has a confirmed subscription."""
    topic = deployment.output("MessagesTopic")
    pages = deployment.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    found = [one["SubscriptionArn"] for page in pages for one in page["Subscriptions"]]
    remedy = f"aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint you@example.com"
    confirmed = [arn for arn in found if arn.startswith("arn:")]
    if confirmed:
        return State.OK, f"subscribers: {len(confirmed)}"
    if found:
        return (
            State.WARN,
            "no subscription of the messages topic is confirmed",
            "Follow the link in the e-mail from AWS.",
        )
    return State.WARN, "the messages topic has no subscriber: no one hears of an alarm", remedy


def alarms(deployment: Deployment) -> Finding:
    """Check for alarms of this stack in the state ALARM."""
    ours = set(deployment.resources("AWS::CloudWatch::Alarm").values())
    pages = deployment.client("cloudwatch").get_paginator("describe_alarms")
    found = pages.paginate(AlarmNamePrefix=f"{deployment.stack}-", StateValue="ALARM")
    active = sorted({one["AlarmName"] for page in found for one in page.get("MetricAlarms", [])} & ours)
    if not active:
        return State.OK, "no alarm is active"
    return State.WARN, f"active: {', '.join(active)}", "Each alarm's description says what to do; see spotpools list."


CHECKS: dict[str, Callable[[Deployment], Finding]] = {
    "version": version,
    "tables": tables,
    "heartbeat": heartbeat,
    "schedule": schedule,
    "functions": functions,
    "dead letters": dead_letters,
    "alarms": alarms,
    "messages topic": subscribers,
    "service-linked role": service_role,
    "spot quotas": quotas,
}


def _sum(namespace: str, metric: str, dimensions: dict[str, str]) -> dict[str, Any]:
    listed = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    return {
        "Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": listed},
        "Period": 60,
        "Stat": "Sum",
    }


STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red", State.SKIP: "dim"}


def render(checks: Iterable[Check], links: Mapping[str, str]) -> RenderableType:
    """Render the checks, one line each, with the remedy below; then the addresses in the console."""
    lines = []
    for check in checks:
        lines.append(
            Text.assemble((f"{check.state:<5}", STYLES[check.state]), (f"{check.name:<20}", "bold"), plain(check.found))
        )
        if check.remedy:
            lines.append(Text(f"{'':<25}→ {plain(check.remedy)}", style=STYLES[check.state]))
    lines += [Text(f"{'':<5}{name:<20}{plain(address)}", style="dim") for name, address in links.items()]
    return Group(*lines)
