"""The claims: sentences of docs/not-yet-on-aws.md that a run checks, and the verdicts it can give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a run says about a claim. NOT_SEEN always comes with the reason."""

    SEEN = "seen"
    NOT_SEEN = "not seen"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Finding:
    """A verdict on one claim, with what was seen, or why nothing was."""

    claim: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Claim:
    """A sentence of docs/not-yet-on-aws.md and how a step checks it.

    ``only_aws`` says what the local cloud lacks, if only AWS can answer; it is empty if the local cloud can play it.
    """

    sentence: str
    how: str
    only_aws: str = ""


CLAIMS: Mapping[str, Claim] = {
    "deploys": Claim(
        "The deployment itself",
        "make deploy makes the stack, and CloudFormation says CREATE_COMPLETE.",
        "it deploys the stage local, not the stage aws",
    ),
    "topic-key": Claim(
        "KMS, X-Ray, deletion protection and the bootstrap's own roles exist only on AWS",
        "kms:DescribeKey says that the topics' key is enabled and made by us.",
        "its KMS encrypts nothing",
    ),
    "traces": Claim(
        "KMS, X-Ray, deletion protection and the bootstrap's own roles exist only on AWS",
        "xray:GetTraceSummaries returns traces of the tick function.",
        "it has no X-Ray",
    ),
    "deletion-protection": Claim(
        "KMS, X-Ray, deletion protection and the bootstrap's own roles exist only on AWS",
        "dynamodb:DescribeTable says that both tables are protected.",
        "the stage local protects no tables",
    ),
    "fleet-resources": Claim(
        "the kinds of resource that IAM checks for CreateFleet itself",
        "A dry run of CreateFleet with a role that is denied one kind of resource after the other.",
        "its IAM was written from the same documentation",
    ),
    "create-action": Claim(
        "whether tagging inside a fleet has the `ec2:CreateAction` RunInstances or CreateFleet",
        "The same dry run, with tagging denied for one create action after the other.",
        "its IAM was written from the same documentation",
    ),
    "template-right": Claim(
        "whether its launches pass the launch template to IAM",
        "The same dry run, with RunInstances denied on launch templates.",
        "its IAM was written from the same documentation",
    ),
    "parameter-right": Claim(
        "the error for a missing `ssm:GetParameters`",
        "CreateFleet, at a price that is too low, with a role that may not read parameters.",
        "its IAM was written from the same documentation",
    ),
    "spot-request-tags": Claim(
        "which tags a fleet's spot request carries",
        "ec2:DescribeSpotInstanceRequests shows the tags of the story pool's requests.",
        "its market has no spot requests",
    ),
    "token-repeated": Claim(
        "what a repeated ClientToken answers",
        "CreateFleet is sent twice with the same token. The answers and the instances are compared.",
    ),
    "price-too-low": Claim(
        "whether `SpotMaxPriceTooLow` appears inside `Errors`",
        "CreateFleet with a highest price of 0.0011 USD; the codes in its answer.",
    ),
    "query-alarm": Claim(
        "The queries of our alarms and dashboard",
        "An invalid pool item raises the alarm pool-item-invalid.",
        "its alarms use the fleet's worst pool instead of queries",
    ),
    "alarm-contributors": Claim(
        "Which events an alarm by query sends",
        "cloudwatch:DescribeAlarmContributors names the pool.",
        "its alarms have no contributors",
    ),
    "message-time": Claim(
        "the time from the alarm to the message",
        "From the alarm's change of state to the message for people in a queue that subscribes to the topic.",
    ),
    "message-once": Claim(
        "whether a message for people is ever sent twice",
        "How often the same message arrived in that queue.",
    ),
    "message-key": Claim(
        "that `on_alarm` may use the topics' key in its topic's name",
        "The message for people arrives through the encrypted topic.",
        "its topics are not encrypted",
    ),
    "spot-launches": Claim(
        "real prices, capacity, interruptions and rebalance recommendations",
        "A pool of two spot instances reaches its size.",
    ),
    "image-parameter": Claim(
        "that an image behind `resolve:ssm:` is found at each launch",
        "The instances' image is the one that the parameter names.",
        "its market has invented images",
    ),
    "cold-starts": Claim(
        "a function that has not run for a while needs a second or two more",
        "The init durations in the functions' REPORT lines.",
        "its functions write no REPORT lines",
    ),
    "event-latency": Claim(
        "of EC2's events",
        "From the request to interrupt an instance to the line of the function that heard of the notice.",
    ),
    "bundle-imports": Claim(
        "are made of wheels for Lambda's processor and Python",
        "The functions run, and no log line says that a module cannot be imported.",
        "its functions run with this machine's Python and packages",
    ),
    "empty-polls": Claim(
        "how often Lambda polls an empty queue",
        "The metric NumberOfEmptyReceives of the stack's queues.",
        "its queues have no metrics",
    ),
    "dashboard-data": Claim(
        "no CloudWatch has run them",
        "cloudwatch:GetMetricData with each query of the dashboard returns data.",
        "its CloudWatch runs no queries",
    ),
    "saved-queries": Claim(
        "The queries of our alarms and dashboard",
        "logs:StartQuery runs each saved query to its end.",
        "it keeps no saved queries",
    ),
    "log-star": Claim(
        "A star at both ends, which `history` and `doctor` send, was not tried",
        "logs:FilterLogEvents with a star at both ends finds a line that exists.",
        "its logs are not filtered",
    ),
    "price-list": Claim(
        "and the **price list** in the shapes that AWS documents",
        "The adapter of the price list finds on-demand prices of the story's types.",
    ),
    "requirements": Claim(
        "the market knows a few dozen types; AWS decides which generation counts as current",
        "ec2:GetInstanceTypesFromInstanceRequirements for two vCPUs and at most 2 GiB, current generation.",
        "its market knows a few dozen types",
    ),
    "drill": Claim(
        "is a FIS experiment on AWS, which nothing here can run",
        "spotpools drill interrupts one instance, and its replacement comes.",
        "its market interrupts instead of FIS",
    ),
    "drill-without-template": Claim(
        "that a running experiment continues without its template",
        "fis:GetExperiment says completed after the template was deleted.",
        "it has no FIS",
    ),
    "drill-quota": Claim(
        "that the account's quota is ten actions at once",
        "servicequotas:ListServiceQuotas of FIS has a quota of parallel actions.",
        "it has no quotas service",
    ),
    "quota-names": Claim(
        "quotas of the service code `ec2` named",
        "servicequotas:ListServiceQuotas has such a quota, and it counts for the story's types.",
        "it has no quotas service",
    ),
    "spot-role": Claim(
        "The role `AWSServiceRoleForEC2Spot`",
        "iam:GetRole finds it.",
        "it has no such role",
    ),
    "pending-subscription": Claim(
        "That an unconfirmed subscription has no ARN",
        "An e-mail address of the SES mailbox simulator, which confirms nothing, is subscribed and listed.",
        "its subscriptions need no confirmation",
    ),
    "dynamodb-clock": Claim(
        "We assume that its servers' clocks differ by less than 15 s",
        "The dates in 200 answers of DynamoDB are compared with this machine's clock; their spread counts.",
    ),
    "leaves-data": Claim(
        "that a deleted stack leaves its tables and logs",
        "Both tables and the log groups exist after the stack is gone.",
        "the stage local keeps nothing",
    ),
    "table-refuses": Claim(
        "that a retained table still refuses deletion",
        "dynamodb:DeleteTable is refused until the protection is switched off.",
        "the stage local protects no tables",
    ),
    "key-restorable": Claim(
        "that the key can be restored",
        "kms:DescribeKey says PendingDeletion, with a date in the future.",
        "the stage local's key is gone at once",
    ),
    "dead-letter-move": Claim(
        "for the two dead-letter queues of work queues",
        "A message for no pool goes from the dead-letter queue of due pools to their queue, by a move task.",
        "its queues have no move tasks",
    ),
}
"""Each claim by its id. docs/not-yet-on-aws.md marks the sentences with the same ids."""


def only_aws(claim: str) -> Finding:
    """The finding for a claim that a run on the local cloud cannot answer."""
    return Finding(claim, Verdict.NOT_SEEN, f"only AWS can answer this; the local cloud: {CLAIMS[claim].only_aws}")
