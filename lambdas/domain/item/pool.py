"""What the user wants: one item of the Pools table, validated field by field, all faults reported at once.

The model below is the only definition of a pool item: the reference in docs/ and the JSON Schema are generated from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
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

from lambdas.domain.item import user_data
from lambdas.domain.item.fields import (
    HIGHEST_PRICE,
    INSTANCES_LIMIT,
    LOWEST_PRICE,
    PRICE_DIGITS,
    BrokenRuleError,
    InstanceType,
    Size,
    SubnetId,
    WholeNumber,
    format_price,
    listed,
    price,
    rounded_down,
    spec,
)
from lambdas.domain.item.machine import Machine, architectures, digest
from lambdas.domain.item.requirements import Requirements
from lambdas.domain.item.schedule import Entry, in_force
from lambdas.domain.item.tags import check_ready_tag, showable

USUAL_SECURITY_GROUPS = 5


class Market(StrEnum):
    """How EC2 sells an instance."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"


class LaunchTemplate(BaseModel):
    """An existing EC2 launch template; it must carry this stack's tag, or EC2 refuses the launch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^lt-[0-9a-z]+$")] | None = None
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9().\-/_]{3,128}$")] | None = None
    version: Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else str(value))] = Field(
        "$Default", pattern=r"^(\$Default|\$Latest|[1-9][0-9]*)$"
    )

    @field_validator("name")
    @classmethod
    def _one_of_both(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name and info.data.get("id"):
            raise ValueError("both")
        return name


class Fallback(BaseModel):
    """What to do while spot capacity is missing: buy on demand, and return to spot when it is back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Literal["on_demand"] = "on_demand"
    after_minutes: Annotated[WholeNumber, Field(ge=0, le=10_080)]
    return_to_spot: bool = Field(default=True, strict=True)


def _price_or_share(value: object) -> object:
    """USD per instance-hour, or a share of the on-demand price such as ``60%``."""
    if isinstance(value, str) and value.strip().endswith("%"):
        share = Decimal(price(value.strip()[:-1]))
        if not 1 <= share <= 100:  # noqa: PLR2004  spot never costs more than on demand
            raise ValueError("out of range")
        return f"{format_price(share)}%"
    return format_price(price(value))


Weights = dict[InstanceType, Annotated[WholeNumber, Field(ge=1, le=999)]]
Minutes = Annotated[WholeNumber, Field(ge=0, le=1440)]


