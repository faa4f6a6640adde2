"""Commands for one pool by name: get, edit, scale, pause, resume, empty, delete, drill."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli import drill, pool_edits
from cli.deployment import Deployment
from cli.exits import ChangedMeanwhileError, Exit
from cli.files import read_entries
from cli.item_text import same
from lambdas.domain.item.pool import Market
from lambdas.domain.model.instances import Instance, State
from tests.cli.site import Site

ENTRY = {"cron": "0 8 * * *", "target_size": 3}


def test_apply_accepts_the_output_of_get(site: Site) -> None:
    site.put("a", target_size=1, user_data="#!/bin/bash\nmount /data\n", schedule=[ENTRY])
    (entry,) = read_entries(site.run("get", "a").stdout)
    assert same(entry.item, site.item("a"))
    assert site.json("get", "a")["schedule"] == [ENTRY]


def test_pause_and_resume_change_one_attribute_only(site: Site) -> None:
    site.put("a", target_size=1)
    before = site.item("a")
    assert site.json("pause", "a")["change"] == "changed"
    assert site.item("a") == {**(before or {}), "paused": True}
    assert site.json("pause", "a")["change"] == "unchanged"
    assert site.json("resume", "a")["change"] == "changed"
    assert site.item("a") == before


@pytest.mark.parametrize("name", ["empty", "drain"])
def test_empty_sets_the_sizes_to_zero_and_keeps_the_item(site: Site, name: str) -> None:
    site.put("a", target_size=2, min_instances=1)
    assert site.json(name, "a")["change"] == "changed"
    item = site.item("a")
    assert item is not None
    assert (item["target_size"], item["min_instances"], item["instance_types"]) == (0, 0, ["g5.xlarge"])


def test_scale_sets_the_size_and_nothing_else(site: Site) -> None:
    site.put("a", target_size=1, max_instances=5)
    before = site.item("a") or {}
    assert site.json("scale", "a", "4")["change"] == "changed"
    assert site.item("a") == {**before, "target_size": 4}
    assert "a is already at target_size 4." in site.run("scale", "a", "4").stdout


@pytest.mark.parametrize(
    ("item", "size", "says"),
    [
        ({"max_instances": 5}, "6", "target_size = 6: must be a whole number from 0 to max_instances"),
        ({"schedule": [ENTRY]}, "1", "the schedule sets its size (0 8 * * * (UTC): target_size 3)"),
        ({"image": "ami-1"}, "1", "Correct it first: spotpools edit a"),
    ],
)
def test_scale_is_refused_if_the_size_would_not_count(site: Site, item: dict[str, Any], size: str, says: str) -> None:
    site.put("a", target_size=2, **item)
    result = site.run("scale", "a", size)
    assert result.exit_code == 1
    assert says in result.stderr
    assert (site.item("a") or {})["target_size"] == 2


def test_scale_says_what_keeps_the_pool_from_the_size(site: Site) -> None:
    site.put("a", target_size=3, min_instances=2, paused=True)
    advice = site.json("scale", "a", "1")["advice"]
    assert "min_instances keeps it at 2" in advice
    assert "spotpools resume a" in advice


def test_delete_removes_the_item_and_prints_it_so_that_it_can_be_restored(site: Site) -> None:
    site.put("a", target_size=2)
    before = site.item("a")
    result = site.run("delete", "a")
    assert site.item("a") is None
    assert "a is deleted: its instances are terminated in 5 min" in result.stderr
    (entry,) = read_entries(result.stdout)
    assert same(entry.item, before), "standard output is a file for apply"
    assert site.run("delete", "a").exit_code == Exit.NO_POOL


def test_delete_with_wait_returns_when_the_pool_is_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=2)
    looks = iter([False, False, True])

    def pass_time(_: float) -> None:
        if next(looks):  # the control plane forgets a pool whose instances have ended
            site.client("dynamodb").delete_item(TableName=site.settings.status_table, Key={"pool_name": {"S": "a"}})

    monkeypatch.setattr(time, "sleep", pass_time)
    result = site.run("delete", "a", "--wait")
    assert result.exit_code == 0, result.stderr
    assert "a: 0 running, 2 starting" in result.stderr
    assert "a is gone." in result.stderr
    assert next(looks, None) is None, "it looked until then"


def test_delete_does_not_wait_for_protected_instances(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=1)
    (instance,) = site.market.instances
    site.client("ec2").create_tags(Resources=[instance], Tags=[{"Key": "spotpools:protect", "Value": "true"}])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    result = site.run("delete", "a", "--wait")
    assert result.exit_code == Exit.INVALID
    assert f"Only protected instances of a are left, and they stay: {instance}." in result.stderr


def test_delete_does_not_wait_for_a_pool_that_came_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=1)
    monkeypatch.setattr(time, "sleep", lambda _: site.put("a", target_size=1))
    result = site.run("delete", "a", "--wait")
    assert result.exit_code == Exit.INVALID
    assert "a has an item again, so its instances stay." in result.stderr


def test_empty_is_refused_if_a_schedule_would_bring_instances_back(site: Site) -> None:
    site.put("a", target_size=2, schedule=[ENTRY])
    result = site.run("empty", "a")
    assert result.exit_code == 1
    assert "0 8 * * * (UTC): target_size 3" in result.stderr
    assert "spotpools pause a" in result.stderr
    item = site.item("a")
    assert item is not None
    assert item["target_size"] == 2


@pytest.mark.parametrize(
    "command", ["get", "edit", "pause", "resume", "empty", "drain", "delete", "drill", "explain", "history"]
)
def test_an_unknown_pool_ends_every_command_with_the_same_error(site: Site, command: str) -> None:
    site.put("training", target_size=0)
    result = site.run(command, "traning")
    assert result.exit_code == 4
    assert result.stderr.strip() == "There is no pool traning. Did you mean training?"


def editor(folder: Path, monkeypatch: pytest.MonkeyPatch, *commands: str) -> None:
    """Set an editor that runs the next sed command on the file at each call."""
    script = folder / "editor.sh"
    turns = "".join(f"  {number}) sed -i '{one}' \"$1\" ;;\n" for number, one in enumerate(commands, 1))
    count = f'echo x >> "{folder}/turns"\ncase $(wc -l < "{folder}/turns" | tr -d " ") in\n{turns}esac\n'
    script.write_text(count)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"/bin/sh {script}")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_edit_writes_the_edited_item(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.put("a", target_size=1, spot_max_price="0.45")
    editor(tmp_path, monkeypatch, "s/target_size: 1/target_size: 3/")
    result = site.run("edit", "a")
    assert result.exit_code == 0, result.output
    assert "1 → 3" in result.stdout
    item = site.item("a")
    assert item is not None
    assert (item["target_size"], item["spot_max_price"]) == (3, "0.45")


def test_an_edit_that_changes_nothing_writes_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("a", target_size=1)
    editor(tmp_path, monkeypatch, "s/x/x/")
    assert site.json("edit", "a")["written"] == 0


def test_an_invalid_edit_is_reported_with_its_line_and_kept_in_a_file(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("a", target_size=1)
    editor(tmp_path, monkeypatch, "s/target_size: 1/target_size: 9/")
    result = site.run("edit", "a")
    assert result.exit_code == 1
    kept = Path(result.stderr.split(":")[0])
    assert result.stderr.startswith(f"{kept}:4: a: target_size = 9")
    assert "target_size: 9" in kept.read_text()


def test_an_edit_is_refused_if_the_item_changed_meanwhile(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("a", target_size=1)
    editor(tmp_path, monkeypatch, "s/target_size: 1/target_size: 3/")
    dynamodb = site.client("dynamodb")
    opened = pool_edits._open  # noqa: SLF001  another user writes while the editor is open

    def meanwhile(path: Path) -> None:
        opened(path)
        dynamodb.update_item(
            TableName=site.settings.pools_table,
            Key={"pool_name": {"S": "a"}},
            UpdateExpression="SET paused = :x",
            ExpressionAttributeValues={":x": {"BOOL": True}},
        )

    monkeypatch.setattr(pool_edits, "_open", meanwhile)
    result = site.run("edit", "a")
    assert result.exit_code == 5
    item = site.item("a")
    assert item is not None
    assert (item["target_size"], item["paused"]) == (1, True)


def test_a_local_drill_gives_notice_at_the_market(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOTPOOLS_MARKET_URL", site.ec2_url)
    site.put("a", target_size=3)
    site.market.advance()
    printed = site.json("drill", "a", "--count", "2")
    noticed = [one.id for one in site.market.instances.values() if one.notice]
    assert sorted(noticed) == printed["instances"]
    assert len(noticed) == 2


def test_an_item_of_hundreds_of_attributes_can_still_be_changed(site: Site) -> None:
    """A condition on each attribute would be longer than DynamoDB accepts."""
    site.put("a", **{f"unknown_{number}": number for number in range(600)})
    assert site.json("pause", "a")["change"] == "changed"
    item = site.item("a")
    assert item is not None
    assert (item["paused"], item["unknown_599"]) == (True, 599)
    before = Deployment().pools.get("a")
    site.put("a", target_size=1, **{f"unknown_{number}": number for number in range(600)})
    with pytest.raises(ChangedMeanwhileError):
        Deployment().pools.write({**before.item, "target_size": 2}, before)


def test_a_drill_above_the_limits_of_an_experiment_is_refused_with_the_limit(site: Site) -> None:
    site.put("a", target_size=60, max_instances=60)
    site.run("list")
    result = site.run("drill", "a", "--count", "51", "--role-arn", "arn:aws:iam::000000000000:role/drills")
    assert (result.exit_code, "at most 50 instances at once" in result.stderr) == (1, True)


def test_on_aws_a_drill_without_a_role_says_which_role_it_needs(site: Site) -> None:
    site.put("a", target_size=1)
    site.market.advance()
    result = site.run("drill", "a")
    assert result.exit_code == 1
    assert "fis.amazonaws.com" in result.stderr


def test_a_drill_of_more_instances_than_there_are_is_refused(site: Site) -> None:
    site.put("a", target_size=1)
    result = site.run("drill", "a", "--count", "5")
    assert result.exit_code == 1
    assert "so 5 cannot be interrupted" in result.stderr


def test_an_experiment_interrupts_all_in_parallel_actions_of_five() -> None:
    ids = tuple(f"i-{number}" for number in range(7))
    body: dict[str, Any] = drill.template("p", ids, stack="s", arn="arn:aws:ec2:r:1:instance/", role_arn="arn:role")
    targeted = [one["resourceArns"] for one in body["targets"].values()]
    assert [len(some) for some in targeted] == [5, 2]
    assert sorted(arn.rpartition("/")[2] for some in targeted for arn in some) == sorted(ids)
    for name, action in body["actions"].items():
        assert action["actionId"] == "aws:ec2:send-spot-instance-interruptions"
        assert action["targets"] == {"SpotInstances": name}
        assert "startAfter" not in action


def test_an_experiment_is_created_and_started_and_its_template_is_deleted(site: Site) -> None:
    """There is no emulator of FIS: boto3 checks the requests against AWS's model, and the test gives the answers."""
    deployment = Deployment()
    asked: list[tuple[str, dict[str, Any]]] = []
    answers = {
        "CreateExperimentTemplate": {"experimentTemplate": {"id": "EXT1"}},
        "StartExperiment": {"experiment": {"id": "EXP1"}},
        "DeleteExperimentTemplate": {"experimentTemplate": {"id": "EXT1"}},
    }

    def answered(model: Any, params: dict[str, Any], **_: Any) -> tuple[Any, dict[str, Any]]:
        asked.append((model.name, json.loads(params["body"]) if params["body"] else {}))
        return SimpleNamespace(status_code=200), answers[model.name]

    deployment.client("fis").meta.events.register("before-call.fis", answered)
    site.put("a", target_size=2)
    site.market.advance()
    drilled = drill.start(deployment, "a", count=2, role_arn="arn:aws:iam::000000000000:role/drills")
    assert drilled.experiment == "EXP1"
    assert [name for name, _ in asked] == [*answers]
    (target,) = asked[0][1]["targets"].values()
    assert [arn.rpartition("/")[2] for arn in target["resourceArns"]] == list(drilled.instances)
    assert target["resourceArns"][0].startswith("arn:aws:ec2:us-east-1:000000000000:instance/i-")
    assert asked[1][1]["experimentTemplateId"] == "EXT1"


def test_only_running_spot_instances_are_drawn() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    kinds = [(State.RUNNING, Market.SPOT), (State.PENDING, Market.SPOT), (State.RUNNING, Market.ON_DEMAND)]
    several = [
        Instance(f"i-{number}", "p", state, "g5.xlarge", "z", at, market=market)
        for number, (state, market) in enumerate(kinds)
    ]
    assert drill.drawn(several, 1, "p") == ("i-0",)
