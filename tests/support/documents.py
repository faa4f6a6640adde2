"""The code blocks of README.md and docs, and how each command in them is tested.

A command is either tried on the local cloud (tests/e2e/test_documents.py) or named here with the reason why it is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"\s{2,}#.*$")

SESSION = r"""
source .venv/bin/activate
spotpools validate pool.yaml
  1 valid: training
spotpools apply pool.yaml
  + training
spotpools list
  training
spotpools explain training
  Wanted       3, by target_size 3
spotpools history training
  launch 3 (spot)
spotpools page --out pools.html --pool POOL
  the own pages of 1 pool
spotpools doctor
  the tick runs
spotpools cost --pools 20
  all, for 20 pools
spotpools doctor --bundle help.zip
  the tick runs
source .localcloud/env
curl -s $SPOTPOOLS_MARKET_URL/market
  "offerings"
.venv/bin/spotpools apply examples/multi-zone.yaml
  + training-multi-zone
aws dynamodb get-item --table-name $SPOTPOOLS_STATUS_TABLE --key '{"pool_name": {"S": "training-multi-zone"}}'
  "running"
curl -s -X POST $SPOTPOOLS_MARKET_URL/market/interrupt -d '{"pool": "training-multi-zone", "count": 1}'
  "instance_ids"
spotpools explain POOL
  Wanted       3, by target_size 3
spotpools history POOL --since 6h
  launch 3 (spot)
aws sns subscribe --topic-arn TOPIC --protocol email --notification-endpoint you@example.com
  SubscriptionArn
aws sns subscribe --topic-arn TOPIC --protocol email --notification-endpoint you@example.com \
  --attributes '{"FilterPolicy": "{\"severity\": [\"page\"]}"}'
  SubscriptionArn
aws sns subscribe --topic-arn ALARMS --protocol email --notification-endpoint you@example.com --attributes \
  '{"FilterPolicyScope": "MessageBody", "FilterPolicy": "{\"AlarmName\": [{\"suffix\": \"-heartbeat-missing\"}]}"}'
  SubscriptionArn
aws ec2 describe-instances \
  --filters Name=tag:spotpools:stack,Values=spotpools Name=instance-state-name,Values=pending,running
  "InstanceId"
aws ec2 describe-instances --filters Name=tag:spotpools:pool,Values=POOL Name=instance-state-name,Values=terminated \
  --query 'Reservations[].Instances[].[InstanceId,StateReason.Code,StateReason.Message]' --output text
aws cloudwatch set-alarm-state --alarm-name spotpools-heartbeat-missing --state-value ALARM --state-reason "a test"
aws sqs receive-message --queue-url $SPOTPOOLS_MESSAGE_QUEUE_URL
  "Messages"
aws cloudformation describe-stack-resources --stack-name spotpools \
  --query "StackResources[?ResourceType=='AWS::SQS::Queue'].[LogicalResourceId,PhysicalResourceId]" --output text
  QueuesTickDead
"""
"""The commands that are tried on the local cloud, in this order, each with what its answer must contain.

The shell has read .localcloud/env, and the README's pool.yaml is in its folder. POOL stands for that pool.
"""

ELSEWHERE = {
    'make deploy ARGS="-c alarm_email=you@example.com '
    '-c subnet_ids=subnet-0123456789abcdef0,subnet-0fedcba9876543210"': "needs an AWS account",
    "aws sns subscribe --topic-arn ALARMS --protocol https --notification-endpoint "
    "https://events.pagerduty.com/integration/KEY/enqueue": "needs an account of PagerDuty",
    "make demo": "tests/support/first_contact.py plays it",
    "spotpools page": "it serves until Ctrl-C; tests/cli/test_page.py plays it",
    "spotpools page --port 8400": "it serves until Ctrl-C; tests/cli/test_page.py plays it",
    "ssh -L 8400:127.0.0.1:8400 HOST": "needs another machine",
    "make local": "tests/support/first_contact.py starts it",
    "make test": "it is what runs these tests",
    "make deploy": "needs an AWS account",
    'make deploy ARGS="-c alarm_email=you@example.com"': "needs an AWS account",
    "make accept": "needs an AWS account",
    "make accept ARGS=--dry-run": "tests/acceptance/test_options.py runs it",
    "make accept ARGS=--clean": "tests/e2e/test_acceptance.py runs it",
    "make accept ARGS=--local": "tests/e2e/test_acceptance.py runs it",
    "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com": "needs an AWS account",
    "aws kms create-grant --key-id ARN --grantee-principal "
    "arn:aws:iam::123456789012:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot --operations Decrypt "
    "Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext CreateGrant DescribeKey ReEncryptFrom ReEncryptTo": (
        "needs an AWS account"
    ),
    "make sim SEEDS=2000": "takes a quarter of an hour; tests/sim/test_sim.py plays fewer seeds",
    "make sim SEEDS=2000 FIRST_SEED=445": "takes a quarter of an hour; tests/sim/test_sim.py plays fewer seeds",
    "python -m tests.sim --trace --seeds 1 --first-seed 445": "tests/sim/test_sim.py plays such a seed",
    "make sim-mutants": "takes some minutes; tests/sim/test_sim.py hunts two of them",
}


@dataclass(frozen=True)
class Block:
    """A code block and its place."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks() -> Iterator[Block]:
    """Every code block of every document."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            inside = re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
            line = text.count("\n", 0, found.start()) + 1
            yield Block(str(path.relative_to(ROOT)), line, found["language"], inside)


def commands(text: str) -> list[str]:
    """The commands of a block, one a line, without comments. If some have a prompt, the rest is output."""
    lines = [COMMENT.sub("", line).rstrip() for line in _joined(text)]
    if any(line.startswith("$ ") for line in lines):
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line]


def session() -> dict[str, str]:
    """Each command to try, with what its answer must contain."""
    tried: dict[str, str] = {}
    for line in filter(None, _joined(SESSION)):
        if line.startswith("  "):
            tried[list(tried)[-1]] = line.strip()
        else:
            tried[line] = ""
    return tried


def _joined(text: str) -> list[str]:
    return re.sub(r" *\\\n *", " ", text).splitlines()
