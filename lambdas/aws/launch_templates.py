"""Launch templates of pools that describe their machines inline: one a pool, one version a description.

A version carries its description's digest, so that it is found again and never made twice. Old versions are pruned.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from lambdas.aws.asking import ask, pages
from lambdas.domain.machine import Machine
from lambdas.domain.observed import POOL_TAG, STACK_TAG
from lambdas.domain.pool import Pool
from lambdas.domain.status import Template
from lambdas.ports import FleetError

KEPT_VERSIONS = 5
"""An open attempt may still name the version before the newest."""

AMAZON_LINUX = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{architecture}"
NOT_THERE = ("InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound")


class LaunchTemplates:
    """Makes, finds and deletes them. Raises FleetError when EC2 refuses."""

    def __init__(self, ec2: Any, *, stack: str) -> None:
        self._ec2 = ec2
        self._stack = stack

    def version(self, pool: Pool, known: Template | None) -> Template | None:
        """The version that holds the pool's description; None if the pool needs no template of its own."""
        if not pool.described:
            return None
        machine = pool.machine_digest
        if known is not None and known.machine == machine:
            return known
        versions = self._versions(pool.pool_name)
        found = next((one for one in versions if one.get("VersionDescription") == machine), None)
        if found is None:
            found = self._add(pool, machine) if versions else self._create(pool, machine)
            self._prune([*versions, found])
        return Template(machine=machine, id=found["LaunchTemplateId"], version=found["VersionNumber"])

    def forget(self, pool_name: str) -> None:
        """Delete the template of a pool that is gone, if there is one.

        EC2 is asked, not memory: a crash may have come between its making and its remembering.
        """
        if not self._versions(pool_name):
            return
        try:
            ask(self._ec2.delete_launch_template, LaunchTemplateName=self._name(pool_name))
        except FleetError as error:
            if error.failure.code not in NOT_THERE:
                raise

    def _name(self, pool_name: str) -> str:
        return f"{self._stack}-pool-{pool_name}"

    def _versions(self, pool_name: str) -> list[Mapping[str, Any]]:
        try:
            found = list(pages(self._ec2.describe_launch_template_versions, LaunchTemplateName=self._name(pool_name)))
        except FleetError as error:
            if error.failure.code in NOT_THERE:
                return []
            raise
        return sorted(
            (one for page in found for one in page["LaunchTemplateVersions"]), key=lambda one: int(one["VersionNumber"])
        )

    def _create(self, pool: Pool, machine: str) -> Mapping[str, Any]:
        tags = [{"Key": STACK_TAG, "Value": self._stack}, {"Key": POOL_TAG, "Value": pool.pool_name}]
        answer = ask(
            self._ec2.create_launch_template,
            LaunchTemplateName=self._name(pool.pool_name),
            VersionDescription=machine,
            LaunchTemplateData=template_data(pool),
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
        )
        made = answer["LaunchTemplate"]
        return {"LaunchTemplateId": made["LaunchTemplateId"], "VersionNumber": made["LatestVersionNumber"]}

    def _add(self, pool: Pool, machine: str) -> Mapping[str, Any]:
        answer = ask(
            self._ec2.create_launch_template_version,
            LaunchTemplateName=self._name(pool.pool_name),
            VersionDescription=machine,
            LaunchTemplateData=template_data(pool),
        )
        version: Mapping[str, Any] = answer["LaunchTemplateVersion"]
        return version

    def _prune(self, versions: list[Mapping[str, Any]]) -> None:
        """Keep the newest; the default version, which is the first, cannot be deleted."""
        old = [str(one["VersionNumber"]) for one in versions[:-KEPT_VERSIONS] if not one.get("DefaultVersion")]
        if old:
            ask(
                self._ec2.delete_launch_template_versions,
                LaunchTemplateId=versions[-1]["LaunchTemplateId"],
                Versions=old,
            )


def template_data(pool: Pool) -> dict[str, Any]:
    """The pool's description in EC2's words. IMDSv2 only; the workload sees the instance's tags, if they can be shown.

    Whether they are shown is always said, since an account may have another default.
    """
    machine = pool.machine
    data: dict[str, Any] = {
        "ImageId": _image(machine, pool.architecture),
        # An on-demand instance that shuts itself down must not linger as a stopped one, billed for its disk.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            # Two hops, so that a container on the instance can still learn of its interruption.
            "HttpPutResponseHopLimit": 2,
            "InstanceMetadataTags": "disabled" if pool.unshowable else "enabled",
        },
    }
    if machine.associate_public_ip is not None:
        # A launch names the subnet; the interface's other half is here.
        interface: dict[str, Any] = {"DeviceIndex": 0, "AssociatePublicIpAddress": machine.associate_public_ip}
        data["NetworkInterfaces"] = [
            interface | ({"Groups": list(machine.security_group_ids)} if machine.security_group_ids else {})
        ]
    elif machine.security_group_ids:
        data["SecurityGroupIds"] = list(machine.security_group_ids)
    if machine.iam_instance_profile is not None:
        by = "Arn" if machine.iam_instance_profile.startswith("arn:") else "Name"
        data["IamInstanceProfile"] = {by: machine.iam_instance_profile}
    if machine.key_name is not None:
        data["KeyName"] = machine.key_name
    if machine.user_data is not None:
        data["UserData"] = base64.b64encode(machine.user_data.encode()).decode("ascii")
    if machine.root_volume_size_gib is not None:
        volume = {
            "VolumeSize": machine.root_volume_size_gib,
            "VolumeType": machine.root_volume_type,
            "Iops": machine.root_volume_iops,
            "Throughput": machine.root_volume_throughput_mibps,
            "DeleteOnTermination": True,
        }
        said = {key: value for key, value in volume.items() if value is not None}
        data["BlockDeviceMappings"] = [{"DeviceName": machine.root_device_name, "Ebs": said}]
    return data


def _image(machine: Machine, architecture: str) -> str:
    if machine.image_id is None:
        return "resolve:ssm:" + AMAZON_LINUX.format(architecture=architecture)
    return f"resolve:{machine.image_id}" if machine.image_id.startswith("ssm:") else machine.image_id
