"""The IAM roles that a run makes for itself, under names that --clean knows."""

from __future__ import annotations

import json
from typing import Any

from acceptance.run import Run
from lambdas.domain.model.instances import STACK_TAG

DRILL, RIGHTS = "accept-drill", "accept-rights"
POLICY = "accept"


def names(stack: str) -> tuple[str, ...]:
    """The names of all roles that a run of this stack may have made."""
    return tuple(f"{stack}-{kind}" for kind in (DRILL, RIGHTS))


def drill_role(run: Run) -> str:
    """Make, if needed, the role of the FIS experiment. Returns its ARN."""
    interrupt = {"Effect": "Allow", "Action": "ec2:SendSpotInstanceInterruptions", "Resource": "*"}
    interrupt["Condition"] = {"StringEquals": {f"aws:ResourceTag/{STACK_TAG}": run.place.stack}}  # type: ignore[assignment]  # a nested map
    look = {"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}
    return _role(run, DRILL, {"Service": "fis.amazonaws.com"}, [interrupt, look])


def rights_role(run: Run) -> str:
    """Make, if needed, the role that may start a fleet as a dry run. Returns its ARN."""
    caller = run.client("sts").get_caller_identity()
    partition = caller["Arn"].split(":")[1]
    actions = ["ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateTags", "ec2:Describe*", "ssm:GetParameters"]
    allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return _role(run, RIGHTS, {"AWS": f"arn:{partition}:iam::{caller['Account']}:root"}, [allowed])


def _role(run: Run, kind: str, principal: dict[str, str], statements: list[dict[str, Any]]) -> str:
    iam, name = run.client("iam"), f"{run.place.stack}-{kind}"
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}],
    }
    try:
        made = iam.create_role(
            RoleName=name,
            AssumeRolePolicyDocument=json.dumps(trust),
            Tags=[{"Key": STACK_TAG, "Value": run.place.stack}],
        )
    except iam.exceptions.EntityAlreadyExistsException:
        made = iam.get_role(RoleName=name)
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=policy)
    return str(made["Role"]["Arn"])
