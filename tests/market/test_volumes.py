"""Volumes of launch templates that EC2 refuses, on both faces of the market."""

from __future__ import annotations

from typing import Any

import pytest

from tests.market.faces import Face, codes, launched
from tests.market.test_templates import create, launch


def root(**ebs: Any) -> list[dict[str, Any]]:
    return [{"DeviceName": "/dev/xvda", "Ebs": ebs}]


@pytest.mark.parametrize(
    ("ebs", "code", "text"),
    [
        ({"VolumeType": "io1", "VolumeSize": 100}, "InvalidParameterCombination", "iops must be specified for io1"),
        ({"VolumeType": "io2", "VolumeSize": 100}, "InvalidParameterCombination", "iops must be specified for io2"),
        ({"VolumeType": "st1", "VolumeSize": 500}, "InvalidParameterCombination", "not supported for st1 volumes"),
        ({"VolumeType": "sc1", "VolumeSize": 500}, "InvalidParameterCombination", "not supported for sc1 volumes"),
        ({"VolumeType": "gp2", "VolumeSize": 16_385}, "InvalidParameterValue", "maximum is 16384GiB"),
        ({"VolumeType": "standard", "VolumeSize": 1_025}, "InvalidParameterValue", "maximum is 1024GiB"),
        ({"VolumeType": "io2", "VolumeSize": 3, "Iops": 100}, "InvalidParameterValue", "at least 4 GiB"),
        ({"VolumeType": "io1", "VolumeSize": 10, "Iops": 501}, "InvalidParameterValue", "ratio of 50.100000"),
        ({"VolumeType": "gp3", "VolumeSize": 20, "Iops": 15_000}, "InvalidParameterValue", "ratio of 750.000000"),
        ({"VolumeType": "gp3", "VolumeSize": 8, "Throughput": 1_000}, "InvalidParameterValue", "ratio of 0.333333"),
        ({"VolumeType": "gp2", "VolumeSize": 8, "Throughput": 125}, "InvalidParameterCombination", "volumeType gp3"),
        ({"VolumeType": "gp2", "VolumeSize": 8, "Iops": 100}, "InvalidParameterCombination", "not supported for gp2"),
    ],
)
def test_a_volume_that_cannot_be_created_is_an_error_entry_of_the_launch(
    face: Face, ebs: dict[str, Any], code: str, text: str
) -> None:
    answer = launch(face, create(face, BlockDeviceMappings=root(**ebs)))
    assert (codes(answer), launched(answer)) == ([code], [])
    assert text in answer["Errors"][0]["ErrorMessage"]


@pytest.mark.parametrize(
    "mappings",
    [
        root(VolumeType="gp3", VolumeSize=1, Iops=3_000),
        root(VolumeType="io2", VolumeSize=256, Iops=256_000),
        root(VolumeType="gp3", VolumeSize=65_536, Iops=80_000, Throughput=2_000),
        [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeType": "st1", "VolumeSize": 125}}],
        [{"DeviceName": "/dev/sdf", "VirtualName": "ephemeral0"}],
    ],
)
def test_a_volume_that_ec2_creates_is_launched(face: Face, mappings: list[dict[str, Any]]) -> None:
    assert len(launched(launch(face, create(face, BlockDeviceMappings=mappings)))) == 1
