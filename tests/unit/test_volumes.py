"""Root volumes: an item is accepted exactly if EC2 can create the volume."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from lambdas.aws.launch_templates import template_data
from lambdas.domain.item.faults import SpecError, parse_pool
from lambdas.domain.item.pool import Pool
from lambdas.domain.item.volumes import TYPES
from localcloud.market.api.volumes import refusal_of
from localcloud.market.model.surroundings import TemplateVersion

SOUND: dict[str, Any] = {"pool_name": "p", "instance_types": ["g5.xlarge"]}


def parsed(**volume: Any) -> Pool | tuple[SpecError, ...]:
    named = {f"root_volume_{name}": value for name, value in volume.items() if value is not None}
    return parse_pool({**SOUND, **named})


def fault(**volume: Any) -> SpecError:
    found = parsed(**volume)
    assert not isinstance(found, Pool)
    (one,) = found
    return one


def ec2_makes(pool: Pool) -> bool:
    template = TemplateVersion(id="lt-1", name="t", version=1, data=template_data(pool))
    return all(refusal_of(ebs, root=root) is None for root, ebs in template.volumes)


def around(*numbers: int) -> list[int]:
    return sorted({number + step for number in numbers for step in (-1, 0, 1)})


SIZES = [one for one in around(1, 4, 6, 8, 160, 256, 1_024, 16_384, 65_536) if one > 0]
IOPS = [None, *around(100, 300, 3_000, 4_000, 64_000, 80_000, 256_000)]


@pytest.mark.parametrize("kind", TYPES)
def test_an_item_is_accepted_exactly_if_ec2_creates_its_volume(kind: str) -> None:
    for gib, iops, mibps in product(SIZES, IOPS, (None, *around(125, 750, 2_000))):
        found = parsed(type=kind, size_gib=gib, iops=iops, throughput_mibps=mibps)
        asked = {"VolumeType": kind, "VolumeSize": gib, "Iops": iops, "Throughput": mibps}
        made = refusal_of({key: value for key, value in asked.items() if value is not None}, root=True) is None
        assert isinstance(found, Pool) == made, (gib, iops, mibps, found)
        if isinstance(found, Pool):
            assert ec2_makes(found)


@pytest.mark.parametrize("kind", ["st1", "sc1", "gp1", ""])
def test_a_type_that_cannot_boot_is_refused_with_the_reason(kind: str) -> None:
    found = fault(type=kind, size_gib=500)
    assert found.field == "root_volume_type"
    assert "cannot start from st1" in found.rule


@pytest.mark.parametrize("kind", ["io1", "io2"])
def test_provisioned_types_need_their_iops_and_say_so_once(kind: str) -> None:
    found = fault(type=kind, size_gib=100)
    assert (found.field, found.value) == ("root_volume_iops", "(absent)")
    assert kind in found.rule
    assert "root_volume_iops" in found.remedy
    assert fault(type=kind).field == "root_volume_iops"


@pytest.mark.parametrize(("kind", "gib"), [("gp2", 16_385), ("io1", 3), ("standard", 2_000), ("io1", 16_385)])
def test_a_size_beyond_its_type_names_type_and_bounds(kind: str, gib: int) -> None:
    found = fault(type=kind, size_gib=gib, iops=150 if kind == "io1" else None)
    assert (found.field, found.value) == ("root_volume_size_gib", str(gib))
    assert kind in found.rule
    assert str(TYPES[kind].gib[1]) in found.rule


@pytest.mark.parametrize("volume", [{"iops": 4_000}, {"throughput_mibps": 200}, {"type": "io2", "iops": 4_000}])
def test_iops_without_a_size_would_be_ignored_and_are_refused(volume: dict[str, Any]) -> None:
    assert "root_volume_size_gib" in fault(**volume).rule


def test_iops_and_throughput_reach_the_launch_template() -> None:
    found = parsed(size_gib=100, iops=6_000, throughput_mibps=1_000)
    assert isinstance(found, Pool)
    (mapping,) = template_data(found)["BlockDeviceMappings"]
    assert mapping["Ebs"] == {
        "VolumeSize": 100,
        "VolumeType": "gp3",
        "Iops": 6_000,
        "Throughput": 1_000,
        "DeleteOnTermination": True,
    }
