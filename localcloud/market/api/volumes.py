"""EC2's refusals of volumes: by type, size, IOPS and throughput."""

from dataclasses import dataclass
from typing import Any

VolumeRefusal = tuple[str, str]
"""EC2's code and text."""


@dataclass(frozen=True)
class _Type:
    least_gib: int
    most_gib: int
    least_iops: int = 0
    most_iops: int = 0
    """0: the type has no IOPS parameter."""
    iops_per_gib: int = 0
    boots: bool = True


_TYPES = {
    "gp2": _Type(1, 16_384),
    "gp3": _Type(1, 65_536, 3_000, 80_000, 500),
    "io1": _Type(4, 16_384, 100, 64_000, 50),
    "io2": _Type(4, 65_536, 100, 256_000, 1_000),
    "standard": _Type(1, 1_024),
    "st1": _Type(125, 16_384, boots=False),
    "sc1": _Type(125, 16_384, boots=False),
}
"""From the service model (EbsBlockDevice). The ratios come from the EBS User Guide."""

_FREE_IOPS = 3_000
_MOST_MIBPS_PER_IOPS = 0.25


def refusal_of(ebs: dict[str, Any], *, root: bool) -> VolumeRefusal | None:
    """Return EC2's refusal of a volume with these parameters (Ebs of a block device mapping). None: no refusal."""
    kind = ebs.get("VolumeType", "gp2")
    if kind not in _TYPES:
        return "UnknownVolumeType", f"Unknown volume type: {kind}"
    known = _TYPES[kind]
    if root and not known.boots:
        # For a type that cannot boot, EC2's error is about the IOPS of the image (aws/aws-sdk#542).
        return "InvalidParameterCombination", f"The parameter iops is not supported for {kind} volumes."
    return _of_size(kind, known, ebs) or _of_iops(kind, known, ebs) or _of_throughput(kind, ebs)


def _of_size(kind: str, known: _Type, ebs: dict[str, Any]) -> VolumeRefusal | None:
    gib = ebs.get("VolumeSize")
    if gib is None or known.least_gib <= gib <= known.most_gib:
        return None
    if gib > known.most_gib:
        text = f"Volume of {gib}GiB is too large for volume type {kind}; maximum is {known.most_gib}GiB"
    else:
        text = (
            f"{kind} volumes must be at least {known.least_gib} GiB in size. Please specify a volume size above the "
            "minimum limit."
        )
    return "InvalidParameterValue", text


def _of_iops(kind: str, known: _Type, ebs: dict[str, Any]) -> VolumeRefusal | None:
    iops, gib = ebs.get("Iops"), ebs.get("VolumeSize")
    if iops is None and kind in ("io1", "io2"):
        return "InvalidParameterCombination", f"The parameter iops must be specified for {kind} volumes."
    if iops is None:
        return None
    if not known.most_iops:
        return "InvalidParameterCombination", f"The parameter iops is not supported for {kind} volumes."
    text = ""
    if iops < known.least_iops:
        text = f"Volume iops of {iops} is too low; minimum is {known.least_iops}."
    elif iops > known.most_iops:
        text = f"Volume iops of {iops} is too high; maximum is {known.most_iops}."
    elif gib and iops > gib * known.iops_per_gib and not (kind == "gp3" and iops == _FREE_IOPS):
        text = f"Iops to volume size ratio of {iops / gib:.6f} is too high; maximum is {known.iops_per_gib}"
    return ("InvalidParameterValue", text) if text else None


def _of_throughput(kind: str, ebs: dict[str, Any]) -> VolumeRefusal | None:
    mibps = ebs.get("Throughput")
    if mibps is None:
        return None
    if kind != "gp3":
        return "InvalidParameterCombination", "throughput can only be specified for volumeType gp3."
    ratio = mibps / ebs.get("Iops", _FREE_IOPS)
    if ratio > _MOST_MIBPS_PER_IOPS:
        text = (
            f"Throughput (MiBps) to iops ratio of {ratio:.6f} is too high; maximum is {_MOST_MIBPS_PER_IOPS:.6f} MiBps "
            "per iops"
        )
        return "InvalidParameterValue", text
    if not 125 <= mibps <= 2_000:  # noqa: PLR2004  numbers of the service model
        return "InvalidParameterValue", f"Volume throughput of {mibps} MiBps is out of range; it is 125 to 2000."
    return None
