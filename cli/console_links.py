"""Where a deployment can be looked at in the AWS console."""

from __future__ import annotations

from urllib.parse import quote

from cli.deployment import Deployment


def console_links(deployment: Deployment) -> dict[str, str]:
    """Return addresses by what they show; none on the local cloud, or if the stack's outputs name no dashboard."""
    dashboard = deployment.outputs.get("DashboardUrl", "")
    console, found, _ = dashboard.partition("/cloudwatch/home")  # each partition of AWS has its own domain
    if deployment.market_url or not found:
        return {}
    region, group = deployment.region, deployment.log_group("PoolDueFunction")
    table = quote(deployment.pools.table, safe="")
    return {
        "dashboard": dashboard,
        "pool items": f"{console}/dynamodbv2/home?region={region}#item-explorer?table={table}",
        "decisions": f"{console}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{_twice_quoted(group)}",
    }


def _twice_quoted(text: str) -> str:
    """Quote a name for the part of CloudWatch's addresses behind ``#``: there ``$`` is a quoted percent sign."""
    return quote(quote(text, safe=""), safe="").replace("%", "$")
