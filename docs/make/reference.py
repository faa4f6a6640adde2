"""``python -m docs.make.reference``: writes the reference documents that are generated from code.

The reference of a pool item and its JSON Schema come from the model, that of the command from its help.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import typer
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

from cli.changes import ApplyOutcome, Attribute, Change
from cli.costs import Cost
from cli.doctor import Check
from cli.drill import Drill
from cli.exits import MEANING
from cli.explanation import Explanation, Member, NamedAdvice, NextReconcile, Wanted
from cli.files import Fault
from cli.history import Decision, History
from cli.listing import Listing, Row
from cli.main import app
from cli.pool_edits import EditOutcome
from cli.remarks import Remark
from lambdas.domain.item.machine import Machine
from lambdas.domain.item.pool import Pool

DOCS = Path(__file__).parents[1]
HEAD = """# A pool item

Made from the model in `lambdas/domain/item/pool.py` by `python -m docs.make.reference`;
[pool.schema.json](pool.schema.json) is the same as a JSON Schema. Numbers may be DynamoDB numbers or numeric texts;
booleans are booleans. Every fault of an item is reported at once, unknown attributes are refused with the nearest known
name. wanted = target_size, but at least min_instances.

| attribute | rule | default | meaning |
| --- | --- | --- | --- |
"""

COMMANDS_HEAD = """# The command `spotpools`

Made from the command's own help by `python -m docs.make.reference`.

It runs on your machine with your own AWS credentials, and finds them as the AWS CLI does. The Region is the first of
`--region`, `AWS_REGION`, `AWS_DEFAULT_REGION` and your profile; `make deploy` uses the same order. The stack is the
first of `--stack`, `SPOTPOOLS_STACK` and `spotpools`; its outputs name the tables. If `SPOTPOOLS_POOLS_TABLE` and
`SPOTPOOLS_STATUS_TABLE` are set, the command uses them instead, unless you pass `--stack` or `--region`. On the local
cloud `source .localcloud/env` sets all of these.

In a clone the command is in `.venv/bin`. `pipx install .`, or `pip install .` in an environment of your own, installs
it without the repository's other tools.

`spotpools --install-completion` lets your shell complete commands, options and the names of your pools.

## Exit status

| status | meaning |
| --- | --- |
"""

RIGHTS = {
    "validate, cost": (),
    "apply": ("dynamodb:Scan", "dynamodb:PutItem"),
    "get": ("dynamodb:GetItem",),
    "edit, scale, pause, resume, empty": ("dynamodb:GetItem", "dynamodb:PutItem"),
    "delete": ("dynamodb:GetItem", "dynamodb:DeleteItem"),
    "list, watch": (
        "dynamodb:Scan",
        "ec2:DescribeInstances",
        "ec2:DescribeSpotPriceHistory",
        "ec2:DescribeSubnets",
        "pricing:GetProducts",
        "lambda:GetFunctionConfiguration",
        "cloudwatch:GetMetricStatistics",
    ),
    "explain": (
        "dynamodb:GetItem",
        "lambda:GetFunctionConfiguration",
        "cloudwatch:GetMetricStatistics",
        "ec2:DescribeInstances",
        "ec2:DescribeInstanceStatus",
        "ec2:DescribeSpotPriceHistory",
        "ec2:DescribeSubnets",
        "ec2:GetInstanceTypesFromInstanceRequirements",
        "pricing:GetProducts",
        "ssm:GetCommandInvocation",
    ),
    "history": ("lambda:GetFunctionConfiguration", "logs:FilterLogEvents"),
    "page": (
        "dynamodb:Scan",
        "dynamodb:GetItem",
        "ec2:DescribeInstances",
        "ec2:DescribeInstanceStatus",
        "ec2:DescribeSpotPriceHistory",
        "ec2:DescribeSubnets",
        "ec2:GetInstanceTypesFromInstanceRequirements",
        "pricing:GetProducts",
        "lambda:GetFunctionConfiguration",
        "cloudwatch:GetMetricData",
        "cloudwatch:GetMetricStatistics",
        "logs:FilterLogEvents",
        "ssm:GetCommandInvocation",
    ),
    "drill": (
        "dynamodb:GetItem",
        "ec2:DescribeInstances",
        "fis:CreateExperimentTemplate",
        "fis:StartExperiment",
        "fis:DeleteExperimentTemplate",
        "fis:TagResource",
        "iam:PassRole",
    ),
    "doctor": (
        "cloudformation:DescribeStackResources",
        "cloudwatch:DescribeAlarms",
        "cloudwatch:GetMetricData",
        "cloudwatch:GetMetricStatistics",
        "dynamodb:DescribeTable",
        "dynamodb:Scan",
        "iam:GetRole",
        "lambda:GetFunctionConcurrency",
        "lambda:GetFunctionConfiguration",
        "logs:FilterLogEvents",
        "scheduler:GetSchedule",
        "servicequotas:ListServiceQuotas",
        "sns:ListSubscriptionsByTopic",
        "sqs:GetQueueAttributes",
    ),
}
RIGHTS_HEAD = """
## Rights