class Pool(Machine):
    """A valid pool item."""

    # Bounds come before what they limit: a validator sees only the fields above it.
    model_config = ConfigDict(frozen=True, extra="forbid")

    pool_name: str = Field(
        pattern=r"^[a-z0-9-]{1,63}$",
        **spec(
            "Name of the pool; the item's key.",
            "1 to 63 of a-z, 0-9 and -",
            "Create the item under a name of lower-case letters, digits and hyphens.",
        ),
    )
    max_instances: Size = Field(
        5,
        **spec(
            "The most instances (with weights: units) alive at any instant, including those under interruption notice.",
            f"a whole number from 0 to {INSTANCES_LIMIT}",
            f"Set max_instances to a whole number from 0 to {INSTANCES_LIMIT}.",
        ),
    )
    min_instances: Size = Field(
        0,
        **spec(
            "The fewest instances the pool asks for.",
            "a whole number from 0 to max_instances",
            "Lower min_instances, or raise max_instances.",
        ),
    )
    target_size: Size = Field(
        0,
        **spec(
            "Instances (with weights: units) to keep, while no entry of schedule is in force.",
            "a whole number from 0 to max_instances",
            "Lower target_size, or raise max_instances.",
        ),
    )
    schedule: tuple[Entry, ...] = Field(
        (),
        max_length=50,
        **spec(
            "Sizes by time of day: the entry that started last is in force.",
            "up to 50 maps: cron (five fields), timezone (an IANA name; UTC), target_size, min_instances (optional)",
            'Write for example [{"cron": "0 8 * * MON-FRI", "timezone": "Europe/Berlin", "target_size": 5}]; sizes are '
            "within max_instances.",
        ),
    )
    requirements: Requirements | None = Field(
        None,
        **spec(
            "Instead of instance_types: properties, for which EC2 finds the types.",
            "a map of vcpus, memory_gib, gpus (each {min, max}), gpu_names, architecture (x86_64 or arm64), "
            "generations (current, previous), excluded_types",
            'Write for example {"vcpus": {"min": 4}, "memory_gib": {"min": 16, "max": 64}}.',
        ),
    )
    instance_types: Annotated[tuple[InstanceType, ...], BeforeValidator(listed)] = Field(
        (),
        max_length=60,
        validate_default=True,
        **spec(
            'Instance types; EC2 chooses among them. instance_type = "TYPE" is short for a list of one.',
            "1 to 60 instance types of one processor architecture, such as g4dn.metal; or else requirements",
            'List EC2 instance types, for example ["g5.xlarge", "g4dn.xlarge"], or give requirements.',
        ),
    )
    weights: Weights = Field(
        {},
        max_length=200,
        **spec(
            "Units that an instance of a type counts for, so that sizes count units; a type not named counts for 1.",
            "a map of instance type (of instance_types) to a whole number from 1 to 999",
            'Write for example {"g5.xlarge": 1, "g5.2xlarge": 2}.',
        ),
    )
    allocation: Literal["price-capacity-optimized", "capacity-optimized", "lowest-price"] = Field(
        "price-capacity-optimized",
        **spec(
            "How EC2 chooses among the spot offerings; on demand it is always the lowest price.",
            "price-capacity-optimized, capacity-optimized or lowest-price",
            "Leave it out: price-capacity-optimized is interrupted less at nearly the lowest price.",
        ),
    )
    spread_zones: bool = Field(
        default=False,
        strict=True,
        **spec(
            "true: launch into the zone that has the fewest, one call a zone, as long as it has capacity.",
            "true or false",
            "Set spread_zones to the boolean true or false (not a text).",
        ),
    )
    subnet_ids: Annotated[tuple[SubnetId, ...], BeforeValidator(listed)] = Field(
        (),
        max_length=32,
        **spec(
            "Subnets to launch into; more zones, more capacity. Empty: the stack's subnets, else the default VPC's.",
            "up to 32 subnet ids, such as subnet-0abc",
            "List ids of existing subnets, or leave the attribute out.",
        ),
    )
    launch_template: LaunchTemplate | None = Field(
        None,
        **spec(
            "An existing launch template, tagged for this stack, instead of image_id and the like.",
            "a map of id or name, and version ($Default, $Latest or a number); not together with image_id and the like",
            'Give {"id": "lt-…"} or {"name": "…"}, not both, and optionally a version; or describe the machine inline.',
        ),
    )
    spot: bool = Field(
        default=True,
        strict=True,
        **spec(
            "true: spot instances. false: an on-demand pool.",
            "true or false",
            "Set spot to the boolean true or false (not a text).",
        ),
    )
    spot_max_price: Annotated[str, BeforeValidator(_price_or_share)] | None = Field(
        None,
        **spec(
            "USD per instance-hour, or a share of each type's on-demand price; no spot instance is started above it. "
            "Absent: the on-demand price is the cap.",
            f"a decimal number above {LOWEST_PRICE}, at most {HIGHEST_PRICE}, with at most {PRICE_DIGITS} decimals; "
            'or "1%" to "100%"',
            'Set spot_max_price to USD per instance-hour, for example "0.918", or to a share such as "60%".',
        ),
    )
    on_demand_base: Size = Field(
        0,
        **spec(
            "How many of the wanted size to keep on demand in a spot pool.",
            "a whole number from 0 to max_instances",
            "Lower on_demand_base, or raise max_instances.",
        ),
    )
    fallback: Fallback | None = Field(
        None,
        **spec(
            "Buy on demand what spot has lacked for after_minutes; return it when spot is back. Absent: wait.",
            "a map of after_minutes (0 to 10080), to (on_demand) and return_to_spot (true or false); in a spot pool",
            'Write for example {"to": "on_demand", "after_minutes": 15}.',
        ),
    )
    update: Literal["on_replace", "rolling"] = Field(
        "on_replace",
        **spec(
            "What a changed description does to instances that an older one made: on_replace leaves them until they "
            "end for another reason, rolling replaces them.",
            "on_replace or rolling",
            "Set update to on_replace or rolling.",
        ),
    )
    max_unavailable: Annotated[WholeNumber, Field(ge=1, le=INSTANCES_LIMIT)] = Field(
        1,
        **spec(
            "In a rolling update, how many of the wanted size may be missing at a time.",
            f"a whole number from 1 to {INSTANCES_LIMIT}",
            "Set max_unavailable to a whole number of at least 1.",
        ),
    )
    ready_timeout_minutes: Annotated[WholeNumber, Field(ge=1, le=1440)] = Field(
        20,
        **spec(
            "Minutes from launch to ready; an instance that takes longer is replaced.",
            "a whole number from 1 to 1440",
            "Set ready_timeout_minutes to the longest start-up, in minutes.",
        ),
    )
    ready_tag: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_ .:/+@-]+(=[A-Za-z0-9_ .:/=+@-]*)?$", max_length=385)]
        | None
    ) = Field(
        None,
        **spec(
            "The tag that the workload sets on its instance when it is ready. Absent: EC2's status checks decide.",
            "KEY or KEY=VALUE",
            'Write for example "ready=true", and let the workload set this tag on its instance.',
        ),
    )
    on_rebalance: Literal["ignore", "replace_first"] = Field(
        "ignore",
        **spec(
            "What a rebalance recommendation or scheduled EC2 maintenance does: ignore records it, replace_first "
            "replaces the instance and terminates it when the replacement is ready.",
            "ignore or replace_first",
            "Set on_rebalance to ignore or replace_first.",
        ),
    )
    drain_command: Annotated[str, StringConstraints(min_length=1, max_length=8192)] | None = Field(
        None,
        **spec(
            "Shell command that Systems Manager runs on an instance under interruption notice.",
            "a text of 1 to 8192 characters",
            "Shorten it, for example by calling a script of the image.",
        ),
    )
    scale_in_after_minutes: Minutes = Field(
        0,
        **spec(
            "For how many minutes fewer instances must be wanted before any is terminated.",
            "a whole number from 0 to 1440",
            "Set scale_in_after_minutes to at most 1440.",
        ),
    )
    paused: bool = Field(
        default=False,
        strict=True,
        **spec(
            "true: observe and report, change nothing.",
            "true or false",
            "Set paused to the boolean true or false (not a text).",
        ),
    )

    @field_validator("min_instances", "target_size", "on_demand_base")
    @classmethod
    def _within_max(cls, size: int, info: ValidationInfo) -> int:
        limit = info.data.get("max_instances")
        if limit is not None and size > limit:
            raise ValueError(f"above max_instances ({limit})")
        return size

    @field_validator("schedule")
    @classmethod
    def _entries_within_max(cls, entries: tuple[Entry, ...], info: ValidationInfo) -> tuple[Entry, ...]:
        limit = info.data.get("max_instances")
        if limit is not None and any(max(entry.target_size, entry.min_instances or 0) > limit for entry in entries):
            raise BrokenRuleError(
                f"entries with sizes of at most max_instances ({limit})", "Lower the sizes, or raise max_instances."
            )
        return entries

    @field_validator("instance_types")
    @classmethod
    def _some_and_alike(cls, types: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "requirements" not in info.data:  # a fault that is reported itself: whether types are needed is unknown
            return types
        if bool(types) == bool(info.data["requirements"]):
            raise ValueError("instance_types or requirements, one of both")
        if any(name.startswith("mac") for name in types):
            raise BrokenRuleError(
                "no mac types: they run only on dedicated hosts, where a fleet does not launch",
                "Remove them from instance_types.",
            )
        if len(architectures(types)) > 1:
            raise ValueError("an image runs on one architecture")
        return tuple(dict.fromkeys(types))  # EC2 refuses a fleet that names a type twice

    @field_validator("weights")
    @classmethod
    def _of_known_types(cls, weights: dict[str, int], info: ValidationInfo) -> dict[str, int]:
        types = info.data.get("instance_types")
        if types and not weights.keys() <= set(types):
            raise ValueError("not among instance_types")
        return weights

    @field_validator("launch_template")
    @classmethod
    def _named(cls, template: LaunchTemplate | None, info: ValidationInfo) -> LaunchTemplate | None:
        if template is not None and template.id is None and template.name is None:
            raise ValueError("neither id nor name")
        described = {name for name in Machine.model_fields if info.data.get(name) != Machine.model_fields[name].default}
        if template is not None and described & info.data.keys():
            raise ValueError(f"beside {', '.join(sorted(described))}")
        return template

    @field_validator("spot_max_price")
    @classmethod
    def _above_ec2s_least(cls, cap: str | None, info: ValidationInfo) -> str | None:
        """The cap is sent per unit, and EC2 refuses the whole call if a unit's cap is too low."""
        weights = info.data.get("weights")
        if not weights or cap is None or cap.endswith("%") or info.data.get("spot") is False:
            return cap
        heaviest = max(weights, key=lambda name: (weights[name], name))
        if rounded_down(Decimal(cap) / weights[heaviest]) <= LOWEST_PRICE:
            raise BrokenRuleError(
                f"spot_max_price divided by each weight is above {LOWEST_PRICE} USD, the lowest price that EC2 accepts "
                f"for a unit; {heaviest} has the weight {weights[heaviest]}",
                f"Raise spot_max_price above {format_price(LOWEST_PRICE * weights[heaviest])}, or use smaller weights "
                "and sizes, such as 1 and 2 instead of 100 and 200.",
            )
        return cap

    @field_validator("ready_tag")
    @classmethod
    def _can_be_set(cls, ready_tag: str | None, info: ValidationInfo) -> str | None:
        if ready_tag is None:
            return None
        check_ready_tag(ready_tag)
        key, given, value = ready_tag.partition("=")
        tags = info.data.get("tags", {})
        if key in tags and (not given or tags[key] == value):
            raise BrokenRuleError(
                "a tag that is not in tags, which the machine carries from the start",
                "Let the workload set another tag, or another value.",
            )
        if info.data.get("launch_template") and not showable(key):
            raise BrokenRuleError(
                "with launch_template, a key of letters, digits and + - = . , _ : @ (not ., .. or _index): with "
                "others EC2 refuses the tag if the template shows tags in instance metadata",
                "Choose such a key, or describe the machine in the item instead.",
            )
        return ready_tag

    @field_validator("fallback")
    @classmethod
    def _from_spot(cls, fallback: Fallback | None, info: ValidationInfo) -> Fallback | None:
        if fallback is not None and info.data.get("spot") is False:
            raise ValueError("the pool is on demand already")
        return fallback

    def wanted(self, now: datetime) -> int:
        """How many instances (units) to have at the moment ``now``."""
        entry = in_force(self.schedule, now)
        target = entry.target_size if entry else self.target_size
        least = entry.min_instances if entry and entry.min_instances is not None else self.min_instances
        return max(least, min(target, self.max_instances))

    def weight(self, instance_type: str) -> int:
        """Units that an instance of the type counts for."""
        return self.weights.get(instance_type, 1)

    @property
    def possible_weights(self) -> frozenset[int]:
        """The weights that its instances may have, as far as the item shows."""
        if self.requirements is not None:
            return frozenset({1, *self.weights.values()})
        return frozenset(self.weight(name) for name in self.instance_types)

    @property
    def market(self) -> Market:
        """The market that the pool usually buys on."""
        return Market.SPOT if self.spot else Market.ON_DEMAND

    @property
    def markets(self) -> tuple[Market, ...]:
        """All markets that it may ever buy on."""
        on_demand = not self.spot or self.on_demand_base > 0 or self.fallback is not None
        return tuple(market for market, may in ((Market.SPOT, self.spot), (Market.ON_DEMAND, on_demand)) if may)

    @property
    def share(self) -> Decimal | None:
        """The cap as a share of the on-demand price, if it is one: 0.6 for 60%."""
        cap = self.spot_max_price
        return Decimal(cap[:-1]) / 100 if cap is not None and cap.endswith("%") else None

    def cap(self, on_demand_price: Decimal | None) -> Decimal | None:
        """The most to pay for a spot instance-hour (USD) of a type with this on-demand price; None: no cap of ours.

        Raises ValueError for a share of an unknown price: an unknown cap must never count as no cap.
        """
        if self.spot_max_price is None:
            return None
        if self.share is None:
            return Decimal(self.spot_max_price)
        if on_demand_price is None:
            raise ValueError(f"{self.spot_max_price} of an on-demand price that is not known")
        return rounded_down(self.share * on_demand_price)

    def unit_cap(self, on_demand_price: Decimal | None, units: int) -> Decimal | None:
        """The cap for each of an instance's units, rounded down so that together they are not above it."""
        cap = self.cap(on_demand_price)
        return None if cap is None else rounded_down(cap / units)

    @property
    def architecture(self) -> str:
        """The processor architecture of its instances."""
        return self.requirements.architecture if self.requirements else next(iter(architectures(self.instance_types)))

    @property
    def machine(self) -> Machine:
        """The inline description without the rest of the item."""
        return Machine.model_validate(self.model_dump(include=set(Machine.model_fields)), context=user_data.REMEMBERED)

    @property
    def described(self) -> bool:
        """Whether the pool needs its own launch template: the stack's is for x86_64 machines without customisation."""
        plain = self.machine.plain and self.architecture == "x86_64" and not self.unshowable
        return self.launch_template is None and not plain

    @property
    def unshowable(self) -> tuple[str, ...]:
        """Keys of its tags that instance metadata cannot show: EC2 accepts them only if metadata shows no tags."""
        ready = [self.ready_tag.partition("=")[0]] if self.ready_tag else []
        return tuple(key for key in (*sorted(self.tags), *ready) if not showable(key))

    @cached_property
    def machine_digest(self) -> str:
        """A short name for everything that defines its machines. Instances carry it, so that drift is visible.

        The allowed types are not part of it: wider requirements make no instance outdated.
        """
        if kept := user_data.digest_of(self.user_data):
            return kept
        template = self.launch_template.model_dump() if self.launch_template else None
        words = [self.machine.model_dump(exclude_defaults=True), self.architecture, template, None]
        return digest([*words, "no tags in metadata"] if self.unshowable else words)

    @property
    def remembered(self) -> dict[str, Any]:
        """The item as the control plane remembers it, without its user data."""
        said = self.model_dump(mode="json", exclude_defaults=True)
        return said if self.user_data is None else {**said, "user_data": user_data.kept(self.machine_digest)}

    @cached_property
    def launch_terms(self) -> str:
        """A digest of all that a launch depends on: the spec without sizes, waiting times and the pause."""
        return digest(self.terms_written_out)

    @property
    def terms_written_out(self) -> dict[str, Any]:
        """The launch terms in full."""
        return self.model_dump(mode="json", exclude=NOT_OF_A_LAUNCH, exclude_defaults=True)


def warnings_of(pool: Pool) -> tuple[str, ...]:
    """Warnings about a valid item, one sentence each that names the attribute; nothing is refused because of them."""
    return tuple(_warnings(pool))


def _warnings(pool: Pool) -> Iterator[str]:
    if pool.user_data is not None and (doubt := user_data.warning(pool.user_data)):
        yield doubt
    for name in ("root_volume_type", "root_device_name"):
        if pool.root_volume_size_gib is None and getattr(pool, name) != Pool.model_fields[name].default:
            yield f"{name} has no effect without root_volume_size_gib."
    if pool.unshowable:
        yield (
            f"tags and ready_tag have keys that EC2 cannot show in instance metadata ({', '.join(pool.unshowable)}), "
            "so the machines' metadata shows no tags; a job that reads its pool's name there must get it elsewhere."
        )
    if len(pool.security_group_ids) > USUAL_SECURITY_GROUPS:
        yield (
            f"security_group_ids names {len(pool.security_group_ids)} groups: an account's quota is "
            f"{USUAL_SECURITY_GROUPS} a network interface unless AWS has raised it."
        )


NOT_OF_A_LAUNCH = {
    "max_instances",
    "min_instances",
    "target_size",
    "schedule",
    "on_demand_base",
    "fallback",
    "update",
    "max_unavailable",
    "ready_timeout_minutes",
    "ready_tag",
    "on_rebalance",
    "drain_command",
    "scale_in_after_minutes",
    "paused",
}
