"""The stack itself: its deployment, its key, its tables and its functions' code."""

from __future__ import annotations

from time import monotonic

from botocore.config import Config

from acceptance.run import NotSeenError, Run
from lambdas.aws.clients import client

INVOKE = Config(connect_timeout=5, read_timeout=70, retries={"mode": "standard", "total_max_attempts": 1})

FUNCTIONS = ("TickFunction", "PoolEditFunction", "PoolDueFunction", "SpotNoticeFunction", "AlarmFunction")
GOING_ON, DONE_SECONDS = "_IN_PROGRESS", 600
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
