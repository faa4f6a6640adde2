"""The state file of a run: read as it was written, replaced as a whole, refused if it is not ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from acceptance.claims import Finding, Verdict
from acceptance.costs import Life
from acceptance.state import Played, State, StateError, load

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def state(folder: Path) -> State:
    return State(
        path=folder / "deeper" / "state.json",
        stack="spotpools-accept",
        place="AWS",
        account="123456789012",
        region="eu-west-1",
        started=NOW,
        deadline=NOW + timedelta(hours=1),
        budget=Decimal("2.50"),
        most_instances=4,
        types=["t3.nano"],
        price=Decimal("0.0052"),
    )


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = state(tmp_path)
    written.stack_since = NOW
    written.extra = Decimal("0.4")
    written.steps["fill"] = Played("failed", "no capacity", 3.5)
    written.find(Finding("drill", Verdict.DIFFERS, "it failed"))
    written.lives["i-1"] = Life(NOW, NOW + timedelta(minutes=2))
    written.lives["i-2"] = Life(NOW)
    written.resources = [["AWS::Logs::LogGroup", "group"]]
    written.save()
    assert load(written.path) == written


def test_without_a_file_there_is_no_run(tmp_path: Path) -> None:
    assert load(tmp_path / "state.json") is None


def test_a_crash_in_the_middle_of_a_save_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = state(tmp_path)
    old.save()

    def crash(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr("acceptance.state.os.fsync", crash)
    new = state(tmp_path)
    new.steps["fill"] = Played("started")
    with pytest.raises(SystemExit):
        new.save()
    assert load(old.path) == old


@pytest.mark.parametrize("text", ["", "{", '{"format": 99}'])
def test_a_file_that_is_not_a_state_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text)
    with pytest.raises(StateError, match="--clean"):
        load(path)


def test_a_forgotten_state_is_gone(tmp_path: Path) -> None:
    one = state(tmp_path)
    one.save()
    one.forget()
    one.forget()
    assert load(one.path) is None
