"""Synthesizes each kind of deployment once for the whole session, offline and without building the functions' zip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.synthesis import template

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


@pytest.fixture(scope="session")
def synthesize() -> Synthesize:
    """Synthesizes a deployment with the given context."""
    return lambda **context: Synthesized(template(**context))


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
    """The stage local with the default choices."""
    return synthesize(stage="local")
