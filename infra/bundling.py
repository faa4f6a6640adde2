"""The functions' code as one zip, built without Docker: the lambdas package and the wheels of its pinned requirements.

Installing and packing the wheels takes most of the time and depends only on the pins. So it is done once for each set
of pins and target and kept under ``.build``. A change in ``lambdas`` only adds its files to a copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "lambdas"
CACHE = ROOT / ".build" / "lambda"

# The services that the functions call, and X-Ray, whose SDK asks how much to sample. botocore has the models of about
# 400 more services, 14 MB of a 20 MB zip.
AWS_SERVICES = frozenset({"dynamodb", "ec2", "events", "pricing", "sns", "sqs", "ssm", "xray"})

# Fixed, so that the same content gives the same archive.
EPOCH = (1980, 1, 1, 0, 0, 0)
READABLE_FILE = 0o100644 << 16

DAY_SECONDS = 86_400


class BundlingError(RuntimeError):
    """The bundle cannot be built; the message says what to do."""


def bundle(
    *, wheels: Sequence[str] | None, python_version: str, sources: Path = SOURCES, cache: Path = CACHE
) -> tuple[Path, str]:
    """Build the functions' zip; returns its path and a hash of its content.

    ``wheels`` are the platforms whose compiled wheels may be used, for ``python_version`` ("3.13"); None takes those of
    the Python that runs this. The hash covers every file's name and content and nothing else, so it does not depend on
    the machine or its zlib. Raises ``BundlingError``.
    """
    dependencies = _dependencies(sources / "requirements.txt", wheels, python_version, cache)
    own = {path.relative_to(sources.parent).as_posix(): path for path in sorted(sources.rglob("*")) if _is_code(path)}
    digest = hashlib.sha256()
    with zipfile.ZipFile(dependencies) as archive:
        for name in archive.namelist():
            _update(digest, name, archive.read(name))
    for name, path in own.items():
        _update(digest, name, path.read_bytes())
    target = cache / f"functions-{digest.hexdigest()[:32]}.zip"
    if not target.exists():
        _forget_old(cache)
        with _appears_whole(target) as partial:
            shutil.copyfile(dependencies, partial)
            _append(partial, own)
    return target, digest.hexdigest()


def _dependencies(requirements: Path, wheels: Sequence[str] | None, python_version: str, cache: Path) -> Path:
    """Zip of the installed requirements, built again only when the pins, the target or this module change."""
    target = (sys.version, sys.platform, os.uname().machine) if wheels is None else (*wheels, python_version)
    target += (sys.implementation.cache_tag,)
    key = hashlib.sha256(
        b"\0".join([requirements.read_bytes(), Path(__file__).read_bytes(), *(part.encode() for part in target)])
    )
    archive = cache / f"dependencies-{key.hexdigest()[:32]}.zip"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder, _appears_whole(archive) as partial:
            _install(requirements, wheels, python_version, Path(folder))
            if wheels is None or python_version == "{}.{}".format(*sys.version_info):
                _compile(Path(folder))
            _append(partial, {name: path for name, path in _files(Path(folder)) if _is_needed(name)})
    return archive


def _install(requirements: Path, wheels: Sequence[str] | None, python_version: str, folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise BundlingError(f"pip is missing from {sys.executable}: run {sys.executable} -m ensurepip")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    # Byte code is compiled separately (_compile): pip's would contain times and paths.
    command += ["--require-hashes", "--no-deps", "--no-compile", "--only-binary=:all:", "--target", str(folder)]
    if wheels is not None:
        command += ["--implementation", "cp", "--python-version", python_version]
        command += [part for wheel in wheels for part in ("--platform", wheel)]
    done = subprocess.run(  # noqa: S603  our own interpreter and fixed options
        [*command, "--requirement", str(requirements)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [done.stderr.strip()]
        raise BundlingError(
            f"pip could not install {requirements.name} for the functions: {complaints[-1]} "
            "(pip needs its package index, or the wheels at hand; each pin needs a wheel for the target, and its hash)"
        )


def _compile(folder: Path) -> None:
    """Add byte code, which halves a cold start: a function cannot store what it compiles.

    Only the Python version that runs the functions can compile it. It is packed together with its source, so it
    contains neither time nor path and is the same on each run.
    """
    command = [sys.executable, "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash"]
    subprocess.run(  # noqa: S603  our own interpreter and fixed options
        [*command, "-s", str(folder), str(folder)], env={**os.environ, "PYTHONHASHSEED": "0"}, check=True
    )


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def _is_needed(name: str) -> bool:
    """Whether the functions need an installed file.

    They need no scripts, no records of the installation and no models of services that are never called.
    """
    parts = name.split("/")
    if parts[0] == "bin" or (parts[0].endswith(".dist-info") and parts[-1] in {"RECORD", "INSTALLER", "REQUESTED"}):
        return False
    is_model = parts[:2] in (["botocore", "data"], ["boto3", "data"]) and len(parts) > 3  # noqa: PLR2004  service/...
    return not is_model or parts[2] in AWS_SERVICES


def _is_code(path: Path) -> bool:
    return path.is_file() and path.suffix == ".py" and "__pycache__" not in path.parts


def _forget_old(cache: Path) -> None:
    """Delete bundles older than a day. No build that runs now uses one of them."""
    for bundle_file in cache.glob("functions-*.zip"):
        if time.time() - bundle_file.stat().st_mtime > DAY_SECONDS:
            bundle_file.unlink(missing_ok=True)


def _update(digest: hashlib._Hash, name: str, content: bytes) -> None:
    """Add one file, with lengths, so that two different sets of files never give the same bytes."""
    digest.update(f"{name}\0{len(content)}\0".encode())
    digest.update(content)


def _append(archive: Path, files: dict[str, Path]) -> None:
    with zipfile.ZipFile(archive, "a") as out:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = READABLE_FILE
            out.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def _appears_whole(target: Path) -> Iterator[Path]:
    """A path to write to, renamed to ``target`` at the end, so that no reader sees half a file."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        partial = Path(folder) / target.name
        yield partial
        partial.replace(target)
