"""``apply`` and ``validate``: all faults with their lines, the diff, all or nothing, and repeated runs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from decimal import Decimal

import pytest
from rich.console import Console

from cli import changes, known_names
from cli.deployment import Deployment
from cli.exits import ChangedMeanwhileError
from localcloud.market.model.offerings import default_offerings
from tests.cli.site import Site

File = Callable[[str], str]

FAULTY = """\
# three faults in three pools, and one valid pool
pools:
  - pool_name: a
    instance_types: [g5.xlarge]
    target_size: 9
  - pool_name: well
    instance_type: g5.xlarge
  - pool_name: b
    instance_types:
      - g5.xlarge
    weights:
      g5.xlarge: 1000
  - pool_name: c
    instance_type: g5.xlarge
    schedule:
      - {cron: "0 8 * * *", target_size: 3}
      - cron: "0 8 * *"
        target_size: 1
"""
GOOD = "{pool_name: a, instance_types: [g5.xlarge], target_size: 3}"


def test_every_fault_of_every_pool_is_reported_with_its_line_and_nothing_is_written(site: Site, file: File) -> None:
    name = file(FAULTY)
    result = site.run("apply", name)
    assert result.exit_code == 1
    printed = result.stderr.splitlines()
    assert [line.split(": ")[0] for line in printed[:3]] == [f"{name}:5", f"{name}:12", f"{name}:17"]
    assert printed[-1].endswith("3 faults in 3 pools; nothing was written.")
    assert site.item("well") is None


def test_faults_are_printed_as_json(site: Site, file: File) -> None:
    result = site.run("validate", file(FAULTY), "-o", "json")
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert [(one["line"], one["pool"], one["field"]) for one in printed["faults"]] == [
        (5, "a", "target_size"),
        (12, "b", "weights.g5.xlarge"),
        (17, "c", "schedule.1.cron"),
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("- {pool_name: a, instance_type: g5.xlarge}\n\n- pool_name: a\n  instance_type: m5.large\n", [3]),
        ("pool_name: a\nn: 1\n", [1, 2]),
        ("- pool_name: a\n  instance_type: m5.large\n- instance_type: m5.large\n", [3]),
        ("- {1: x, pool_name: a}\n- {pool_name: b, instance_type: M}\n", [1, 2]),
        ("resource_pools:\n- pool_name: a\n  provider:\n    type: aws\n    instance_type: G\n", [5]),
        ("resource_pools:\n- pool_name: a\n- pool_name: b\n  provider: {type: gcp}\n", [2, 3]),
    ],
)
def test_each_kind_of_fault_has_its_line(site: Site, file: File, text: str, lines: list[int]) -> None:
    result = site.run("validate", file(text), "-o", "json")
    assert result.exit_code == 1
    assert [one["line"] for one in json.loads(result.stdout)["faults"]] == lines


def test_a_missing_attribute_is_reported_as_missing(site: Site, file: File) -> None:
    result = site.run("validate", file("{pool_name: a, target_size: 1}"))
    assert "a: instance_types is missing: it must be 1 to 60 instance types" in result.stderr


def test_the_diff_compares_with_the_stored_item(site: Site, file: File) -> None:
    site.put("a", target_size=1, spot_max_price="0.45")
    site.put("b", target_size=1)
    text = (
        "- {pool_name: a, instance_types: [g5.xlarge], target_size: 3.0}\n- {pool_name: c, instance_type: m5.large}\n"
    )
    result = site.run("apply", file(text + "- {pool_name: b, instance_types: [g5.xlarge], target_size: 1}"))
    assert result.exit_code == 0
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "~ a changed",
        "target_size 1 → 3",
        "spot_max_price 0.45 → (absent)",
        "+ c new",
        "instance_type m5.large",
        "= b unchanged",
        "2 written, 1 unchanged.",
    ]
    assert site.item("a") == {"pool_name": "a", "instance_types": ["g5.xlarge"], "target_size": 3}


def test_a_dry_run_writes_nothing(site: Site, file: File) -> None:
    printed = site.json("apply", file(GOOD), "--dry-run")
    assert printed["dry_run"]
    assert [(one["pool"], one["change"]) for one in printed["pools"]] == [("a", "new")]
    assert site.item("a") is None


def test_standard_input_can_be_the_file(site: Site) -> None:
    assert site.run("apply", "-", input=GOOD).exit_code == 0
    assert site.item("a") is not None


def test_an_imported_pool_keeps_its_size_and_is_refused_if_the_size_does_not_fit(site: Site, file: File) -> None:
    imported = "resource_pools:\n- pool_name: a\n  provider: {type: aws, max_instances: %s}\n"
    site.put("a", target_size=3, subnet_ids=["subnet-1"])
    assert site.run("apply", file(imported % 4)).exit_code == 0
    item = site.item("a")
    assert item is not None
    assert (item["target_size"], item["max_instances"], "subnet_ids" in item) == (3, 4, False)
    result = site.run("apply", file(imported % 2))
    assert result.exit_code == 1
    assert "target_size = 3" in result.stderr
    assert site.item("a") == item


def test_determined_pools_that_are_not_on_aws_are_skipped_with_a_remark(site: Site, file: File) -> None:
    text = (
        "resource_pools:\n"
        "- {pool_name: a, provider: {type: aws, image_id: ami-1, instance_type: g5.xlarge}}\n"
        "- {pool_name: desk}\n"
    )
    result = site.run("apply", file(text))
    assert result.exit_code == 0
    assert "desk: skipped: it has no provider" in result.stderr
    assert "a: absent, so Determined's defaults apply: spot false (on demand), max_instances 5, " in result.stderr
    item = site.item("a")
    assert item is not None
    assert (item["root_device_name"], item["root_volume_size_gib"]) == ("/dev/sda1", 200)
    assert site.item("desk") is None


MISSPELT = """\
- pool_name: a
  instance_types:
    - g5.xlarge
    - g5.xlagre
