"""The functions' bundle: only what they import, for their processor, with a hash that depends on the content alone."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from infra import bundling
from infra.functions import PYTHON
from infra.stages import AWS, LOCAL, Stage
from tests.support import pins

ROOT = Path(__file__).resolve().parents[2]
PYTHON_VERSION = PYTHON.name.removeprefix("python")
HANDLERS = ("on_tick", "on_pool_edit", "on_pool_due", "on_spot_notice")


def build(stage: Stage, **places: Path) -> tuple[Path, str]:
    return bundling.bundle(wheels=stage.wheels, python_version=PYTHON_VERSION, **places)


@pytest.fixture(scope="session")
def for_aws() -> tuple[Path, str]:
    return build(AWS)


def test_the_bundle_holds_the_package_and_its_dependencies_only(for_aws: tuple[Path, str]) -> None:
    names = zipfile.ZipFile(for_aws[0]).namelist()
    assert {f"lambdas/handlers/{handler}.py" for handler in HANDLERS} <= set(names)
    assert {"lambdas/settings.py", "boto3/__init__.py", "pydantic/__init__.py"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", "requirements.txt"))]
    assert not [name for name in names if name.startswith(("lambdas/tests", "tests/", "infra/", "bin/"))]
    assert len(names) == len(set(names))


def test_the_bundle_is_for_the_functions_processor_and_python(for_aws: tuple[Path, str]) -> None:
    compiled = [name for name in zipfile.ZipFile(for_aws[0]).namelist() if name.endswith(".so")]
    assert any(name.startswith("pydantic_core/") for name in compiled)
    assert all("cpython-313-aarch64-linux-gnu" in name for name in compiled)


def test_the_same_content_makes_the_same_archive(for_aws: tuple[Path, str], tmp_path: Path) -> None:
    """A new install packs the same bytes, so a deployment without a change changes nothing."""
    again = build(AWS, cache=tmp_path)
    assert again[1] == for_aws[1]
    assert again[0].read_bytes() == for_aws[0].read_bytes()


def test_a_changed_source_or_dependency_changes_the_hash(for_aws: tuple[Path, str], tmp_path: Path) -> None:
    lambdas, cache = tmp_path / "lambdas", tmp_path / "cache"
    shutil.copytree(bundling.SOURCES, lambdas, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(bundling.CACHE, cache)
    assert build(AWS, sources=lambdas, cache=cache)[1] == for_aws[1]

    source = lambdas / "settings.py"
    source.write_text(source.read_text() + "# changed\n")
    changed = build(AWS, sources=lambdas, cache=cache)
    assert changed[1] != for_aws[1]

    # A removed pin: CDK's default hash of sources and options would not change.
    pinned = (lambdas / "requirements.txt").read_text()
    (only,) = re.findall(r"^typing_extensions==\S+ \\\n(?: +--hash=.*\n)+", pinned, flags=re.MULTILINE)
    (lambdas / "requirements.txt").write_text(only)
    assert build(AWS, sources=lambdas, cache=cache)[1] not in {for_aws[1], changed[1]}


def test_the_handlers_and_their_clients_work_with_the_bundle_alone(tmp_path: Path) -> None:
    """Functions of the local cloud could import from its environment, which would hide a missing package."""
    archive, _ = build(LOCAL)
    zipfile.ZipFile(archive).extractall(tmp_path)
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import importlib
for handler in {HANDLERS!r}:
    assert callable(importlib.import_module(f"lambdas.handlers.{{handler}}").handler)
import boto3, pydantic_core
assert all(module.__file__.startswith({str(tmp_path)!r}) for module in (boto3, pydantic_core))
for service in {sorted(bundling.AWS_SERVICES)!r}:
    boto3.client(service)
boto3.client("ec2").get_waiter("instance_running"), boto3.client("ec2").get_paginator("describe_instances")
"""
    environment = {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "POWERTOOLS_TRACE_DISABLED": "true",
        "SPOTPOOLS_STACK": "spotpools",
        "SPOTPOOLS_POOLS_TABLE": "pools",
        "SPOTPOOLS_STATUS_TABLE": "status",
        "SPOTPOOLS_DUE_QUEUE_URL": "http://127.0.0.1/due",
        "SPOTPOOLS_EDITED_QUEUE_URL": "http://127.0.0.1/edited",
        "SPOTPOOLS_NOTICES_QUEUE_URL": "http://127.0.0.1/notices",
        "SPOTPOOLS_DEFAULT_LAUNCH_TEMPLATE": "spotpools-default",
    }
    # -I -S: no site-packages, no current folder.
    done = subprocess.run(  # noqa: S603  this Python and the program above
        [sys.executable, "-I", "-S", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_models_of_every_called_service_are_packed() -> None:
    called = {
        service
        for path in bundling.SOURCES.rglob("*.py")
        for service in re.findall(r"""\bclient\(\s*["']([a-z0-9-]+)["']""", path.read_text())
    }
    assert called | {"xray"} == bundling.AWS_SERVICES


@pytest.mark.parametrize(
    ("pin", "complaint"),
    [
        (f"spotpools-has-no-such-dependency==1.0 --hash=sha256:{'0' * 64}", r"spotpools-has-no-such-dependency==1\.0"),
        ("six==1.17.0", "(?i)hash"),
    ],
)
def test_pins_that_cannot_be_installed_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pin: str, complaint: str
) -> None:
    (tmp_path / "lambdas").mkdir()
    (tmp_path / "lambdas" / "requirements.txt").write_text(f"{pin}\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(bundling.BundlingError, match=complaint):
        build(AWS, sources=tmp_path / "lambdas", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_is_not_the_pinned_one_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same name and version, other content, as from a manipulated package index."""
    (tmp_path / "lambdas").mkdir()
    wheel = tmp_path / "pinned-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pinned.py", "")
        archive.writestr("pinned-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pinned\nVersion: 1.0\n")
        archive.writestr("pinned-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("pinned-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    requirements = tmp_path / "lambdas" / "requirements.txt"
    places = {"sources": tmp_path / "lambdas", "cache": tmp_path / "cache"}
    requirements.write_text(f"pinned==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    assert "pinned.py" in zipfile.ZipFile(build(AWS, **places)[0]).namelist()
    requirements.write_text(f"pinned==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(bundling.BundlingError, match=r"(?i)hash"):
        build(AWS, **places)


@pytest.mark.parametrize("file", pins.FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_each_pin_has_hashes(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    stand = dict(re.findall(r"^(\S+==\S+)( \\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, flags=re.MULTILINE))
    named = [pin[0] for pin in pins.PIN.finditer(pins.bare(text))]
    assert list(stand) == named
    assert pins.renewed(text, {pins.spelt(pin): stand[pin[0]] for pin in pins.PIN.finditer(pins.bare(text))}) == text


def test_without_pip_the_error_says_how_to_install_it(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    program = """
from pathlib import Path
from infra import bundling
try:
    bundling.bundle(wheels=None, python_version="", cache=Path("cache"))
except bundling.BundlingError as error:
    print(error)
"""
    done = subprocess.run(  # noqa: S603  a new environment's Python and the program above
        [str(tmp_path / "venv" / "bin" / "python"), "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip is missing" in done.stdout
    assert "-m ensurepip" in done.stdout
