"""The functions' settings, from the deployment: the only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

PREFIX = "SPOTPOOLS_"


class _FromEnvironment(BaseModel):
    """Each field is an environment variable: its name in capitals after ``SPOTPOOLS_``.

    The stack sets them (``environment``), the functions read them (``load``); both from the same model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def load(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read the settings; raises pydantic's ValidationError naming each variable that is missing or wrong."""
        values: dict[str, object] = {
            name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)
        }
        if "subnet_ids" in values:
            values["subnet_ids"] = tuple(part for part in str(values["subnet_ids"]).split(",") if part)
        return cls.model_validate(values)

    def environment(self) -> dict[str, str]:
        """These settings as the environment variables that ``load`` reads."""
        return {
            PREFIX + name.upper(): ",".join(value) if isinstance(value, tuple) else str(value) for name, value in self
        }


class AlarmSettings(_FromEnvironment):
    """What the function needs that explains alarms."""

    stack: str = Field(min_length=1, description="Deployment-unique name; the alarms' names begin with it.")
    status_table: str = Field(description="Table of the control plane's answers and memory.")
    messages_topic: str = Field(description="ARN of the topic for people.")
    runbook: str = Field(description="Path or URL of the runbook.")
    dashboard_url: str = Field(description="URL of the fleet's dashboard.")
    below_target_seconds: int = Field(600, description="How long a pool may lack instances before its alarm.")
    waiting_long_seconds: int = Field(14_400, description="How long before the second alarm.")
    price_above_cap_seconds: int = Field(900, description="How long prices may be above a pool's cap before the alarm.")


class Settings(_FromEnvironment):
    """One deployment's names and time limits."""

    stack: str = Field(min_length=1, description="Deployment-unique name; value of the tag spotpools:stack.")
    pools_table: str = Field(description="Table of the users' pool items.")
    status_table: str = Field(description="Table of the control plane's answers and memory.")
    due_queue_url: str = Field(description="Queue of pools to reconcile soon.")
    edited_queue_url: str = Field(description="Queue of edited pools: they do not wait behind the others.")
    notices_queue_url: str = Field(description="Queue of EC2's events, to make messages return soon.")
    default_launch_template: str = Field(description="Name of the launch template for pools that name none.")
    default_launch_template_version: str = Field("$Default", description="The version of it that they launch.")
    subnet_ids: tuple[str, ...] = Field((), description="Subnets for pools that name none; empty: the default VPC's.")
    lease_seconds: int = Field(75, gt=0, description="How long a reconcile owns a pool; above the function time-out.")
    drain_grace_seconds: int = Field(300, ge=0, description="From an item's deletion to its instances' termination.")
    backoff_base_seconds: int = Field(60, gt=0, description="First wait after an offering had no capacity.")
    backoff_max_seconds: int = Field(900, gt=0, description="Longest wait between tries at one offering.")
    minute_seconds: float = Field(60, gt=0, description="How long a minute of a pool item lasts; shorter in tests.")
