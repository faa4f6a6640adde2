"""The name of a local cloud, its folder, and the environment of its children."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcloud.cloud import claim_directory, isolated_environment
from localcloud.processes import LocalCloudError


def test_clouds_side_by_side_have_folders_of_their_own(tmp_path: Path) -> None:
    with claim_directory(tmp_path, name=None, family="local") as first:
        with claim_directory(tmp_path, name=None, family="local") as second:
            assert (first.name, second.name) == ("local", "local-2")
        with claim_directory(tmp_path, name=None, family="local") as third:
            assert third == second, "the second folder is free again"


def test_a_name_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with (
        claim_directory(tmp_path, name="mine", family="local"),
        pytest.raises(LocalCloudError, match=r"^the local cloud mine is already running"),
        claim_directory(tmp_path, name="mine", family="local"),
    ):
        pass


def test_children_get_no_variables_of_a_real_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "SPOTPOOLS_STACK"):
        monkeypatch.setenv(name, "a-real-one")
    environment = isolated_environment()
    assert "a-real-one" not in environment.values()
    assert environment["AWS_CONFIG_FILE"] == environment["AWS_SHARED_CREDENTIALS_FILE"] == "/dev/null"
