"""What the services say about the run: logs, saved queries, traces, the dashboard's queries, empty polls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from acceptance.run import NotSeenError, Run
from acceptance.steps.stack import FUNCTIONS
from acceptance.steps.story import POOL
from cli.logs import lines

INIT = re.compile(r"Init Duration: ([\d.]+) ms")
BROKEN = "?ImportModuleError ?ModuleNotFoundError ?ImportError"
"""A filter pattern: one of these words."""
HALF_AN_HOUR = timedelta(minutes=30)
QUERY_SECONDS, TRACE_SECONDS, LOG_SECONDS = 60, 180, 60
ENDED_QUERIES = ("Complete", "Failed", "Cancelled", "Timeout", "Unknown")
POLLS_ASSUMED = 15
"""Empty receives a minute and queue: docs/costs.md."""


def logs(run: Run) -> str:
    """Read the functions' logs: a pattern with a star at both ends, faults of imports, and init durations."""
    since = run.now() - 2 * HALF_AN_HOUR
    group, client = run.deployment.log_group("PoolDueFunction"), run.client("logs")
    found = run.until(
        lambda: next(lines(client, group, since, f'{{ $.pool = "*{POOL[2:-2]}*" }}'), None),
        "a line about the pool",
        seconds=LOG_SECONDS,
    )
    if run.local:
        return "the pool's lines were found; the local cloud does not filter them"
    run.seen("log-star", f"a line of {found[0]:%H:%M:%S} was found")
    groups = {name: run.deployment.log_group(name) for name in FUNCTIONS}
    reports = {name: _texts(client, one, since, '"Init Duration"') for name, one in groups.items()}
    starts = {
        name: [float(match[1]) for text in texts if (match := INIT.search(text))] for name, texts in reports.items()
    }
    worst = {name: f"{len(some)} cold starts, at most {max(some):.0f} ms" for name, some in starts.items() if some}
    text = "; ".join(f"{name} {words}" for name, words in worst.items())
    run.judge("cold-starts", text or "no REPORT line has an Init Duration", holds=bool(worst))
    broken = [
        f"{name}: {texts[0][:150]}" for name, one in groups.items() if (texts := _texts(client, one, since, BROKEN))
    ]
    if broken:
        run.judge("bundle-imports", "; ".join(broken), holds=False)
    return text


def saved_queries(run: Run) -> str:
    """Run each saved query of the stack to its end."""
    client, now = run.client("logs"), run.now()
    prefix = f"{run.place.stack}/"
    kept = client.describe_query_definitions(queryDefinitionNamePrefix=prefix)["queryDefinitions"]
    said = []
    for one in kept:
        query = client.start_query(
            logGroupNames=one["logGroupNames"],
            startTime=int((now - 2 * HALF_AN_HOUR).timestamp()),
            endTime=int(now.timestamp()),
            queryString=one["queryString"].replace("NAME", POOL),
        )["queryId"]

        def ended(query: str = query) -> dict[str, Any] | None:
            answer = client.get_query_results(queryId=query)
            return dict(answer) if answer["status"] in ENDED_QUERIES else None

        answer = run.until(ended, f"the end of the query {one['name']}", seconds=QUERY_SECONDS)
        said.append((one["name"].removeprefix(prefix), answer["status"], len(answer["results"])))
    text = "; ".join(f"{name}: {status}, {rows} lines" for name, status, rows in said)
    complete = bool(said) and all(status == "Complete" for _, status, _ in said)
    run.judge("saved-queries", text or "no saved query was found", holds=complete)
    return text


def traces(run: Run) -> str:
    """Ask X-Ray for the tick's traces."""
    name, client = run.deployment.output("TickFunction"), run.client("xray")

    def found() -> list[Any]:
        now = run.now()
        return list(
            client.get_trace_summaries(
                StartTime=now - HALF_AN_HOUR, EndTime=now, FilterExpression=f'service("{name}")'
            )["TraceSummaries"]
        )

    some = run.until(found, "traces of the tick", seconds=TRACE_SECONDS)
    run.seen("traces", f"{len(some)} traces of the tick within half an hour")
    return f"{len(some)} traces"


