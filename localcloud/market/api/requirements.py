"""GetInstanceTypesFromInstanceRequirements: the market's types that have the requested attributes."""

from collections.abc import Callable
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from localcloud.market.model.errors import EC2Error
from localcloud.market.model.listing import page_of
from localcloud.market.model.market import Market
from localcloud.market.model.offerings import Offering
from localcloud.market.model.requests import Answer, Params, refuse_unknown

_MIB_PER_GIB = 1024
_BURSTABLE = ("t1.", "t2.", "t3.", "t3a.", "t4g.")


def get_instance_types_from_instance_requirements(market: Market, params: Params) -> Answer:
    """List the types that meet all requirements, by name, in pages. Prices and capacity do not count."""
    refuse_unknown(
        "GetInstanceTypesFromInstanceRequirements",
        params,
        {"ArchitectureTypes", "VirtualizationTypes", "InstanceRequirements", "MaxResults", "NextToken"},
    )
    asked = params["InstanceRequirements"]
    refuse_unknown("InstanceRequirements", asked, _REQUIREMENTS.keys() | {"BareMetal", "BurstablePerformance"})
    for name in ("VCpuCount", "MemoryMiB"):
        if "Min" not in asked.get(name, {}):
            raise EC2Error(
                "MissingParameter", f"The request must contain the parameter InstanceRequirements.{name}.Min"
            )
    if asked.get("AllowedInstanceTypes") and asked.get("ExcludedInstanceTypes"):
        raise EC2Error(
            "InvalidParameterCombination", "AllowedInstanceTypes and ExcludedInstanceTypes exclude each other"
        )
    types = {offering.instance_type: offering for offering in market.offerings.values()}
    fitting = [
        name
        for name, offering in sorted(types.items())
        if offering.machine.architecture in params["ArchitectureTypes"]
        and "hvm" in params["VirtualizationTypes"]  # the market has no other
        and _meets(offering, asked)
    ]
    page, token = page_of(list(enumerate(fitting, 1)), params, key=lambda pair: pair[0])
    answer: Answer = {"InstanceTypes": [{"InstanceType": name} for _, name in page]}
    return {**answer, "NextToken": token} if token else answer


def _meets(offering: Offering, asked: dict[str, Any]) -> bool:
    bare_metal = ".metal" in offering.instance_type
    burstable = offering.instance_type.startswith(_BURSTABLE)
    return (
        _included(asked.get("BareMetal", "excluded"), of_the_kind=bare_metal)
        and _included(asked.get("BurstablePerformance", "excluded"), of_the_kind=burstable)
        and all(meets(offering, asked[name]) for name, meets in _REQUIREMENTS.items() if asked.get(name))
    )


def _included(wanted: str, *, of_the_kind: bool) -> bool:
    return {"included": True, "required": of_the_kind, "excluded": not of_the_kind}[wanted]


def _gib_per_vcpu(offering: Offering) -> Decimal:
    return Decimal(offering.machine.memory_mib) / _MIB_PER_GIB / offering.vcpus


def _within(value: Decimal | int, bounds: dict[str, Any]) -> bool:
    """Say whether a value is within Min and Max. Each may be missing. A Max of 0 is a bound, too."""
    least, most = bounds.get("Min"), bounds.get("Max")
    return (least is None or value >= Decimal(str(least))) and (most is None or value <= Decimal(str(most)))


def _named(instance_type: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(instance_type, pattern.replace("[", "[[]")) for pattern in patterns)


_REQUIREMENTS: dict[str, Callable[[Offering, Any], bool]] = {
    "VCpuCount": lambda offering, wanted: _within(offering.vcpus, wanted),
    "MemoryMiB": lambda offering, wanted: _within(offering.machine.memory_mib, wanted),
    "MemoryGiBPerVCpu": lambda offering, wanted: _within(_gib_per_vcpu(offering), wanted),
    "CpuManufacturers": lambda offering, wanted: offering.machine.cpu_manufacturer in wanted,
    "InstanceGenerations": lambda offering, wanted: offering.machine.generation in wanted,
    "AcceleratorCount": lambda offering, wanted: _within(offering.machine.gpus, wanted),
    "AcceleratorTypes": lambda offering, wanted: offering.machine.gpus > 0 and "gpu" in wanted,
    "AcceleratorNames": lambda offering, wanted: offering.machine.gpu_name in wanted,
    "AcceleratorManufacturers": lambda offering, wanted: offering.machine.gpu_manufacturer in wanted,
    "AllowedInstanceTypes": lambda offering, wanted: _named(offering.instance_type, wanted),
    "ExcludedInstanceTypes": lambda offering, wanted: not _named(offering.instance_type, wanted),
}
"""For each supported requirement, whether a type meets it. BareMetal and BurstablePerformance are in ``_meets``."""
