"""Which instance types a pool accepts if it names none: EC2 finds them by their properties."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from lambdas.domain.item.fields import BrokenRuleError, WholeNumber, listed

Count = Annotated[WholeNumber, Field(ge=0, le=100_000)]
Pattern = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.*-]{1,30}$")]
GpuName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,30}$")]


class Range(BaseModel):
    """From ``min`` to ``max``, both included; without ``max`` there is no upper bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: Count = 0
    max: Count | None = None

    @field_validator("max")
    @classmethod
    def _above_min(cls, most: int | None, info: ValidationInfo) -> int | None:
        if most is not None and most < info.data.get("min", 0):
            raise BrokenRuleError(f"at least min ({info.data.get('min', 0)})", "Raise max, or lower min.")
        return most


class Requirements(BaseModel):
    """Properties of instance types, in EC2's attribute-based selection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vcpus: Range = Range(min=1)
    memory_gib: Range = Range()
    gpus: Range | None = None
    gpu_names: Annotated[tuple[GpuName, ...], BeforeValidator(listed)] = Field((), max_length=50)
    architecture: Literal["x86_64", "arm64"] = "x86_64"
    generations: Annotated[tuple[Literal["current", "previous"], ...], BeforeValidator(listed)] = Field(
        ("current",), min_length=1, max_length=2
    )
    excluded_types: Annotated[tuple[Pattern, ...], BeforeValidator(listed)] = Field((), max_length=400)
