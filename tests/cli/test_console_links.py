"""Addresses in the AWS console: of the right stack and Region, none on the local cloud."""

from __future__ import annotations

import pytest

from tests.cli.site import CONSOLE, Site


def test_doctor_and_explain_give_the_addresses_of_their_stack(site: Site) -> None:
    site.put("train", target_size=1)
    links = site.json("explain", "train")["links"]
    table, group = site.settings.pools_table, site.outputs["PoolDueFunction"]
    assert links["pool items"] == f"{CONSOLE}/dynamodbv2/home?region=us-east-1#item-explorer?table={table}"
    logs = f"#logsV2:log-groups/log-group/$252Faws$252Flambda$252F{group}"
    assert links["decisions"] == f"{CONSOLE}/cloudwatch/home?region=us-east-1{logs}"
    printed = site.run("explain", "train").output
    assert f"dashboard: {links['dashboard']}" in printed
    assert links["dashboard"] in site.run("doctor").output


def test_the_local_cloud_is_in_no_console(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("train", target_size=1)
    monkeypatch.setenv("SPOTPOOLS_MARKET_URL", site.ec2_url)
    assert site.json("explain", "train")["links"] == {}
    assert "console" not in site.run("explain", "train").output
