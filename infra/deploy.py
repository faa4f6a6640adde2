"""``make deploy``: checks what a deployment needs, reports in one line what is missing, runs ``cdk deploy``."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  botocore's own
    HTTPClientError,
    SSOError,
    TokenRetrievalError,
)

from infra.choices import CHOICES, DEFAULT_STACK, RECORD, ContextError
from infra.stages import Deployment

ROOT = Path(__file__).resolve().parent.parent
CDK = ROOT / "node_modules" / ".bin" / "cdk"
OUTPUTS = ROOT / "cdk.out" / "outputs.json"

PYTHON_WANTED = (3, 11)
NODE_WANTED = 20
NOT_READY = 2
"""Exit status when something that the deployment needs is missing."""

BOOTSTRAP_VERSION = "/cdk-bootstrap/hnb659fds/version"


class NotReadyError(Exception):
    """Something that a deployment needs is missing; the message is one line and says how to get it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, deploy, and say what to do next; returns the exit status (2 when something is missing)."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.deploy",
        description="Deploys Spot Pools to an AWS account. With make: make deploy ARGS='-c KEY=VALUE'.",
        epilog=_all_choices(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stack", help="name of the deployment (default: spotpools)")
    parser.add_argument("--region", help="where to deploy (default: AWS_REGION, AWS_DEFAULT_REGION or the profile's)")
    parser.add_argument(
        "-c",
        "--context",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a choice, see below; repeatable. A choice stays until it is given anew; KEY= returns to its default",
    )
    parser.add_argument("--forget", action="store_true", help="start from the defaults, not from the last choices")
    parser.add_argument("--yes", action="store_true", help="do not ask before granting new rights (for CI)")
    options = parser.parse_args(arguments)
    context = [*options.context, *([f"stack={options.stack}"] if options.stack else [])]
    try:
        check_tools(os.environ)
        deployment = check_context(context)
        session = botocore.session.get_session()
        bootstrap = deployment.stage.bootstrap_roles
        region = check_account(session, os.environ, options.region, bootstrap_needed=bootstrap)
        cloudformation = session.create_client("cloudformation", region_name=region)
        given = bool(options.context)
        last = {} if options.forget else last_choices(cloudformation, deployment.stack, given=given)
        context = [*context, *kept(last, context)]
        deployment = check_context(context)
    except NotReadyError as missing:
        sys.stderr.write(f"deploy: {missing}\n")
        return NOT_READY

    sys.stdout.write(changed_choices(last, deployment.chosen))
    sys.stdout.flush()
    status = subprocess.run(  # noqa: S603  the pinned CLI and values that were checked
        [
            str(CDK),
            "deploy",
            "--require-approval",
            "never" if options.yes else "broadening",
            "--app",
            f"{shlex.quote(sys.executable)} app.py",
            "--outputs-file",
            str(OUTPUTS),
            *(part for pair in context for part in ("--context", pair)),
        ],
        cwd=ROOT,
        env=environment_of_cdk(session, region, os.environ),
        check=False,
    ).returncode
    if status == 0:
        sys.stdout.write(next_steps(json.loads(OUTPUTS.read_text())[deployment.stack], deployment, region))
    return status


def _all_choices() -> str:
    """The choices with their meaning, for the help."""
    lines = []
    for key, choice in CHOICES.items():
        meaning = choice.meaning.partition(": [")[0].replace("`", "")
        lines.append(f"  {key}\n      {meaning}\n      for example {key}={choice.example}")
    return "choices:\n" + "\n".join(lines)


def last_choices(cloudformation: Any, stack: str, *, given: bool) -> dict[str, str]:
    """The choices of the stack's last deployment, which it records; none if it is not deployed yet.

    Raises ``NotReadyError`` if they cannot be read: a choice that is dropped without a word may be the e-mail address.
    """
    try:
        (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return {}
        raise NotReadyError(
            f"the last choices of stack {stack} cannot be read: allow cloudformation:DescribeStacks, or give all "
            f"choices and --forget ({one_line(error)})"
        ) from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if RECORD in outputs:
        return dict(json.loads(outputs[RECORD]))
    if outputs and not given:
        raise NotReadyError(
            f"stack {stack} was deployed by a version that did not record its choices: give them once more with -c "
            "key=value, or --forget for the defaults"
        )
    return {}


def kept(last: Mapping[str, str], pairs: Sequence[str]) -> list[str]:
    """The last choices that neither the command nor ``cdk.json`` gives anew, as ``key=value``."""
    anew = {*(pair.partition("=")[0] for pair in pairs), *_cdk_context()}
    return [f"{key}={value}" for key, value in last.items() if key not in anew]


def changed_choices(last: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The choices of this deployment and how they differ from the last one's, a line each."""
    lines = []
    for key in CHOICES:
        before, after = last.get(key), now.get(key)
        if before is None and after is None:
            continue
        if before == after:
            change = "as before"
        elif after is None:
            change = f"was {before}; the default again"
        else:
            change = f"was {before}" if before else "new"
        lines.append(f"  {f'{key} = {after}' if after else key}  ({change})\n")
    return "Choices:\n" + "".join(lines) if lines else "Choices: all defaults.\n"


def _cdk_context() -> dict[str, object]:
    return dict(json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"])


def check_context(pairs: Sequence[str]) -> Deployment:
    """The deployment that these ``key=value`` pairs and ``cdk.json`` describe; raises ``NotReadyError``."""
    context = _cdk_context()
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise NotReadyError(f"-c {pair}: expected key=value")
        context[key] = value
    try:
        return Deployment.from_context(context)
    except ContextError as error:
        raise NotReadyError(str(error)) from error


def check_tools(environment: Mapping[str, str]) -> None:
    """Python, Node.js, npm and the CDK command line; raises ``NotReadyError``."""
    if sys.version_info < PYTHON_WANTED:
        raise NotReadyError(f"Python {sys.version.split()[0]} is too old: 3.11 or later is needed")
    path = environment.get("PATH")
    node = shutil.which("node", path=path)
    if node is None:
        raise NotReadyError("Node.js is missing: install version 20 or later from https://nodejs.org")
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603  found on PATH
    version = re.match(r"v(\d+)\.", answer)
    if version is None or int(version[1]) < NODE_WANTED:
        raise NotReadyError(f"Node.js {answer.strip() or '(no version)'} is too old: 20 or later is needed")
    if shutil.which("npm", path=path) is None:
        raise NotReadyError("npm is missing: it comes with Node.js, or as your system's package npm")
    if not CDK.exists():
        raise NotReadyError("the CDK command line is not installed: run npm ci")


def check_account(
    session: botocore.session.Session, environment: Mapping[str, str], region: str | None, *, bootstrap_needed: bool
) -> str:
    """Credentials that work, a Region and the CDK's bootstrap; returns the Region. Raises ``NotReadyError``."""
    try:
        if session.get_credentials() is None:
            raise NotReadyError("no AWS credentials: set AWS_PROFILE, or run aws configure or aws sso login")
        # As in the CDK, the AWS CLI and the command spotpools; botocore alone does not read AWS_REGION.
        region = region or environment.get("AWS_REGION") or session.get_config_variable("region")
        if not region:
            raise NotReadyError("no AWS Region: set AWS_REGION, or a region in your profile, or give --region")
        account = session.create_client("sts", region_name=region).get_caller_identity()["Account"]
        if bootstrap_needed and not is_bootstrapped(session, region):
            raise NotReadyError(
                f"account {account} is not prepared for the CDK in {region}: "
                f"run node_modules/.bin/cdk bootstrap aws://{account}/{region} once"
            )
    except (ConnectionError, HTTPClientError) as error:
        raise NotReadyError(f"AWS does not answer: {one_line(error)}") from error
    except (SSOError, TokenRetrievalError) as error:
        again = "aws sso login" + (f" --profile {session.profile}" if session.profile else "")
        raise NotReadyError(f"your sign-in to AWS is not valid (any more): run {again} ({one_line(error)})") from error
    except (BotoCoreError, ClientError) as error:
        raise NotReadyError(f"the AWS credentials do not work; sign in again? {one_line(error)}") from error
    return region


def environment_of_cdk(
    session: botocore.session.Session, region: str, environment: Mapping[str, str]
) -> dict[str, str]:
    """The environment of ``cdk deploy``: it must use the account and Region that were checked, and no other.

    With AWS_PROFILE beside keys, or with AWS_DEFAULT_PROFILE, the CDK chooses differently from the AWS CLI, boto3 and
    the command spotpools. So it sees only what those have chosen.
    """
    credentials = session.get_credentials()
    by_keys = credentials is not None and credentials.method == "env"
    profile = {} if by_keys or not session.profile else {"AWS_PROFILE": session.profile}
    kept = {name: value for name, value in environment.items() if name not in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")}
    # Node 20 works; jsii's banner about its end of life would hide the questions that cdk asks.
    quiet = {"JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": str(NODE_WANTED)}
    return {**quiet, **kept, **profile, "AWS_REGION": region}


def is_bootstrapped(session: botocore.session.Session, region: str) -> bool:
    """Whether ``cdk bootstrap`` has been run in this Region, as far as the caller's rights show."""
    try:
        session.create_client("ssm", region_name=region).get_parameter(Name=BOOTSTRAP_VERSION)
    except ClientError as error:
        # After any other refusal the CDK may still have the rights, through its own roles.
        return bool(error.response["Error"]["Code"] != "ParameterNotFound")
    return True


def one_line(error: Exception) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split())


def next_steps(outputs: Mapping[str, str], deployment: Deployment, region: str) -> str:
    """What to do after a deployment, as commands to copy."""
    command = f"spotpools {{}} --region {region}" + (
        f" --stack {deployment.stack}" if deployment.stack != DEFAULT_STACK else ""
    )
    alarms = (
        f"confirm the e-mail that AWS has sent to {deployment.alarm_email}"
        if deployment.alarm_email
        else f"aws sns subscribe --region {region} --protocol email --notification-endpoint YOU "
        f"--topic-arn {outputs['MessagesTopic']}"
    )
    return (
        "\nNext:\n"
        "  command     source .venv/bin/activate\n"
        f"  checks      {command.format('doctor')}\n"
        f"  alarms      {alarms}\n"
        f"  first pool  {command.format('apply examples/first.yaml')}\n"
        f"  its status  {command.format('explain first')}\n"
        f"  dashboard   {outputs['DashboardUrl']}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
