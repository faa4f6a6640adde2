"""Every value that differs between a real account and the local cloud, and what a deployer may choose.

A ``Stage`` holds the differences, so that the rest of ``infra`` is the same for both and a difference has one name
and one reason. A ``Deployment`` is a stage with the choices of ``cdk.json`` or ``-c key=value``.
"""

from __future__ import annotations

import dataclasses
import platform
import re
from collections.abc import Mapping
from types import MappingProxyType

from infra.choices import CHOICES, DEFAULT_STACK, ContextError, refuse_unknown

STACK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
SUBNET_ID = re.compile(r"subnet-[0-9a-f]{8,17}")
ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
PARAMETER_ARN = re.compile(r"arn:aws[a-z-]*:ssm:[a-z0-9-]+:\d{12}:parameter/[\w./*-]+")
KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+")
POLICY_ARN = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}|aws):policy/[\w+=,.@/-]+")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")

LONGEST_RUNBOOK = 225
"""Characters: it is in each alarm's description, of which CloudWatch takes 1,024."""

HOST_IS_ARM = platform.machine().lower() in {"arm64", "aarch64"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """Where the stack goes. Times are in seconds."""

    name: str
    arm64: bool
    """Processor of the functions; the local cloud runs them on the host's own."""
    wheels: tuple[str, ...] | None
    """Platforms whose wheels the functions can load, best first; None: those of this Python, which runs them."""
    keep_data: bool
    """Whether tables and logs remain after the stack is deleted, and the tables have deletion protection."""
    bootstrap_roles: bool
    """Whether to deploy through the roles of ``cdk bootstrap``. The local cloud's IAM refuses to publish assets
    through the bootstrap's file-publishing role, so there the caller's own credentials do it."""
    tls_only: bool
    """Whether queues and topic refuse unencrypted calls; the local cloud speaks HTTP, on the loopback address only."""
    send_actions: tuple[str, ...]
    """The actions that a sender to a queue needs. AWS has one action for single messages and batches; the local cloud's
    IAM requires one with the batch's own name, which AWS does not know."""
    event_conditions: bool
    """Whether IAM knows the source of an event; the local cloud's IAM does not."""
    tracing: bool
    """Whether X-Ray follows the functions; the local cloud has nothing that receives the segments."""
    function_timeout: int
    """Time limit of each function. A queue hides a message for six times as long."""
    lease_seconds: int
    """How long a reconcile owns a pool: longer than a function can run."""
    drain_grace_seconds: int
    backoff_base_seconds: int
    backoff_max_seconds: int
    minute_seconds: float
    """How long a minute of a pool item lasts, such as those of ready_timeout_minutes."""
    alarm_period: int
    """Length of one evaluation of an alarm on our own gauges. Ten seconds would be high-resolution metrics on AWS."""
    below_target_seconds: int
    """A pool that lacks instances for this long raises the alarm."""
    waiting_long_seconds: int
    """A pool whose shortfall is this old raises a second one."""
    saved_queries: bool
    """Whether CloudWatch Logs keeps saved queries; the local cloud has none."""
    alarms_by_query: bool
    """Whether alarms on pools are Metrics Insights queries, with a contributor for each pool. The local cloud refuses
    them; there the same alarms look at the fleet's worst."""

    def at_pace(self, pace: float) -> Stage:
        """This stage with its waiting times divided by ``pace`` (none under a second), for sped-up replays.

        The time limits of running code stay: a faster clock does not make a function faster.
        """
        waits = (
            "drain_grace_seconds",
            "backoff_base_seconds",
            "backoff_max_seconds",
            "below_target_seconds",
            "waiting_long_seconds",
        )
        shorter = {name: max(1, round(getattr(self, name) / pace)) for name in waits}
        return dataclasses.replace(self, **shorter, minute_seconds=60 / pace)


AWS = Stage(
    name="aws",
    arm64=True,
    # Lambda's Python 3.13 runs on Amazon Linux 2023 (glibc 2.34).
    wheels=("manylinux_2_34_aarch64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    keep_data=True,
    bootstrap_roles=True,
    tls_only=True,
    send_actions=("sqs:SendMessage",),
    event_conditions=True,
    tracing=True,
    function_timeout=60,
    lease_seconds=75,
    drain_grace_seconds=300,
    backoff_base_seconds=60,
    backoff_max_seconds=900,
    minute_seconds=60,
    alarm_period=60,
    below_target_seconds=600,
    waiting_long_seconds=14_400,
    saved_queries=True,
    alarms_by_query=True,
)

LOCAL = Stage(
    name="local",
    arm64=HOST_IS_ARM,
    wheels=None,
    keep_data=False,
    bootstrap_roles=False,
    tls_only=False,
    send_actions=("sqs:SendMessage", "sqs:SendMessageBatch"),
    event_conditions=False,
    tracing=False,
    function_timeout=20,
    lease_seconds=25,
    drain_grace_seconds=10,
    backoff_base_seconds=5,
    backoff_max_seconds=30,
    minute_seconds=3,
    alarm_period=10,
    below_target_seconds=15,
    waiting_long_seconds=60,
    saved_queries=False,
    alarms_by_query=False,
)

STAGES: Mapping[str, Stage] = MappingProxyType({stage.name: stage for stage in (AWS, LOCAL)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployment:
    """One deployment: a stage and what its owner chose."""

    stage: Stage
    stack: str
    """Name of the stack, prefix of its resources' names and value of the tag ``spotpools:stack``."""
    alarm_email: str | None = None
    subnet_ids: tuple[str, ...] = ()
    """Subnets for pools that name none; empty: the default VPC's."""
    instance_role_arns: tuple[str, ...] = ()
    """The only IAM roles that pools' launch templates may give to instances."""
    image_parameter_arns: tuple[str, ...] = ()
    """The account's parameters that may name a pool's image (``image_id = "ssm:…"``), beside AWS's public ones."""
    volume_key_arns: tuple[str, ...] = ()
    """Customer managed KMS keys that encrypt instances' volumes."""
    interruptions_per_hour: int = 10
    """Interruption notices of one pool within an hour that raise the alarm."""
    price_above_cap_minutes: int = 15
    """How long every offering of a pool may cost more than its cap before the alarm."""
    runbook: str = "docs/runbook.md"
    """Where alarms send people; the alarm's name follows as a fragment."""
    permissions_boundary: str | None = None
    """ARN of a managed policy that bounds every role of the stack."""

    @classmethod
    def from_context(cls, context: Mapping[str, object]) -> Deployment:
        """Read the choices from CDK context (``-c key=value``, or ``cdk.json``).

        Raises ``ContextError`` naming the key, the value and what is expected; also for a key that does not exist.
        """
        refuse_unknown(context)
        name = _text(context, "stage", "aws")
        if name not in STAGES:
            raise ContextError(f"stage={name}: there is no such stage; choose {' or '.join(sorted(STAGES))}")
        stage = STAGES[name]
        pace = _pace(context)
        if pace != 1:
            if stage is not LOCAL:
                raise ContextError(f"pace={pace:g}: only the stage local can be sped up")
            stage = stage.at_pace(pace)
        stack = str(context.get("stack", DEFAULT_STACK)).strip()
        if not STACK_NAME.fullmatch(stack):
            raise ContextError(f"stack={stack}: must be 1 to 63 letters, digits and hyphens, a letter first")
        return cls(
            stage=stage,
            stack=stack,
            alarm_email=_one(context, "alarm_email", EMAIL),
            subnet_ids=_many(context, "subnet_ids", SUBNET_ID),
            instance_role_arns=_many(context, "instance_role_arns", ROLE_ARN),
            image_parameter_arns=_many(context, "image_parameter_arns", PARAMETER_ARN),
            volume_key_arns=_many(context, "volume_key_arns", KEY_ARN),
            interruptions_per_hour=_number(context, "interruptions_per_hour", 10),
            price_above_cap_minutes=_number(context, "price_above_cap_minutes", 15),
            runbook=_short(context, "runbook", "docs/runbook.md", LONGEST_RUNBOOK),
            permissions_boundary=_one(context, "permissions_boundary", POLICY_ARN),
        )

    @property
    def price_above_cap_seconds(self) -> int:
        """The same in seconds; without queries the alarm looks at a gauge, which does not know how long."""
        return self.price_above_cap_minutes * 60 if self.stage.alarms_by_query else 1

    @property
    def chosen(self) -> dict[str, str]:
        """What differs from the defaults, as context values. The stack's name is not among them."""
        plain, found = Deployment(stage=self.stage, stack=self.stack), {}
        for key in CHOICES:
            value = getattr(self, key)
            if value != getattr(plain, key):
                found[key] = ",".join(value) if isinstance(value, tuple) else str(value)
        return found


def _text(context: Mapping[str, object], key: str, default: str) -> str:
    value = context.get(key)
    return default if value is None or value == "" else str(value).strip()


def _short(context: Mapping[str, object], key: str, default: str, longest: int) -> str:
    text = _text(context, key, default)
    if len(text) > longest:
        raise ContextError(f"{key}={text[:60]}…: must have at most {longest} characters")
    return text


def _pace(context: Mapping[str, object]) -> float:
    text = _text(context, "pace", "1")
    try:
        pace = float(text)
    except ValueError:
        pace = 0.0
    if not 1 <= pace < float("inf"):
        raise ContextError(f"pace={text}: must be a number, 1 or more")
    return pace


def _number(context: Mapping[str, object], key: str, default: int) -> int:
    text = _text(context, key, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ContextError(f"{key}={text}: must be a whole number, 1 or more")
    return int(text)


def _many(context: Mapping[str, object], key: str, shape: re.Pattern[str]) -> tuple[str, ...]:
    """A list from ``cdk.json``, or comma-separated values from the command line."""
    value = context.get(key)
    given = value if isinstance(value, list) else str(value or "").split(",")
    parts = tuple(str(part).strip() for part in given if str(part).strip())
    for part in parts:
        if not shape.fullmatch(part):
            raise ContextError(f"{key}={part}: expected something like {CHOICES[key].example}")
    return parts


def _one(context: Mapping[str, object], key: str, shape: re.Pattern[str]) -> str | None:
    value = _text(context, key, "")
    if value and not shape.fullmatch(value):
        raise ContextError(f"{key}={value}: expected something like {CHOICES[key].example}")
    return value or None
