"""What ``make local`` promises: with the env file, a shell reaches this cloud and no other AWS."""

from __future__ import annotations

import subprocess
import sys

from localcloud.cloud import LocalCloud

VISITOR = """
import os, boto3
stack = os.environ["SPOTPOOLS_STACK"]
tables = boto3.client("dynamodb").list_tables()["TableNames"]
assert {os.environ["SPOTPOOLS_POOLS_TABLE"], os.environ["SPOTPOOLS_STATUS_TABLE"]} <= set(tables)
subscriptions = boto3.client("sns").list_subscriptions_by_topic(TopicArn=os.environ["SPOTPOOLS_MESSAGES_TOPIC"])
queue = boto3.client("sqs").get_queue_attributes(
    QueueUrl=os.environ["SPOTPOOLS_MESSAGE_QUEUE_URL"], AttributeNames=["QueueArn"]
)["Attributes"]["QueueArn"]
assert queue in [one["Endpoint"] for one in subscriptions["Subscriptions"]]
(template,) = boto3.client("ec2").describe_launch_templates()["LaunchTemplates"]
assert {"Key": "spotpools:stack", "Value": stack} in template["Tags"]
print(template["LaunchTemplateName"])
"""


def test_a_shell_needs_only_the_env_file(cloud: LocalCloud) -> None:
    done = subprocess.run(  # noqa: S603  our own command
        ["/bin/sh", "-c", '. "$0" && exec "$1" -c "$2"', str(cloud.env_files[0]), sys.executable, VISITOR],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == cloud.outputs["DefaultLaunchTemplate"]
