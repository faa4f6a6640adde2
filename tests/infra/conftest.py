"""Synthesizes each kind of deployment once for the whole session, offline and without building the functions' zip."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

# Read by jsii when aws_cdk starts it: its banner about Node 20 would bury the test results.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")

from aws_cdk import App

from infra.pool_stack import PoolStack
from infra.stages import Deployment

ROOT = Path(__file__).resolve().parents[2]
INSTANCE_ROLE = "arn:aws:iam::123456789012:role/pool-instances"

Synthesize = Callable[..., "Synthesized"]


class Synthesized:
    """A template with ways to find things in it."""

    def __init__(self, template: Mapping[str, Any]) -> None:
        self.template = template
        self.resources: Mapping[str, Any] = template["Resources"]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The resources of a CloudFormation type by logical id."""
        return {name: one for name, one in self.resources.items() if one["Type"] == kind}

    def properties(self, kind: str, part: str) -> dict[str, Any]:
        """The properties of the only resource of this type with ``part`` in its logical id."""
        found = [one["Properties"] for name, one in self.of(kind).items() if part in name]
        assert len(found) == 1, f"{len(found)} resources of {kind} are called {part}"
        properties: dict[str, Any] = found[0]
        return properties

    def statements(self, function: str) -> list[dict[str, Any]]:
        """Every statement of the policies of a function's role."""
        return [
            statement
            for policy in self.of("AWS::IAM::Policy").values()
            for role in policy["Properties"]["Roles"]
            if f"Functions{function}Role" in role["Ref"]
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        ]


def flags() -> dict[str, Any]:
    """The pinned feature flags, and no wheels installed for templates that nobody deploys."""
    context: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    return {**context, "aws:cdk:bundling-stacks": []}


def build(outdir: Path, **context: object) -> tuple[App, PoolStack]:
    """The app as app.py builds it, with this context."""
    app = App(context={**flags(), **context}, outdir=str(outdir))
    return app, PoolStack(app, Deployment.from_context(app.node.try_get_context))


@pytest.fixture(scope="session")
def synthesize(tmp_path_factory: pytest.TempPathFactory) -> Synthesize:
    """Synthesizes a deployment with the given context."""

    def run(**context: object) -> Synthesized:
        app, stack = build(tmp_path_factory.mktemp("cdk"), **context)
        return Synthesized(app.synth().get_stack_by_name(stack.stack_name).template)

    return run


@pytest.fixture(scope="session")
def aws(synthesize: Synthesize) -> Synthesized:
    """The stage aws with every choice made."""
    return synthesize(
        alarm_email="oncall@example.com",
        instance_role_arns=INSTANCE_ROLE,
        subnet_ids="subnet-0123456789abcdef0,subnet-0fedcba9876543210",
    )


@pytest.fixture(scope="session")
def local(synthesize: Synthesize) -> Synthesized:
    """The stage local with nothing chosen."""
    return synthesize(stage="local")
