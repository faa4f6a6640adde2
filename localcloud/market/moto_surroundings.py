"""The market's surroundings on moto's EC2 backend: the subnets and launch templates that were made over HTTP."""

import os
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from localcloud.market.requests import tags_by_kind
from localcloud.market.surroundings import Subnet, Template, template_not_found, version_not_found


class MotoSurroundings:
    """Looks into moto's EC2 of a region, so that the market and moto never disagree."""

    def __init__(self, region: str) -> None:
        # The same rule as moto's own for whose resources a request is about.
        self._ec2: Any = ec2_backends[os.environ.get("MOTO_ACCOUNT_ID", DEFAULT_ACCOUNT_ID)][region]

    def subnets(self) -> list[Subnet]:
        """Return all subnets."""
        return [
            Subnet(
                id=subnet.id,
                zone=subnet.availability_zone,
                vpc_id=subnet.vpc_id,
                default_for_az=str(subnet.default_for_az).lower() == "true",
            )
            for by_id in list(self._ec2.subnets.values())
            for subnet in list(by_id.values())
        ]

    def template(self, *, template_id: str | None, name: str | None, version: str) -> Template:
        """Return a version of a template or raise EC2's error."""
        found_id = template_id or self._ec2.launch_template_name_to_ids.get(name)
        template = self._ec2.launch_templates.get(found_id)
        if template is None:
            raise template_not_found(template_id, name)
        wanted = {"$Latest": template.latest_version_number, "$Default": template.default_version_number}.get(
            version, version
        )
        for one in template.versions:
            if str(one.number) == str(wanted):
                profile = one.data.get("IamInstanceProfile") or {}
                return Template(
                    id=template.id,
                    name=template.name,
                    version=one.number,
                    instance_type=one.instance_type,
                    image_id=one.image_id,
                    launch_tags=tags_by_kind(one.data),
                    tags={tag["key"]: tag["value"] for tag in template.get_tags()},
                    instance_profile=profile.get("Arn") or profile.get("Name") or "",
                )
        raise version_not_found(template.id, version)
