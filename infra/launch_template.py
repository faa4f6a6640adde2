"""The launch template for pools that name none, so that a pool item needs only an instance type."""

from __future__ import annotations

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from lambdas.domain.model.instances import STACK_TAG

# EC2 resolves it at each launch, not at deployment: a pool always starts the current image.
IMAGE = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


class DefaultLaunchTemplate(Construct):
    """Current Amazon Linux 2023 for x86_64, IMDSv2 only.

    It names no security group and no network interface: a group belongs to one VPC, and pools may use any VPC. EC2 then
    gives each instance its VPC's default group, which accepts no traffic from outside that group (see docs/decisions).
    The template carries the stack's tag because IAM lets the functions launch only from templates with that tag.
    """

    def __init__(self, scope: Construct, construct_id: str, *, stack: str) -> None:
        super().__init__(scope, construct_id)
        # A fixed name: the functions and the pool items refer to the template by name.
        self.template_name = f"{stack}-default"
        # The L1, because the L2 would also put a Name tag with its construct path on every instance.
        template = ec2.CfnLaunchTemplate(
            self,
            "Resource",
            launch_template_name=self.template_name,
            version_description="Pools that name no launch template",
            tag_specifications=[
                ec2.CfnLaunchTemplate.LaunchTemplateTagSpecificationProperty(
                    resource_type="launch-template", tags=[{"key": STACK_TAG, "value": stack}]
                )
            ],
            launch_template_data=ec2.CfnLaunchTemplate.LaunchTemplateDataProperty(
                image_id=IMAGE,
                # An on-demand instance that shuts itself down must not remain as a stopped one, billed for its disk.
                instance_initiated_shutdown_behavior="terminate",
                metadata_options=ec2.CfnLaunchTemplate.MetadataOptionsProperty(
                    http_endpoint="enabled",
                    http_tokens="required",
                    # Two hops, so that a container on the instance can also read the interruption notice.
                    http_put_response_hop_limit=2,
                    # A job reads its pool's name from the instance's tags.
                    instance_metadata_tags="enabled",
                ),
            ),
        )
        # A changed template is a new version, but CloudFormation does not change the default version.
        self.template_version = template.attr_latest_version_number
