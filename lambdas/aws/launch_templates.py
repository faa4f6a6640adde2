"""Launch templates for pools that describe their machines inline: one per pool, one version per description.

The tags of stack and pool identify a pool's template, whatever its name. A version carries its description's digest, so
that it is found again and never created twice. Old versions are deleted.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from lambdas.aws.asking import ask, pages
from lambdas.domain.item.fields import bounded
from lambdas.domain.item.machine import Machine
from lambdas.domain.item.pool import Pool
from lambdas.domain.item.user_data import digest_of
from lambdas.domain.model.errors import WORDS_LENGTH, failure
from lambdas.domain.model.instances import POOL_TAG, STACK_TAG
from lambdas.domain.model.results import Failure
from lambdas.domain.model.status import Template
from lambdas.ports import FleetError

KEPT_VERSIONS = 5
"""An open attempt may still name the version before the newest."""

AMAZON_LINUX = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{architecture}"
NOT_KEPT = "UserDataNotKept"
NOT_KEPT_TEXT = (
    "The item is invalid, and the launch template of the last valid item no longer exists. Only that template held "
    "its user_data, so it cannot be created again. Fix the item."
)
NOT_THERE = ("InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound")


class LaunchTemplates:
    """Creates, finds and deletes launch templates. Raises FleetError when EC2 refuses."""

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
        versions = self._versions_of(pool.pool_name, known)
        found = next((version for version in versions if version.get("VersionDescription") == machine), None)
        if found is not None:
            return _remembered(machine, found)
        if digest_of(pool.user_data):
            raise FleetError(failure(NOT_KEPT, NOT_KEPT_TEXT))
        made, warnings = self._add(pool, machine, versions[-1]) if versions else self._create(pool, machine)
        try:
            self._prune([*versions, made])
        except FleetError as error:  # reported as a warning: it prevents no launch
            warnings = (*warnings, error.failure)
        return _remembered(machine, made, warnings)

    def forget(self, pool_name: str) -> None:
        """Delete the templates of a deleted pool, if there are any.

        EC2 is asked, not the memory: a function may have ended after it created a template and before it saved that.
        """
        for template_id in self._ids(pool_name):
            try:
                ask(self._ec2.delete_launch_template, LaunchTemplateId=template_id)
            except FleetError as error:
                if error.failure.code not in NOT_THERE:
                    raise

    def name(self, pool_name: str) -> str:
        """No name of a stack or a pool has a slash, so no two pools share a name; the longest has 127 characters."""
        return f"{self._stack}/{pool_name}"

    def _ids(self, pool_name: str) -> list[str]:
        ours = {STACK_TAG: self._stack, POOL_TAG: pool_name}
        filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in ours.items()]
        found = pages(self._ec2.describe_launch_templates, Filters=filters)
        return sorted(template["LaunchTemplateId"] for page in found for template in page["LaunchTemplates"])

    def _versions_of(self, pool_name: str, known: Template | None) -> list[Mapping[str, Any]]:
        """The versions of the known template or, without one, of a template that EC2 has; oldest first."""
        for template_id in [known.id] if known and known.id else []:
            if versions := self._versions(template_id):
                return versions
        return next(filter(None, map(self._versions, self._ids(pool_name))), [])

    def _versions(self, template_id: str) -> list[Mapping[str, Any]]:
        try:
            found = list(pages(self._ec2.describe_launch_template_versions, LaunchTemplateId=template_id))
        except FleetError as error:
            if error.failure.code in NOT_THERE:
                return []
            raise
        versions = (version for page in found for version in page["LaunchTemplateVersions"])
        return sorted(versions, key=lambda version: int(version["VersionNumber"]))

    def _create(self, pool: Pool, machine: str) -> tuple[Mapping[str, Any], tuple[Failure, ...]]:
        tags = [{"Key": STACK_TAG, "Value": self._stack}, {"Key": POOL_TAG, "Value": pool.pool_name}]
        answer = ask(
            self._ec2.create_launch_template,
            LaunchTemplateName=self.name(pool.pool_name),
            VersionDescription=machine,
            LaunchTemplateData=template_data(pool),
            TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
        )
        made = answer["LaunchTemplate"]
        return {**made, "VersionNumber": made["LatestVersionNumber"]}, _warnings(answer)

    def _add(self, pool: Pool, machine: str, last: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[Failure, ...]]:
        answer = ask(
            self._ec2.create_launch_template_version,
            LaunchTemplateId=last["LaunchTemplateId"],
            VersionDescription=machine,
            LaunchTemplateData=template_data(pool),
        )
        return answer["LaunchTemplateVersion"], _warnings(answer)

    def _prune(self, versions: list[Mapping[str, Any]]) -> None:
        """Delete old versions, but not the default one: EC2 refuses a call that names it."""
        old = (version for version in versions[:-KEPT_VERSIONS] if not version.get("DefaultVersion"))
        if numbers := [str(version["VersionNumber"]) for version in old]:
            ask(
                self._ec2.delete_launch_template_versions,
                LaunchTemplateId=versions[-1]["LaunchTemplateId"],
                Versions=numbers,
            )


def _remembered(machine: str, version: Mapping[str, Any], warnings: Iterable[Failure] = ()) -> Template:
    return Template(
        machine=machine,
        id=version["LaunchTemplateId"],
        version=version["VersionNumber"],
        made_at=version["CreateTime"],
        warning=bounded("; ".join(f"{warning.code}: {warning.message}" for warning in warnings), WORDS_LENGTH),
    )


def _warnings(answer: Mapping[str, Any]) -> tuple[Failure, ...]:
    """What EC2 says about data that it accepts anyway, such as groups that do not exist."""
    errors = answer.get("Warning", {}).get("Errors", [])
    return tuple(failure(error.get("Code", "Unknown"), error.get("Message", "")) for error in errors)


def template_data(pool: Pool) -> dict[str, Any]:
    """The pool's description in EC2's terms. IMDSv2 only; metadata shows the instance's tags, if they can be shown.

    The setting for tags is always explicit, because an account may have another default.
    """
    machine = pool.machine
    data: dict[str, Any] = {
        "ImageId": _image(machine, pool.architecture),
        # An on-demand instance that shuts itself down must not remain as a stopped one, billed for its disk.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            # Two hops, so that a container on the instance can also read the interruption notice.
            "HttpPutResponseHopLimit": 2,
            "InstanceMetadataTags": "disabled" if pool.unshowable else "enabled",
        },
    }
    if machine.associate_public_ip is not None:
        # A launch names the subnet; the other settings of the interface are here.
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
