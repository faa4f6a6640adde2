"""Addresses of the deployment in the AWS console."""

from __future__ import annotations

from aws_cdk import Aws


def dashboard_name(stack: str) -> str:
    """The name of a stack's dashboard."""
    return f"{stack}-fleet"


def dashboard_url(stack: str) -> str:
    """The address of a stack's dashboard, with the Region as a CloudFormation token."""
    console = f"https://{Aws.REGION}.console.aws.amazon.com/cloudwatch/home?region={Aws.REGION}"
    return f"{console}#dashboards/dashboard/{dashboard_name(stack)}"
