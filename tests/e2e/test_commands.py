"""The command line on the local cloud, with only the variables of .localcloud/env."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lambdas.domain.guide import advice
from lambdas.domain.model.status import Reason
from localcloud.cloud import ROOT
from tests.e2e.conftest import Site


def run(site: Site, *words: str, status: int = 0) -> str:
    """Run the command and return its output."""
    done = subprocess.run(  # noqa: S603  our own command
        [sys.executable, "-m", "cli.main", *words],
        cwd=ROOT,
        env=site.cloud.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def answer_of(site: Site, *words: str) -> Any:
    return json.loads(run(site, *words, "-o", "json"))


def test_a_pool_from_its_file_to_its_end(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text("{pool_name: at-hand, instance_types: [m5.large], target_size: 2}", encoding="utf-8")
    site.pools.append("at-hand")
    assert "+ at-hand  new" in run(site, "apply", str(file))
    site.until_running("at-hand", 2, seconds=90)  # functions may start for the first time
    site.watcher.until(lambda: site.status("at-hand").get("ready") == 2, "at-hand: 2 ready", seconds=30)
    (row,) = [one for one in answer_of(site, "list")["pools"] if one["pool"] == "at-hand"]
    assert (row["wanted"], row["running"], row["ready"]) == (2, 2, 2)
    assert float(row["hourly_cost"]) > 0
    story = answer_of(site, "explain", "at-hand")
    assert story["next"]["otherwise"] == "Nothing: the pool is as it should be."
    assert [one["ready"] for one in story["instances"]] == [True, True]

    (taken,) = answer_of(site, "drill", "at-hand")["instances"]
    site.watcher.until(lambda: len(site.ever_launched("at-hand")) == 3, "at-hand: a replacement", seconds=30)
    steps = [step for one in answer_of(site, "history", "at-hand")["decisions"] for step in one["steps"]]
    assert [step for step in steps if step.startswith("launch 2 (spot)")]
    assert [step for step in steps if step.startswith(f"announce the end of {taken}")]
    assert [step for step in steps if step.startswith("launch 1 (spot)")]

    assert "emptied" in run(site, "empty", "at-hand")
    site.watcher.until(lambda: site.status("at-hand").get("running") == 0, "at-hand: none running", seconds=30)
    assert answer_of(site, "get", "at-hand")["target_size"] == 0


def test_a_waiting_pool_says_why_and_what_to_do(site: Site) -> None:
    site.market.fault(action="CreateFleet", error="MaxSpotInstanceCountExceeded", times=1000)
    site.put("short", target_size=1)
    site.watcher.until(lambda: "waiting" in site.status("short"), "short: waiting", seconds=30)
    page = " ".join(run(site, "explain", "short").split())
    assert "Waiting 1 for " in page
    assert "QUOTA" in page
    assert advice(Reason.QUOTA).do in page
    run(site, "explain", "shirt", status=4)


def test_the_local_cloud_is_well(site: Site) -> None:
    def found() -> dict[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "doctor", "-o", "json"],
            cwd=ROOT,
            env=site.cloud.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return {one["name"]: one["state"] for one in json.loads(done.stdout)["checks"]}

    site.watcher.until(lambda: found().get("heartbeat") == "ok", "doctor sees the heartbeat", seconds=60)
    states = found()
    assert {states[name] for name in ("credentials", "stack", "version", "tables", "messages topic")} == {"ok"}
