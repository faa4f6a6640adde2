"""Copies the launch template that a stack declares into the market, by name.

CloudFormation creates EC2 resources in ministack's EC2, but the functions see the market's. A copy keeps the stack as
it is on AWS, where the template is a declared resource, versioned and deleted with the stack. If the control plane
created it at run time, it would need the right to CreateLaunchTemplate, which nothing else needs.
"""

from __future__ import annotations

from typing import Any

NOT_MIRRORED = ("SecurityGroupIds", "SecurityGroups", "NetworkInterfaces", "IamInstanceProfile")


def copy_launch_template(name: str, source: Any, target: Any) -> None:
    """Copy a launch template, with its tags and its latest version (as the first), from one EC2 to the other.

    References to networks and instance profiles are left out: they exist in ``source`` only, and the market does not
    model them.
    """
    data_shape = target.meta.service_model.operation_model("CreateLaunchTemplate").input_shape.members[
        "LaunchTemplateData"
    ]
    (template,) = source.describe_launch_templates(LaunchTemplateNames=[name])["LaunchTemplates"]
    version = source.describe_launch_template_versions(LaunchTemplateName=name, Versions=["$Latest"])
    data = _as_input(data_shape, version["LaunchTemplateVersions"][0]["LaunchTemplateData"])
    tags = template.get("Tags", [])
    target.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={key: value for key, value in data.items() if key not in NOT_MIRRORED},
        **({"TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags}]} if tags else {}),
    )


def _as_input(shape: Any, answer: Any) -> Any:
    """Keep the fields of an answer that a request of this shape accepts: EC2 returns more than it accepts."""
    if shape.type_name == "structure":
        return {key: _as_input(shape.members[key], value) for key, value in answer.items() if key in shape.members}
    if shape.type_name == "list":
        return [_as_input(shape.member, value) for value in answer]
    return answer
