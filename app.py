"""The CDK app. It calls no AWS service, so that it synthesizes without an account or a network."""

from __future__ import annotations

import sys

import aws_cdk

from infra.bundling import BundlingError
from infra.pool_stack import PoolStack
from infra.stages import ContextError, Deployment

app = aws_cdk.App()
try:
    PoolStack(app, Deployment.from_context(app.node.try_get_context))
except (ContextError, BundlingError) as error:
    sys.exit(f"{type(error).__name__.removesuffix('Error').lower()}: {error}")
app.synth()
