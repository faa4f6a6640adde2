"""Findings of cdk-nag's AwsSolutions rules that we accept, each with its reason. Any other finding fails the tests."""

from __future__ import annotations

from aws_cdk import Acknowledgment, CfnResource, Stack, Validations
from constructs import IConstruct

from infra.functions import Functions
from infra.permissions import CREATED, CREATED_WITHOUT_TAGS, USED, USED_WITHOUT_OWNER
from infra.queues import Queues

ANY_USED = (
    "A pool item or launch template names these, so they are not known at deploy time; only launch templates that "
    "carry the stack's tag can be launched from, and roles only be passed if named at deploy time."
)
ANY_CREATED = "Their ids are made at launch; conditions demand the stack's tag on each, at launch and at termination."
ANY_SPOT_REQUEST = "Made at launch only, with an instance that must carry the stack's tag."
NO_RESOURCES = (
    "ec2:Describe*, ec2:GetInstanceTypesFromInstanceRequirements, pricing:GetProducts, ssm:GetCommandInvocation, "
    "xray:Put* and dynamodb:ListStreams have no resource-level permissions; what asks EC2 is limited to the stack's "
    "Region."
)


def acknowledge(stack: Stack, *, queues: Queues, functions: Functions) -> None:
    """Write the accepted findings into the construct tree, where cdk-nag looks for them."""
    for queue in (queues.tick_dead, queues.edits_dead):
        _accept(queue, "SQS3", "It is a dead-letter queue itself: of the Scheduler and Lambda, or of the stream.")
    for each in functions:
        _accept(each.function, "L1", "Python 3.13 is supported until 2029; the pinned wheels are tested on it.")
        _accept(each.role, "IAM5[Resource::*]", NO_RESOURCES)
    for each in (functions.pool_due, functions.spot_notice):
        for kind in (*USED, "launch-template"):
            _accept(each.role, _wildcard("ec2", f"{kind}/*"), ANY_USED)
        for kind in USED_WITHOUT_OWNER:
            _accept(each.role, _wildcard("ec2", f"{kind}/*", account=""), ANY_USED)
        for kind in CREATED:
            _accept(each.role, _wildcard("ec2", f"{kind}/*"), ANY_CREATED)
        for kind in CREATED_WITHOUT_TAGS:
            _accept(each.role, _wildcard("ec2", f"{kind}/*"), ANY_SPOT_REQUEST)
        _accept(
            each.role,
            _wildcard("ssm", "parameter/aws/service/*", account=""),
            "AWS's own public parameters; launch templates name the one with their image.",
        )
    _accept(
        functions.alarm.role,
        "IAM5[Action::kms:GenerateDataKey*]",
        "SNS asks for a data key with or without its plain text; only the stack's own key, in its topic's name.",
    )
    tick = functions.tick.function.node.default_child
    if isinstance(tick, CfnResource):  # always true; for the type checker
        _accept(
            stack,
            f"IAM5[Resource::<{stack.get_logical_id(tick)}.Arn>:*]",
            "The Scheduler's role may invoke the tick function and its versions, nothing else.",
        )


def _wildcard(service: str, resource: str, account: str = "<AWS::AccountId>") -> str:
    return f"IAM5[Resource::arn:<AWS::Partition>:{service}:<AWS::Region>:{account}:{resource}]"


def _accept(scope: IConstruct, rule: str, reason: str) -> None:
    Validations.of(scope).acknowledge(Acknowledgment(id=f"AwsSolutions::AwsSolutions-{rule}", reason=reason))
