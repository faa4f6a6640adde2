"""``python -m tests.support.pins`` (``make pins``): adds the hashes of all files to each pinned requirement.

pip then installs only these files for that name and version. To update, first change a version in a requirements file;
the rest of the file stays unchanged.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "requirements.txt", ROOT / "lambdas" / "requirements.txt")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s\\]+)", re.MULTILINE)
HASHES = re.compile(r" \\\n(?: +--hash=.*\n?)+")
OLDEST_PYTHON = "3.11"


def bare(text: str) -> str:
    """A requirements file without its hashes."""
    return HASHES.sub("\n", text)


def renewed(text: str, hashes: Mapping[str, str]) -> str:
    """The file with these hashes, which are given by requirement in uv's spelling."""
    return PIN.sub(lambda pin: pin[0] + hashes[spelt(pin)].rstrip("\n"), bare(text))


def spelt(pin: re.Match[str]) -> str:
    """A requirement with its name in the normal form of packaging tools."""
    return f"{re.sub(r'[-_.]+', '-', pin['name']).lower()}=={pin['version']}"


def hashes_of(text: str) -> dict[str, str]:
    """The hashes of all files of each requirement, as lines of a requirements file. uv reads them from the index."""
    command = ["-m", "uv", "pip", "compile", "--quiet", "--no-deps", "--universal", "--python-version", OLDEST_PYTHON]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url", "-"]
    pins = "\n".join(pin[0] for pin in PIN.finditer(bare(text)))
    made = subprocess.run(  # noqa: S603  this Python and fixed options
        [sys.executable, *command], input=pins, capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        sys.exit(made.stderr)
    parts = re.findall(r"^(\S+==\S+)( \\\n(?: +--hash=.*\n)+)", made.stdout, re.MULTILINE)
    return dict(parts)


if __name__ == "__main__":
    for file in FILES:
        written = file.read_text(encoding="utf-8")
        file.write_text(renewed(written, hashes_of(written)), encoding="utf-8")
