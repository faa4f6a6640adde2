"""The command itself: a dry run makes nothing, and wrong options are refused before any call."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from acceptance import __main__ as command
from acceptance.plan import STEPS
from tests.acceptance.aws import PlayedAws, RefusedByAws


@pytest.fixture
def priced(aws: PlayedAws, monkeypatch: pytest.MonkeyPatch) -> PlayedAws:
    """An AWS that only says prices."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setattr(command, "highest", lambda *_: Decimal("0.0118"))
    aws.answers.clear()
    return aws


def test_a_dry_run_prints_each_step_and_the_highest_possible_cost_and_calls_nothing(
    priced: PlayedAws, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert command.main(["--dry-run", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for step in STEPS:
        assert f"  {step.name} " in said
    # Four instances at 0.0188 and the stack for three hours, and a FIS action.
    assert "Highest possible cost: 0.708 USD in 150 minutes" in said
    assert priced.calls == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("priced")
def test_a_dry_run_above_the_budget_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--dry-run", "--budget", "0.70"]) == 2
    assert "above the budget of 0.700 USD. Raise --budget" in capsys.readouterr().err


def test_without_credentials_a_dry_run_assumes_a_price_and_says_why(
    aws: PlayedAws, capsys: pytest.CaptureFixture[str]
) -> None:
    def expired(_: object) -> dict[str, Any]:
        raise RefusedByAws("ExpiredToken", "expired")

    aws.answers = {"pricing.GetProducts": expired, "ec2.DescribeSpotPriceHistory": expired}
    assert command.main(["--dry-run", "--region", "eu-west-1"]) == 0
    assert "0.0188 USD (assumed: AWS does not accept these credentials" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--stack", "spotpools"], "must be spotpools-accept, or begin with spotpools-accept-"),
        (["--stack", "spotpools-acceptance"], "must be spotpools-accept"),
        (["--budget", "none"], "must be a number above 0"),
        (["--budget", "0"], "must be a number above 0"),
        (["--budget", "NaN"], "must be a number above 0"),
        (["--most-instances", "-1"], "must be a whole number, 1 or more"),
        (["--only", "fil"], "there is no such step; choose from account, prices"),
        (["--clean", "--resume"], "not allowed with"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(options)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_in_the_environment_of_a_local_cloud_it_must_be_said_that_it_is_local(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPOTPOOLS_MARKET_URL", "http://127.0.0.1:1")
    assert command.main(["--dry-run"]) == 2
    assert "give --local" in capsys.readouterr().err


def test_a_stack_that_it_did_not_make_is_left_alone(
    aws: PlayedAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "_check_tools", lambda *_: None)
    assert command.main(["--region", "eu-west-1", "--folder", str(tmp_path)]) == 2
    assert "a stack spotpools-accept exists" in capsys.readouterr().err
    assert {name.partition(".")[2][:8] for name, _ in aws.calls} <= {"GetCalle", "Describe"}


def test_resuming_without_a_run_is_refused(
    aws: PlayedAws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert aws
    monkeypatch.setattr(command, "_check_tools", lambda *_: None)
    assert command.main(["--resume", "--region", "eu-west-1", "--folder", str(tmp_path)]) == 2
    assert "there is no run of stack spotpools-accept to resume" in capsys.readouterr().err
