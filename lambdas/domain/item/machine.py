"""The machines of a pool, as its item describes them: image, network, role, disk. A digest identifies them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from lambdas.domain.item import user_data, volumes
from lambdas.domain.item.fields import SecurityGroupId, WholeNumber, listed, spec
from lambdas.domain.item.tags import KEY_LENGTH, TAGS_LIMIT, TagKey, TagValue

USER_DATA_LIMIT = 16_384
"""Bytes of user data that EC2 accepts, before base64."""

DIGEST_LENGTH = 12

ARM = re.compile(r"^(a1|[a-z]+[0-9]+[a-z-]*g[a-z0-9-]*)\.")
"""Families with an ARM processor have a g after the generation: m7g, im4gn, g5g, p6e-gb200; and there is a1."""

_SIZES = ", ".join(f"{name} {volume.gib[0]} to {volume.gib[1]}" for name, volume in volumes.TYPES.items())
_IOPS = ", ".join(
    f"{name} {volume.iops[0]} to {volume.iops[1]}, at most {volume.iops_per_gib} a GiB"
    for name, volume in volumes.TYPES.items()
    if volume.iops
)


class Machine(BaseModel):
    """The inline description of a pool's machines. Empty: current Amazon Linux 2023 and EC2's own defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_id: (
        Annotated[str, StringConstraints(pattern=r"^(ami-[0-9a-z]+|ssm:[A-Za-z0-9_./:-]+)$", max_length=1024)] | None
    ) = Field(
        None,
        **spec(
            "An AMI, or ssm:PARAMETER that names one, resolved at each launch. Absent: current Amazon Linux 2023.",
            "ami-… or ssm:/path/of/a/parameter",
            'Give an AMI id such as "ami-0abc", or "ssm:" and the name of a parameter that holds one.',
        ),
    )
    security_group_ids: Annotated[tuple[SecurityGroupId, ...], BeforeValidator(listed)] = Field(
        (),
        max_length=16,
        **spec(
            "Security groups. Empty: the VPC's default group. More than 5 need a higher quota of the account.",
            "up to 16 security group ids, such as sg-0abc",
            "List ids of groups in the VPC of subnet_ids, or leave the attribute out.",
        ),
    )
    iam_instance_profile: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:/+=,.@-]+$", max_length=1600)] | None
    ) = Field(
        None,
        **spec(
            "Instance profile, by name or ARN. Its role must be among the stack's context instance_role_arns.",
            "a name or an ARN of an instance profile",
            "Name an existing instance profile, and deploy with its role in instance_role_arns.",
        ),
    )
    key_name: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = Field(
        None,
        **spec("SSH key pair.", "the name of a key pair, 1 to 255 characters", "Name an existing key pair."),
    )
    user_data: str | None = Field(
        None,
        **spec(
            "What the machine runs at its first start, as plain text: a shell script or cloud-init.",
            f"a text of at most {USER_DATA_LIMIT} bytes, not base64",
            "Shorten it, for example by fetching the rest from S3.",
        ),
    )
    # Bounds come before what they limit: a validator sees only the fields above it.
    root_volume_type: Literal["gp3", "gp2", "io1", "io2", "standard"] = Field(
        "gp3",
        **spec(
            "Type of the root volume; used with root_volume_size_gib.",
            "gp3, gp2, io1, io2 or standard; a machine cannot start from st1 or sc1",
            "Use gp3.",
        ),
    )
    root_volume_size_gib: Annotated[WholeNumber, Field(ge=1, le=65_536)] | None = Field(
        None,
        **spec(
            "Size of the root volume in GiB. Absent: the image's own.",
            f"a whole number of GiB that the type has: {_SIZES}",
            "Set it to at least the size of the image's snapshot, in GiB.",
        ),
    )
    root_volume_iops: Annotated[WholeNumber, Field(ge=100, le=256_000)] | None = Field(
        None,
        validate_default=True,
        **spec(
            "I/O operations a second of the root volume; used with root_volume_size_gib. Absent: 3000 for gp3.",
            f"a whole number that type and size allow: {_IOPS}; io1 and io2 need it",
            "Set it for io1 and io2, or use gp3.",
        ),
    )
    root_volume_throughput_mibps: Annotated[WholeNumber, Field(ge=125, le=2_000)] | None = Field(
        None,
        **spec(
            "Throughput of a gp3 root volume in MiB/s; used with root_volume_size_gib. Absent: 125.",
            "a whole number from 125 to 2000, at most a quarter of the IOPS",
            "Lower it, or raise root_volume_iops.",
        ),
    )
    root_device_name: Annotated[str, StringConstraints(pattern=r"^[/a-z0-9]{3,32}$")] = Field(
        "/dev/xvda",
        **spec(
            "The image's root device; used with root_volume_size_gib. Ubuntu and Debian images have /dev/sda1.",
            "a device name such as /dev/xvda",
            "Take RootDeviceName from `aws ec2 describe-images`.",
        ),
    )
    tags: dict[TagKey, TagValue] = Field(
        {},
        max_length=TAGS_LIMIT,
        **spec(
            "Tags of instances, volumes and network interfaces, in addition to the stack's own. With a key that "
            "instance metadata cannot show (other than letters, digits and + - = . , _ : @), it shows no tags at all.",
            f"a map of at most {TAGS_LIMIT} tags; keys up to {KEY_LENGTH} characters, none beginning aws: or "
            "spotpools:",
            "Shorten or rename the tags.",
        ),
    )
    associate_public_ip: bool | None = Field(
        default=None,
        strict=True,
        **spec(
            "Whether machines get a public IPv4 address. Absent: the subnet decides.",
            "true or false",
            "Set associate_public_ip to the boolean true or false (not a text).",
        ),
    )

    @field_validator("user_data")
    @classmethod
    def _short_and_plain(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None and len(text.encode("utf-8", "surrogatepass")) > USER_DATA_LIMIT:
            raise ValueError("too long")
        if text is not None and info.context != user_data.REMEMBERED:
            user_data.check(text)
        return text

    @field_validator("root_volume_size_gib")
    @classmethod
    def _size_of_the_type(cls, gib: int | None, info: ValidationInfo) -> int | None:
        if kind := info.data.get("root_volume_type"):
            volumes.check_size(kind, gib)
        return gib

    @field_validator("root_volume_iops")
    @classmethod
    def _iops_of_the_type(cls, iops: int | None, info: ValidationInfo) -> int | None:
        if {"root_volume_type", "root_volume_size_gib"} <= info.data.keys():
            volumes.check_iops(info.data["root_volume_type"], info.data["root_volume_size_gib"], iops)
        return iops

    @field_validator("root_volume_throughput_mibps")
    @classmethod
    def _throughput_of_the_type(cls, mibps: int | None, info: ValidationInfo) -> int | None:
        if {"root_volume_type", "root_volume_size_gib", "root_volume_iops"} <= info.data.keys():
            kind, gib = info.data["root_volume_type"], info.data["root_volume_size_gib"]
            volumes.check_throughput(kind, gib, info.data["root_volume_iops"], mibps)
        return mibps

    @property
    def plain(self) -> bool:
        """Whether the item describes nothing, so that every attribute has its default."""
        return not self.model_dump(exclude_defaults=True)


def digest(words: Any) -> str:
    """A short name for a description: equal descriptions have equal names."""
    text = json.dumps(words, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_LENGTH]


def architectures(instance_types: Iterable[str]) -> set[str]:
    """The processor architectures of instance types with these names."""
    return {"arm64" if ARM.match(name) else "x86_64" for name in instance_types}
