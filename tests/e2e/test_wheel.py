"""The command installed by itself: a wheel in an empty environment, with the packages that it declares."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from lambdas import __version__
from localcloud.cloud import ROOT
from tests.e2e.conftest import Site

PARTS = ("cli", "infra", "lambdas", "localcloud")


def run(*words: str | Path, folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run a program outside the repository, so that nothing of it can be imported by accident."""
    done = subprocess.run(  # noqa: S603  our own command, or pip
        [str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_wheel_in_an_empty_environment_runs_the_command(site: Site, tmp_path: Path) -> None:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    source = tmp_path / "source"
    run("git", "clone", "--quiet", ROOT, source, folder=tmp_path)
    run(sys.executable, "-m", "pip", "wheel", *quiet, "--no-deps", "--no-build-isolation", source, folder=tmp_path)
    (wheel,) = tmp_path.glob("spotpools-*.whl")
    modules = {str(file.relative_to(source)) for part in PARTS for file in (source / part).rglob("*.py")}
    # An app of one's own builds the functions' bundle from the installed package.
    assert {*modules, "lambdas/requirements.txt"} <= set(zipfile.ZipFile(wheel).namelist())
    venv.create(tmp_path / "empty", with_pip=True)
    programs = tmp_path / "empty" / "bin"
    run(programs / "python", "-m", "pip", "install", *quiet, wheel, folder=tmp_path)

    command, here = programs / "spotpools", {**os.environ, "AWS_EC2_METADATA_DISABLED": "true"}
    assert run(command, "--version", folder=tmp_path, environment=here).strip() == __version__
    assert "1 valid: first" in run(command, "validate", ROOT / "examples/first.yaml", folder=tmp_path, environment=here)
    listed = run(command, "list", "-o", "json", folder=tmp_path, environment=site.cloud.environment())
    assert set(json.loads(listed)) == {"pools", "hourly_cost", "notes"}
    page = tmp_path / "page.html"
    run(command, "page", "--out", page, folder=tmp_path, environment=site.cloud.environment())
    assert "uPlot" in page.read_text(encoding="utf-8")