- pool_name: b
  instance_type: m5.lagre
- pool_name: c
  requirements: {vcpus: {min: 4}, gpu_names: [a10g, a10], excluded_types: ["g4dn.*", "p3.2xlrage", "zz*"]}
  weights: {g5.xlarge: 1, g5.2xlrge: 2}
- {pool_name: well, instance_types: [c7i.large, trn1.32xlarge], spot: false}
"""


def test_an_unknown_name_causes_a_warning_with_the_nearest_name_and_the_file_stays_valid(
    site: Site, file: File
) -> None:
    name = file(MISSPELT)
    printed = site.json("validate", name)
    assert printed["valid"]
    sdk = "this version of the AWS SDK does not know the"
    assert [(one["line"], one["pool"], one["message"]) for one in printed["remarks"]] == [
        (2, "a", f"warning: instance_types: {sdk} instance type g5.xlagre. Did you mean g5.xlarge?"),
        (6, "b", f"warning: instance_types: {sdk} instance type m5.lagre. Did you mean m5.large?"),
        (9, "c", f"warning: weights: {sdk} instance type g5.2xlrge. Did you mean g5.2xlarge?"),
        (8, "c", f"warning: requirements.excluded_types: {sdk} instance type p3.2xlrage. Did you mean p3.2xlarge?"),
        (8, "c", f"warning: requirements.excluded_types: {sdk} instance type zz*."),
        (8, "c", f"warning: requirements.gpu_names: {sdk} GPU a10. Did you mean a10g?"),
    ]
    applied = site.run("apply", name)
    assert applied.exit_code == 0
    assert "b: warning: instance_types: " in applied.stderr
    assert site.item("b") is not None


def test_the_sdk_knows_every_type_of_the_local_market_and_may_lack_the_list(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {one.instance_type for one in default_offerings()} <= known_names.names(known_names.TYPES)
    monkeypatch.setattr(known_names, "names", lambda _shape: frozenset())
    assert changes.remarks_on(changes.read(file(MISSPELT))) == ()


def test_a_pool_that_someone_else_changed_meanwhile_is_left_alone(site: Site, file: File) -> None:
    name = file(GOOD)
    site.put("a", target_size=1)
    pools = Deployment().pools
    planned = changes.plan(name, changes.read(name), pools.all())
    site.put("a", target_size=2)
    with pytest.raises(ChangedMeanwhileError):
        changes.write_all(planned, pools)
    site.put("a", target_size=1, paused=True)
    with pytest.raises(ChangedMeanwhileError):
        changes.write_all(planned, pools)
    item = site.item("a")
    assert item is not None
    assert item["target_size"] == 1


def test_five_hundred_pools_show_a_progress_bar_and_a_second_run_continues(site: Site, file: File) -> None:
    names = [f"p{number:03}" for number in range(500)]
    name = file("\n".join(f"- {{pool_name: {one}, instance_type: m5.large}}" for one in names))
    pools = Deployment().pools
    some = changes.write(changes.plan(name, changes.read(name), pools.all()), pools)
    stopped = [next(some).pool for _ in range(123)]
    some.close()
    assert stopped == names[:123]

    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=80)
    assert changes.write_all(changes.plan(name, changes.read(name), pools.all()), pools, console) == 377
    assert "377/377" in terminal.getvalue()
    assert pools.names() == names
    printed = site.json("apply", name)
    assert (printed["written"], {one["change"] for one in printed["pools"]}) == (0, {"unchanged"})


def test_a_price_is_written_exactly(site: Site, file: File) -> None:
    site.run("apply", file("{pool_name: a, instance_type: g5.xlarge, spot_max_price: 0.3}"))
    item = site.item("a")
    assert item is not None
    assert item["spot_max_price"] == Decimal("0.3")
