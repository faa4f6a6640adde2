"""The launch template of pools that name none, so that a pool item needs nothing but an instance type."""

from __future__ import annotations

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from lambdas.domain.model.instances import STACK_TAG

# Resolved by EC2 at each launch, not at deploy: a pool always starts the current image.
IMAGE = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


class DefaultLaunchTemplate(Construct):
    """Current Amazon Linux 2023 for x86_64, IMDSv2 only.

    It names no security group and no network interface: a group belongs to one VPC, and pools may be in any. EC2
    then gives each instance its VPC's default group, which lets nothing in from outside that group
    (docs/decisions tells more). The template carries the stack's tag because IAM lets the functions launch
    from templates so tagged, and from no other.
    """

    def __init__(self, scope: Construct, construct_id: str, *, stack: str) -> None:
        super().__init__(scope, construct_id)
        # A fixed name: the functions and the pool items speak of the template by name.
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
                # An on-demand instance that shuts itself down must not linger as a stopped one, billed for its disk.
                instance_initiated_shutdown_behavior="terminate",
                metadata_options=ec2.CfnLaunchTemplate.MetadataOptionsProperty(
                    http_endpoint="enabled",
                    http_tokens="required",
                    # Two hops, so that a container on the instance can still learn of its interruption.
                    http_put_response_hop_limit=2,
                    # A job reads its pool's name from the instance's tags.
                    instance_metadata_tags="enabled",
                ),
            ),
        )
        # A changed template is a new version, and CloudFormation leaves the default version where it was.
        self.template_version = template.attr_latest_version_number
