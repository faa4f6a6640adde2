"""What EC2 allows for a root volume, by its type: sizes, IOPS, throughput (its service model, EBS User Guide)."""

from __future__ import annotations

from dataclasses import dataclass

from lambdas.domain.item.fields import BrokenRuleError

GP3_IOPS = 3_000
"""The IOPS of a gp3 volume of any size, if none are requested."""

IOPS_PER_MIBPS = 4
"""A gp3 volume's throughput is at most 0.25 MiB/s for each of its IOPS."""


@dataclass(frozen=True)
class VolumeType:
    """Bounds, both ends included. Without ``iops`` the type accepts none; with ``needs_iops`` it requires them."""

    gib: tuple[int, int]
    iops: tuple[int, int] | None = None
    iops_per_gib: int = 0
    needs_iops: bool = False


TYPES = {
    "gp3": VolumeType((1, 65_536), (GP3_IOPS, 80_000), 500),
    "gp2": VolumeType((1, 16_384)),
    "io1": VolumeType((4, 16_384), (100, 64_000), 50, needs_iops=True),
    "io2": VolumeType((4, 65_536), (100, 256_000), 1_000, needs_iops=True),
    "standard": VolumeType((1, 1_024)),
}
"""The types that a machine can start from; EC2 does not start one from st1 or sc1."""

PROVISIONED = ", ".join(name for name, volume in TYPES.items() if volume.iops)


def check_size(kind: str, gib: int | None) -> None:
    """Raise BrokenRuleError for a size that volumes of this type cannot have."""
    least, most = TYPES[kind].gib
    if gib is not None and not least <= gib <= most:
        raise BrokenRuleError(
            f"a root volume of type {kind} has {least} to {most} GiB",
            "Change root_volume_size_gib, or choose another root_volume_type.",
        )


def check_iops(kind: str, gib: int | None, iops: int | None) -> None:
    """Raise BrokenRuleError for IOPS that a volume of this type and size cannot have, or lacks."""
    bounds, ratio = TYPES[kind].iops, TYPES[kind].iops_per_gib
    if iops is None:
        if TYPES[kind].needs_iops:
            raise BrokenRuleError(
                f"a root volume of type {kind} needs IOPS and a size",
                "Set root_volume_iops and root_volume_size_gib, or root_volume_type to gp3.",
            )
        return
    if bounds is None:
        raise BrokenRuleError(
            f"only root volumes of the types {PROVISIONED} take IOPS, not {kind}",
            "Remove root_volume_iops, or set root_volume_type to gp3.",
        )
    if gib is None:
        raise _no_size("root_volume_iops")
    least, most = bounds
    # The smallest volume may also request what every gp3 volume has.
    most = min(most, max(ratio * gib, GP3_IOPS if kind == "gp3" else 0))
    if not least <= iops <= most:
        raise BrokenRuleError(
            f"a root volume of type {kind} and {gib} GiB has {least} to {most} IOPS (at most {ratio} a GiB)",
            "Change root_volume_iops, or raise root_volume_size_gib.",
        )


def check_throughput(kind: str, gib: int | None, iops: int | None, mibps: int | None) -> None:
    """Raise BrokenRuleError for a throughput that a volume of this type, size and IOPS cannot have."""
    if mibps is None:
        return
    if kind != "gp3":
        raise BrokenRuleError(
            f"only a root volume of type gp3 takes a throughput, not {kind}",
            "Remove root_volume_throughput_mibps, or set root_volume_type to gp3.",
        )
    if gib is None:
        raise _no_size("root_volume_throughput_mibps")
    most = (iops or GP3_IOPS) // IOPS_PER_MIBPS
    if mibps > most:
        raise BrokenRuleError(
            f"at most {most} MiB/s with {iops or GP3_IOPS} IOPS: {IOPS_PER_MIBPS} IOPS for each MiB/s",
            f"Lower it, or set root_volume_iops to at least {IOPS_PER_MIBPS * mibps}.",
        )


def _no_size(name: str) -> BrokenRuleError:
    return BrokenRuleError(f"{name} is used with root_volume_size_gib", "Set root_volume_size_gib as well.")
