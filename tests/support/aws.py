"""``python -m tests.support.aws``: the part of the AWS CLI that the documents use, so that tests need no other program.

Services, operations and options are looked up in botocore's models, as the AWS CLI does.
"""

from __future__ import annotations

import json
import re
import sys
from itertools import groupby
from typing import Any

import boto3
import jmespath  # type: ignore[import-untyped]  # jmespath ships no types
from botocore import xform_name

RENAMED = {"notification-endpoint": "endpoint"}
"""Options whose name differs from their parameter, because the AWS CLI itself has an option of that name."""
PAIR = re.compile(r"(\w+)=([^=]*)(?:,(?=\w+=)|$)")


def main(service: str, operation: str, *words: str) -> None:
    """Make the call and print the answer. An unknown service, operation or option is an error."""
    client: Any = boto3.client(service)
    names = {xform_name(name, "-"): name for name in client.meta.service_model.operation_names}
    shape = client.meta.service_model.operation_model(names[operation]).input_shape
    members = {xform_name(name, "-"): name for name in shape.members}
    given_options = options(words)
    query, _ = given_options.pop("query", [""])[0], given_options.pop("output", None)
    named = {members[RENAMED.get(name, name)]: given for name, given in given_options.items()}
    asked = {name: value(shape.members[name], given) for name, given in named.items()}
    answer = getattr(client, xform_name(names[operation]))(**asked)
    print(json.dumps(jmespath.search(query, answer) if query else answer, default=str, indent=2))  # noqa: T201  the answer


def options(words: tuple[str, ...]) -> dict[str, list[str]]:
    """Each option with its words."""
    found: dict[str, list[str]] = {}
    for is_name, several in groupby(words, key=lambda word: word.startswith("--")):
        if is_name:
            found |= {name.removeprefix("--"): [] for name in several}
        else:
            found[list(found)[-1]] = list(several)
    return found


def value(shape: Any, given: list[str]) -> Any:
    """The value of an option for its shape, from JSON, Name=Value pairs, or plain words."""
    if not given:
        return True
    if given[0].startswith(("{", "[")):
        return json.loads(given[0])
    match shape.type_name:
        case "list" if shape.member.type_name == "structure":
            return [
                {name: value(shape.member.members[name], [text]) for name, text in PAIR.findall(one)} for one in given
            ]
        case "list":
            return [text for one in given for text in one.split(",")]
        case "integer" | "long":
            return int(given[0])
        case _:
            return given[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
