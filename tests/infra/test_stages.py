"""The stages differ in the listed values only, and choices that cannot be deployed are refused in one line."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING

import pytest

from infra.choices import ContextError
from infra.stages import AWS, LOCAL, Deployment, Stage

if TYPE_CHECKING:
    from tests.infra.conftest import Synthesize, Synthesized


def deployment(**context: object) -> Deployment:
    return Deployment.from_context(context)


def test_aws_and_the_local_cloud_differ_in_exactly_these_values() -> None:
    aws, local = dataclasses.asdict(AWS), dataclasses.asdict(LOCAL)
    differences = {name: (aws[name], local[name]) for name in aws if aws[name] != local[name]}
    # The host may also be arm64.
    differences.pop("arm64", None)
    assert differences == {
        "name": ("aws", "local"),
        "wheels": (AWS.wheels, None),
        "keep_data": (True, False),
        "bootstrap_roles": (True, False),
        "tls_only": (True, False),
        "send_actions": (("sqs:SendMessage",), ("sqs:SendMessage", "sqs:SendMessageBatch")),
        "event_conditions": (True, False),
        "tracing": (True, False),
        "function_timeout": (60, 20),
        "lease_seconds": (75, 25),
        "drain_grace_seconds": (300, 10),
        "backoff_base_seconds": (60, 5),
        "backoff_max_seconds": (900, 30),
        "minute_seconds": (60, 3),
        "alarm_period": (60, 10),
        "below_target_seconds": (600, 15),
        "waiting_long_seconds": (14_400, 60),
        "saved_queries": (True, False),
        "alarms_by_query": (True, False),
    }


def test_both_stages_have_the_same_resources(synthesize: Synthesize, local: Synthesized) -> None:
    """Except for what the values above switch: queues that only we write to have a separate TLS-only policy."""
    plain = synthesize()

    def kinds(template: Synthesized) -> set[tuple[str, str]]:
        return {(name, one["Type"]) for name, one in template.resources.items()}

    assert kinds(local) <= kinds(plain)
    assert {kind for _, kind in kinds(plain) - kinds(local)} == {"AWS::SQS::QueuePolicy", "AWS::Logs::QueryDefinition"}


@pytest.mark.parametrize("stage", [AWS, LOCAL, LOCAL.at_pace(50)], ids=lambda stage: stage.name)
def test_a_lease_outlives_the_function_that_holds_it(stage: Stage) -> None:
    assert stage.lease_seconds > stage.function_timeout


def test_pace_divides_waiting_times_and_keeps_time_limits() -> None:
    stage = deployment(stage="local", pace="4").stage
    assert (stage.backoff_max_seconds, stage.below_target_seconds) == (8, 4)
    assert stage.backoff_base_seconds == 1
    assert (stage.lease_seconds, stage.function_timeout) == (LOCAL.lease_seconds, LOCAL.function_timeout)
    assert deployment(stage="local", pace="1000").stage.drain_grace_seconds == 1
    assert deployment(stage="local", pace="1").stage == LOCAL


def test_lists_come_from_the_command_line_or_from_cdk_json() -> None:
    subnets = ("subnet-0123456789abcdef0", "subnet-12345678")
    assert deployment(subnet_ids=" , ".join(subnets)).subnet_ids == subnets
    assert deployment(subnet_ids=list(subnets)).subnet_ids == subnets
    assert deployment(subnet_ids="").subnet_ids == ()


@pytest.mark.parametrize(
    ("context", "complaint"),
    [
        ({"stage": "prod"}, "stage=prod"),
        ({"stack": "my_pools"}, "stack=my_pools"),
        ({"stack": ""}, "stack="),
        ({"alarm_email": "oncall"}, "alarm_email=oncall"),
        ({"subnet_ids": "vpc-12345678"}, "subnet_ids=vpc-12345678"),
        (
            {"instance_role_arns": "arn:aws:iam::123456789012:role/*"},
            "instance_role_arns=arn:aws:iam::123456789012:role/*",
        ),
        ({"volume_key_arns": "alias/mine"}, "volume_key_arns=alias/mine"),
        ({"volume_key_arns": "arn:aws:kms:eu-west-1:123456789012:alias/mine"}, "volume_key_arns=arn:aws:kms:eu-west-1"),
        ({"volume_key_arns": "arn:aws:kms:eu-west-1:123456789012:key/*"}, "volume_key_arns=arn:aws:kms:eu-west-1"),
        ({"permissions_boundary": "boundary"}, "permissions_boundary=boundary"),
        ({"pace": "2"}, "pace=2"),
        ({"stage": "local", "pace": "fast"}, "pace=fast"),
        ({"stage": "local", "pace": "0.5"}, "pace=0.5"),
        ({"stage": "local", "pace": "nan"}, "pace=nan"),
        ({"stage": "local", "pace": "inf"}, "pace=inf"),
    ],
)
def test_a_choice_that_cannot_be_deployed_is_named(context: dict[str, object], complaint: str) -> None:
    with pytest.raises(ContextError) as refusal:
        deployment(**context)
    assert str(refusal.value).startswith(complaint)
    assert "\n" not in str(refusal.value)


def many_subnets(number: int) -> str:
    return ",".join(f"subnet-{one:017x}" for one in range(number))


@pytest.mark.parametrize("stack", ["s", "s" * 63])
def test_more_subnets_than_a_functions_environment_holds_are_refused_in_one_line(
    synthesize: Synthesize, stack: str
) -> None:
    with pytest.raises(ContextError) as refusal:
        synthesize(stack=stack, subnet_ids=many_subnets(140))
    assert str(refusal.value).startswith("subnet_ids=")
    assert "\n" not in str(refusal.value)
    fit = re.search(r"at most (\d+)", str(refusal.value))
    assert fit
    for function in synthesize(stack=stack, subnet_ids=many_subnets(int(fit[1]))).of("AWS::Lambda::Function").values():
        environment = function["Properties"]["Environment"]["Variables"]
        longest = {name: value if isinstance(value, str) else "x" * 255 for name, value in environment.items()}
        assert len(json.dumps(longest)) <= 4096
