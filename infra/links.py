"""Addresses of the deployment in the AWS console."""

from __future__ import annotations

from aws_cdk import Aws


def dashboard_name(stack: str) -> str:
    """The name of a stack's dashboard."""
    return f"{stack}-fleet"


def dashboard_url(stack: str) -> str:
    """The address of a stack's dashboard, with the Region as a CloudFormation token."""
    return f"{_console('cloudwatch')}#dashboards/dashboard/{dashboard_name(stack)}"


def table_url(table: str) -> str:
    """The address of a table's items."""
    return f"{_console('dynamodbv2')}#item-explorer?table={table}"


def queries_url() -> str:
    """The address of CloudWatch Logs Insights, which lists the saved queries."""
    return f"{_console('cloudwatch')}#logsV2:logs-insights"


def _console(service: str) -> str:
    return f"https://{Aws.REGION}.console.aws.amazon.com/{service}/home?region={Aws.REGION}"