def dashboard(run: Run) -> str:
    """Run each metric and each query of the dashboard, and count those with data."""
    client, now = run.client("cloudwatch"), run.now()
    body = json.loads(client.get_dashboard(DashboardName=run.deployment.output("Dashboard"))["DashboardBody"])
    queries = list(_queries(body))
    # One Metrics Insights query a call: CloudWatch may refuse more.
    calls = [[query for _, query in queries if "Expression" not in query]]
    calls += [[query] for _, query in queries if "Expression" in query]
    answers = [
        client.get_metric_data(StartTime=now - 2 * HALF_AN_HOUR, EndTime=now, MetricDataQueries=some) for some in calls
    ]
    full = {one["Id"] for answer in answers for one in answer["MetricDataResults"] if one["Values"]}
    asked = {query["Id"]: title for title, query in queries}
    by_query = [query["Id"] for _, query in queries if "Expression" in query]
    empty = sorted({title for id_, title in asked.items() if id_ not in full})
    silent = [asked[id_] for id_ in by_query if id_ not in full]
    text = f"{len(full)} of {len(queries)} lines have data; without: {', '.join(empty) or 'none'}"
    if messages := [one["Value"] for answer in answers for one in answer.get("Messages", [])]:
        text += f"; CloudWatch says: {messages}"
    # Pools in trouble come and go, and counters are published only when something happens.
    holds = len(silent) < len(by_query) and bool(full)
    run.judge("dashboard-data", text, holds=holds)
    return text


def polls(run: Run) -> str:
    """Count how often Lambda asked the work queues and found nothing."""
    now, client = run.now(), run.client("cloudwatch")
    start = max(run.state.stack_since or now, now - HALF_AN_HOUR)
    found = {}
    for output in ("DueQueueUrl", "EditedQueueUrl", "NoticesQueueUrl"):
        name = run.deployment.output(output).rpartition("/")[2]
        points = client.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="NumberOfEmptyReceives",
            Dimensions=[{"Name": "QueueName", "Value": name}],
            StartTime=start,
            EndTime=now,
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        if points:
            found[output] = sum(one["Sum"] for one in points) / len(points)
    if not found:
        raise NotSeenError("NumberOfEmptyReceives has no data yet")
    text = ", ".join(f"{name} {rate:.1f}" for name, rate in found.items())
    run.judge(
        "empty-polls",
        f"empty receives a minute: {text}; docs/costs.md assumes {POLLS_ASSUMED}",
        holds=max(found.values()) <= 2 * POLLS_ASSUMED,
    )
    return text


def _texts(client: Any, group: str, since: Any, pattern: str) -> list[str]:
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int(since.timestamp() * 1000), filterPattern=pattern
    )
    return [event["message"] for page in pages for event in page["events"]]


def _queries(body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The dashboard's lines as queries of GetMetricData, each with the title of its graph."""
    number = 0
    for widget in body["widgets"]:
        properties = widget["properties"]
        last: list[str] = []
        for line in properties.get("metrics", []):
            *names, options = line if isinstance(line[-1], dict) else [*line, {}]
            number += 1
            query: dict[str, Any] = {"Id": f"q{number}"}
            if "expression" in options:
                query |= {"Expression": options["expression"], "Period": int(options.get("period", 60))}
            else:
                # A point means: as in the line above.
                names = [last[place] if name == "." else name for place, name in enumerate(names)]
                last = names
                namespace, metric, *pairs = names
                dimensions = [{"Name": pairs[at], "Value": pairs[at + 1]} for at in range(0, len(pairs), 2)]
                query["MetricStat"] = {
                    "Metric": {"Namespace": namespace, "MetricName": metric, "Dimensions": dimensions},
                    "Period": int(options.get("period", properties.get("period", 60))),
                    "Stat": options.get("stat", properties.get("stat", "Average")),
                }
            yield properties.get("title", ""), query