Every command that calls AWS also needs `cloudformation:DescribeStacks`, unless variables name the tables. If `list`,
`explain`, `page` or `doctor` lacks a permission, it leaves that part out and says so.

| command | actions |
| --- | --- |
"""

FIELDS: dict[str, tuple[type | str, dict[str, type]]] = {
    "validate": ("valid, file, pools, faults, remarks", {"faults": Fault, "remarks": Remark}),
    "apply, edit": (ApplyOutcome, {"pools": Change, "attributes": Attribute, "remarks": Remark}),
    "list, watch": (Listing, {"pools": Row}),
    "explain": (Explanation, {"wanted": Wanted, "instances": Member, "advice": NamedAdvice, "next": NextReconcile}),
    "history": (History, {"decisions": Decision}),
    "scale, pause, resume, empty": (EditOutcome, {}),
    "drill": (Drill, {}),
    "doctor": ("checks, links", {"checks": Check}),
    "cost": (Cost, {}),
}
PICTURES = {
    "list": "Seven pools: at size, invalid, without capacity, updated, above their cap, paused, with one under notice",
    "watch": "The same list, with the time of the last look below",
    "explain": "A pool of six of which two wait: since when, why, what runs, what comes next, what to do",
}
"""What the pictures of `python -m docs.make.pictures` show."""
NOT_PRINTED = ("item", "before")
FIELDS_HEAD = """
## JSON

`--output json` prints one object with these fields. Their names are stable. Amounts are texts, to be exact; times are
ISO 8601 in UTC. `get` and `delete` print the item itself; `watch` prints one line per update, with `at` and `listing`.
`waiting`, `last_error`, `spec_errors`, `rollout`, `replacing` and `drains` of `explain`, and `rollout`, `replacing` and
`warnings` of `list`, are as in the PoolStatus item. A field without a value is null.

| command | fields |
| --- | --- |
"""


def commands() -> str:
    """The manual of the command as Markdown."""
    root: Any = typer.main.get_command(app)
    exits = "".join(f"| {int(status)} | {meaning} |\n" for status, meaning in MEANING.items())
    rights = "".join(f"| `{name}` | {_listed(actions) or 'none'} |\n" for name, actions in RIGHTS.items())
    fields = "".join(f"| `{name}` | {_fields(*told)} |\n" for name, told in FIELDS.items())
    with root.make_context("spotpools", [], resilient_parsing=True) as context:
        each = [
            _pictured(
                name,
                get_docs_for_click(
                    obj=root.get_command(context, name), ctx=context, indent=1, name=name, call_prefix="spotpools"
                ),
            )
            for name in root.list_commands(context)
        ]
    # Usage is a pattern, not a session that a reader could repeat.
    manual = "\n".join(each).replace("```console\n$ ", "```text\n")
    return COMMANDS_HEAD + exits + RIGHTS_HEAD + rights + FIELDS_HEAD + fields + "\n" + manual.rstrip() + "\n"


def _pictured(name: str, manual: str) -> str:
    """A command's part of the manual, with its picture, if any."""
    shown = f"![{PICTURES[name]}](pictures/{name}.svg)\n\n" if name in PICTURES else ""
    return manual.replace("**Usage**:", f"{shown}**Usage**:", 1)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _fields(whole: type | str, parts: dict[str, type]) -> str:
    names = tuple(whole.split(", ")) if isinstance(whole, str) else _names(whole)
    below = [f"each of `{name}`: {_listed(_names(part))}" for name, part in parts.items()]
    return "; ".join([_listed(names), *below])


def _names(part: type) -> tuple[str, ...]:
    return tuple(one.name for one in dataclasses.fields(part) if one.name not in NOT_PRINTED)


def reference() -> str:
    """The reference as Markdown."""
    own = [name for name in Pool.model_fields if name not in Machine.model_fields]
    order = ("pool_name", "target_size", *(name for name in own if name not in ("pool_name", "target_size")))
    order = (*order, *Machine.model_fields)
    rows = (_row(name, Pool.model_fields[name]) for name in order)
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def schema() -> dict[str, Any]:
    """The model as a JSON Schema, with the short form for a single instance type."""
    made = Pool.model_json_schema(mode="validation")
    made["properties"]["instance_type"] = {"type": "string", "description": "Short for instance_types with one entry."}
    made["required"] = ["pool_name"]
    kinds = ("instance_types", "instance_type", "requirements")
    made["oneOf"] = [{"required": [kind]} for kind in kinds]
    return made


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    extra = field.json_schema_extra
    rule = str(extra["rule"]) if isinstance(extra, dict) else ""
    shown = f"`{name}` (or `instance_type`)" if name == "instance_types" else f"`{name}`"
    required = field.is_required() or name == "instance_types"
    default = "required" if required else _default(field.default)
    return shown, rule, default, (field.description or "").replace("|", "\\|")


def _default(value: object) -> str:
    if value is None or value in ((), {}):
        return "none"
    return f"`{json.dumps(value)}`"


def main() -> None:
    """Write the files."""
    (DOCS / "commands.md").write_text(commands(), encoding="utf-8")
    (DOCS / "pool-reference.md").write_text(reference(), encoding="utf-8")
    (DOCS / "pool.schema.json").write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
