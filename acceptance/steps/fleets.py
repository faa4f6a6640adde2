"""What CreateFleet answers: to a repeated token, to a price that is too low, and to missing rights."""

from __future__ import annotations

import json
from typing import Any

import boto3
from botocore.exceptions import ClientError

from acceptance.instances import GOING, OWN_TAG
from acceptance.roles import rights_role
from acceptance.run import NotSeenError, Run
from acceptance.steps.story import TOO_LOW
from lambdas.aws.clients import LAUNCH, client
from lambdas.domain.item.fields import format_price

ALLOWED = "DryRunOperation"
ROLE_SECONDS, END_SECONDS = 60, 300
KINDS = (
    "fleet",
    "image",
    "instance",
    "launch-template",
    "network-interface",
    "security-group",
    "snapshot",
    "spot-instances-request",
    "subnet",
    "volume",
    "key-pair",
    "placement-group",
)
"""The kinds of resource that the documentation names for CreateFleet and RunInstances."""
ACTIONS = ("ec2:CreateFleet", "ec2:RunInstances", "ec2:CreateTags")
DENIED = ("UnauthorizedOperation", "AccessDenied", "UnauthorizedOperation.WithoutEncodedMessage")


def token(run: Run) -> str:
    """Launch one instance, send the same request again, compare, and end what was launched."""
    request = _request(run, "token", price=format_price(run.state.price))
    first = _answered(run, request)
    second = _answered(run, request)
    ids = [_ids(answer) for answer in (first, second)]
    _end(run, {*ids[0], *ids[1]})
    if not ids[0]:
        raise NotSeenError(f"the first call launched nothing: {_codes(first)}")
    same = ids[0] == ids[1]
    what = "the same instance" if same else f"{ids[1] or 'no instance'} ({_codes(second)})"
    text = f"the first call launched {ids[0]}; the repeated call answered {what}"
    run.judge("token-repeated", text, holds=not set(ids[1]) - set(ids[0]))
    return text


def too_low(run: Run) -> str:
    """Ask for an instance at a price below every spot price."""
    answer = _answered(run, _request(run, "low", price=TOO_LOW))
    _end(run, set(_ids(answer)))
    codes = _codes(answer)
    text = f"the codes in Errors: {codes or 'none'}"
    run.judge("price-too-low", text, holds="SpotMaxPriceTooLow" in codes)
    return text


def rights(run: Run) -> str:
    """Ask, as a dry run, with a role that is denied one kind of resource after the other."""
    role, request = rights_role(run), _request(run, "rights", price=TOO_LOW)

    said: list[str] = []

    # IAM needs some seconds to spread a new role.
    def allowed() -> bool:
        said.append(_dry_run(run, role, request, None))
        return said[-1] == ALLOWED

    try:
        run.until(allowed, "a dry run that is allowed", seconds=ROLE_SECONDS)
    except NotSeenError as error:
        raise NotSeenError(f"{error}; the last one answered {said[-1] or 'nothing: it may have launched'}") from error
    needed = {
        action: [kind for kind in KINDS if _refused(run, role, request, _denial(action, kind))] for action in ACTIONS
    }
    text = "; ".join(f"{action}: {', '.join(kinds) or 'no kind'}" for action, kinds in needed.items())
    run.seen("fleet-resources", f"a dry run is refused without the right to {text}")
    passed = "launch-template" in needed["ec2:RunInstances"]
    run.seen("template-right", f"a dry run needs RunInstances on the launch template: {passed}")
    by = [name for name in ("CreateFleet", "RunInstances") if _refused(run, role, request, _denial_of_tags(name))]
    run.seen("create-action", f"a dry run is refused without tagging by {', '.join(by) or 'neither'}")
    _parameter(run, role)
    return text


def _parameter(run: Run, role: str) -> None:
    """Ask for an instance, at a price that is too low, without the right to read the image's parameter."""
    denial = {"Effect": "Deny", "Action": "ssm:GetParameter*", "Resource": "*"}
    try:
        answer = _as(run, role, denial).create_fleet(**_request(run, "parameter", price=TOO_LOW))
    except ClientError as error:
        said = error.response["Error"]
        run.seen("parameter-right", f"the call is refused: {said['Code']}: {said.get('Message', '')[:200]}")
        return
    _end(run, set(_ids(answer)))
    text = "; ".join(sorted({f"{one['ErrorCode']}: {one['ErrorMessage'][:150]}" for one in answer["Errors"]}))
    run.seen("parameter-right", f"in Errors: {text or 'nothing'}")


