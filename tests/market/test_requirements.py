"""Instance types by requirements, on both faces of the market."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.market.faces import Face, by_type

ANY: dict[str, Any] = {"VCpuCount": {"Min": 1}, "MemoryMiB": {"Min": 1}}


def found(face: Face, *architectures: str, **requirements: Any) -> list[str]:
    answer = face.ec2.get_instance_types_from_instance_requirements(
        ArchitectureTypes=list(architectures or ("x86_64",)),
        VirtualizationTypes=["hvm"],
        InstanceRequirements=ANY | requirements,
    )
    return [one["InstanceType"] for one in answer["InstanceTypes"]]


@pytest.mark.parametrize(
    ("requirements", "types"),
    [
        ({"VCpuCount": {"Min": 2, "Max": 2}, "MemoryMiB": {"Min": 8192}}, {"m5.large", "m6i.large", "m7i.large"}),
        ({"AcceleratorNames": ["t4"], "VCpuCount": {"Min": 1, "Max": 8}}, {"g4dn.xlarge", "g4dn.2xlarge"}),
        ({"AcceleratorCount": {"Min": 8}}, {"p3.16xlarge", "p4d.24xlarge", "p5.48xlarge"}),
        ({"AcceleratorCount": {"Min": 8}, "BareMetal": "required"}, {"g4dn.metal"}),
        ({"AcceleratorTypes": ["gpu"], "AcceleratorNames": ["l4", "h100"]}, {"g6.xlarge", "p5.48xlarge"}),
        ({"AcceleratorTypes": ["fpga"]}, set()),
        ({"AcceleratorManufacturers": ["amd"]}, set()),
        ({"BurstablePerformance": "required"}, {"t3.micro", "t3.medium"}),
        ({"AllowedInstanceTypes": ["c*i.*", "r7i.xlarge"], "InstanceGenerations": ["current"]},
         {"c6i.xlarge", "c7i.large", "c7i.xlarge", "c7i.4xlarge", "r7i.xlarge"}),
        ({"AcceleratorCount": {"Min": 1}, "InstanceGenerations": ["previous"], "ExcludedInstanceTypes": ["p3*"]},
         {"g5.xlarge", "g5.2xlarge", "g5.12xlarge"}),
        ({"AcceleratorCount": {"Max": 0}, "MemoryGiBPerVCpu": {"Min": 7.5}}, {"r6i.xlarge", "r7i.xlarge"}),
        ({"AcceleratorCount": {"Max": 0}, "CpuManufacturers": ["amd"]}, set()),
    ],
)  # fmt: skip
def test_types_are_found_by_requirements(face: Face, requirements: dict[str, Any], types: set[str]) -> None:
    assert set(found(face, **requirements)) == types


def test_architectures_are_distinguished(face: Face) -> None:
    small = {"VCpuCount": {"Min": 2, "Max": 2}}
    assert found(face, "arm64", **small) == ["c7g.large", "m7g.large"]
    assert set(found(face, "arm64", "x86_64", **small)) > {"c7g.large", "c7i.large"}


def test_bare_metal_and_burstable_types_are_left_out_unless_requested(face: Face) -> None:
    assert not {"g4dn.metal", "t3.micro"} & set(found(face))
    assert {"g4dn.metal", "t3.micro"} < set(found(face, BareMetal="included", BurstablePerformance="included"))


def test_types_come_in_pages(face: Face) -> None:
    paginator = face.ec2.get_paginator("get_instance_types_from_instance_requirements")
    pages = paginator.paginate(
        ArchitectureTypes=["x86_64"],
        VirtualizationTypes=["hvm"],
        InstanceRequirements=ANY,
        PaginationConfig={"PageSize": 10},
    )
    listed = [[one["InstanceType"] for one in page["InstanceTypes"]] for page in pages]
    assert {len(page) for page in listed[:-1]} == {10}
    assert [one for page in listed for one in page] == found(face)


def test_attributes_of_a_new_type_hold_in_all_its_zones(face: Face) -> None:
    described = {"capacity": 3, "spot_price": "9", "on_demand_price": "20", "vcpus": 192, "memory_mib": 2097152}
    for zone in ("us-east-1a", "us-east-1b"):
        face.offer(zone, "p6.48xlarge", **described, gpus=8, gpu_name="l40s", gpu_manufacturer="nvidia")
    assert found(face, AcceleratorNames=["l40s", "h100"]) == ["p5.48xlarge", "p6.48xlarge"]
    face.offer("us-east-1a", "p6.48xlarge", architecture="arm64")
    assert found(face, "arm64", AcceleratorCount={"Min": 1}) == ["p6.48xlarge"]
    assert found(face, AcceleratorCount={"Min": 1}, VCpuCount={"Min": 192}) == ["p5.48xlarge"]


def test_types_that_are_found_can_be_launched(face: Face) -> None:
    types = tuple(found(face, VCpuCount={"Min": 4, "Max": 4}, AcceleratorCount={"Max": 0}))
    answer = face.launch(2, zones=("us-east-1a",), types=types)
    assert by_type(answer) == {"m5.xlarge": 2}


def test_an_invalid_request_is_an_error(face: Face) -> None:
    for requirements, code in (
        ({"AllowedInstanceTypes": ["m5.*"], "ExcludedInstanceTypes": ["c5.*"]}, "InvalidParameterCombination"),
        ({"LocalStorage": "required"}, "UnsupportedOperation"),
        ({"AcceleratorNames": ["a10"]}, "InvalidParameterValue"),
        ({"ExcludedInstanceTypes": [f"m{number}.*" for number in range(401)]}, "InvalidParameterValue"),
        ({"ExcludedInstanceTypes": ["m5 large"]}, "InvalidParameterValue"),
    ):
        with pytest.raises(ClientError) as raised:
            found(face, **requirements)
        assert raised.value.response["Error"]["Code"] == code
