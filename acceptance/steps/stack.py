"""The stack itself: its deployment, its key, its tables and its functions' code."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from time import monotonic

from botocore.config import Config

from acceptance.run import NotSeenError, Run
from lambdas.aws.clients import client

INVOKE = Config(connect_timeout=5, read_timeout=70, retries={"mode": "standard", "total_max_attempts": 1})

FUNCTIONS = ("TickFunction", "PoolEditFunction", "PoolDueFunction", "SpotNoticeFunction", "AlarmFunction")
GOING_ON, DONE_SECONDS = "_IN_PROGRESS", 600
ANSWERS, CLOCKS_DIFFER = 200, 15
SIMULATOR = "success@simulator.amazonses.com"
"""An address of AWS for tests of sending (Amazon SES, mailbox simulator). It belongs to no one."""

MAY_REMAIN = ("AWS::DynamoDB::GlobalTable", "AWS::DynamoDB::Table", "AWS::Logs::LogGroup", "AWS::KMS::Key")
"""Types of which the stack's deletion leaves something, or must not."""


def deploy(run: Run) -> str:
    """Deploy the stack, and note what its deletion may leave."""
    begun = monotonic()
    if run.state.stack_since is None:
        run.state.stack_since = run.now()
        run.state.save()
    # A deployment that was cut short goes on in CloudFormation, which refuses a second one meanwhile.
    run.until(lambda: not (run.place.status() or "").endswith(GOING_ON), "CloudFormation is done", seconds=DONE_SECONDS)
    run.place.deploy()
    note_resources(run)
    status, seconds = run.place.status(), monotonic() - begun
    text = f"{status} after {seconds:.0f} s"
    if not run.local:
        run.judge("deploys", text, holds=status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"))
    return text


def note_resources(run: Run) -> None:
    """Save the stack's resources that its deletion may leave. Without this list nothing of them is ever deleted."""
    pages = run.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=run.place.stack)
    described = [one for page in pages for one in page["StackResourceSummaries"]]
    known = {tuple(one) for one in run.state.resources}
    known |= {
        (one["ResourceType"], one["PhysicalResourceId"])
        for one in described
        if one["ResourceType"] in MAY_REMAIN and one.get("PhysicalResourceId")
    }
    run.state.resources = sorted(map(list, known))
    run.state.save()


def data(run: Run) -> str:
    """Look at the tables' protection and the topics' key."""
    dynamodb = run.client("dynamodb")
    tables = [run.deployment.output(name) for name in ("PoolsTable", "StatusTable")]
    described = [dynamodb.describe_table(TableName=name)["Table"] for name in tables]
    protected = [bool(one.get("DeletionProtectionEnabled")) for one in described]
    run.judge("deletion-protection", f"Pools {protected[0]}, PoolStatus {protected[1]}", holds=all(protected))
    topic = run.client("sns").get_topic_attributes(TopicArn=run.deployment.output("MessagesTopic"))["Attributes"]
    key = run.client("kms").describe_key(KeyId=topic["KmsMasterKeyId"])["KeyMetadata"]
    text = f"{key['KeyState']}, managed by {key['KeyManager']}"
    run.judge("topic-key", text, holds=key["KeyState"] == "Enabled" and key["KeyManager"] == "CUSTOMER")
    return f"tables protected: {protected}; key {text}"


def code(run: Run) -> str:
    """Call the tick function, which loads all of the bundle's packages."""
    # A cold start may take longer than the usual time limit, and a second try would be another tick.
    functions = client("lambda", INVOKE, run.deployment.region)
    answer = functions.invoke(FunctionName=run.deployment.output("TickFunction"), Payload=b"{}")
    payload = answer["Payload"].read().decode(errors="replace")[:300]
    if "FunctionError" in answer:
        run.judge("bundle-imports", payload, holds=False)
        raise NotSeenError(f"the tick function failed: {payload}")
    if not run.local:
        run.seen("bundle-imports", "the tick function ran without an error")
    return "the tick function ran without an error"


def clock(run: Run) -> str:
    """Compare the dates in DynamoDB's answers with this machine's clock: the spread is that of its servers' clocks."""
    table, ahead = run.deployment.output("StatusTable"), []
    for _ in range(ANSWERS):
        answer = run.client("dynamodb").get_item(TableName=table, Key={"pool_name": {"S": "accept-clock"}})
        said = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        ahead.append((said - run.now()).total_seconds())
    spread = max(ahead) - min(ahead)
    # The dates have whole seconds, and an answer takes time.
    text = f"{ANSWERS} answers were between {min(ahead):.1f} and {max(ahead):.1f} s ahead of this machine"
    run.judge("dynamodb-clock", text, holds=spread < CLOCKS_DIFFER)
    return text


def subscription(run: Run) -> str:
    """Subscribe an address that confirms nothing, and look at how its subscription is listed."""
    sns, topic = run.client("sns"), run.deployment.output("AlarmTopic")
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=SIMULATOR)
    pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    found = [one["SubscriptionArn"] for page in pages for one in page["Subscriptions"] if one["Endpoint"] == SIMULATOR]
    text = f"listed as {', '.join(found) or 'nothing'}"
    run.judge("pending-subscription", text, holds=bool(found) and not any(one.startswith("arn:") for one in found))
    return text
