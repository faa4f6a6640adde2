"""Synthesizes the stack for readers of its template: offline, and without building the functions' zip."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

# jsii reads this when aws_cdk starts it: its banner about Node 20 would hide all other output.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")

from aws_cdk import App

from infra.pool_stack import PoolStack
from infra.stages import Deployment

ROOT = Path(__file__).resolve().parent.parent


def flags() -> dict[str, Any]:
    """The pinned feature flags. Templates that are never deployed need no wheels."""
    context: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    return {**context, "aws:cdk:bundling-stacks": []}


def build(outdir: Path, **context: object) -> tuple[App, PoolStack]:
    """The app with this context, as app.py builds it."""
    app = App(context={**flags(), **context}, outdir=str(outdir))
    return app, PoolStack(app, Deployment.from_context(app.node.get_all_context()))


def template(**context: object) -> dict[str, Any]:
    """The stack's template."""
    with tempfile.TemporaryDirectory() as outdir:
        app, stack = build(Path(outdir), **context)
        made: dict[str, Any] = app.synth().get_stack_by_name(stack.stack_name).template
        return made
