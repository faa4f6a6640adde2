"""The market's surroundings on moto's EC2 backend, with the subnets that were created over HTTP.

Launch templates are the market's own here, too: moto's have no client tokens and no deletion of versions, and moto adds
a template's own tags to what it launches.
"""

import os
from collections.abc import Callable
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends

from localcloud.market.model.surroundings import Subnet, Surroundings


class MotoSurroundings(Surroundings):
    """Reads moto's EC2 of a Region, so that the market and moto always agree."""

    def __init__(self, region: str, parameter: Callable[[str], str | None] = lambda _: None) -> None:
        super().__init__(parameter)
        # moto finds the account of a request by the same rule.
        self._ec2: Any = ec2_backends[os.environ.get("MOTO_ACCOUNT_ID", DEFAULT_ACCOUNT_ID)][region]

    def subnets(self) -> list[Subnet]:
        """Return all subnets."""
        return [
            Subnet(
                id=subnet.id,
                zone=subnet.availability_zone,
                vpc_id=subnet.vpc_id,
                default_for_az=str(subnet.default_for_az).lower() == "true",
                cidr=subnet.cidr_block,
                tags={tag["key"]: tag["value"] for tag in subnet.get_tags()},
            )
            for by_id in list(self._ec2.subnets.values())
            for subnet in list(by_id.values())
        ]
