"""What each function may do, statement by statement.

Instances of others cannot be changed: launches must carry the stack's tag, and only instances with it can be
terminated.
"""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.data import Data
from infra.functions import Function, Functions
from infra.queues import Queues
from infra.stages import Deployment
from lambdas.domain.model.instances import POOL_TAG, STACK_TAG

Conditions = Mapping[str, Mapping[str, str | list[str]]]

LAUNCH = ("ec2:CreateFleet", "ec2:RunInstances")  # a fleet launches with its caller's rights, so both are checked

# What a launch uses, and what it creates. IAM can require a request tag only of what is created.
USED = ("key-pair", "placement-group", "security-group", "subnet")
USED_WITHOUT_OWNER = ("image", "snapshot")  # their ARNs name no account
CREATED = ("fleet", "instance", "network-interface", "volume")
# CreateFleet cannot tag it. A template can, but EC2 then refuses every on-demand launch from that template.
CREATED_WITHOUT_TAGS = ("spot-instances-request",)


class Permissions(Construct):
    """Adds the statements to the functions' roles. The triggers grant the rights that they need themselves."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        data: Data,
        queues: Queues,
        functions: Functions,
    ) -> None:
        super().__init__(scope, construct_id)
        self._stack = Stack.of(self)
        self._deployment = deployment
        pools, status, due = data.pools.table_arn, data.status.table_arn, queues.due.queue_arn
        send = _allow("RequestReconciles", list(deployment.stage.send_actions), [due])
        send_edited = _allow("RequestReconciles", list(deployment.stage.send_actions), [queues.edited.queue_arn])

        _add(
            functions.tick,
            _allow("ReadAllPools", ["dynamodb:Scan"], [pools]),
            _allow("ReadAllStatuses", ["dynamodb:Scan"], [status]),
            # The status records that a pool is in the queue, so that the pool is sent there only once.
            _allow("MarkQueued", ["dynamodb:UpdateItem"], [status]),
            self._describe("ec2:DescribeInstances", "ec2:DescribeSpotPriceHistory"),
            _see_price_list(),
            send,
        )
        _add(functions.pool_edit, send_edited)
        for function in (functions.pool_due, functions.spot_notice):
            _add(
                function,
                _allow("ReadPool", ["dynamodb:GetItem"], [pools]),
                _allow(
                    "KeepStatus",
                    ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
                    [status],
                ),
                self._describe(
                    "ec2:DescribeInstances",
                    "ec2:DescribeInstanceStatus",
                    "ec2:DescribeInstanceTypeOfferings",
                    "ec2:DescribeLaunchTemplates",
                    "ec2:DescribeLaunchTemplateVersions",
                    "ec2:DescribeSpotPriceHistory",
                    "ec2:DescribeSubnets",
                    "ec2:GetInstanceTypesFromInstanceRequirements",
                ),
                _see_price_list(),
                *self._launch(),
                *self._keep_templates(),
                self._terminate(),
                *self._announce_ends(),
                send,
            )
        _add(functions.alarm, _allow("ReadAllStatuses", ["dynamodb:Scan"], [status]))
        for function in functions:
            _add(function, _write_logs(function))

    def _describe(self, *actions: str) -> iam.PolicyStatement:
        # EC2 has no resource-level permissions for these.
        return _allow("SeeEc2", list(actions), ["*"], {"StringEquals": {"aws:RequestedRegion": self._stack.region}})

    def _launch(self) -> list[iam.PolicyStatement]:
        ours = {"StringEquals": {f"aws:RequestTag/{STACK_TAG}": self._deployment.stack}}
        created = [self._ec2(kind) for kind in CREATED]
        untagged = [self._ec2(kind) for kind in CREATED_WITHOUT_TAGS]
        statements = [
            _allow(
                "LaunchFromParts",
                list(LAUNCH),
                [*(self._ec2(kind) for kind in USED), *(self._ec2(kind, account="") for kind in USED_WITHOUT_OWNER)],
            ),
            # A template decides image, network and role, so only templates that an administrator tagged are allowed.
            _allow(
                "LaunchFromTaggedTemplates",
                list(LAUNCH),
                [self._ec2("launch-template")],
                {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": self._deployment.stack}},
            ),
            _allow("LaunchTagged", list(LAUNCH), created, ours),
            _allow("LaunchSpot", ["ec2:RunInstances"], untagged),
            _allow(
                "TagAtLaunchOnly",
                ["ec2:CreateTags"],
                [*created, *untagged],
                {"StringEquals": {**ours["StringEquals"], "ec2:CreateAction": ["CreateFleet", "RunInstances"]}},
            ),
            _allow(
                "ResolvePublicImages",
                ["ssm:GetParameters"],
                [
                    self._stack.format_arn(
                        service="ssm", account="", resource="parameter", resource_name="aws/service/*"
                    ),
                    *self._deployment.image_parameter_arns,
                ],
            ),
            # Needed once per account, at its first spot launch.
            _allow(
                "CreateSpotServiceRole",
                ["iam:CreateServiceLinkedRole"],
                [
                    self._stack.format_arn(
                        service="iam",
                        region="",
                        resource="role",
                        resource_name="aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot",
                    )
                ],
                {"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}},
            ),
        ]
        if self._deployment.volume_key_arns:
            statements += self._use_keys(list(self._deployment.volume_key_arns))
        if self._deployment.instance_role_arns:
            statements.append(
                _allow(
                    "GiveInstancesNamedRoles",
                    ["iam:PassRole"],
                    list(self._deployment.instance_role_arns),
                    {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
                )
            )
        return statements

    def _use_keys(self, keys: list[str]) -> list[iam.PolicyStatement]:
        """EC2 creates a volume with the caller's rights on the key. Without them the instance fails within seconds."""
        by_ec2 = {"StringEquals": {"kms:ViaService": f"ec2.{self._stack.region}.amazonaws.com"}}
        use = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"]
        return [
            _allow("EncryptVolumes", use, keys, by_ec2),
            _allow("LetVolumesUseKeys", ["kms:CreateGrant"], keys, {"Bool": {"kms:GrantIsForAWSResource": "true"}}),
        ]

    def _keep_templates(self) -> list[iam.PolicyStatement]:
        """Create and change pools' templates. Administrators' templates have no pool tag, so they stay unchanged."""
        templates, stack = [self._ec2("launch-template")], self._deployment.stack
        ours = {f"aws:RequestTag/{STACK_TAG}": stack}
        return [
            _allow("CreatePoolTemplates", ["ec2:CreateLaunchTemplate"], templates, {"StringEquals": ours}),
            _allow(
                "TagPoolTemplates",
                ["ec2:CreateTags"],
                templates,
                {"StringEquals": {**ours, "ec2:CreateAction": "CreateLaunchTemplate"}},
            ),
            _allow(
                "KeepPoolTemplates",
                ["ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplate", "ec2:DeleteLaunchTemplateVersions"],
                templates,
                {
                    "StringEquals": {f"aws:ResourceTag/{STACK_TAG}": stack},
                    "StringLike": {f"aws:ResourceTag/{POOL_TAG}": "?*"},
                },
            ),
        ]

    def _announce_ends(self) -> list[iam.PolicyStatement]:
        """Announce interruptions, and run the pool's drain command on the instances."""
        document = self._stack.format_arn(
            service="ssm", account="", resource="document", resource_name="AWS-RunShellScript"
        )
        return [
            _allow(
                "AnnounceDraining",
                ["events:PutEvents"],
                [self._stack.format_arn(service="events", resource="event-bus", resource_name="default")],
                {"StringEquals": {"events:source": "spotpools"}} if self._deployment.stage.event_conditions else None,
            ),
            _allow("RunDrainDocument", ["ssm:SendCommand"], [document]),
            _allow(
                "DrainOwnInstances",
                ["ssm:SendCommand"],
                [self._ec2("instance")],
                {"StringEquals": {f"ssm:resourceTag/{STACK_TAG}": self._deployment.stack}},
            ),
            _allow("SeeDrains", ["ssm:GetCommandInvocation"], ["*"]),
        ]

    def _terminate(self) -> iam.PolicyStatement:
        return _allow(
            "TerminateOwnInstances",
            ["ec2:TerminateInstances"],
            [self._ec2("instance")],
            {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": self._deployment.stack}},
        )

    def _ec2(self, kind: str, account: str | None = None) -> str:
        return self._stack.format_arn(service="ec2", account=account, resource=kind, resource_name="*")


def _allow(
    sid: str, actions: list[str], resources: list[str], conditions: Conditions | None = None
) -> iam.PolicyStatement:
    return iam.PolicyStatement(sid=sid, actions=actions, resources=resources, conditions=conditions)


def _see_price_list() -> iam.PolicyStatement:
    """A few Regions serve the price list for all Regions."""
    return _allow("SeePriceList", ["pricing:GetProducts"], ["*"])


def _add(function: Function, *statements: iam.PolicyStatement) -> None:
    for statement in statements:
        function.role.add_to_policy(statement)


def _write_logs(function: Function) -> iam.PolicyStatement:
    """Write to the function's own log group only. The group exists already, so no right to create it is needed."""
    return _allow(
        "WriteLogs", ["logs:CreateLogStream", "logs:PutLogEvents"], [function.function.log_group.log_group_arn]
    )