def _refused(run: Run, role: str, request: dict[str, Any], denial: dict[str, Any]) -> bool:
    return _dry_run(run, role, request, denial) in DENIED


def _denial(action: str, kind: str) -> dict[str, Any]:
    """A statement that denies an action on a kind of resource. ARNs of images and snapshots name no account."""
    account = "" if kind in ("image", "snapshot") else "*"
    return {"Effect": "Deny", "Action": action, "Resource": f"arn:*:ec2:*:{account}:{kind}/*"}


def _denial_of_tags(create_action: str) -> dict[str, Any]:
    condition = {"StringEquals": {"ec2:CreateAction": create_action}}
    return {"Effect": "Deny", "Action": "ec2:CreateTags", "Resource": "*", "Condition": condition}


def _request(run: Run, name: str, *, price: str) -> dict[str, Any]:
    subnets = run.client("ec2").describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    tags = [{"Key": OWN_TAG, "Value": run.place.stack}]
    return {
        "Type": "instant",
        # The same name gives the same token within a run, so that a resumed run does not launch once more.
        "ClientToken": f"{run.place.stack[:20]}-{name}-{run.state.started:%Y%m%d%H%M%S}",
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateName": run.deployment.output("DefaultLaunchTemplate"),
                    "Version": "$Latest",
                },
                "Overrides": [
                    {
                        "InstanceType": instance_type,
                        "SubnetId": subnet["SubnetId"],
                        "AvailabilityZone": subnet["AvailabilityZone"],
                        "MaxPrice": price,
                    }
                    for instance_type in run.state.types
                    for subnet in subnets
                ],
            }
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
        "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"},
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume", "fleet")],
    }


def _answered(run: Run, request: dict[str, Any]) -> dict[str, Any]:
    """The answer; a refusal of the whole call becomes an answer with its code."""
    try:
        return dict(client("ec2", LAUNCH, run.deployment.region).create_fleet(**request))
    except ClientError as error:
        said = error.response["Error"]
        return {"Instances": [], "Errors": [{"ErrorCode": said["Code"], "ErrorMessage": said.get("Message", "")}]}


def _ids(answer: dict[str, Any]) -> list[str]:
    return sorted(id_ for one in answer.get("Instances", []) for id_ in one["InstanceIds"])


def _codes(answer: dict[str, Any]) -> str:
    return ", ".join(sorted({one["ErrorCode"] for one in answer.get("Errors", [])}))


def _end(run: Run, ids: set[str]) -> None:
    if not ids:
        return
    run.client("ec2").terminate_instances(InstanceIds=sorted(ids))

    def ended() -> bool:
        states = {one.id: one.state for one in run.instances()}
        return all(states.get(id_, "") in GOING for id_ in ids)

    run.until(ended, f"{', '.join(sorted(ids))} ends", seconds=END_SECONDS)


def _dry_run(run: Run, role: str, request: dict[str, Any], denial: dict[str, Any] | None) -> str:
    """The code that a dry run answers with this denial; empty if it answers without an error."""
    try:
        _as(run, role, denial).create_fleet(**request, DryRun=True)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def _as(run: Run, role: str, denial: dict[str, Any] | None) -> Any:
    """A client of EC2 with a role's rights, less those that the statement denies."""
    statements: list[dict[str, Any]] = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    got = run.client("sts").assume_role(
        RoleArn=role,
        RoleSessionName="accept",
        Policy=json.dumps({"Version": "2012-10-17", "Statement": statements + ([denial] if denial else [])}),
        DurationSeconds=900,
    )["Credentials"]
    session = boto3.Session(
        aws_access_key_id=got["AccessKeyId"],
        aws_secret_access_key=got["SecretAccessKey"],
        aws_session_token=got["SessionToken"],
        region_name=run.deployment.region,
    )
    return session.client("ec2", config=LAUNCH)
