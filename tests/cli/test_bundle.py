"""``doctor --bundle``: what helps others to help, and nothing that they must not know."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cli.deployment import FUNCTIONS
from tests.cli.site import Site

PASSWORD = "hunter2-hunter2-hunter2"


def bundled(site: Site, file: Path) -> dict[str, str]:
    """Write a bundle and return the texts of its files by name."""
    result = site.run("doctor", "--bundle", str(file))
    assert "Read them before you send it" in result.output
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.fixture
def busy(site: Site) -> Site:
    """A site with a pool whose item has secrets, some of which appear in a log line."""
    script = f"#!/bin/sh\nexport TOKEN={PASSWORD}\n"
    site.put("train", target_size=1, user_data=script, drain_command=f"curl -u me:{PASSWORD} https://ci.example.com")
    line: dict[str, Any] = {"level": "ERROR", "message": f"cannot run: curl -u me:{PASSWORD} https://ci.example.com"}
    about = (
        "User: arn:aws:sts::123456789012:assumed-role/x is not authorized; ask admin@example.com; AKIAIOSFODNN7EXAMPLE"
    )
    site.log("PoolDueFunction", line, {"level": "INFO", "message": about})
    return site


def test_a_bundle_has_checks_items_statuses_alarms_and_logs(busy: Site, tmp_path: Path) -> None:
    parts = bundled(busy, tmp_path / "help.zip")
    assert set(parts) == {
        "README.txt", "checks.json", "stack.json", "functions.json", "items.json", "statuses.json", "alarms.json",
        *(f"logs/{name}.json" for name in FUNCTIONS),
    }  # fmt: skip
    assert {one["name"] for one in json.loads(parts["checks.json"])} >= {"heartbeat", "tables"}
    assert [one["pool_name"] for one in json.loads(parts["items.json"])] == ["train"]
    assert "cannot run" in parts["logs/PoolDueFunction.json"]


def test_a_bundle_has_no_secret(busy: Site, tmp_path: Path) -> None:
    whole = "\n".join(bundled(busy, tmp_path / "help.zip").values())
    for secret in (PASSWORD, "admin@example.com", "AKIAIOSFODNN7EXAMPLE", "123456789012", "000000000000"):
        assert secret not in whole
    (item,) = json.loads(bundled(busy, tmp_path / "again.zip")["items.json"])
    assert item["user_data"] == "<47 characters>"


def test_a_part_that_cannot_be_read_says_why_and_harms_no_other(busy: Site, tmp_path: Path) -> None:
    busy.client("logs").delete_log_group(logGroupName=f"/aws/lambda/{busy.outputs['TickFunction']}")
    parts = bundled(busy, tmp_path / "help.zip")
    assert set(json.loads(parts["logs/TickFunction.json"])) == {"unknown"}
    assert "cannot run" in parts["logs/PoolDueFunction.json"]


def test_a_file_that_exists_is_kept(busy: Site, tmp_path: Path) -> None:
    file = tmp_path / "help.zip"
    file.write_text("mine")
    result = busy.run("doctor", "--bundle", str(file))
    assert result.exit_code == 1
    assert "exists. Name another file" in result.output
    assert file.read_text() == "mine"
